"""Rollouts: the laws of evidence, and of what is decided on it."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rollout_evidence_support import (
    GOOD_COUNTS,
    LONG,
    SPEC,
    START,
    begun,
    counted,
    in_stage,
    verdict_of,
)

from mlops_assets.core.rollout import after, decide
from mlops_assets.core.rollout_evidence import paired_block
from mlops_assets.core.rollout_records import (
    CountBlock,
    Evidence,
    PairedBlock,
    Readiness,
    RolloutDecision,
    merged,
)


def test_blocks_that_cannot_be_are_refused() -> None:
    """More hits than requests, more rows than requests, a disorder, two lengths of one block."""
    hour: dict[str, Any] = {"start": START, "end": START + timedelta(hours=1)}
    with pytest.raises(ValidationError, match="more hits than requests"):
        CountBlock(
            **hour, champion_requests=1, champion_hits=2, challenger_requests=1, challenger_hits=0
        )
    with pytest.raises(ValidationError, match="more rows than were scored"):
        PairedBlock(**hour, requests=1, rows=2)
    with pytest.raises(ValidationError, match="not in the order of starts"):
        Evidence(errors=(*GOOD_COUNTS, GOOD_COUNTS[0]))
    long = PairedBlock(start=START, end=LONG, requests=1, rows=0)
    with pytest.raises(ValueError, match="one length"):
        merged(
            Evidence(scores=(PairedBlock(**hour, requests=1, rows=0),)), Evidence(scores=(long,))
        )


INTEGERS = st.integers(0, 50)
unhurried = settings(deadline=None, max_examples=50)
"""A decision takes milliseconds, and on a busy machine longer."""


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    """Evidence of any guard, sums being whole numbers so that adding them is exact."""

    def counts() -> tuple[CountBlock, ...]:
        hours = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
        return tuple(
            CountBlock(
                start=START + timedelta(hours=n),
                end=START + timedelta(hours=n + 1),
                champion_requests=50 + draw(INTEGERS),
                champion_hits=draw(INTEGERS),
                challenger_requests=50 + draw(INTEGERS),
                challenger_hits=draw(INTEGERS),
            )
            for n in sorted(hours)
        )

    def pairs() -> tuple[PairedBlock, ...]:
        days = draw(st.lists(st.integers(0, 12), unique=True, max_size=12))
        return tuple(
            PairedBlock(
                start=START + timedelta(days=n),
                end=START + timedelta(days=n + 1),
                requests=2000,
                rows=1950 + draw(INTEGERS),
                d=draw(st.integers(-100, 100)),
                b=900 + draw(INTEGERS),
                dd=300 + draw(INTEGERS),
                db=draw(INTEGERS),
                bb=600 + draw(INTEGERS),
            )
            for n in sorted(days)
        )

    ready = draw(st.none() | st.integers(0, 5).map(lambda n: START + timedelta(seconds=n)))
    return Evidence(
        errors=counts(),
        latency=counts(),
        scores=pairs(),
        quality=pairs(),
        readiness=None if ready is None else Readiness(at=ready, waiting_since=ready),
    )


@unhurried
@given(evidences(), evidences(), evidences())
def test_evidence_merges_in_any_order(one: Evidence, two: Evidence, three: Evidence) -> None:
    """Associative, commutative, and nothing changes nothing."""
    assert merged(merged(one, two), three) == merged(one, merged(two, three))
    assert merged(one, two) == merged(two, one)
    assert merged(one, Evidence()) == one


@unhurried
@given(evidences())
def test_evidence_survives_being_stored(evidence: Evidence) -> None:
    """As JSON, with decisions on it unchanged."""
    again = Evidence.model_validate_json(evidence.model_dump_json())
    assert again == evidence
    decision = decide(SPEC, begun(), evidence, LONG)
    assert decide(SPEC, begun(), again, LONG) == decision
    assert RolloutDecision.model_validate_json(decision.model_dump_json()) == decision


STAGES = st.sampled_from([("shadow", 0.0), ("canary", 0.05), ("canary", 0.5), ("watch", 1.0)])


@unhurried
@given(evidences(), STAGES, st.integers(0, 40))
def test_nothing_is_promoted_against_a_guard(
    evidence: Evidence, stage: tuple[str, float], days: int
) -> None:
    """Nor goes a share up, nor ends a watch in peace; and each end has its reason."""
    decision = decide(SPEC, in_stage(*stage), evidence, START + timedelta(days=days))
    if any(each.verdict == "abort" for each in decision.guards):
        assert decision.action == ("rollback" if stage[0] == "watch" else "abort")
    if decision.action in ("step", "promote"):
        said = {each.guard: each.verdict for each in decision.guards}
        assert set(said.values()) == {"promote"}
    assert decision.reasons
    assert 0 <= decision.share_after <= 1


@unhurried
@given(evidences(), STAGES)
def test_a_share_only_grows_until_the_end(evidence: Evidence, stage: tuple[str, float]) -> None:
    """So that no caller goes back and forth; an end returns all of them."""
    state = in_stage(*stage)
    decision = decide(SPEC, state, evidence, LONG)
    if decision.action in ("abort", "rollback"):
        assert decision.share_after == 0
    elif decision.action == "wait":
        assert after(SPEC, state, decision) == state
        assert decision.share_after == state.share
    else:
        assert decision.share_after >= state.share


@unhurried
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12))
def test_more_failures_never_turn_an_abort_into_something_better(
    hours: list[tuple[int, int]],
) -> None:
    """In any hour; and where failures do not abort, fewer of them do not either."""
    order = {"promote": 0, "insufficient": 1, "abort": 2}
    ours, theirs = [k for k, _ in hours], [k for _, k in hours]
    before = order[verdict_of("errors", Evidence(errors=counted(ours, theirs, 60)))]
    for n in range(len(ours)):
        more = [k + 5 * (m == n) for m, k in enumerate(ours)]
        found = verdict_of("errors", Evidence(errors=counted(more, theirs, 60)))
        assert order[found] >= before


@given(st.permutations(range(40)))
def test_the_order_of_requests_within_a_block_does_not_matter(order: list[int]) -> None:
    """Sums are the same, up to their last bits."""
    random = np.random.default_rng(9)
    d, base = random.normal(size=40), random.uniform(size=40)
    end = START + timedelta(hours=1)
    one = paired_block(START, end, 40, (d, base))
    other = paired_block(START, end, 40, (d[order], base[order]))
    for name in ("rows", "d", "b", "dd", "db", "bb"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-12)
