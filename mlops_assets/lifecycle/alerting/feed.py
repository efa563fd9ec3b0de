"""The instance's event log as it grows, read once by a process for the sensors of all use cases.

What a check or a run's end is about is inside the event's text: a sensor that looked for what is
its own would parse what all others did, again and again. Here each event is parsed once, and dealt
out by use case. Memory is bounded; whoever is behind what is remembered reads the log itself.

Some of what is called here is not public in Dagster, which is pinned.
"""

import json
import threading
from bisect import bisect_right, insort
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast
from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster._serdes import deserialize_value
from dagster_shared.serdes.errors import DeserializationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

MOST_EVENTS = 500
"""That one tick reads from the log; the rest is for the next one."""

KEPT = 20_000
"""Events that are remembered, of all use cases: about 1 kB each."""

OVERLAP = 50
"""Events before the last one that are looked for again when there are new ones: a database may show
one after those that follow it."""

_KINDS = (
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
)


class _EventLog(Protocol):
    """The part of each of Dagster's event logs that this module reads."""

    def index_connection(self) -> "AbstractContextManager[Connection]": ...


@dataclass(frozen=True)
class Checked:
    """A check was evaluated."""

    number: int
    evaluation: dg.AssetCheckEvaluation

    @property
    def use_cases(self) -> Collection[str] | None:
        """Whom it concerns; None: each use case."""
        return (self.evaluation.asset_key.path[0],)


@dataclass(frozen=True)
class Ended:
    """A run ended; ``selected`` are its assets, None when it was not made for some."""

    number: int
    run_id: str
    succeeded: bool
    message: str
    selected: frozenset[dg.AssetKey] | None

    @property
    def use_cases(self) -> Collection[str] | None:
        """Whom it concerns; None: each use case."""
        return None if self.selected is None else {key.path[0] for key in self.selected}


Logged = Checked | Ended


class Feed:
    """The end of one event log, by use case."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first = 0
        self._until: int | None = None
        self._numbers: list[int] = []
        self._of: dict[str | None, list[Logged]] = {}

    def since(
        self, instance: dg.DagsterInstance, use_case: str, after: int, last: int
    ) -> tuple[list[Logged], int]:
        """What concerns ``use_case`` after the event ``after``, in the log's order, and how far the
        log was read for it: to ``last``, its newest event, when there is not too much.
        """
        with self._lock:
            if self._until is None or last < self._until:  # one that was wiped begins again
                self._first = self._until = after
                self._numbers, self._of = [], {}
            if self._until < last:
                self._until = self._read_on(instance, self._until, last)
            if after >= self._first:
                own = [*self._after(use_case, after), *self._after(None, after)]
                return sorted(own, key=_number), max(after, self._until)
        found, until = _read(instance, after, last, ())
        return [one for one in found if _concerns(one, use_case)], until

    def _read_on(self, instance: dg.DagsterInstance, until: int, last: int) -> int:
        after = max(self._first, until - OVERLAP)
        known = self._numbers[bisect_right(self._numbers, after) :]
        found, until = _read(instance, after, last, known)
        for one in found:
            insort(self._numbers, one.number)
            concerned = one.use_cases
            for use_case in [None] if concerned is None else concerned:
                insort(self._of.setdefault(use_case, []), one, key=_number)
        if len(self._numbers) > KEPT:
            self._forget(self._numbers[-KEPT // 2])
        return until

    def _after(self, use_case: str | None, after: int) -> list[Logged]:
        kept = self._of.get(use_case, [])
        return kept[bisect_right(kept, after, key=_number) :]

    def _forget(self, until: int) -> None:
        self._first = until
        del self._numbers[: bisect_right(self._numbers, until)]
        left = {use_case: self._after(use_case, until) for use_case in self._of}
        self._of = {use_case: kept for use_case, kept in left.items() if kept}


_feeds: dict[object, Feed] = {}
"""By the configuration of the event log: a code server opens the instance for each tick."""

_unnamed: "WeakKeyDictionary[dg.DagsterInstance, Feed]" = WeakKeyDictionary()
"""Of instances that are in this process only."""

_MOST_FEEDS = 4
_feeds_lock = threading.Lock()


def feed_of(instance: dg.DagsterInstance) -> Feed:
    """The feed of the instance's event log, the same one each time in this process."""
    with _feeds_lock:
        if not instance.is_persistent:
            return _unnamed.setdefault(instance, Feed())
        name = instance.get_ref().event_storage_data
        found = _feeds.pop(name, None) or Feed()
        while len(_feeds) >= _MOST_FEEDS:
            del _feeds[next(iter(_feeds))]
        _feeds[name] = found
        return found


def _read(
    instance: dg.DagsterInstance, after: int, last: int, known: Sequence[int]
) -> tuple[list[Logged], int]:
    """At most MOST_EVENTS events after ``after`` that are not ``known``, and how far they reach."""
    rows = _rows(cast("_EventLog", instance.event_log_storage), after, known)
    entries = {number: entry for number, text in rows if (entry := _parsed(text)) is not None}
    runs = _selections(
        instance, {one.run_id for one in entries.values() if _evaluation(one) is None}
    )
    found: list[Logged] = []
    for number, entry in entries.items():
        evaluation = _evaluation(entry)
        if evaluation is not None:
            found.append(Checked(number, evaluation))
        elif entry.run_id in runs:
            succeeded = entry.dagster_event_type == dg.DagsterEventType.RUN_SUCCESS
            message = entry.user_message or entry.message
            found.append(Ended(number, entry.run_id, succeeded, message, runs[entry.run_id]))
    # Neither is any event lost that came after ``last`` was asked for, nor one that had no room.
    return found, min(last, rows[-1][0]) if len(rows) == MOST_EVENTS else last


def _rows(log: _EventLog, after: int, known: Sequence[int]) -> list[tuple[int, str]]:
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events
    from sqlalchemy import select

    query = (
        select(Events.c.id, Events.c.event)
        .where(Events.c.id > after)
        .where(Events.c.dagster_event_type.in_([kind.value for kind in _KINDS]))
        .order_by(Events.c.id)
        .limit(MOST_EVENTS)
    )
    if known:
        query = query.where(Events.c.id.not_in(known))
    with log.index_connection() as connection:
        return [(int(number), str(text)) for number, text in connection.execute(query)]


def _parsed(text: str) -> EventLogEntry | None:
    """The event; None for what is none, which Dagster skips too."""
    try:
        return deserialize_value(text, EventLogEntry)
    except (DeserializationError, json.JSONDecodeError):
        return None


def _evaluation(entry: EventLogEntry) -> dg.AssetCheckEvaluation | None:
    event = entry.dagster_event
    found = event.event_specific_data if event is not None else None
    return found if isinstance(found, dg.AssetCheckEvaluation) else None


def _selections(
    instance: dg.DagsterInstance, run_ids: Collection[str]
) -> Mapping[str, frozenset[dg.AssetKey] | None]:
    if not run_ids:
        return {}
    records = instance.get_run_records(dg.RunsFilter(run_ids=sorted(run_ids)))
    selections = ((run.dagster_run.run_id, run.dagster_run.asset_selection) for run in records)
    return {run_id: None if keys is None else frozenset(keys) for run_id, keys in selections}


def _number(logged: Logged) -> int:
    return logged.number


def _concerns(logged: Logged, use_case: str) -> bool:
    concerned = logged.use_cases
    return concerned is None or use_case in concerned
