"""What an alerting sensor remembers from tick to tick, and what a tick makes of it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field

from mlops_assets.core.alerts import NOTICES, Alert, History, Key, Kind, Policy, Severity
from mlops_assets.core.records import Record

CAPPED_AGAIN = timedelta(minutes=15)
"""An alert that a storm held back is offered again so often."""

_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(minutes=30)
"""Between attempts at a channel that is away: doubled from the first to the longest."""


class Open(Record):
    """An alert that holds until what it is about is well again."""

    alert: Alert
    """As it was recorded last."""
    members: tuple[str, ...] = ()
    """What has to be well again before it ends, such as days or assets; empty: all of it."""
    told: AwareDatetime | None = None
    """When people were told last; None when a storm held it back."""

    @property
    def key(self) -> Key:
        """What makes two observations the same alert."""
        return self.alert.key


class Watch(Record):
    """The memory of one use case's alerts: what should be open, and how far its sources are told.

    It is written before the alert log is brought to it, with ``settled`` false, and again after: a
    tick that dies in between is made up for by the next one.
    """

    open: tuple[Open, ...] = ()
    settled: bool = True
    wake: AwareDatetime | None = None
    """When there is something to do without news: a channel to try again, a storm to sum up."""
    attempts: int = 0
    """Flushes in a row that left something undelivered."""
    silent: int = 0
    """Ticks in a row in which the endpoint did not answer."""
    seen: dict[str, str] = Field(default={})
    """By source, what it said last."""
    told: dict[str, int] = Field(default={})
    """By ledger, entries that have been told."""


@dataclass(frozen=True)
class Teller:
    """Makes alerts about one use case."""

    use_case: str
    owners: tuple[str, ...]
    at: datetime

    def alert(self, kind: Kind, severity: Severity, subject: str, cause: str, page: str) -> Alert:
        """An alert of now."""
        return Alert(
            kind=kind,
            severity=severity,
            use_case=self.use_case,
            subject=subject,
            owners=self.owners,
            cause=cause,
            page=page,
            at=self.at,
        )


@dataclass(frozen=True)
class Seen:
    """What a source says: alerts that hold, alerts that ended with what is well, and notices."""

    holds: tuple[Open, ...] = ()
    ended: Mapping[Key, str] = field(default_factory=dict[Key, str])
    notices: tuple[Alert, ...] = ()


def applied(opened: Iterable[Open], seen: Seen) -> tuple[Open, ...]:
    """``opened`` after ``seen``. What is open already keeps when it was told."""
    found = {one.key: one for one in opened if one.key not in seen.ended}
    for one in seen.holds:
        known = found.get(one.key)
        found[one.key] = one if known is None else one.model_copy(update={"told": known.told})
    return tuple(found.values())


def of_kind(opened: Iterable[Open], kind: Kind, prefix: str = "") -> list[Open]:
    """Those of ``kind`` whose subject is ``prefix`` or begins with it as a word."""
    return [
        one
        for one in opened
        if one.alert.kind == kind and f"{one.alert.subject} ".startswith(f"{prefix} ".lstrip())
    ]


def has_news(before: Watch, after: Collection[Open], now: datetime, policy: Policy) -> bool:
    """Whether the alert log or a channel has something to do, apart from notices."""
    if not before.settled or (before.wake is not None and _reached(before.wake, now)):
        return True
    known = {one.key: one.alert for one in before.open}
    if known.keys() != {one.key for one in after}:
        return True
    return any(_new(known[one.key], one.alert) or _again(one, now, policy) for one in after)


def _new(known: Alert, alert: Alert) -> bool:
    return alert.model_copy(update={"at": known.at}) != known


def _again(one: Open, now: datetime, policy: Policy) -> bool:
    # In both directions: a clock that goes back hides nothing for long.
    if one.told is None:
        return abs(now - one.alert.at) >= CAPPED_AGAIN
    return abs(now - one.told) >= policy.repeat_after


def _reached(wake: datetime, now: datetime) -> bool:
    # Farther away than any wait is: the clock went back since.
    return now >= wake or wake - now > 2 * _LONGEST_WAIT


def settled(watch: Watch, history: History, undelivered: int, now: datetime) -> Watch:
    """``watch`` once the log has ``history``, of its use case alone, and a flush left
    ``undelivered`` messages.
    """
    attempts = watch.attempts + 1 if undelivered else 0
    waits: list[datetime] = []
    if undelivered:
        waits.append(now + min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempts - 1, 10)))
    if any(history.capped.values()):
        waits.append(now + CAPPED_AGAIN)
    return watch.model_copy(
        update={
            "open": tuple(_recorded(one, history, now) for one in watch.open),
            "settled": True,
            "attempts": attempts,
            "wake": min(waits, default=None),
        }
    )


def _recorded(one: Open, history: History, now: datetime) -> Open:
    track = history.open.get(one.key)
    told = track.raised[-1].at if track is not None and track.raised else None
    return one.model_copy(update={"told": told, "alert": one.alert.model_copy(update={"at": now})})


def unexpected(history: History, expected: Collection[Key]) -> list[Key]:
    """Alerts that are open in the log and are not ``expected`` to be."""
    return [key for key in history.open if key not in expected and key[1] not in NOTICES]
