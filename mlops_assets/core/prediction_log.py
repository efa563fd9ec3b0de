"""The prediction log's format: segments of an hour, with one JSON object per request and line.

The model server writes them, the reader of the log reads them back; both use this module, so that
the format has one definition.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.online import Lookups


class PredictionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an endpoint answered to one request. Every list has one item per row.

    Features are the values that were sent, before encoding: an unknown category is kept as it
    came. Categories and floats stand apart so that a column of nulls keeps its type.
    """

    time: datetime
    """When the answer was computed, in UTC."""
    request: str
    """The client's request id, or one that the server made up."""
    use_case: str
    version: int
    sha256: str
    categories: dict[str, list[str | None]]
    floats: dict[str, list[float | None]]
    scores: list[float]
    """Probability of a positive label; a 32-bit float, written exactly."""
    events: list[str | None] | None = None
    """Event ids, where the client sent them."""
    role: str = "champion"
    """What the model was to the endpoint when it answered."""
    online: Lookups | None = None
    """How the endpoint came by the features that were not sent; none where all were."""
    returned: bool = True
    """Whether the client got these scores. Others are for comparison: their features stand in the
    record of the same request that was returned."""
    rollout: str = ""
    """The rollout's id, while one is under way."""
    error: str | None = None
    """Why the model has no scores for this request."""
    failed_rows: int = 0
    """How many rows it has none for."""

    @property
    def rows(self) -> int:
        """Rows of the request."""
        return len(self.scores) or self.failed_rows


class _WrittenRecord(PredictionRecord, frozen=True, omit_defaults=True):
    """With columns that are JSON already; it is read as any other."""

    categories: dict[str, msgspec.Raw]  # pyright: ignore[reportIncompatibleVariableOverride]
    floats: dict[str, msgspec.Raw]  # pyright: ignore[reportIncompatibleVariableOverride]


DAY_FOLDER = "%Y%m%d"
"""Name of a day's folder in a store, as a format of dates."""

_SEGMENT = re.compile(r"(\d{8}T\d{2})-.+\.jsonl")


def segment_name(hour: datetime, instance: str, number: int = 0) -> str:
    """The file in which ``instance`` keeps the records of the UTC hour that ``hour`` lies in.

    ``number`` counts the files of one hour: a full one is followed by the next.
    """
    suffix = f".{number}" if number else ""
    return f"{hour.astimezone(UTC):%Y%m%dT%H}-{instance}{suffix}.jsonl"


def segment_hour(name: str) -> datetime:
    """The start of the hour whose records the file ``name`` holds, and no others.

    Raises PermanentError for a name that is none of :func:`segment_name`.
    """
    found = _SEGMENT.fullmatch(name)
    try:
        if found is not None:
            day, hour = found[1].split("T")
            # Not strptime: thousands of names are read at a time.
            return datetime(int(day[:4]), int(day[4:6]), int(day[6:]), int(hour), tzinfo=UTC)
    except ValueError:
        pass
    raise PermanentError(
        f"{name} is no segment of a prediction log: its name does not begin with an hour like "
        "20130301T05-; move it out of the folder"
    )


def shipped_name(name: str) -> str:
    """Where the segment ``name`` lies below a log in a store: in a folder of its UTC day, so that
    who looks for some days lists no others.
    """
    return f"{segment_hour(name):{DAY_FOLDER}}/{name}"


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(PredictionRecord)


def encode_line(
    record: PredictionRecord, written: Mapping[str, msgspec.Raw] | None = None
) -> bytes:
    """``record`` as one line, its line feed included. JSON text holds no other line feed.

    ``written`` are those of its columns that a request came with as JSON, without a line break: to
    write them again takes as long as to score a third of them.
    """
    if written is not None:
        content = msgspec.structs.asdict(record)
        content["categories"] = _as_written(record.categories, written)
        content["floats"] = _as_written(record.floats, written)
        record = _WrittenRecord(**content)
    return _encoder.encode(record) + b"\n"


def _as_written(
    columns: Mapping[str, Sequence[object]], written: Mapping[str, msgspec.Raw]
) -> dict[str, msgspec.Raw]:
    return {
        name: written[name] if name in written else msgspec.Raw(_encoder.encode(column))
        for name, column in columns.items()
    }


def decode_line(line: bytes) -> PredictionRecord:
    """The record in ``line``, with or without its line feed.

    Raises PermanentError for a line that is cut, no record, or whose lists differ in length: a
    prefix of a record never decodes.
    """
    try:
        record = _decoder.decode(line)
    except (ValueError, RecursionError) as error:
        raise PermanentError(f"not a line of a prediction log: {error}") from error
    columns = [*record.categories.values(), *record.floats.values()]
    if record.events is not None:
        columns.append(record.events)
    if any(len(column) != record.rows for column in columns):
        raise PermanentError("not a line of a prediction log: its columns differ in length")
    return record
