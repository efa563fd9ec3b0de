"""Promotion: the recorded decision about a challenger."""

from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.records import EvaluationRecord, PromotionRecord
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed
from mlops_assets.lifecycle.platform import Platform

if TYPE_CHECKING:
    from mlops_assets.adapters.chain import Ledgers
    from mlops_assets.adapters.tracking import Tracking


def promote(
    spec: UseCaseSpec,
    evaluation: EvaluationRecord,
    ledgers: "Ledgers",
    tracking: "Tracking",
    now: datetime,
    dagster_run_id: str,
) -> PromotionRecord:
    """Decide on the evaluated challenger, record the decision, then move the alias: the champion's,
    or, where a guarded rollout is to decide, the challenger's.

    Safe to repeat: a decision that is in the ledger is not recorded again, and an alias that a
    killed run left behind is moved.
    """
    from mlops_assets.adapters import ledger
    from mlops_assets.core.promotion import decide

    guarded = spec.rollout.strategy == "guarded"
    champion = tracking.champion(spec.name)
    decision = decide(evaluation, champion, now, dagster_run_id, guarded=guarded)
    ledger.record(ledgers, decision)
    if decision.decision == "promoted":
        tracking.set_champion(spec.name, decision.version)
    elif decision.decision == "admitted" and champion and champion.version != decision.version:
        tracking.set_challenger(spec.name, decision.version)
    return decision


def promotion_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that decides on a challenger."""

    @dg.asset(
        **common(
            spec,
            "promotion",
            "The decision about the challenger, recorded in the ledger before the alias "
            "champion moves.",
            ["mlflow"],
        ),
        **placed(spec, "promotion"),
        ins={"evaluation": dg.AssetIn(asset_key(spec, "evaluation"))},
    )
    def _promotion(
        context: dg.AssetExecutionContext, platform: Platform, evaluation: EvaluationRecord
    ) -> dg.MaterializeResult[PromotionRecord]:
        from mlops_assets.adapters import ledger
        from mlops_assets.clock import now

        ledgers, tracking = platform.ledgers(), platform.tracking()
        decision = promote(spec, evaluation, ledgers, tracking, now(), context.run.run_id)
        context.log.info(f"version {decision.version}: {decision.decision}")
        return dg.MaterializeResult(
            value=decision,
            metadata={
                "decision": decision.decision,
                "version": decision.version,
                "champion": decision.champion.version if decision.champion else "none",
                "previous_champion": decision.previous_version or "none",
                "reasons": dg.MetadataValue.md("\n".join(f"- {r}" for r in decision.reasons)),
                "history": dg.MetadataValue.md(
                    ledger.history_markdown(ledger.decisions(ledgers, spec.name))
                ),
            },
        )

    return _promotion
