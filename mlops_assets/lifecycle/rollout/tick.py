"""One look at a use case's rollout: follow the ledger, gather evidence, decide, record, act.

A decision is recorded before it is acted on. Who dies in between leaves an entry that the endpoint,
the registry or a document does not follow yet, which the next tick sees to.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.promotion_ledger import POLICY, UnderWay, serves
from mlops_assets.core.records import Record
from mlops_assets.core.rollout_records import RolloutDecision
from mlops_assets.core.rollout_state import Release
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.rollout import actions
from mlops_assets.lifecycle.rollout.evidence import Known, entry, gathered
from mlops_assets.lifecycle.rollout.follow import align, follow, released

if TYPE_CHECKING:
    from mlops_assets.adapters.ledger import Book

APPLY_S = 15.0
"""Seconds of a tick for replicas to follow; one that is later is waited for by later ticks."""


class Cursor(Record):
    """What the last tick has seen to. Without it everything is looked at again."""

    aligned: int = -1
    """The entry that registry and documents follow."""


def parsed(cursor: str | None) -> Cursor:
    """The cursor from its JSON; an empty one for none, and for another release's."""
    try:
        return Cursor.model_validate_json(cursor) if cursor else Cursor()
    except ValueError:
        return Cursor()


@dataclass(frozen=True)
class Tick:
    """What a tick found and did; ``log`` has a line for each thing."""

    cursor: Cursor
    log: tuple[str, ...]
    changed: int | None = None
    """The entry that changed what is served, where this tick has seen to what follows from it."""

    @property
    def message(self) -> str:
        """All of it in one line."""
        return "; ".join(self.log)


def tick(spec: UseCaseSpec, platform: Platform, cursor: Cursor, now: datetime) -> Tick:
    """Look once. Raises PermanentError for a damaged ledger or release, and what the endpoint's
    replicas, the lake or the registry raise.
    """
    from mlops_assets.adapters import ledger

    release = released(spec, platform)
    read = ledger.book(platform.ledgers(), spec.name)
    if release is None or read.state.wanted is None:
        missing = "no endpoint" if release is None else "no champion"
        return Tick(cursor, (f"{spec.name} has {missing} yet: nothing to roll out",))
    log: list[str] = []
    read, release = followed(spec, platform, read, release, now, log)
    read = actions.admitted(spec, platform, read, release, now)
    read, release = followed(spec, platform, read, release, now, log)
    if read.state.under_way is not None:
        read = _decided(spec, platform, read, release, now, log)
        read, release = followed(spec, platform, read, release, now, log)
    if read.state.under_way is None and not log:
        log.append(f"no rollout is under way: version {release.champion.version} serves")
    state = read.state
    if state.changed == cursor.aligned or state.wanted is None:
        return Tick(cursor, tuple(log))
    if not serves(release, state.wanted):
        return Tick(cursor, (*log, "the endpoint follows later"))
    align(spec, platform, state, release)
    return Tick(Cursor(aligned=state.changed), tuple(log), state.changed)


def followed(
    spec: UseCaseSpec,
    platform: Platform,
    read: "Book",
    release: Release,
    now: datetime,
    log: list[str],
) -> "tuple[Book, Release]":
    """The endpoint after the ledger. A rollout that a replica refuses ends; a replica that is late
    is for the policy to judge.
    """
    try:
        after = follow(spec, platform, release, now, APPLY_S)
    except PermanentError as error:
        if read.state.under_way is None:
            raise
        log.append(f"refused: {error}")
        read = actions.refused(spec, platform, read, release, now, str(error))
        # What was served before stands again, as another revision.
        after = follow(spec, platform, released(spec, platform) or release, now, APPLY_S)
    except TransientError as error:
        log.append(f"late: {error}")
        after = released(spec, platform) or release
    if after.revision != release.revision:
        log.append(
            f"revision {after.revision}: version {after.champion.version}, {after.mode}"
            + (f" with version {after.challenger.version}" if after.challenger else "")
            + (f" at {after.share:.0%}" if after.share else "")
        )
    return read, after


def _decided(
    spec: UseCaseSpec,
    platform: Platform,
    read: "Book",
    release: Release,
    now: datetime,
    log: list[str],
) -> "Book":
    """The ledger with what the policy says about the rollout under way, where that is news."""
    from mlops_assets.adapters import ledger
    from mlops_assets.core.rollout import decide

    lake, ledgers = platform.lake(), platform.ledgers()
    for _ in range(actions.ATTEMPTS):
        under_way = read.state.under_way
        if under_way is None:
            return read
        known = gathered(spec, platform, lake, under_way, release, now)
        decision = decide(spec.rollout, under_way.rollout, known.evidence, now)
        if not news(under_way, known, decision):
            log.append(says(decision))
            return read
        record = entry(spec, under_way, known, decision, POLICY)
        counts, read = ledger.append(ledgers, read, record)
        if counts:
            log.append(says(decision))
            return read
    raise TransientError(
        f"others have decided about {spec.name} first {actions.ATTEMPTS} times; the next tick "
        "tries again"
    )


def news(under_way: UnderWay, known: Known, decision: RolloutDecision) -> bool:
    """Whether ``decision`` belongs into the ledger: for its answer, for what it makes known of the
    replicas, or as the first of an hour, so that evidence has its hour.
    """
    from mlops_assets.core.rollout import is_news
    from mlops_assets.core.rollout_counts import hour

    if is_news(under_way.last, decision) or known.counts.slow_edge != under_way.slow_edge:
        return True
    before, after = under_way.evidence.readiness, known.evidence.readiness
    waited = before.waiting_since if before is not None else None
    waits = after.waiting_since if after is not None else None
    return (waited is None) != (waits is None) or hour(under_way.until) != hour(decision.decided_at)


def says(decision: RolloutDecision) -> str:
    """``decision`` in one line: what, and why, with the numbers."""
    where = decision.stage if decision.stage != "canary" else f"canary at {decision.share:.0%}"
    late = " (overdue)" if decision.overdue else ""
    return f"{decision.rollout_id}, {where}: {decision.action}{late}: " + "; ".join(
        decision.reasons
    )
