"""Retraining: one sensor per use case that asks the policy, and an asset of what it has said."""

from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg

from mlops_assets.adapters import decisions
from mlops_assets.core.retraining_guards import free_from, runs
from mlops_assets.core.retraining_spec import NeverSpec
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.retraining.runs import STAGES, says
from mlops_assets.lifecycle.retraining.tick import Decided, parsed, tick
from mlops_assets.lifecycle.switches import default_status

INTERVAL_SECONDS = 30

_SHOWN = 20


def retraining_asset(spec: UseCaseSpec) -> dg.AssetSpec:
    """The decisions about retraining, as an asset that each of them is reported to."""
    return dg.AssetSpec(
        **common(
            spec,
            "retraining",
            "Decisions to retrain or not, with reasons and numbers, taken by the sensor "
            f"{spec.name}_retraining and kept in the ledger {decisions.table(spec.name)}.",
            ["python"],
        ),
        deps=[asset_key(spec, name) for name in ("drift", "performance", "promotion")],
        metadata={
            "policy": dg.MetadataValue.json(spec.retraining.model_dump(mode="json")),
            "table": decisions.table(spec.name),
        },
    )


def retraining_sensor(spec: UseCaseSpec) -> dg.SensorDefinition:
    """The sensor that applies the use case's retraining policy."""
    name = f"{spec.name}_retraining"

    @dg.sensor(
        name=name,
        description=f"Decides whether to retrain {spec.name}, and starts the training.",
        asset_selection=dg.AssetSelection.assets(*(asset_key(spec, stage) for stage in STAGES)),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status(name),
    )
    def _retraining(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        from mlops_assets import clock

        now = clock.now().astimezone(ZoneInfo(spec.timezone))
        found = tick(spec, platform, context.instance, parsed(context.cursor), now)
        for line in found.log:
            context.log.info(line)
        return dg.SensorResult(
            run_requests=list(found.requests),
            skip_reason=None if found.requests else dg.SkipReason(found.message),
            cursor=found.cursor.model_dump_json(),
            asset_events=[] if found.decided is None else [_event(spec, found.decided, now)],
        )

    return _retraining


def _event(spec: UseCaseSpec, decided: Decided, now: datetime) -> dg.AssetMaterialization:
    """The decision as the UI shows it."""
    decision, read = decided.decision, decided.read
    newest = (*read.newest(_SHOWN - 1), decision)
    what = "retrain" if decision.retrain else f"put off: {decision.put_off}"
    return dg.AssetMaterialization(
        asset_key=asset_key(spec, "retraining"),
        description=says(decision),
        metadata={
            "decision": what if decision.signal_id is not None else "no",
            "retrain": int(decision.retrain),
            "day": decision.day.isoformat(),
            "champion_version": decision.champion_version,
            "signal": decision.signal_id or "none",
            "attempt": decision.attempt,
            "reasons": dg.MetadataValue.md("\n".join(f"- {r}" for r in decision.reasons)),
            "next_possible": _next_possible(spec, decided, now),
            "currency": decided.costs.currency,
            "history": dg.MetadataValue.md(
                decisions.history_markdown(spec.name, newest, read.taken + 1 - len(newest))
            ),
            **{name: float(value) for name, value in decision.numbers.items()},
        },
    )


def _next_possible(spec: UseCaseSpec, decided: Decided, now: datetime) -> str:
    """From when on nothing but the policy itself holds a training back."""
    if isinstance(spec.retraining.policy, NeverSpec):
        return "never: that is the policy"
    running = [t.run_key for t in decided.history.trainings if runs(spec.retraining, t, now)]
    if running:
        return f"after training {running[0]} has ended"
    free = free_from(spec.retraining, decided.history, decided.costs, now)
    if free is None:
        return "never: one training costs more than the month's budget"
    return "now" if free <= now.date() else free.isoformat()
