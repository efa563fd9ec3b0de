"""The alert log: what was observed and told, and what reached which channel, append-only.

An alert is recorded before it is sent. A process that is killed in between leaves an entry without
a delivery, which the next flush sends.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

from mlops_assets.core.alert_watch import unexpected
from mlops_assets.core.alerts import (
    Alert,
    Entry,
    History,
    Key,
    Policy,
    fold,
    judge,
    resolution,
)
from mlops_assets.core.errors import MissingPartitionsError, PermanentError
from mlops_assets.core.records import Record

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake

TABLE = "alerts"
DELIVERIES = "alert_deliveries"

_COMPACT_EVERY = 16
"""Appends between compactions: a log of many small files takes long to read."""

Document = TypeVar("Document", bound=Record)


class Delivery(Record):
    """The end of an entry's way to a channel.

    ``delivered``: the channel has it. ``refused``: the receiver does not take such a message, ever.
    ``expired``: the channel was away for longer than the policy's ``deliver_within``.
    """

    id: str
    channel: str
    outcome: Literal["delivered", "refused", "expired"]
    reason: str
    at: datetime


def record(lake: "Lake", alerts: Sequence[Alert], policy: Policy) -> list[Entry]:
    """Records observations, in one commit, and returns the new entries.

    What is open and not due gives no new entry unless it says something new: an interrupted
    caller may repeat its call. :func:`mlops_assets.adapters.alerts.flush` sends.
    """
    if not alerts:
        return []
    history, _ = fold(entries(lake), policy)
    found = judge(alerts, history)
    append_entries(lake, found)
    return found


def resolve(
    lake: "Lake", keys: Sequence[Key], cause: str, at: datetime, policy: Policy
) -> list[Entry]:
    """Closes those of the alerts ``keys`` that are open, in one commit; returns the new entries.

    ``cause`` says what is well again. Closing what is not open changes nothing, so that a stage
    that is well may close its alerts each time.
    """
    if not keys:
        return []
    history, _ = fold(entries(lake), policy)
    closed = [resolution(history, key, cause, at) for key in keys]
    found = [entry for entry in closed if entry is not None]
    append_entries(lake, found)
    return found


def settle(
    lake: "Lake",
    use_case: str,
    observed: Sequence[Alert],
    ended: Mapping[Key, str],
    policy: Policy,
    at: datetime,
) -> History:
    """Brings the log of ``use_case`` to ``observed``, in one commit; returns what it amounts to.

    What is observed is recorded as by :func:`record`; what is open and is not observed is closed,
    with the cause in ``ended`` where there is one. Repeating a call changes nothing.
    """
    history, _ = fold(entries(lake, use_case), policy)
    found = judge(observed, history)
    for key in unexpected(history, {alert.key for alert in observed}):
        closed = resolution(history, key, ended.get(key, "it is not observed any more"), at)
        found += [closed] if closed is not None else []
    append_entries(lake, found)
    return history


def entries(lake: "Lake", use_case: str | None = None) -> list[Entry]:
    """The log, of one use case or all, in the order of recording.

    Raises PermanentError for an entry that is none.
    """
    return _read(lake, TABLE, Entry, None if use_case is None else ("use_case", [use_case]))


def deliveries(lake: "Lake", ids: Collection[str] | None = None) -> list[Delivery]:
    """How each entry, of ``ids`` or all, ended in each channel, in the order of recording.

    Raises PermanentError for a delivery that is none.
    """
    return _read(lake, DELIVERIES, Delivery, None if ids is None else ("id", ids))


def append_entries(lake: "Lake", found: Sequence[Entry]) -> None:
    """Adds entries to the log, all or none."""
    import pyarrow as pa

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("event", pa.string()),
            *((name, pa.string()) for name in ("use_case", "kind", "subject", "severity")),
            ("at", pa.timestamp("us", tz="UTC")),
            ("record", pa.string()),
        ]
    )
    rows = [
        {
            "id": entry.id,
            "event": entry.event,
            **entry.alert.model_dump(include={"use_case", "kind", "subject", "severity", "at"}),
            "record": entry.model_dump_json(),
        }
        for entry in found
    ]
    _append(lake, TABLE, pa.Table.from_pylist(rows, schema=schema))


def append_deliveries(lake: "Lake", found: Sequence[Delivery]) -> None:
    """Adds deliveries to the log, all or none."""
    import pyarrow as pa

    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("id", "channel", "outcome")),
            ("at", pa.timestamp("us", tz="UTC")),
            ("record", pa.string()),
        ]
    )
    rows = [
        {
            **delivery.model_dump(include={"id", "channel", "outcome"}),
            "at": delivery.at.astimezone(UTC),
            "record": delivery.model_dump_json(),
        }
        for delivery in found
    ]
    _append(lake, DELIVERIES, pa.Table.from_pylist(rows, schema=schema))


def _append(lake: "Lake", table: str, rows: "pa.Table") -> None:
    if rows.num_rows == 0:
        return
    version = lake.append(table, rows)
    if version % _COMPACT_EVERY == _COMPACT_EVERY - 1:
        lake.compact(table)


def _read(
    lake: "Lake",
    table: str,
    document: type[Document],
    only: tuple[str, Collection[str]] | None,
) -> list[Document]:
    import pyarrow.compute as pc

    try:
        rows = lake.read_log(table)
    except MissingPartitionsError:
        return []  # Nothing was recorded yet.
    if only is not None:
        column, values = only
        rows = rows.filter(pc.field(column).isin(list(values)))
    try:
        return [document.model_validate_json(text) for text in rows["record"].to_pylist()]
    except ValueError as error:
        raise PermanentError(
            f"table {table!r} of the lake has an entry that is no {document.__name__} of this "
            f"release: read it with the release that wrote it ({error})"
        ) from error
