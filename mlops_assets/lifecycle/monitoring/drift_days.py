"""The drift of windows of days, decided by profiles alone, and the table that keeps it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, cast

from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.monitoring_records import DriftRecord
from mlops_assets.core.spec import LABEL, ColumnType, UseCaseSpec
from mlops_assets.lifecycle.assets import table_name
from mlops_assets.lifecycle.monitoring.day_tables import (
    days_until,
    last_champion,
    read_present,
    write_days,
)
from mlops_assets.lifecycle.monitoring.profiles import (
    Profiles,
    answered_days,
    feature_types,
    keep_profiles,
)
from mlops_assets.lifecycle.monitoring.references import SCORE, References, read_references
from mlops_assets.lifecycle.prediction_log import COLUMNS as ANSWER_COLUMNS
from mlops_assets.lifecycle.prediction_log import PREDICTION_LOG

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake, WriteResult
    from mlops_assets.adapters.tracking import Tracking
    from mlops_assets.core.drift import Drift

DRIFT = "drift"

COLUMNS: dict[str, ColumnType] = {
    "day": "string",
    "model_version": "int64",
    "drift": "float64",
    "verdict": "string",
    "drifted": "int64",
    "psi_max": "float64",
    "score_drift": "float64",
    "label_drift": "float64",
    "rows": "int64",
    "days": "int64",
    "report": "string",
    "record": "string",
}
"""``psi_max`` is the largest of the features (nats), ``score_drift`` and ``label_drift`` are
Jensen-Shannon distances (0 to 1), null where there is nothing to compare."""


@dataclass(frozen=True)
class DayDrift:
    """The drift of the window that ends with a day."""

    record: DriftRecord
    found: "Drift"

    @property
    def figures(self) -> dict[str, float | None]:
        """The largest PSI of a feature, and the distances of score and label."""
        by_name = {column.column: column for column in self.found.columns}
        distances = {name: c.distances for name, c in by_name.items() if c.distances is not None}
        psi = [d.psi for n, d in distances.items() if n not in {SCORE, LABEL} and d.psi is not None]
        score, label = (distances.get(name) for name in (SCORE, LABEL))
        return {
            "psi_max": max(psi, default=None),
            "score_drift": score.jensen_shannon if score else None,
            "label_drift": label.jensen_shannon if label else None,
        }


def find_drift(
    spec: UseCaseSpec, lake: "Lake", tracking: "Tracking", partitions: Sequence[str]
) -> list[DayDrift]:
    """The drift of the windows that end with the days ``partitions``, in order.

    The newest day is compared with the training data of the present champion; a day before it, as
    when late data re-open it, with those of the champion of that day.
    """
    from mlops_assets.core.monitoring import drift_record

    ordered = sorted(partitions)
    versions = _versions(spec, lake, tracking, ordered)
    references = {of: read_references(spec, lake, of) for of in set(versions.values())}
    width = spec.monitoring.window_days
    windows = {day: days_until(date.fromisoformat(day), width) for day in ordered}
    answered = answered_days(spec, lake, {day for window in windows.values() for day in window})
    wanted: dict[str, list[References]] = {}
    for day, window in windows.items():
        against = references[versions[day]]
        if against is not None:
            for part in answered.keys() & set(window):
                wanted.setdefault(part, []).append(against)
    profiles = keep_profiles(spec, lake, wanted, [day for day in ordered if day in wanted])
    result: list[DayDrift] = []
    for day, window in windows.items():
        inside = [part for part in window if part in answered]
        against = references[versions[day]]
        found = (
            _nothing(len(inside), sum(answered[part] for part in inside))
            if against is None
            else _compare(spec, against, profiles, inside)
        )
        record = drift_record(spec.name, date.fromisoformat(day), versions[day], found)
        if against is None:
            record = record.model_copy(
                update={
                    "cause": f"Version {versions[day]} has nothing to compare with: materialize "
                    f"{spec.name}/evaluation again, which keeps it."
                }
            )
        result.append(DayDrift(record, found))
    return result


def _versions(
    spec: UseCaseSpec, lake: "Lake", tracking: "Tracking", ordered: Sequence[str]
) -> dict[str, int]:
    """The version whose training data each day is compared with."""
    newest = max([*lake.states(table_name(spec, DRIFT)), *ordered])
    champion = tracking.champion(spec.name)
    columns: dict[str, ColumnType] = {
        name: ANSWER_COLUMNS[name] for name in ("asked_at", "role", "model_version")
    }
    versions: dict[str, int] = {}
    for day in ordered:
        version = champion.version if champion and day == newest else None
        if version is None:
            version = last_champion(read_present(spec, lake, PREDICTION_LOG, columns, [day]))
        if version is None and champion is not None:
            version = champion.version
        if version is None:
            raise MissingPartitionsError(
                f"{spec.name} has no champion and none answered on {day}: materialize "
                f"{spec.name}/promotion first"
            )
        versions[day] = version
    return versions


def _compare(
    spec: UseCaseSpec, against: References, profiles: Profiles, inside: Sequence[str]
) -> "Drift":
    """The window of the days ``inside``: its features, and beside them its score and its labels.

    Features are those of all answers. Scores are the version's own, and are compared with those of
    rows that it was not fitted to: on the others it is too sure. Neither scores nor labels count in
    the drift of the model, which is about its inputs.
    """
    from mlops_assets.core.daily_profiles import daily
    from mlops_assets.core.drift import DriftThresholds, compare

    limits = DriftThresholds(
        distance=spec.monitoring.drift_distance, model=spec.monitoring.drift_of_model
    )
    names = list(feature_types(against.layout))
    before = daily(against.answers, against.layout)
    features = compare(
        before.select(names),
        profiles.window(against.layout, inside).select(names),
        importance=against.summary.importances,
        thresholds=limits,
    )
    scores = compare(
        before.select([SCORE]).between(against.summary.unseen_from, date.max),
        profiles.window(against.layout, inside, against.version).select([SCORE]),
        importance={},
        thresholds=limits,
    )
    labels = compare(
        daily(against.labels, against.label_layout),
        profiles.window(against.label_layout, inside),
        importance={},
        thresholds=limits,
    )
    return features.model_copy(
        update={"columns": features.columns + scores.columns + labels.columns}
    )


def _nothing(days_inside: int, rows: int) -> "Drift":
    from mlops_assets.core.drift import Drift

    return Drift(
        drift=0.0,
        verdict="unclear",
        reference_days=0,
        reference_rows=0,
        current_days=days_inside,
        current_rows=rows,
        columns=(),
    )


def keep_drift(spec: UseCaseSpec, lake: "Lake", found: Iterable[DayDrift]) -> "WriteResult":
    """Put the days ``found`` (at least one) in the table, as one commit."""
    rows: dict[str, list[dict[str, object]]] = {}
    for each in found:
        record = each.record
        rows[record.day.isoformat()] = [
            {
                "day": record.day.isoformat(),
                "model_version": record.model_version,
                "drift": record.drift,
                "verdict": record.verdict,
                "drifted": len(record.drifted),
                **each.figures,
                "rows": record.rows,
                "days": record.days,
                "report": record.report,
                "record": record.model_dump_json(),
            }
        ]
    return cast("WriteResult", write_days(spec, lake, DRIFT, COLUMNS, rows, ["day"]))
