"""Reads the prediction log that model servers write."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.core.prediction_log import PredictionRecord

FEATURE_PREFIX = "features."
"""Begins the name of each feature's column, so that no feature hides another column."""


@dataclass(frozen=True)
class Predictions:
    """Predictions in the order of their time, and how many lines of the log were not readable."""

    table: "pa.Table"
    """One row per prediction: ``time`` (UTC, microseconds), ``request_id``, ``row`` (place in its
    request), ``event_id`` (null where none was sent), ``use_case``, ``model_version``, ``sha256``,
    ``score`` (float32), and ``features.<name>`` for each feature as it was sent (string, or
    float64; null where missing or where that model had no such feature)."""
    torn_lines: int
    """Lines that a kill or a full disk cut: they were skipped."""


def read_predictions(log_dir: str | Path, since: datetime | None = None) -> Predictions:
    """Every prediction in ``log_dir``, or those at or after ``since`` (an instant with a zone).

    A directory that does not exist has no predictions: its server has not started yet. A server
    may be writing meanwhile. Raises TransientError for a file that cannot be read.
    """
    if since is not None and since.tzinfo is None:
        raise PermanentError(f"since={since} has no time zone: give an instant, e.g. in UTC")
    records: list[PredictionRecord] = []
    torn = 0
    for line in _lines(Path(log_dir), since):
        record = _decode(line)
        if record is None:
            torn += 1
        elif since is None or record.time >= since:
            records.append(record)
    records.sort(key=lambda record: record.time)
    return Predictions(_table(records), torn)


def _lines(directory: Path, since: datetime | None) -> Iterator[bytes]:
    try:
        for path in sorted(directory.glob("*.jsonl")):
            # A segment was last written when its last record was: older ones need no parsing. File
            # times come from a coarser clock than records', hence the second.
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if since is None or written >= since - timedelta(seconds=1):
                with path.open("rb") as file:
                    yield from (line for line in file if line.strip())
    except OSError as error:
        raise TransientError(
            f"the prediction log {directory} cannot be read: {error.strerror}"
        ) from error


def _decode(line: bytes) -> "PredictionRecord | None":
    from mlops_assets.core.prediction_log import decode_line

    try:
        return decode_line(line)
    except PermanentError:
        return None


def _table(records: "list[PredictionRecord]") -> "pa.Table":
    import pyarrow as pa

    sizes = [len(record.scores) for record in records]

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
        "score": _column([record.scores for record in records], sizes, pa.float32()),
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
    values: "list[list[str | None] | None] | list[list[float | None] | None] | list[list[float]]",
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
