"""Checks that every dataset with days has: deadlines, and rows against weekday and season."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.deadlines import gaps
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.volume import LEAST_DAYS, Expected, expected_rows
from mlops_assets.lifecycle.assets import asset_key, table_name
from mlops_assets.lifecycle.freshness import late
from mlops_assets.lifecycle.publish import PARTITIONS, Published, looked_at

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake

DEADLINE_CHECK = "deadline"
VOLUME_CHECK = "volume"

_SHOWN = 10  # days in a table: a backfill has hundreds


def dataset_check_specs(spec: UseCaseSpec, name: str) -> list[dg.AssetCheckSpec]:
    """The checks of the dataset ``name`` beside its suite's."""
    if not spec.datasets[name].partitioned:
        return []
    key = asset_key(spec, name)
    return [
        dg.AssetCheckSpec(
            VOLUME_CHECK,
            asset=key,
            description="Rows of each day against the same weekday of the weeks before.",
        ),
        dg.AssetCheckSpec(
            DEADLINE_CHECK,
            asset=key,
            description="Each day of the last four weeks is there by its deadline. Evaluated by "
            "each run, and by the sensor of alerts when a deadline passes.",
        ),
    ]


def dataset_checks(
    spec: UseCaseSpec, name: str, lake: "Lake", published: Published, now: datetime
) -> Iterator[dg.AssetCheckResult]:
    """Results of the checks of :func:`dataset_check_specs` once ``published`` is in the lake."""
    if not spec.datasets[name].partitioned:
        return
    rows = {day: state.rows for day, state in lake.states(table_name(spec, name)).items()}
    write = published.write
    states = write.written + write.unchanged if write is not None else ()
    yield _volume(spec, name, rows, [state.partition for state in states])
    # What was refused has come: its own check says what is wrong with it.
    evaluation = deadline_evaluation(spec, name, late(spec, name, {*rows, *published.refused}, now))
    yield dg.AssetCheckResult(
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        passed=evaluation.passed,
        severity=evaluation.severity,
        description=evaluation.description,
        metadata=evaluation.metadata,
    )


def deadline_evaluation(
    spec: UseCaseSpec, name: str, days: Sequence[date]
) -> dg.AssetCheckEvaluation:
    """The check of deadlines, outside a run: late ``days``, in order."""
    shown = ", ".join(
        f"{first}" if first == last else f"{first} to {last}" for first, last in gaps(days)
    )
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(spec, name),
        check_name=DEADLINE_CHECK,
        passed=not days,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"late: {shown}" if days else "every day that is due is there",
        metadata={"late_days": len(days), "late": shown or "none"},
        blocking=False,
    )


def _volume(
    spec: UseCaseSpec, name: str, rows: Mapping[str, int], partitions: Sequence[str]
) -> dg.AssetCheckResult:
    history = {date.fromisoformat(day): count for day, count in rows.items()}
    judged = {day: expected_rows(history, date.fromisoformat(day)) for day in sorted(partitions)}
    failed = {
        day: f"{rows[day]} rows, expected {expected.low:.0f} to {expected.high:.0f}"
        for day, expected in judged.items()
        if expected is not None and not expected.holds(rows[day])
    }
    told = sum(expected is not None for expected in judged.values())
    too_new = f"{len(judged) - told} of {len(judged)} days have fewer than {LEAST_DAYS} days before"
    text = "; ".join(f"{day}: {reason}" for day, reason in list(failed.items())[:_SHOWN])
    metadata: dict[str, dg.MetadataValue | int | float] = {
        "odd_days": len(failed),
        "judged_days": told,
        PARTITIONS: looked_at(partitions, failed),
        "days": dg.MetadataValue.md(_table(rows, judged, failed)),
    }
    newest = max(judged, default="")
    if (expected := judged.get(newest)) is not None:
        metadata |= {
            "rows": rows[newest],
            "expected_rows": round(expected.rows),
            "ratio": rows[newest] / expected.rows,
        }
    return dg.AssetCheckResult(
        asset_key=asset_key(spec, name),
        check_name=VOLUME_CHECK,
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        description=text or (f"{told} days as expected" if told == len(judged) else too_new),
        metadata=metadata,
    )


def _table(
    rows: Mapping[str, int], judged: Mapping[str, Expected | None], failed: Mapping[str, str]
) -> str:
    """Odd days first, then the newest ones."""
    order = [*failed, *(day for day in sorted(judged, reverse=True) if day not in failed)][:_SHOWN]
    lines = ["| day | rows | expected | |", "|---|---:|---:|---|"]
    for day in order:
        expected = judged[day]
        interval = (
            "too little before"
            if expected is None
            else (f"{expected.low:.0f} to {expected.high:.0f}")
        )
        lines.append(f"| {day} | {rows[day]} | {interval} | {'odd' if day in failed else ''} |")
    return "\n".join(lines)
