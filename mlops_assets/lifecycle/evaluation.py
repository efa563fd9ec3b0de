"""Evaluation: a challenger judged on the holdout, against the base rate and the champion."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.core.records import EvaluationRecord, Metrics, ModelRecord
from mlops_assets.core.rollout_state import served_model
from mlops_assets.core.spec import LABEL, UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed
from mlops_assets.lifecycle.monitoring.references import SCORE, keep_references
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.training_set import DAY, PART, read_training_set

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.tracking import Tracking
    from mlops_assets.core.inference import Model
    from mlops_assets.core.metrics import ReliabilityBin, Slice


@dataclass(frozen=True)
class Evaluation:
    """The record, and the figures that the UI shows beside it."""

    record: EvaluationRecord
    reliability: "list[ReliabilityBin]"
    slices: "dict[str, list[Slice]]"
    """Metrics per value, by feature."""


def evaluate(
    spec: UseCaseSpec,
    model: ModelRecord,
    lake: "Lake",
    tracking: "Tracking",
    reports_url: str,
) -> Evaluation:
    """Judge ``model`` on its training set's holdout: write the report, keep what monitoring will
    compare the version with, and apply the gate.
    """
    import polars as pl

    from mlops_assets.adapters.reports import evaluation_report
    from mlops_assets.adapters.storage import join
    from mlops_assets.adapters.xgboost_engine import gain_shares
    from mlops_assets.core.gate import judge
    from mlops_assets.core.metrics import base_rate_scores, metrics, reliability, slices

    frame = read_training_set(spec, lake, model.training_set)
    loaded = _load(spec, model)
    frame = frame.with_columns(_scores(loaded, frame))
    holdout = frame.filter(pl.col(PART) == "holdout")
    seen = frame.filter(pl.col(PART) != "holdout")
    labels = holdout[LABEL].to_numpy()
    challenger = holdout[SCORE].to_numpy()
    base_rate = base_rate_scores(seen[LABEL].to_numpy(), holdout.height)
    champion = tracking.champion(spec.name)
    compared = champion if champion and champion.version != model.version else None
    champion_scores = (
        _scores(_load(spec, compared), holdout).to_numpy() if compared is not None else None
    )
    verdict, rules = judge(
        spec.gate,
        labels,
        holdout[DAY].to_list(),
        challenger=challenger,
        base_rate=base_rate,
        champion=champion_scores,
        samples=spec.evaluation.bootstrap_samples,
        seed=spec.model.seed,
    )
    # Of what the model has not been fitted to, the validation rows are the closest in time.
    shares = gain_shares(loaded.booster, loaded.signature)
    ranked = sorted(spec.feature_types, key=lambda name: -shares.get(name, 0.0))
    report = evaluation_report(
        frame.filter(pl.col(PART) == "validation"),
        holdout,
        {name: spec.feature_types[name] for name in ranked},
        label=LABEL,
        score=SCORE,
        title=f"{spec.name} version {model.version}: holdout (current), validation (reference)",
        max_rows=spec.evaluation.report_rows,
        path=join(reports_url, spec.name, f"version-{model.version}", "evaluation.html"),
    )
    keep_references(spec, lake, model, frame, shares)
    record = EvaluationRecord(
        use_case=spec.name,
        model=model,
        champion_version=champion.version if champion else None,
        challenger=metrics(labels, challenger),
        base_rate=metrics(labels, base_rate),
        champion=metrics(labels, champion_scores) if champion_scores is not None else None,
        verdict=verdict,
        rules=rules,
        report=report,
    )
    return Evaluation(
        record,
        reliability(labels, challenger),
        {
            name: slices(labels, challenger, holdout[name].to_list())
            for name in spec.evaluation.slices
        },
    )


def _load(spec: UseCaseSpec, model: ModelRecord) -> "Model":
    from mlops_assets.adapters.models import read_model

    return read_model(spec.name, served_model(model))


def _scores(model: "Model", frame: "pl.DataFrame") -> "pl.Series":
    import polars as pl

    from mlops_assets.core.inference import encode_frame, predict

    return pl.Series(SCORE, predict(model, encode_frame(frame, model.signature)))


def metrics_markdown(record: EvaluationRecord) -> str:
    """A table of the metrics of challenger, base rate and champion on the same rows."""
    columns: list[tuple[str, Metrics]] = [
        (f"challenger (version {record.model.version})", record.challenger),
        ("base rate", record.base_rate),
    ]
    if record.champion is not None:
        columns.append((f"champion (version {record.champion_version})", record.champion))
    head = "| metric | " + " | ".join(name for name, _ in columns) + " |"
    lines = [head, "|---|" + "---:|" * len(columns)]
    for metric in ("log_loss", "roc_auc", "brier", "ece"):
        values = " | ".join(f"{cast('float', getattr(m, metric)):.4f}" for _, m in columns)
        lines.append(f"| {metric} | {values} |")
    return "\n".join(lines)


def gate_markdown(record: EvaluationRecord) -> str:
    """A table of the gate's rules, each with its interval, verdict and reason."""
    lines = ["| rule | value | interval | verdict | reason |", "|---|---:|---|---|---|"]
    lines += [
        f"| {r.rule} | {r.value:.4f} | {r.low:.4f} to {r.high:.4f} | **{r.verdict}** | {r.reason} |"
        for r in record.rules
    ]
    return "\n".join(lines)


def evaluation_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that judges a challenger."""

    @dg.asset(
        **common(
            spec,
            "evaluation",
            "The challenger on the holdout, against the base rate and the champion on the same "
            "rows, with the gate's verdict.",
            ["evidently"],
        ),
        **placed(spec, "evaluation"),
        ins={"model": dg.AssetIn(asset_key(spec, "model"))},
    )
    def _evaluation(
        platform: Platform, model: ModelRecord
    ) -> dg.MaterializeResult[EvaluationRecord]:
        from mlops_assets.adapters.figures import markdown_image
        from mlops_assets.adapters.plots import reliability_plot, slices_plot

        evaluation = evaluate(
            spec, model, platform.lake(), platform.tracking(), platform.reports_url
        )
        record = evaluation.record
        metadata: dict[str, dg.MetadataValue | float | int | str] = {
            "verdict": record.verdict,
            "gate": dg.MetadataValue.md(gate_markdown(record)),
            "metrics": dg.MetadataValue.md(metrics_markdown(record)),
            "log_loss": record.challenger.log_loss,
            "roc_auc": record.challenger.roc_auc,
            "brier": record.challenger.brier,
            "ece": record.challenger.ece,
            "base_rate_log_loss": record.base_rate.log_loss,
            "holdout_rows": record.challenger.rows,
            "version": model.version,
            "report": dg.MetadataValue.path(record.report),
            "reliability": dg.MetadataValue.md(
                markdown_image(reliability_plot(evaluation.reliability), "reliability")
            ),
        }
        for name, values in evaluation.slices.items():
            metadata[f"slices_{name}"] = dg.MetadataValue.md(
                markdown_image(slices_plot(name, values), f"slices by {name}")
            )
        return dg.MaterializeResult(value=record, metadata=metadata)

    return _evaluation
