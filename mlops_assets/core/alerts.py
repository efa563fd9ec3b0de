"""Alerts: what is told to people, when it is told again, and how it reads.

An alert is known by its use case, kind and subject, never by its numbers. While it is open it is
told again only after a while or when it becomes more severe; a storm is told in summaries. The
same functions run live and over a log, so that what was told can be measured later.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, get_args

from pydantic import AwareDatetime, Field, field_validator

from mlops_assets.core.records import Record

Kind = Literal[
    "failed_run",
    "failed_check",
    "drift",
    "performance_loss",
    "freshness",
    "volume",
    "skew",
    "retraining_started",
    "retraining_put_off",
    "promoted",
    "refused",
    "rollback",
    "rollout_aborted",
    "rollout_overdue",
    "endpoint_down",
    "storm",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

NOTICES: frozenset[Kind] = frozenset(
    {"retraining_started", "promoted", "refused", "rollback", "rollout_aborted", "storm"}
)
"""Kinds of things done, which nothing resolves: the subject names the run or model version."""

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the least to the most severe."""

STORM_WINDOW = timedelta(hours=1)

_MOST_CHARACTERS = 2000  # a stack trace as a cause would hide what matters, and Slack refuses it

Key = tuple[str, Kind, str]


class Alert(Record):
    """Something that people should know, as observed once.

    Texts become one line of at most 2,000 printable characters, safe for terminals and messages:
    an alert is never refused for its words.
    """

    kind: Kind
    severity: Severity
    use_case: str
    subject: str
    """What it is about: an asset, an asset and partition, a model version."""
    owners: tuple[str, ...]
    cause: str
    """One sentence with its numbers."""
    page: str = ""
    """Path in Dagster's UI, of :func:`asset_page` or :func:`run_page`."""
    at: AwareDatetime
    """When it was observed, kept in UTC."""

    @field_validator("subject", "cause", mode="before")
    @classmethod
    def _one_printable_line(cls, text: object) -> object:
        if not isinstance(text, str):
            return text  # the type is refused by the field itself
        line = " ".join(text.split())
        # Terminals obey escape sequences, and no encoding has lone surrogates.
        line = "".join(char if char.isprintable() else "�" for char in line)
        return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 1] + "…"

    @field_validator("at")
    @classmethod
    def _in_utc(cls, at: datetime) -> datetime:
        return at.astimezone(UTC)

    @property
    def key(self) -> Key:
        """What makes two observations the same alert."""
        return self.use_case, self.kind, self.subject


Event = Literal["raised", "suppressed", "capped", "resolved"]


class Entry(Record):
    """One line of the alert log.

    ``raised`` and ``resolved`` are sent; ``suppressed`` was told recently; ``capped`` is one too
    many in a storm, which the next summary tells.
    """

    id: str
    """The same whenever the entry is sent, so that a receiver can drop what comes twice."""
    event: Event
    alert: Alert
    reason: str
    withheld: int = 0
    """Observations of this alert that were not sent since the last one that was."""


class Policy(Record):
    """When alerts are told."""

    repeat_after: timedelta = Field(default=timedelta(hours=24), gt=timedelta(0))
    """An open alert is told again after so long."""
    most_per_hour: int = Field(default=20, ge=1)
    """Alerts of one use case in any hour, counted among those at least as severe: no flood of
    warnings holds a critical alert back."""
    deliver_within: timedelta = Field(default=timedelta(days=7), gt=timedelta(0))
    """A channel that was away for longer is not sent what is older: by then it is history."""


class Due(NamedTuple):
    """Whether an alert is told now, and why or why not."""

    send: bool
    reason: str


@dataclass
class Track:
    """An open alert: its last observation, and each one that was told since it opened."""

    last: Alert
    event: Event = "raised"
    raised: list[Alert] = field(default_factory=list[Alert])
    withheld: int = 0


@dataclass
class History:
    """What an alert log amounts to, by use case; :func:`add` keeps it."""

    policy: Policy
    open: dict[Key, Track] = field(default_factory=dict[Key, Track])
    raised: dict[str, list[Alert]] = field(default_factory=dict[str, list[Alert]])
    capped: dict[str, list[Alert]] = field(default_factory=dict[str, list[Alert]])
    """What no summary has told yet."""
    summarized: dict[str, datetime] = field(default_factory=dict[str, datetime])
    entries: int = 0


def due(alert: Alert, told: Sequence[Alert], repeat_after: timedelta) -> Due:
    """Whether ``alert`` is told, after ``told``: the times it was since it opened.

    Times count in both directions, so that observations in the wrong order, or a clock that goes
    back, repeat nothing early and hide nothing for long.
    """
    if not told:
        return Due(True, "new")
    recent = [other for other in told if abs(alert.at - other.at) < repeat_after]
    if not recent:
        since = min(abs(alert.at - other.at) for other in told)
        return Due(True, f"still open, last told {_duration(since)} before")
    highest = max(recent, key=_rank)
    if _rank(alert) > _rank(highest):
        return Due(True, f"more severe: {alert.severity} after {highest.severity}")
    since = abs(alert.at - highest.at)
    return Due(False, f"told {_duration(since)} before, repeated after {_duration(repeat_after)}")


def judge(alerts: Iterable[Alert], history: History) -> list[Entry]:
    """The log entries that observations give, added to ``history`` too; the most severe first.

    An open alert that is seen again, not due and with nothing new, gives none: a log grows with
    news, not with ticks. A storm that begins, or goes on an hour later, gives a summary.
    """
    given = sorted(alerts, key=_rank, reverse=True)
    entries = [_judge_one(alert, history) for alert in given]
    for use_case in dict.fromkeys(alert.use_case for alert in given):
        latest = max(alert.at for alert in given if alert.use_case == use_case)
        entries.append(storm_summary(history, use_case, latest))
    return [entry for entry in entries if entry is not None]


def _judge_one(alert: Alert, history: History) -> Entry | None:
    track = history.open.get(alert.key, Track(alert))
    decision = due(alert, track.raised, history.policy.repeat_after)
    event: Event = "raised" if decision.send else "suppressed"
    reason = decision.reason
    if decision.send:
        recent = sum(
            _rank(other) >= _rank(alert) and abs(alert.at - other.at) < STORM_WINDOW
            for other in history.raised.get(alert.use_case, ())
        )
        if recent >= history.policy.most_per_hour:
            event = "capped"
            reason = f"{recent} alerts within the hour, at most {history.policy.most_per_hour}"
    # What is capped after it was sent waits for a summary, so it is news.
    seen = event == "suppressed" or (event == "capped" and track.event == "capped")
    if seen and alert == track.last.model_copy(update={"at": alert.at}):
        return None
    return _added(history, event, alert, reason, track.withheld)


def resolution(history: History, key: Key, cause: str, at: datetime) -> Entry | None:
    """The entry that closes the alert ``key``, added to ``history``; None when it is not open."""
    track = history.open.get(key)
    if track is None:
        return None
    values = {**track.last.model_dump(), "cause": cause, "at": at}
    return _added(history, "resolved", Alert.model_validate(values), "resolved", track.withheld)


def storm_summary(history: History, use_case: str, at: datetime) -> Entry | None:
    """A summary of what the cap held back, added to ``history``; None when nothing was or the
    last summary is less than an hour away from ``at``.
    """
    capped = history.capped.get(use_case)
    last = history.summarized.get(use_case)
    if not capped or (last is not None and abs(at - last) < STORM_WINDOW):
        return None
    kinds = {kind: sum(alert.kind == kind for alert in capped) for kind in KINDS}
    counts = ", ".join(
        f"{count} {kind.replace('_', ' ')}" for kind, count in kinds.items() if count
    )
    subjects = list(dict.fromkeys(alert.subject for alert in sorted(capped, key=_rank)[::-1]))
    more = f" and {len(subjects) - 5} more" if len(subjects) > 5 else ""
    alert = Alert(
        kind="storm",
        severity=max(capped, key=_rank).severity,
        use_case=use_case,
        subject=use_case,
        owners=tuple(sorted({owner for alert in capped for owner in alert.owners})),
        cause=f"held back, beyond {history.policy.most_per_hour} alerts an hour: {counts}; "
        f"about {', '.join(subjects[:5])}{more}",
        at=at,
    )
    return _added(history, "raised", alert, "summary of a storm", len(capped))


def add(history: History, entry: Entry) -> bool:
    """Take ``entry`` into ``history``; returns whether it is one to deliver.

    An alert that two processes raised at once is raised by the entry that comes first.
    """
    history.entries += 1
    alert = entry.alert
    if alert.kind == "storm":
        history.capped.pop(alert.use_case, None)
        history.summarized[alert.use_case] = alert.at
        return True
    track = history.open.get(alert.key)
    if entry.event == "resolved":
        history.open.pop(alert.key, None)
        return track is not None and bool(track.raised)
    if track is None:
        track = history.open[alert.key] = Track(alert)
    track.last, track.event = alert, entry.event
    capped = history.capped.setdefault(alert.use_case, [])
    repeat_after = history.policy.repeat_after
    if entry.event == "raised" and due(alert, track.raised, repeat_after).send:
        track.raised.append(alert)
        track.withheld = 0
        history.raised.setdefault(alert.use_case, []).append(alert)
        capped[:] = [other for other in capped if other.key != alert.key]
        return True
    track.withheld += 1
    if entry.event == "capped":
        capped.append(alert)
    return False


def fold(entries: Iterable[Entry], policy: Policy) -> tuple[History, list[Entry]]:
    """The history that ``entries`` give in the order of recording, and those to deliver."""
    history = History(policy)
    return history, [entry for entry in entries if add(history, entry)]


def open_alerts(history: History) -> list[Alert]:
    """The last observation of each alert that is open, the most severe first, then the oldest."""
    found = [track.last for key, track in history.open.items() if key[1] not in NOTICES]
    return sorted(found, key=lambda alert: (-_rank(alert), alert.at, alert.key))


def _added(history: History, event: Event, alert: Alert, reason: str, withheld: int) -> Entry:
    # The number of entries before tells an alert that opens again from the one that closed.
    content = f"{history.entries} {event} {alert.model_dump_json()}"
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    entry = Entry(id=name, event=event, alert=alert, reason=reason, withheld=withheld)
    add(history, entry)
    return entry


def _rank(alert: Alert) -> int:
    return SEVERITIES.index(alert.severity)


def _duration(length: timedelta) -> str:
    minutes = round(length.total_seconds() / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
