"""The tables of performance: the statistics of each day, and the figures of its window."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, cast

from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.spec import LABEL, ColumnType, UseCaseSpec
from mlops_assets.lifecycle.monitoring.day_tables import (
    days_until,
    last_champion,
    read_present,
    write_days,
)
from mlops_assets.lifecycle.monitoring.performance_windows import (
    LOOKBACK_DAYS,
    AnsweredDay,
    DayPerformance,
    judge,
)
from mlops_assets.lifecycle.monitoring.references import read_reference
from mlops_assets.lifecycle.outcomes import OUTCOMES

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake, WriteResult
    from mlops_assets.adapters.tracking import Tracking
    from mlops_assets.core.performance_days import Reference

PERFORMANCE = "performance"
PERFORMANCE_DAYS = "performance_days"

DAY_COLUMNS: dict[str, ColumnType] = {
    "day": "string",
    "model_version": "int64",
    "role": "string",
    "answers": "int64",
    "known": "int64",
    "positives": "int64",
    "labelled": "int64",
    "realized": "string",
    "estimated": "string",
}
"""One row for each version and role. ``realized`` and ``estimated`` are DayStatistics as JSON,
empty where there are no labels and where the version has no reference."""

COLUMNS: dict[str, ColumnType] = {
    "day": "string",
    "model_version": "int64",
    "answers": "int64",
    "outcomes_known": "float64",
    "base_rate": "float64",
    "realized": "float64",
    "estimated": "float64",
    "estimated_low": "float64",
    "estimated_high": "float64",
    "inside": "bool",
    "realized_window": "float64",
    "realized_window_low": "float64",
    "realized_window_high": "float64",
    "estimated_window": "float64",
    "estimated_window_low": "float64",
    "estimated_window_high": "float64",
    "reference": "float64",
    "audit_error": "float64",
    "audit_bias": "float64",
    "audit_coverage": "float64",
    "verdict": "string",
    "record": "string",
}
"""Log-losses in nats, of the version's answers as champion; null where not known."""


def find_performance(
    spec: UseCaseSpec, lake: "Lake", tracking: "Tracking", partitions: Sequence[str]
) -> list[DayPerformance]:
    """The performance of the windows that end with the days ``partitions``, in order.

    Each day is about the version that answered last as its champion; where none did, about the
    present champion. The days' own statistics are in the lake afterwards, as one commit.
    """
    from mlops_assets.core.outcomes import COLUMNS as OUTCOME_COLUMNS

    ordered = sorted(partitions)
    references: dict[int, Reference | None] = {}

    def reference_of(version: int) -> "Reference | None":
        if version not in references:
            references[version] = read_reference(spec, lake, version)
        return references[version]

    champions: dict[str, int] = {}
    rows: dict[str, list[dict[str, object]]] = {}
    for day in ordered:
        outcomes = read_present(spec, lake, OUTCOMES, OUTCOME_COLUMNS, [day])
        version = last_champion(outcomes)
        if version is None:
            champion = tracking.champion(spec.name)
            if champion is None:
                raise MissingPartitionsError(
                    f"{spec.name} has no champion and none answered on {day}: materialize "
                    f"{spec.name}/promotion first"
                )
            version = champion.version
        champions[day] = version
        found = {of: reference_of(of) for of in set(outcomes["model_version"].to_list())}
        rows[day] = _day_rows(day, outcomes, found)
    write_days(spec, lake, PERFORMANCE_DAYS, DAY_COLUMNS, rows, ["model_version", "role"])
    before = days_until(date.fromisoformat(ordered[-1]), _span(ordered))
    kept = read_present(spec, lake, PERFORMANCE_DAYS, DAY_COLUMNS, before)
    history = _history(kept)
    return [
        judge(spec, date.fromisoformat(day), version, reference_of(version), history)
        for day, version in champions.items()
    ]


def _span(ordered: Sequence[str]) -> int:
    between = date.fromisoformat(ordered[-1]) - date.fromisoformat(ordered[0])
    return between.days + LOOKBACK_DAYS


def _day_rows(
    day: str, outcomes: "pl.DataFrame", references: "Mapping[int, Reference | None]"
) -> list[dict[str, object]]:
    """The rows of a day's statistics."""
    import polars as pl

    from mlops_assets.core.outcomes import MODEL_VERSION, OUTCOME_KNOWN, ROLE, SCORE
    from mlops_assets.core.performance_days import estimated_days, realized_days

    result: list[dict[str, object]] = []
    for key, answers in outcomes.partition_by(MODEL_VERSION, ROLE, as_dict=True).items():
        version, role = cast("tuple[int, str]", key)
        labelled = answers.filter(pl.col(LABEL).is_not_null())
        # An event that ended without a label, as a cancelled flight, never gets one.
        possible = answers.filter(pl.col(LABEL).is_not_null() | ~pl.col(OUTCOME_KNOWN))
        reference = references.get(version)
        realized = estimated = ""
        if labelled.height:
            realized = realized_days(
                [day] * labelled.height,
                labelled[LABEL].to_numpy(),
                labelled[SCORE].to_numpy(),
                versions=version,
                roles=role,
            )[0].model_dump_json()
        if possible.height and reference is not None:
            estimated = estimated_days(
                reference.calibration,
                [day] * possible.height,
                possible[SCORE].to_numpy(),
                version=version,
                roles=role,
            )[0].model_dump_json()
        result.append(
            {
                "day": day,
                "model_version": version,
                "role": role,
                "answers": answers.height,
                "known": int(answers[OUTCOME_KNOWN].sum()),
                "positives": int(labelled[LABEL].sum()),
                "labelled": labelled.height,
                "realized": realized,
                "estimated": estimated,
            }
        )
    return result


def _history(kept: "pl.DataFrame") -> dict[date, AnsweredDay]:
    import polars as pl

    from mlops_assets.core.performance_days import DayStatistics

    def parsed(rows: "pl.DataFrame", kind: str) -> dict[int, DayStatistics]:
        return {
            version: DayStatistics.model_validate_json(document)
            for version, document in rows.select("model_version", kind).iter_rows()
            if document
        }

    champions = kept.filter(pl.col("role") == "champion")
    return {
        date.fromisoformat(str(day)): AnsweredDay(
            answers=int(rows["answers"].sum()),
            known=int(rows["known"].sum()),
            positives=int(rows["positives"].sum()),
            labelled=int(rows["labelled"].sum()),
            realized=parsed(rows, "realized"),
            estimated=parsed(rows, "estimated"),
        )
        for (day,), rows in champions.partition_by("day", as_dict=True).items()
    }


def keep_performance(
    spec: UseCaseSpec, lake: "Lake", found: Iterable[DayPerformance]
) -> "WriteResult":
    """Put the days ``found`` (at least one) in the table, as one commit."""
    rows: dict[str, list[dict[str, object]]] = {}
    for each in found:
        day = each.record.day.isoformat()
        rows[day] = [
            {
                "day": day,
                "model_version": each.record.model_version,
                "answers": each.answers,
                **each.figures,
                "inside": each.audit.inside if each.audit else None,
                "verdict": each.verdict,
                "record": each.record.model_dump_json(),
            }
        ]
    return cast("WriteResult", write_days(spec, lake, PERFORMANCE, COLUMNS, rows, ["day"]))
