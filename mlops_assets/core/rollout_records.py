"""What a rollout is decided on, and what is decided: immutable documents, stored as JSON.

Evidence is sums over blocks of time. Sums of the same block add up, so that evidence of several
replicas, and of several looks, is merged in any order. Everything is by model, never by role: in
the watch after a promotion the challenger of the rollout is what serves, and its champion the
former one.
"""

from collections.abc import Iterable
from typing import Literal, TypeVar

from pydantic import AwareDatetime, Field, model_validator

from mlops_assets.core.records import Record

Stage = Literal["shadow", "canary", "watch"]
Action = Literal["wait", "step", "promote", "abort", "rollback", "settle"]
"""What to do next.

- ``step``: the challenger answers a larger share of the callers, ``share_after``.
- ``promote``: the challenger becomes champion; the watch begins.
- ``abort``: the challenger is dropped, the champion answers all callers.
- ``rollback``: the former champion becomes champion again.
- ``settle``: the watch is over, the former champion is dropped.
"""

GuardName = Literal["quality", "scores", "errors", "latency"]
GuardVerdictKind = Literal["promote", "abort", "insufficient"]


class Rollout(Record):
    """A challenger on its way."""

    use_case: str
    rollout_id: str
    champion: int
    """The version that was champion when the rollout began."""
    challenger: int
    """The version that wants to be, or in the watch has just become, champion."""
    stage: Stage
    share: float = Field(ge=0, le=1)
    """Share of the callers whom the challenger answers: 0 in shadow, 1 in the watch."""
    started_at: AwareDatetime
    stage_since: AwareDatetime
    """When the stage, or the canary's step, began."""
    stage_requests: int = Field(ge=0)
    """Requests in the evidence at that time."""


class CountBlock(Record):
    """Requests of both models in [start, end), and how many of them were hit: failed, or slow."""

    start: AwareDatetime
    end: AwareDatetime
    champion_requests: int = Field(ge=0)
    champion_hits: int = Field(ge=0)
    challenger_requests: int = Field(ge=0)
    challenger_hits: int = Field(ge=0)

    @model_validator(mode="after")
    def _possible(self) -> "CountBlock":
        if (
            self.champion_hits > self.champion_requests
            or self.challenger_hits > self.challenger_requests
        ):
            raise ValueError(f"the block of {self.start} has more hits than requests")
        return self


class PairedBlock(Record):
    """A paired comparison over the rows that were asked for in [start, end).

    Each row, or pair of rows, has a difference d, and a base b that it is relative to. ``d`` to
    ``bb`` are sums of d, b, d², d·b and b² (:mod:`mlops_assets.core.rollout_evidence` says of
    what).
    """

    start: AwareDatetime
    end: AwareDatetime
    requests: int = Field(ge=0)
    """Rows that both models scored."""
    rows: int = Field(ge=0)
    """What the sums are over: rows with a label, or pairs of rows."""
    d: float = 0.0
    b: float = 0.0
    dd: float = 0.0
    db: float = 0.0
    bb: float = 0.0

    @model_validator(mode="after")
    def _possible(self) -> "PairedBlock":
        if self.rows > self.requests:
            raise ValueError(f"the block of {self.start} has more rows than were scored")
        return self


class Readiness(Record):
    """Whether the replicas run what they should, as of ``at``."""

    at: AwareDatetime
    failed: tuple[str, ...] = ()
    """What replicas say that cannot load the challenger."""
    waiting_since: AwareDatetime | None = None
    """Since when a replica has not been ready with the wanted models; None: all are."""


class Evidence(Record):
    """Everything seen since the rollout began, in blocks by start; blocks may be missing.

    Counts have blocks of an hour; a paired comparison those of its guard's unit, hours for single
    requests.
    """

    errors: tuple[CountBlock, ...] = ()
    latency: tuple[CountBlock, ...] = ()
    scores: tuple[PairedBlock, ...] = ()
    quality: tuple[PairedBlock, ...] = ()
    readiness: Readiness | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "Evidence":
        for name, blocks in (
            ("errors", self.errors),
            ("latency", self.latency),
            ("scores", self.scores),
            ("quality", self.quality),
        ):
            starts = [block.start for block in blocks]
            if starts != sorted(set(starts)):
                raise ValueError(f"blocks of {name} are not in the order of starts, once each")
        return self

    @property
    def requests(self) -> int:
        """Requests that the challenger was asked, answered or not."""
        return sum(block.challenger_requests for block in self.errors)


class GuardVerdict(Record):
    """What one guard says, and the numbers that it rests on."""

    guard: GuardName
    verdict: GuardVerdictKind
    value: float | None
    """Challenger less champion, over all evidence; None without any."""
    low: float | None
    """Surely not below this, at all times at once; None where there is no bound."""
    high: float | None
    """Surely not above this."""
    abort_above: float
    promote_below: float
    rows: int
    units: int
    """Observations: requests, hours or days."""
    reason: str


class RolloutDecision(Record):
    """What to do about a rollout, why, and the numbers that it rests on."""

    use_case: str
    rollout_id: str
    decided_at: AwareDatetime
    stage: Stage
    share: float
    action: Action
    share_after: float
    """Share of the callers whom the challenger answers from then on."""
    guards: tuple[GuardVerdict, ...]
    reasons: tuple[str, ...]
    overdue: bool
    """Whether it has taken so long that a person should look; nothing is done by itself."""
    requests: int
    inputs: str
    """SHA-256 (hexadecimal) of policy, rollout and evidence."""


def merged(first: Evidence, second: Evidence) -> Evidence:
    """All that is in either: sums of the same block added, the later readiness kept.

    Associative, up to the rounding of sums, and commutative; empty evidence changes nothing.
    Raises ValueError for blocks of the same start and different ends.
    """
    return Evidence(
        errors=_joined([*first.errors, *second.errors]),
        latency=_joined([*first.latency, *second.latency]),
        scores=_joined([*first.scores, *second.scores]),
        quality=_joined([*first.quality, *second.quality]),
        readiness=_later(first.readiness, second.readiness),
    )


_Block = TypeVar("_Block", CountBlock, PairedBlock)


def _joined(blocks: Iterable[_Block]) -> tuple[_Block, ...]:
    found: dict[float, _Block] = {}
    for block in blocks:
        key = block.start.timestamp()
        known = found.get(key)
        found[key] = block if known is None else _sum(known, block)
    return tuple(found[key] for key in sorted(found))


def _sum(one: _Block, other: _Block) -> _Block:
    if one.end != other.end:
        raise ValueError(
            f"the block of {one.start} ends at {one.end} and at {other.end}: blocks of one guard "
            "have one length"
        )
    places = {"start": one.start, "end": one.end}
    sums = {
        name: getattr(one, name) + getattr(other, name)
        for name in type(one).model_fields
        if name not in places
    }
    return one.model_copy(update=sums)


def _later(one: Readiness | None, other: Readiness | None) -> Readiness | None:
    if one is None or other is None:
        return one or other
    # The text only makes it the same one in any order.
    return max(one, other, key=lambda known: (known.at, known.model_dump_json()))
