"""Reads the prediction log that model servers write."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.adapters.log_segments import HOUR, STAMP, lines_of, segments
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.windows import Window, day_start

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.core.prediction_log import PredictionRecord
    from mlops_assets.core.spec import FeatureType

FEATURE_PREFIX = "features."
"""Begins the name of each feature's column, so that no feature hides another column."""


@dataclass(frozen=True)
class Predictions:
    """Predictions in the order of their time, and how many lines of the log were not readable."""

    table: "pa.Table"
    """One row per prediction: ``time`` (UTC, microseconds), ``request_id``, ``row`` (place in its
    request), ``event_id`` (null where none was sent), ``use_case``, ``model_version``, ``sha256``,
    ``role``, ``returned`` (whether the client got the score), ``rollout_id`` (empty outside of a
    rollout), ``score`` (float32), ``error`` (why there is no score, else null), ``looked_up``
    (JSON, see core.online.RowLookup; null where all features were sent), and ``features.<name>``
    for each feature as it was sent (string, or float64; null where missing or where that model had
    no such feature). Features stand with the score that was returned."""
    torn_lines: int
    """Lines that a kill or a full disk cut: they were skipped."""
    inputs: "Mapping[str, Mapping[str, FeatureType]]"
    """The features that each model answered with and their types, by the model's sha256."""


def read_predictions(
    log_dir: str | Path, since: datetime | None = None, until: datetime | None = None
) -> Predictions:
    """The predictions in ``log_dir`` from ``since`` to before ``until`` (instants with a zone).

    ``log_dir`` is a directory that servers write to, or an ``s3://`` URL that they ship to. One
    that does not exist has no predictions: its server has not started yet. A server may be writing
    meanwhile. A request that a client sent twice stands there twice.

    Raises TransientError for a file that cannot be read, PermanentError for one that is no segment.
    """
    for name, instant in (("since", since), ("until", until)):
        if instant is not None and instant.tzinfo is None:
            raise PermanentError(f"{name}={instant} has no time zone: give an instant, e.g. in UTC")
    records: list[PredictionRecord] = []
    torn = 0
    for line in lines_of(segments(log_dir, since, until)):
        record = _decode(line)
        if record is None:
            torn += 1
        elif (since is None or record.time >= since) and (until is None or record.time < until):
            records.append(record)
    records.sort(key=lambda record: record.time)
    inputs = {record.sha256: _inputs(record) for record in records if record.returned}
    return Predictions(_table(records), torn, inputs)


def _inputs(record: "PredictionRecord") -> "dict[str, FeatureType]":
    categories: dict[str, FeatureType] = dict.fromkeys(record.categories, "category")
    return {**categories, **dict.fromkeys(record.floats, "float")}


def log_versions(
    log_dir: str | Path, window: Window, settled: Collection[str] = ()
) -> dict[str, str]:
    """For each day of ``window`` that has answers, a text that changes when more are added.

    Keys are the days' partition keys in the window's time zone, in order; days ``settled`` are left
    out, and their files cost next to nothing. Only names and sizes of files are read. Where the
    zone is not whole hours from UTC, an hour counts for both days that it touches. Raises as
    :func:`read_predictions` does.
    """
    import hashlib
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(window.timezone)
    found: dict[date, list[str]] = {}
    skipped = _settled_hours(settled, window.timezone)
    for segment in segments(log_dir, window.start_time, window.end_time, skipped):
        hour = segment.hour
        last = hour + HOUR - timedelta(microseconds=1)
        for day in {hour.astimezone(zone).date(), last.astimezone(zone).date()}:
            if window.first <= day < window.end and day.isoformat() not in settled:
                found.setdefault(day, []).append(f"{segment.name} {segment.size}")
    return {
        day.isoformat(): hashlib.sha256("\n".join(found[day]).encode()).hexdigest()
        for day in sorted(found)
    }


def _settled_hours(settled: Collection[str], timezone: str) -> list[str]:
    """The hours that lie in days ``settled`` alone, as names of segments begin: where each run of
    such hours begins, and the hour behind it, in turn.
    """
    from mlops_assets.core.prediction_log import segment_name

    bounds: list[str] = []
    days = sorted(settled)
    for n, day in enumerate(days):
        first = date.fromisoformat(day)
        if n == 0 or first - date.fromisoformat(days[n - 1]) > timedelta(days=1):
            begin = day_start(first, timezone) + HOUR - timedelta(microseconds=1)
            bounds.append(segment_name(begin, "")[:STAMP])
        if n == len(days) - 1 or date.fromisoformat(days[n + 1]) - first > timedelta(days=1):
            end = day_start(first + timedelta(days=1), timezone)
            bounds.append(segment_name(end, "")[:STAMP])
    return bounds


def _decode(line: bytes) -> "PredictionRecord | None":
    from mlops_assets.core.prediction_log import decode_line

    try:
        return decode_line(line)
    except PermanentError:
        return None


def _table(records: "list[PredictionRecord]") -> "pa.Table":
    import pyarrow as pa

    from mlops_assets.core.online import row_lookups

    sizes = [record.rows for record in records]

    def each(values: list[object], kind: pa.DataType) -> pa.Array:
        """One value per record, repeated for each of its rows."""
        rows = [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]
        return pa.array(rows, type=kind)

    columns: dict[str, pa.Array] = {
        "time": each([record.time for record in records], pa.timestamp("us", tz="UTC")),
        "request_id": each([record.request for record in records], pa.string()),
        "row": pa.array([row for size in sizes for row in range(size)], type=pa.int32()),
        "event_id": _column([record.events for record in records], sizes, pa.string()),
        "use_case": each([record.use_case for record in records], pa.string()),
        "model_version": each([record.version for record in records], pa.int64()),
        "sha256": each([record.sha256 for record in records], pa.string()),
        "role": each([record.role for record in records], pa.string()),
        "returned": each([record.returned for record in records], pa.bool_()),
        "rollout_id": each([record.rollout for record in records], pa.string()),
        "score": _column([record.scores or None for record in records], sizes, pa.float32()),
        "error": each([record.error for record in records], pa.string()),
        "looked_up": _column(
            [None if record.online is None else row_lookups(record.online) for record in records],
            sizes,
            pa.string(),
        ),
    }
    texts = {name: None for record in records for name in record.categories}
    numbers = {name: None for record in records for name in record.floats if name not in texts}
    for name in texts:
        columns[FEATURE_PREFIX + name] = _column(
            [
                record.categories.get(name) or _as_texts(record.floats.get(name))
                for record in records
            ],
            sizes,
            pa.string(),
        )
    for name in numbers:
        columns[FEATURE_PREFIX + name] = _column(
            [record.floats.get(name) for record in records], sizes, pa.float64()
        )
    return pa.table(columns)


def _as_texts(values: list[float | None] | None) -> list[str | None] | None:
    """A feature that was a float in an earlier model and is a category now, as text."""
    if values is None:
        return None
    return [None if value is None else repr(value) for value in values]


def _column(
    values: "Sequence[Sequence[str | float | None] | None]",
    sizes: list[int],
    kind: "pa.DataType",
) -> "pa.Array":
    """The lists one after another; nulls for a record that has none."""
    import pyarrow as pa

    rows = [
        value
        for column, size in zip(values, sizes, strict=True)
        for value in (column if column is not None else [None] * size)
    ]
    return pa.array(rows, type=kind)
