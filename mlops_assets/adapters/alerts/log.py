"""The alert log: what was observed and told, and what reached which channel, append-only.

An alert is recorded before it is sent. A process that is killed in between leaves an entry without
a delivery, which the next flush sends. Each use case has a log of its own: one that all share would
be read by each, and grow with all of them.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeVar

from mlops_assets.adapters import ledger_tables
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
"""Tables of each use case."""

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
    """Records observations, in one commit for each use case, and returns the new entries.

    What is open and not due gives no new entry unless it says something new: an interrupted
    caller may repeat its call. :func:`mlops_assets.adapters.alerts.flush` sends.
    """
    found: list[Entry] = []
    for use_case, observed in groupby(sorted(alerts, key=_use_case), _use_case):
        history, _ = fold(entries(lake, use_case), policy)
        found += judge(list(observed), history)
    append_entries(lake, found)
    return found


def resolve(
    lake: "Lake", keys: Sequence[Key], cause: str, at: datetime, policy: Policy
) -> list[Entry]:
    """Closes those of the alerts ``keys`` that are open; returns the new entries.

    ``cause`` says what is well again. Closing what is not open changes nothing, so that a stage
    that is well may close its alerts each time.
    """
    found: list[Entry] = []
    for use_case in sorted({key[0] for key in keys}):
        history, _ = fold(entries(lake, use_case), policy)
        own = [resolution(history, key, cause, at) for key in keys if key[0] == use_case]
        found += [entry for entry in own if entry is not None]
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


def entries(lake: "Lake", use_case: str) -> list[Entry]:
    """The log of a use case, in the order of recording.

    Raises PermanentError for an entry that is none.
    """
    return _read(lake, table(use_case), Entry)


def deliveries(lake: "Lake", use_case: str, ids: Collection[str] | None = None) -> list[Delivery]:
    """How each entry, of ``ids`` or all, ended in each channel, in the order of recording.

    Raises PermanentError for a delivery that is none.
    """
    return _read(lake, table(use_case, DELIVERIES), Delivery, ids)


def table(use_case: str, name: str = TABLE) -> str:
    """The use case's table ``name``."""
    return f"{use_case}/{name}"


def append_entries(lake: "Lake", found: Sequence[Entry]) -> None:
    """Adds entries to the logs of their use cases, in each all or none."""
    in_order = sorted(found, key=lambda entry: entry.alert.use_case)
    for use_case, own in groupby(in_order, lambda entry: entry.alert.use_case):
        _append_entries(lake, use_case, list(own))


def _append_entries(lake: "Lake", use_case: str, found: Sequence[Entry]) -> None:
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
    _append(lake, table(use_case), pa.Table.from_pylist(rows, schema=schema))


def append_deliveries(lake: "Lake", use_case: str, found: Sequence[Delivery]) -> None:
    """Adds deliveries to the log of the use case, all or none."""
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
    _append(lake, table(use_case, DELIVERIES), pa.Table.from_pylist(rows, schema=schema))


def _use_case(alert: Alert) -> str:
    return alert.use_case


def _append(lake: "Lake", place: str, rows: "pa.Table") -> None:
    if rows.num_rows == 0:
        return
    version = ledger_tables.append(lake, place, rows)
    if version % _COMPACT_EVERY == _COMPACT_EVERY - 1:
        ledger_tables.compact(lake, place)


def _read(
    lake: "Lake",
    place: str,
    document: type[Document],
    ids: Collection[str] | None = None,
) -> list[Document]:
    import pyarrow.compute as pc

    try:
        rows = ledger_tables.read(lake, place)
    except MissingPartitionsError:
        return []  # Nothing was recorded yet.
    if ids is not None:
        rows = rows.filter(pc.field("id").isin(list(ids)))
    try:
        return [document.model_validate_json(text) for text in rows["record"].to_pylist()]
    except ValueError as error:
        raise PermanentError(
            f"table {place!r} of the lake has an entry that is no {document.__name__} of this "
            f"release: read it with the release that wrote it ({error})"
        ) from error
