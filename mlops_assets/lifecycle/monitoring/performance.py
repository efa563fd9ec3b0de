"""Performance: the champion's log-loss on outcomes, and estimated before they are known."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.core.spec import ColumnType, UseCaseSpec
from mlops_assets.lifecycle.assets import DAY_BACKFILL, asset_key, common, days, placed, table_name
from mlops_assets.lifecycle.automation import carries
from mlops_assets.lifecycle.monitoring.day_tables import days_until, read_present
from mlops_assets.lifecycle.monitoring.drift_days import COLUMNS as DRIFT_COLUMNS
from mlops_assets.lifecycle.monitoring.drift_days import DRIFT
from mlops_assets.lifecycle.monitoring.performance_days import (
    COLUMNS,
    PERFORMANCE,
    find_performance,
    keep_performance,
)
from mlops_assets.lifecycle.monitoring.performance_windows import DayPerformance
from mlops_assets.lifecycle.outcomes import OUTCOMES
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.publish import Published, PublishEvents, events

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake

STATUS_DAYS = 14
PLOT_DAYS = 60

# What the UI calls the figures of the table.
_CHARTED = {
    "realized": "realized_log_loss",
    "estimated": "estimated_log_loss",
    "estimated_low": "estimated_log_loss_low",
    "estimated_high": "estimated_log_loss_high",
    "realized_window": "realized_log_loss_window",
    "realized_window_low": "realized_log_loss_window_low",
    "realized_window_high": "realized_log_loss_window_high",
    "estimated_window": "estimated_log_loss_window",
    "estimated_window_low": "estimated_log_loss_window_low",
    "estimated_window_high": "estimated_log_loss_window_high",
    "reference": "reference_log_loss",
}


def status_markdown(
    spec: UseCaseSpec, lake: "Lake", day: date, kept: Sequence[Mapping[str, Any]]
) -> str:
    """The last two weeks, the newest day first: what came, how well it was answered, and drift.

    ``kept`` has the rows of the performance table, in the order of their days.
    """
    window = days_until(day, STATUS_DAYS)
    drift_columns: dict[str, ColumnType] = {
        name: DRIFT_COLUMNS[name] for name in ("day", "drift", "verdict")
    }
    drifts = {
        row["day"]: row
        for row in read_present(spec, lake, DRIFT, drift_columns, window).iter_rows(named=True)
    }
    lines = [
        "| day | answers | known | base rate | realized | estimated | inside | window | drift | "
        "version |",
        "|---|---:|---:|---:|---:|---:|---|---|---|---:|",
    ]
    for row in reversed([row for row in kept if row["day"] in window]):
        drift = drifts.get(row["day"])
        cells = [
            row["day"],
            f"{row['answers']:,}",
            f"{row['outcomes_known']:.0%}",
            _number(row["base_rate"], ".1%"),
            _number(row["realized"]),
            _number(row["estimated"]),
            {True: "yes", False: "**no**", None: ""}[row["inside"]],
            f"**{row['verdict']}**" if row["verdict"] == "fell" else row["verdict"],
            "" if drift is None else f"{drift['drift']:.3f} {_bold(drift['verdict'])}",
            str(row["model_version"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    lines.append(
        "`realized` and `estimated` are the day's log-loss (nats), `inside` says whether labels "
        "put it in the estimate's interval; `window` is the verdict over the last "
        f"{spec.monitoring.window_days} days."
    )
    return "\n".join(lines)


def _number(value: float | None, form: str = ".4f") -> str:
    return "" if value is None else format(value, form)


def _bold(verdict: str) -> str:
    return f"**{verdict}**" if verdict == "drift" else verdict


def _plot(spec: UseCaseSpec, kept: Iterable[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    from mlops_assets.adapters.figures import markdown_image
    from mlops_assets.adapters.monitoring_plots import PerformancePoint, performance_plot

    points = [
        PerformancePoint(
            day=date.fromisoformat(row["day"]),
            version=row["model_version"],
            realized_day=row["realized"],
            realized=row["realized_window"],
            low=row["realized_window_low"],
            high=row["realized_window_high"],
            estimated=row["estimated_window"],
            reference=row["reference"],
        )
        for row in kept
    ]
    png = performance_plot(points, spec.monitoring.window_days)
    return dg.MetadataValue.md(markdown_image(png, "performance"))


def _metadata(found: DayPerformance) -> dict[str, object]:
    """What the UI shows and charts of a day."""
    record = found.record
    shown: dict[str, object] = {
        _CHARTED.get(name, name): value
        for name, value in found.figures.items()
        if value is not None
    }
    shown |= {
        "answers": found.answers,
        "model_version": record.model_version,
        "verdict": found.verdict or "nothing known yet",
        "summary": _summary(found),
    }
    if record.labelled_until is not None:
        shown["labelled_until"] = record.labelled_until.isoformat()
    return shown


def _summary(found: DayPerformance) -> str:
    record = found.record
    losses = [each.reason for each in (record.realized, record.estimated) if each is not None]
    return "; ".join(losses) or (
        f"version {record.model_version} has nothing to compare with: no labels yet, or no "
        "reference, which the evaluation keeps"
    )


def performance_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that judges the champion by its answers."""
    key = asset_key(spec, PERFORMANCE)

    @dg.asset(
        **common(
            spec,
            PERFORMANCE,
            f"Log-loss of the champion over the last {spec.monitoring.window_days} days against "
            "its own holdout: realized on outcomes, and estimated before they are known.",
            ["polars"],
        ),
        **placed(spec, PERFORMANCE),
        partitions_def=days(spec),
        backfill_policy=DAY_BACKFILL,
        automation_condition=carries(),
        deps=[asset_key(spec, OUTCOMES)],
        check_specs=[
            dg.AssetCheckSpec(
                PERFORMANCE,
                asset=key,
                description="Whether the champion is as good as on its holdout; the docs' "
                "runbooks/performance_loss.md says what to do.",
            )
        ],
        metadata={"table": table_name(spec, PERFORMANCE)},
    )
    def _performance(context: dg.AssetExecutionContext, platform: Platform) -> PublishEvents:
        from mlops_assets.adapters import documents

        lake = platform.lake()
        found = find_performance(spec, lake, platform.tracking(), context.partition_keys)
        write = keep_performance(spec, lake, found)
        last = found[-1]
        day = last.record.day
        if day.isoformat() == max(lake.states(table_name(spec, PERFORMANCE))):
            documents.write(platform.documents_url, spec.name, PERFORMANCE, last.record)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=PERFORMANCE,
            passed=last.verdict != "fell",
            severity=dg.AssetCheckSeverity.WARN,
            description=_summary(last),
            metadata={"day": day.isoformat(), "verdict": last.verdict},
        )
        metadata = {each.record.day.isoformat(): _metadata(each) for each in found}
        window = days_until(day, PLOT_DAYS)
        kept = read_present(spec, lake, PERFORMANCE, COLUMNS, window).to_dicts()
        metadata[day.isoformat()] |= {
            "status": dg.MetadataValue.md(status_markdown(spec, lake, day, kept)),
            "history": _plot(spec, kept),
        }
        yield from events(
            key, Published(write=write), suite=None, partitioned=True, by_partition=metadata
        )

    return _performance
