"""Drift: the answers of a window of days against the training data of the champion.

Decided by profiles alone. Rows are read once to profile their day, and as a bounded sample for the
report that people look at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.monitoring_records import AlarmsRecord, DriftRecord
from mlops_assets.core.spec import ColumnType, UseCaseSpec
from mlops_assets.lifecycle.assets import DAY_BACKFILL, asset_key, common, days, placed, table_name
from mlops_assets.lifecycle.automation import carries
from mlops_assets.lifecycle.monitoring.day_alarms import keep_alarms
from mlops_assets.lifecycle.monitoring.day_tables import days_until, read_present
from mlops_assets.lifecycle.monitoring.drift_days import (
    COLUMNS,
    DRIFT,
    DayDrift,
    find_drift,
    keep_drift,
)
from mlops_assets.lifecycle.monitoring.profiles import feature_types, sampled_answers
from mlops_assets.lifecycle.monitoring.references import read_references
from mlops_assets.lifecycle.outcomes import OUTCOMES
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.prediction_log import PREDICTION_LOG
from mlops_assets.lifecycle.publish import Published, PublishEvents, events

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake, WriteResult
    from mlops_assets.adapters.tracking import Tracking
    from mlops_assets.core.column_drift import CategoryShare
    from mlops_assets.core.drift import Drift

PLOT_DAYS = 28


def report_is_due(spec: UseCaseSpec, lake: "Lake", record: DriftRecord) -> bool:
    """Whether people should get a report: there is drift, and the last report is of a window that
    has no day in common with this one.
    """
    if record.verdict != "drift":
        return False
    before = days_until(record.day, spec.monitoring.window_days)[:-1]
    kept = read_present(spec, lake, DRIFT, {"day": "string", "report": "string"}, before)
    return not any(kept["report"].to_list())


def write_report(
    spec: UseCaseSpec, lake: "Lake", tracking: "Tracking", found: DayDrift, reports_url: str
) -> str:
    """Render the report on the window against the training set, and return where it is."""
    from mlops_assets.adapters.reports import drift_report
    from mlops_assets.adapters.storage import join
    from mlops_assets.lifecycle.training_set import read_training_set

    record = found.record
    against = read_references(spec, lake, record.model_version)
    window = days_until(record.day, spec.monitoring.window_days)
    if against is None or not record.rows:
        raise PermanentError(f"{spec.name} has no report on {record.day}: {record.cause}")
    model = tracking.version(spec.name, record.model_version)
    current = sampled_answers(spec, lake, window, against.layout, spec.monitoring.report_rows)
    shares = against.summary.importances
    types = feature_types(against.layout)
    ranked = sorted(types, key=lambda name: -shares.get(name, 0.0))
    return drift_report(
        read_training_set(spec, lake, model.training_set),
        current,
        {name: types[name] for name in ranked},
        title=f"{spec.name}: {window[0]} to {window[-1]} (current) against the training set of "
        f"version {record.model_version} (reference)",
        about=record.cause,
        current_rows=record.rows,
        max_rows=spec.monitoring.report_rows,
        path=join(reports_url, spec.name, "drift", f"{record.day}.html"),
    )


def drift_markdown(found: "Drift") -> str:
    """A table of the columns, the most important first."""
    lines = [
        "| column | importance | verdict | effect | p | PSI | Jensen-Shannon | "
        "Kolmogorov-Smirnov | Wasserstein | missing | new | lost |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]

    def number(value: float | None, form: str = ".3f") -> str:
        return "" if value is None else format(value, form)

    for column in sorted(found.columns, key=lambda c: (-c.importance, -(c.effect or 0), c.column)):
        of = column.distances
        cells = [
            column.column,
            f"{column.importance:.1%}",
            f"**{column.verdict}**" if column.verdict != "stable" else "stable",
            number(column.effect),
            number(column.p_value, ".2g"),
        ]
        if of is None:
            cells += [""] * 7
        else:
            cells += [
                number(of.psi),
                number(of.jensen_shannon),
                number(of.kolmogorov_smirnov),
                number(of.wasserstein),
                f"{of.missing_reference:.1%} → {of.missing_reference + of.missing_change:.1%}",
                _shares(of.new),
                _shares(of.lost),
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shares(categories: "Iterable[CategoryShare]") -> str:
    return ", ".join(f"{_cell(each.category)} {each.share:.1%}" for each in categories)


def _cell(text: str) -> str:
    # A bar would begin another cell.
    return text.replace("|", "\\|").replace("\n", " ")


def _metadata(found: DayDrift) -> dict[str, object]:
    """What the UI shows and charts of a day."""
    record = found.record
    return {
        "drift": record.drift,
        "verdict": record.verdict,
        "cause": record.cause,
        "drifted": len(record.drifted),
        "unclear": len(record.unclear),
        **{name: value for name, value in found.figures.items() if value is not None},
        "window_rows": record.rows,
        "window_days": record.days,
        "model_version": record.model_version,
        "columns": dg.MetadataValue.md(drift_markdown(found.found)),
        **({"report": dg.MetadataValue.path(record.report)} if record.report else {}),
    }


def _alarm_metadata(record: AlarmsRecord) -> dict[str, object]:
    causes = "\n".join(f"- **{_cell(each.kind)}**: {_cell(each.cause)}" for each in record.alarms)
    return {"alarms": len(record.alarms), "alarm_causes": dg.MetadataValue.md(causes or "none")}


def _plot(spec: UseCaseSpec, lake: "Lake", day: date) -> dg.MarkdownMetadataValue:
    from mlops_assets.adapters.figures import markdown_image
    from mlops_assets.adapters.monitoring_plots import DriftPoint, drift_plot

    columns: dict[str, ColumnType] = {
        name: COLUMNS[name] for name in ("day", "model_version", "drift", "verdict")
    }
    rows = read_present(spec, lake, DRIFT, columns, days_until(day, PLOT_DAYS))
    points = [
        DriftPoint(date.fromisoformat(of), version, drift, verdict)
        for of, version, drift, verdict in rows.iter_rows()
    ]
    limits = spec.monitoring
    png = drift_plot(points, limits.drift_of_model, limits.window_days)
    return dg.MetadataValue.md(markdown_image(png, "drift"))


def _keep(spec: UseCaseSpec, platform: Platform, found: Sequence[DayDrift]) -> "WriteResult":
    """Put the days ``found`` in the table, and the newest day of all in the document."""
    from mlops_assets.adapters import documents

    lake, last = platform.lake(), found[-1].record
    write = keep_drift(spec, lake, found)
    if last.day.isoformat() == max(lake.states(table_name(spec, DRIFT))):
        documents.write(platform.documents_url, spec.name, DRIFT, last)
    return write


def _both(first: "WriteResult", second: "WriteResult") -> "WriteResult":
    """Two writes of one run as one, in the order of the days."""
    states = {
        state.partition: state
        for write in (first, second)
        for state in (*write.unchanged, *write.written)
    }
    fresh = {state.partition for write in (first, second) for state in write.written}
    return replace(
        second,
        written=tuple(states[day] for day in sorted(states) if day in fresh),
        unchanged=tuple(states[day] for day in sorted(states) if day not in fresh),
    )


class DriftConfig(dg.Config):
    """What one run does beside finding drift."""

    report: bool = False
    """Whether to render the report of the run's last day, drift or not."""


def drift_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that compares what the endpoint was asked with the champion's training data."""
    key = asset_key(spec, DRIFT)

    @dg.asset(
        **common(
            spec,
            DRIFT,
            f"The last {spec.monitoring.window_days} days of answers against the champion's "
            "training data: features weighted by importance, score and label.",
            ["polars", "evidently"],
        ),
        **placed(spec, DRIFT),
        partitions_def=days(spec),
        backfill_policy=DAY_BACKFILL,
        automation_condition=carries(),
        deps=[asset_key(spec, PREDICTION_LOG), asset_key(spec, OUTCOMES)],
        check_specs=[
            dg.AssetCheckSpec(
                DRIFT,
                asset=key,
                description="Whether the model's inputs are what it was trained on; the docs' "
                "runbooks/drift.md says what to do.",
            )
        ],
        metadata={"table": table_name(spec, DRIFT)},
    )
    def _drift(
        context: dg.AssetExecutionContext, config: DriftConfig, platform: Platform
    ) -> PublishEvents:
        lake, tracking = platform.lake(), platform.tracking()
        found = find_drift(spec, lake, tracking, context.partition_keys)
        last = found[-1]
        due = report_is_due(spec, lake, last.record)
        # Kept before the report is rendered: what decides does not wait for what people look at.
        write = _keep(spec, platform, found)
        alarmed = keep_alarms(spec, platform, context.partition_keys)
        if config.report or due:
            report = write_report(spec, lake, tracking, last, platform.reports_url)
            last = replace(last, record=last.record.model_copy(update={"report": report}))
            found[-1] = last
            write = _both(write, _keep(spec, platform, [last]))
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=DRIFT,
            passed=last.record.verdict != "drift",
            severity=dg.AssetCheckSeverity.WARN,
            description=last.record.cause,
            metadata={"day": last.record.day.isoformat(), "drift": last.record.drift},
        )
        metadata = {each.record.day.isoformat(): _metadata(each) for each in found}
        for record in alarmed:
            metadata[record.day.isoformat()] |= _alarm_metadata(record)
        metadata[last.record.day.isoformat()]["history"] = _plot(spec, lake, last.record.day)
        yield from events(
            key, Published(write=write), suite=None, partitioned=True, by_partition=metadata
        )

    return _drift
