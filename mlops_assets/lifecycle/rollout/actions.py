"""Entries of the promotion ledger, by the policy or by a person: each before it is acted on."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.promotion_ledger import (
    POLICY,
    Begun,
    Chosen,
    LedgerRecord,
    UnderWay,
    rollout_id_of,
)
from mlops_assets.core.records import ModelRecord
from mlops_assets.core.rollout_records import Action
from mlops_assets.core.rollout_state import Release, ServedModel, served_model
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.rollout.evidence import entry, gathered, reported

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.ledger import Book

ATTEMPTS = 5

Manual = Literal["promote", "abort", "rollback"]

_SHARES: dict[Action, float] = {"promote": 1.0, "abort": 0.0, "rollback": 0.0}


def admitted(
    spec: UseCaseSpec, platform: Platform, read: "Book", release: Release, now: datetime
) -> "Book":
    """The ledger once the rollout of the challenger that the gate admitted last has begun.

    A rollout that is under way ends: the newer challenger supersedes the older one.
    """
    if read.state.admitted is None:
        return read
    challenger = platform.tracking().version(spec.name, read.state.admitted.version)

    def next_entry(book: "Book") -> LedgerRecord | None:
        admission = book.state.admitted
        if admission is None or admission.version != challenger.version:
            return None
        reason = f"version {challenger.version} passed the gate"
        name = rollout_id_of(admission)
        return _beginning(spec, platform, book, release, challenger, name, now, POLICY, reason)

    return _recorded(spec, platform, read, next_entry)


def started(
    spec: UseCaseSpec,
    platform: Platform,
    release: Release,
    challenger: ModelRecord,
    now: datetime,
    by: str,
    reason: str,
) -> "Book":
    """The ledger once a person has begun a rollout of ``challenger``; one under way ends.

    Raises PermanentError for a version that serves, and where rollouts are not guarded.
    """
    from mlops_assets.adapters import ledger

    if spec.rollout.strategy != "guarded":
        raise PermanentError(
            f"nobody would look after a rollout of {spec.name}: set rollout.strategy to guarded in "
            "its defs.yaml"
        )
    name = f"v{challenger.version}-{now:%Y%m%d%H%M%S}"
    read = ledger.book(platform.ledgers(), spec.name)
    serving = read.state.wanted.champion if read.state.wanted else release.champion
    if serving.version == challenger.version:
        raise PermanentError(f"version {challenger.version} of {spec.name} is the champion already")

    def next_entry(book: "Book") -> LedgerRecord | None:
        if name in book.state.begun:
            return None
        return _beginning(spec, platform, book, release, challenger, name, now, by, reason)

    return _recorded(spec, platform, read, next_entry)


def decided(
    spec: UseCaseSpec,
    platform: Platform,
    release: Release,
    action: Manual,
    now: datetime,
    by: str,
    reason: str,
    version: int | None = None,
) -> "Book":
    """The ledger once a person has promoted, aborted or rolled back what is under way.

    ``rollback`` outside of a watch makes ``version``, or the champion before, champion again.
    Raises PermanentError where nothing is under way that it could be about, and where somebody
    else, or the policy, ends that at the same moment.
    """
    from mlops_assets.adapters import ledger

    lake = platform.lake()
    read = ledger.book(platform.ledgers(), spec.name)
    under_way = read.state.under_way
    if action == "rollback" and (
        under_way is None or under_way.rollout.stage != "watch" or version is not None
    ):
        return _chosen(spec, platform, read, now, by, reason, version)
    if under_way is None or (action == "promote" and under_way.rollout.stage == "watch"):
        raise PermanentError(
            f"no rollout of {spec.name} is under way that could be given the order {action}: see "
            f"mlops rollout status {spec.name}"
        )
    meant = under_way.rollout.rollout_id

    def next_entry(book: "Book") -> LedgerRecord:
        current = book.state.under_way
        watched = current is not None and current.rollout.stage == "watch"
        ended = current is None or current.rollout.rollout_id != meant
        if current is None or ended or (watched and action == "promote"):
            raise PermanentError(
                f"rollout {meant} of {spec.name} was decided by somebody else at the same moment: "
                f"see mlops rollout history {spec.name}"
            )
        kind: Action = "rollback" if watched and action == "abort" else action
        return _ruled(spec, platform, lake, current, release, now, kind, by, reason)

    return _recorded(spec, platform, read, next_entry, once=True)


def refused(
    spec: UseCaseSpec, platform: Platform, read: "Book", release: Release, now: datetime, said: str
) -> "Book":
    """The ledger once a rollout has ended that a replica refuses; ``said`` is why."""
    lake = platform.lake()

    def next_entry(book: "Book") -> LedgerRecord | None:
        under_way = book.state.under_way
        if under_way is None or book.state.changed != read.state.changed:
            return None
        kind: Action = "rollback" if under_way.rollout.stage == "watch" else "abort"
        return _ruled(spec, platform, lake, under_way, release, now, kind, POLICY, said)

    return _recorded(spec, platform, read, next_entry)


def _recorded(
    spec: UseCaseSpec,
    platform: Platform,
    read: "Book",
    next_entry: "Callable[[Book], LedgerRecord | None]",
    *,
    once: bool = False,
) -> "Book":
    """The ledger once ``next_entry`` wants none any more, or has got ``once`` what it wants; asked
    again after somebody else's.
    """
    from mlops_assets.adapters import ledger

    ledgers, races = platform.ledgers(), 0
    while (record := next_entry(read)) is not None:
        counts, read = ledger.append(ledgers, read, record)
        if counts and once:
            break
        races += not counts
        if races == ATTEMPTS:
            raise TransientError(
                f"others have decided about {spec.name} first {ATTEMPTS} times; try again"
            )
    return read


def _beginning(
    spec: UseCaseSpec,
    platform: Platform,
    book: "Book",
    release: Release,
    challenger: ModelRecord,
    rollout_id: str,
    now: datetime,
    by: str,
    reason: str,
) -> LedgerRecord | None:
    """The end of what is under way, or the beginning where nothing is."""
    from mlops_assets.core.rollout import begin
    from mlops_assets.core.rollout_counts import edge_before

    under_way = book.state.under_way
    if under_way is not None:
        kind: Action = "settle" if under_way.rollout.stage == "watch" else "abort"
        why = f"superseded by version {challenger.version}"
        return _ruled(spec, platform, platform.lake(), under_way, release, now, kind, by, why)
    champion = book.state.wanted.champion if book.state.wanted else release.champion
    if champion.version == challenger.version:
        return None
    rollout = begin(
        spec.rollout,
        use_case=spec.name,
        rollout_id=rollout_id,
        champion=champion.version,
        challenger=challenger.version,
        now=now,
    )
    edge = edge_before(reported(spec, platform), champion.version, rollout_id, spec.rollout)
    return Begun(
        rollout=rollout,
        champion=champion,
        challenger=_placed(challenger),
        policy=spec.rollout,
        slow_edge=edge,
        by=by,
        reason=reason,
    )


def _ruled(
    spec: UseCaseSpec,
    platform: Platform,
    lake: "Lake",
    under_way: UnderWay,
    release: Release,
    now: datetime,
    action: Action,
    by: str,
    reason: str,
) -> LedgerRecord:
    """An entry that is not the policy's own answer, with the evidence that there is."""
    from mlops_assets.core.rollout import decide

    known = gathered(spec, platform, lake, under_way, release, now)
    decision = decide(spec.rollout, under_way.rollout, known.evidence, now)
    changed = {
        "action": action,
        "share_after": _SHARES.get(action, decision.share),
        "reasons": (reason, *decision.reasons),
    }
    return entry(spec, under_way, known, decision.model_copy(update=changed), by)


def _chosen(
    spec: UseCaseSpec,
    platform: Platform,
    read: "Book",
    now: datetime,
    by: str,
    reason: str,
    version: int | None,
) -> "Book":
    wanted = read.state.wanted
    number = version if version is not None else _before(read)
    if number is None:
        raise PermanentError(
            f"the ledger knows no champion of {spec.name} before this one: name a version with --to"
        )
    if wanted is not None and wanted.champion.version == number and wanted.challenger is None:
        raise PermanentError(f"version {number} of {spec.name} serves already")
    champion = _placed(platform.tracking().version(spec.name, number))
    record = Chosen(champion=champion, at=now, by=by, reason=reason)
    return _recorded(spec, platform, read, lambda _: record, once=True)


def _before(read: "Book") -> int | None:
    """The champion before the one that the ledger names now."""
    from mlops_assets.core.promotion_ledger import State, followed

    champions: list[int] = []
    state = State()
    for record in read.records:
        state = followed(state, record)
        version = state.wanted.champion.version if state.wanted is not None else None
        if version is not None and version != (champions[-1] if champions else None):
            champions.append(version)
    return champions[-2] if len(champions) > 1 else None


def _placed(model: ModelRecord) -> ServedModel:
    """The model with paths that servers find too, whose working directory is another."""
    from mlops_assets.adapters.endpoints.local import absolute

    return absolute(served_model(model))
