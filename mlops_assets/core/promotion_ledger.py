"""The promotion ledger: what was decided about challengers, and what is to be served since.

Each entry is a decision of the gate, the beginning of a rollout, a decision about one, or a
person's choice of a champion. Together they say what the endpoint is to serve, so that whoever dies
between an entry and what follows from it is made up for by anybody who reads the ledger.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import AwareDatetime

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.evidence_changes import laid_over
from mlops_assets.core.records import PromotionRecord, Record
from mlops_assets.core.rollout_records import Evidence, Rollout, RolloutDecision
from mlops_assets.core.rollout_spec import RolloutSpec
from mlops_assets.core.rollout_state import Mode, Release, ServedModel, served_model

POLICY = "the policy"
"""Who decides where no person does."""


class Wanted(Record):
    """What the endpoint is to serve; fields as a Release has them."""

    champion: ServedModel
    challenger: ServedModel | None = None
    mode: Mode = "champion"
    share: float = 0.0
    rollout_id: str = ""


class Counted(Record):
    """How far a replica's counts of a model are evidence already."""

    replica: str
    version: int
    requests: int
    """Requests that it scored."""
    errors: int
    slow: int
    """Scored requests that were slower than the rollout's threshold; 0 while there is none."""


class Begun(Record):
    """A rollout that begins."""

    rollout: Rollout
    champion: ServedModel
    challenger: ServedModel
    policy: RolloutSpec
    slow_edge: float | None
    """Threshold of slow requests in seconds, where it is known by then."""
    by: str
    reason: str


class Decided(Record):
    """A decision about a rollout, with what it rests on."""

    decision: RolloutDecision
    policy: RolloutSpec
    evidence: Evidence
    """Blocks that were not in the entry before, or otherwise; and the readiness."""
    counted: tuple[Counted, ...]
    """Counts that were not in the entry before, or otherwise."""
    slow_edge: float | None
    by: str


class Chosen(Record):
    """A champion that a person chose, outside of a rollout."""

    champion: ServedModel
    at: AwareDatetime
    by: str
    reason: str


LedgerRecord = PromotionRecord | Begun | Decided | Chosen


@dataclass(frozen=True)
class UnderWay:
    """A rollout that goes on: where it is, and all that is known about it."""

    rollout: Rollout
    champion: ServedModel
    challenger: ServedModel
    policy: RolloutSpec
    slow_edge: float | None = None
    evidence: Evidence = field(default_factory=Evidence)
    counted: Mapping[tuple[str, int], Counted] = field(
        default_factory=dict[tuple[str, int], Counted]
    )
    last: RolloutDecision | None = None

    @property
    def until(self) -> datetime:
        """When it was recorded last."""
        return self.last.decided_at if self.last is not None else self.rollout.started_at


@dataclass(frozen=True)
class State:
    """What the entries of a use case's ledger amount to."""

    wanted: Wanted | None = None
    """None before the first promotion."""
    changed: int = -1
    """The entry that says so."""
    reason: str = ""
    """Why."""
    under_way: UnderWay | None = None
    admitted: PromotionRecord | None = None
    """A challenger whose rollout has not begun."""
    begun: frozenset[str] = frozenset()
    """Every rollout that there was."""
    ended: frozenset[int] = frozenset()
    """Versions whose rollout has ended, or that a person has replaced: no challengers any more."""
    entries: int = 0


def at_of(record: LedgerRecord) -> datetime:
    """When it was decided."""
    match record:
        case PromotionRecord():
            return record.decided_at
        case Begun():
            return record.rollout.started_at
        case Decided():
            return record.decision.decided_at
        case Chosen():
            return record.at


def folded(records: Iterable[LedgerRecord], state: State | None = None) -> State:
    """The state after ``records``, which come after ``state``."""
    found = state or State()
    for record in records:
        found = followed(found, record)
    return found


def followed(state: State, record: LedgerRecord) -> State:
    """``state`` after one more entry. Raises PermanentError for a decision about a rollout that is
    not under way.
    """
    number = state.entries
    state = replace(state, entries=number + 1)
    match record:
        case PromotionRecord(decision="promoted", champion=champion) if champion is not None:
            reason = f"version {record.version} passed the gate"
            alone = Wanted(champion=served_model(champion))
            state = replace(state, under_way=None, admitted=None)
            return _wanting(state, alone, number, reason)
        case PromotionRecord(decision="admitted"):
            known = rollout_id_of(record) in state.begun or record.version in _serving(state)
            return state if known else replace(state, admitted=record)
        case PromotionRecord():
            return state
        case Chosen():
            state = replace(state, under_way=None, admitted=None)
            return _wanting(state, Wanted(champion=record.champion), number, record.reason)
        case Begun():
            under_way = UnderWay(
                record.rollout,
                record.champion,
                record.challenger,
                record.policy,
                record.slow_edge,
            )
            begun = state.begun | {record.rollout.rollout_id}
            state = replace(state, under_way=under_way, admitted=None, begun=begun)
            return _wanting(state, wanted_of(under_way), number, record.reason)
        case Decided():
            return _decided(state, record, number)


def _decided(state: State, record: Decided, number: int) -> State:
    from mlops_assets.core.rollout import after

    known, decision = state.under_way, record.decision
    if known is None or known.rollout.rollout_id != decision.rollout_id:
        raise PermanentError(
            f"entry {number} of {decision.use_case}'s promotion ledger decides about rollout "
            f"{decision.rollout_id}, which is not under way"
        )
    rollout = after(record.policy, known.rollout, decision)
    counted = {(part.replica, part.version): part for part in record.counted}
    now = replace(
        known,
        policy=record.policy,
        slow_edge=record.slow_edge,
        evidence=laid_over(known.evidence, record.evidence),
        counted={**known.counted, **counted},
        last=decision,
    )
    if decision.action == "wait":
        return replace(state, under_way=now)
    reason = decision.reasons[0] if decision.reasons else decision.action
    if rollout is not None:
        now = replace(now, rollout=rollout)
        return _wanting(replace(state, under_way=now), wanted_of(now), number, reason)
    stays = now.challenger if decision.action in ("promote", "settle") else now.champion
    ended = state.ended | {now.challenger.version, now.champion.version}
    state = replace(state, under_way=None, ended=ended)
    return _wanting(state, Wanted(champion=stays), number, reason)


def _serving(state: State) -> tuple[int, ...]:
    """The versions that are wanted, in whatever role."""
    if state.wanted is None:
        return ()
    models = (state.wanted.champion, state.wanted.challenger)
    return tuple(model.version for model in models if model is not None)


def _wanting(state: State, wanted: Wanted, number: int, reason: str) -> State:
    return replace(state, wanted=wanted, changed=number, reason=reason)


def wanted_of(under_way: UnderWay) -> Wanted:
    """What is served at the rollout's stage."""
    rollout = under_way.rollout
    watched = rollout.stage == "watch"
    return Wanted(
        champion=under_way.challenger if watched else under_way.champion,
        challenger=under_way.champion if watched else under_way.challenger,
        mode=rollout.stage,
        share=rollout.share if rollout.stage == "canary" else 0.0,
        rollout_id=rollout.rollout_id,
    )


def rollout_id_of(admission: PromotionRecord) -> str:
    """The id of the rollout of an admitted challenger: one for an admission."""
    text = f"{admission.use_case} {admission.version} {admission.evaluation_digest}"
    return f"v{admission.version}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def serves(release: Release, wanted: Wanted) -> bool:
    """Whether ``release`` is what is wanted; a model is known by its bytes, not by its place."""
    return _identity(release) == _identity(wanted)


def towards(release: Release, wanted: Wanted, now: datetime, reason: str) -> Release:
    """The revision after ``release`` that serves what is wanted; itself where it does."""
    if serves(release, wanted):
        return release
    return Release(
        use_case=release.use_case,
        revision=release.revision + 1,
        changed_at=now,
        reason=reason,
        **{name: getattr(wanted, name) for name in Wanted.model_fields},
    )


def _identity(one: Release | Wanted) -> tuple[object, ...]:
    models = [m and (m.version, m.sha256, m.onnx_sha256) for m in (one.champion, one.challenger)]
    return (*models, one.mode, one.share, one.rollout_id)
