"""Rollouts: what is decided on which evidence, and the laws of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.rollout import after, begin, decide, is_news
from mlops_assets.core.rollout_evidence import paired_block
from mlops_assets.core.rollout_guards import since_weights, verdicts
from mlops_assets.core.rollout_records import (
    CountBlock,
    Evidence,
    PairedBlock,
    Readiness,
    Rollout,
    RolloutDecision,
    merged,
)
from mlops_assets.core.rollout_replay import Snapshot, replayed
from mlops_assets.core.rollout_spec import RolloutSpec, problems

START = datetime(2013, 3, 1, tzinfo=UTC)
SPEC = RolloutSpec(strategy="guarded")
LONG = START + timedelta(days=60)


def begun(spec: RolloutSpec = SPEC, **changes: Any) -> Rollout:
    """A rollout of version 2 against version 1."""
    rollout = begin(spec, use_case="visits", rollout_id="r1", champion=1, challenger=2, now=START)
    return rollout.model_copy(update=changes)


def in_stage(stage: str, share: float = 0.0, since: datetime = START) -> Rollout:
    """A rollout that has come that far."""
    return begun(stage=stage, share=share, stage_since=since)


def counted(
    hits: Sequence[int], champion_hits: Sequence[int], requests: int
) -> tuple[CountBlock, ...]:
    """A block of each hour, the same requests asked of both."""
    return tuple(
        CountBlock(
            start=START + timedelta(hours=n),
            end=START + timedelta(hours=n + 1),
            champion_requests=requests,
            champion_hits=theirs,
            challenger_requests=requests,
            challenger_hits=ours,
        )
        for n, (ours, theirs) in enumerate(zip(hits, champion_hits, strict=True))
    )


def compared(
    ratio: float,
    blocks: int,
    *,
    hours: int = 24,
    rows: int = 1000,
    spread: float = 0.02,
    requests: int | None = None,
    seed: int = 1,
) -> tuple[PairedBlock, ...]:
    """Blocks whose differences are about ``ratio`` of the base, more or less by ``spread``."""
    random = np.random.default_rng(seed)
    found: list[PairedBlock] = []
    for n in range(blocks):
        start = START + timedelta(hours=hours * n)
        base = random.uniform(0.3, 0.7, size=rows)
        d = (ratio + random.normal() * spread + 0.3 * random.normal(size=rows)) * base
        end = start + timedelta(hours=hours)
        found.append(paired_block(start, end, requests or rows, (d, base)))
    return tuple(found)


GOOD_COUNTS = counted([1] * 24, [1] * 24, 500)
GOOD = Evidence(
    errors=GOOD_COUNTS,
    latency=counted([5] * 24, [5] * 24, 500),
    scores=compared(0.2, 24, hours=1),
    quality=compared(-0.02, 14),
)


def verdict_of(guard: str, evidence: Evidence, spec: RolloutSpec = SPEC) -> str:
    """What one guard says, everything being over."""
    return {each.guard: each.verdict for each in verdicts(spec, evidence, LONG)}[guard]


# The guards.


def test_without_evidence_no_guard_says_anything() -> None:
    """And nothing but the time passes."""
    decision = decide(SPEC, begun(), Evidence(), LONG)
    assert {each.verdict for each in decision.guards} == {"insufficient"}
    assert [each.value for each in decision.guards] == [None] * 4
    assert decision.action == "wait"


def test_a_good_challenger_passes_all_guards() -> None:
    """With numbers that say how good."""
    found = verdicts(SPEC, GOOD, LONG)
    assert [each.verdict for each in found] == ["promote"] * 4
    quality = found[0]
    assert quality.value is not None
    assert quality.high is not None
    assert quality.value < quality.high < 0.01
    assert (quality.rows, quality.units) == (14_000, 14)
    assert quality.reason.startswith("quality: log-loss is -")


def test_a_worse_challenger_is_aborted_by_quality() -> None:
    """Surely worse than the champion, if only by three per cent."""
    evidence = Evidence(quality=compared(0.03, 30, spread=0.01))
    assert verdict_of("quality", evidence) == "abort"


def test_one_observation_is_a_day_by_default() -> None:
    """Days that differ among themselves are not outvoted by their many requests."""
    days = Evidence(quality=compared(0.03, 5, rows=5000, spread=0.05, seed=5))
    by_request = SPEC.model_copy(
        update={"quality": SPEC.quality and SPEC.quality.model_copy(update={"unit": "request"})}
    )
    assert verdict_of("quality", days) == "insufficient"
    assert verdict_of("quality", days, by_request) == "abort"


def test_a_day_counts_once_it_is_over_and_labelled() -> None:
    """Early labels are not like late ones; the places of days that wait stay theirs."""
    evidence = Evidence(quality=compared(-0.02, 14, rows=800, requests=1000))
    assert verdict_of("quality", evidence) == "insufficient"
    waiting = verdicts(SPEC, evidence, LONG)[0]
    assert "14 blocks wait for their end or for labels" in waiting.reason
    labelled = Evidence(quality=compared(-0.02, 14, rows=950, requests=1000))
    assert verdict_of("quality", labelled) == "promote"
    today = verdicts(SPEC, labelled, START + timedelta(days=3, hours=5))[0]
    assert today.units == 3


def test_a_broken_model_is_aborted_by_its_scores() -> None:
    """Within one hour, long before labels."""
    evidence = Evidence(scores=compared(0.8, 1, hours=1, rows=300))
    found = verdicts(SPEC, evidence, START + timedelta(minutes=20))
    assert found[1].verdict == "abort"


def test_few_scores_say_nothing() -> None:
    """However far they diverge: the bound needs many rows to hold."""
    evidence = Evidence(scores=compared(0.8, 1, hours=1, rows=90))
    assert verdict_of("scores", evidence) == "insufficient"


def test_failures_abort_within_few_requests() -> None:
    """Of 20 requests the challenger fails 12, the champion none."""
    assert verdict_of("errors", Evidence(errors=counted([12], [0], 20))) == "abort"


def test_failures_of_both_are_nobodys() -> None:
    """An outage that hits both models alike says nothing about the challenger."""
    evidence = Evidence(errors=counted([50] * 5, [50] * 5, 100))
    assert verdict_of("errors", evidence) != "abort"


def test_a_good_week_is_no_credit_for_a_bad_hour() -> None:
    """Two hundred thousand good requests, then every fifth of a thousand fails."""
    hits = [0] * 200 + [200]
    evidence = Evidence(errors=counted(hits, [0] * 201, 1000))
    verdict = verdicts(SPEC, evidence, LONG)[2]
    assert verdict.verdict == "abort"
    assert verdict.value is not None
    assert verdict.value < 0.005
    assert "since 2013-03-09T08:00:00+00:00" in verdict.reason


def test_the_shares_of_the_error_add_up() -> None:
    """However many blocks there are, all tests together have the guard's error and no more."""
    assert since_weights(1000).sum() == pytest.approx(1 - 1 / 1001)


def test_low_traffic_does_not_abort() -> None:
    """One failure of three requests is no proof."""
    assert verdict_of("errors", Evidence(errors=counted([1], [0], 3))) == "insufficient"


def test_slow_requests_abort() -> None:
    """One in ten is slower than the champion's slowest in a hundred."""
    evidence = Evidence(latency=counted([50] * 2, [5] * 2, 500))
    assert verdict_of("latency", evidence) == "abort"


def test_a_guard_that_is_off_is_not_asked() -> None:
    """And the others share its part of the error."""
    spec = SPEC.model_copy(update={"quality": None, "latency": None})
    assert [each.guard for each in verdicts(spec, GOOD, LONG)] == ["scores", "errors"]


# The stages.


def test_a_guarded_rollout_goes_through_all_stages() -> None:
    """Shadow, three steps, promotion, watch, end; each after its time and its requests."""
    state: Rollout | None = begun()
    now = START + timedelta(days=14)
    taken: list[tuple[str, float]] = []
    more = Evidence(errors=GOOD_COUNTS)
    evidence = GOOD
    for _ in range(20):
        if state is None:
            break
        decision = decide(SPEC, state, evidence, now)
        taken.append((decision.action, decision.share_after))
        state = after(SPEC, state, decision)
        now += timedelta(hours=6)
        evidence = merged(evidence, more)
    watched = [("wait", 1.0)] * 3
    assert taken == [
        ("step", 0.05),
        ("step", 0.25),
        ("step", 0.5),
        ("promote", 1.0),
        *watched,
        ("settle", 1.0),
    ]


def test_a_step_takes_its_time_and_its_requests() -> None:
    """Both are told."""
    state = begun(stage="canary", share=0.05, stage_since=LONG, stage_requests=GOOD.requests - 150)
    decision = decide(SPEC, state, GOOD, LONG + timedelta(minutes=29))
    assert decision.action == "wait"
    assert decision.reasons[0].startswith("waits in canary at 5% until")
    assert decision.reasons[1] == "150 requests at this step, of 200"


def test_labels_that_never_come_do_not_promote() -> None:
    """Unless quality is not required: then nobody waits for them."""
    evidence = GOOD.model_copy(update={"quality": ()})
    shadow = in_stage("shadow")
    assert decide(SPEC, shadow, evidence, LONG).action == "wait"
    assert "waits for quality" in decide(SPEC, shadow, evidence, LONG).reasons

    def requiring(required: str) -> RolloutSpec:
        return RolloutSpec.model_validate(
            {"strategy": "guarded", "quality": {"required": required}, "step_requests": 0}
        )

    last = in_stage("canary", 0.5)
    assert decide(requiring("promotion"), shadow, evidence, LONG).action == "step"
    assert decide(requiring("promotion"), last, evidence, LONG).action == "wait"
    assert decide(requiring("never"), last, evidence, LONG).action == "promote"


def test_labels_abort_even_where_nobody_waits_for_them() -> None:
    """Required for nothing is not unheard."""
    spec = RolloutSpec.model_validate({"strategy": "guarded", "quality": {"required": "never"}})
    bad = GOOD.model_copy(update={"quality": compared(0.05, 20)})
    assert decide(spec, in_stage("shadow"), bad, LONG).action == "abort"


def test_the_same_evidence_aborts_before_and_rolls_back_after_the_promotion() -> None:
    """The challenger answers nobody any more, and the reasons say why."""
    bad = Evidence(errors=counted([100], [0], 200))
    for stage, share, action in (
        ("shadow", 0.0, "abort"),
        ("canary", 0.25, "abort"),
        ("watch", 1.0, "rollback"),
    ):
        decision = decide(SPEC, in_stage(stage, share), bad, START + timedelta(hours=1))
        assert (decision.action, decision.share_after) == (action, 0.0)
        assert decision.reasons[0].startswith("errors: the share of failed requests is 50.00%")
        assert after(SPEC, in_stage(stage, share), decision) is None


def test_an_immediate_rollout_is_watched_only() -> None:
    """The champion is replaced at once; without a watch nothing is left to decide."""
    spec = RolloutSpec()
    watched = begun(spec)
    assert (watched.stage, watched.share) == ("watch", 1.0)
    assert decide(spec, watched, Evidence(), START).action == "wait"
    assert decide(spec, watched, Evidence(), START + timedelta(hours=24)).action == "settle"


def test_without_a_watch_a_promotion_is_the_end() -> None:
    """Nothing is kept of the former champion."""
    spec = RolloutSpec(strategy="guarded", watch_hours=0, steps=())
    decision = decide(spec, begun(spec), GOOD, LONG)
    assert decision.action == "promote"
    assert after(spec, begun(spec), decision) is None


def test_without_a_shadow_the_first_step_comes_first() -> None:
    """It is the state to begin with."""
    spec = RolloutSpec(strategy="guarded", shadow_minutes=0)
    assert (begun(spec).stage, begun(spec).share) == ("canary", 0.05)


def test_a_replica_that_cannot_load_takes_the_challenger_back_at_once() -> None:
    """One that is only slow to load holds up the next step until its time is over."""
    failed = GOOD.model_copy(
        update={"readiness": Readiness(at=LONG, failed=("a: digest does not match",))}
    )
    decision = decide(SPEC, in_stage("watch", 1.0), failed, START)
    assert decision.action == "rollback"
    assert decision.reasons == ("a replica cannot load its models: a: digest does not match",)
    waits = GOOD.model_copy(update={"readiness": Readiness(at=LONG, waiting_since=LONG)})
    shadow = in_stage("shadow")
    soon = decide(SPEC, shadow, waits, LONG + timedelta(seconds=30))
    assert (soon.action, soon.reasons[0]) == ("wait", "a replica is not ready")
    assert decide(SPEC, shadow, waits, LONG + timedelta(seconds=61)).action == "abort"


def test_an_old_rollout_is_told_and_left_alone() -> None:
    """Time alone neither aborts nor promotes."""
    old = START + timedelta(days=21)
    assert not decide(SPEC, begun(), Evidence(), old - timedelta(seconds=1)).overdue
    decision = decide(SPEC, begun(), Evidence(), old)
    assert (decision.overdue, decision.action) == (True, "wait")
    assert any("it began 21.0 days ago" in reason for reason in decision.reasons)


def test_a_time_without_a_zone_is_refused() -> None:
    """It would mean another moment on another machine."""
    with pytest.raises(PermanentError, match="no time zone"):
        decide(SPEC, begun(), Evidence(), datetime(2013, 3, 1))  # noqa: DTZ001


def test_the_ledger_hears_the_same_wait_once_an_hour() -> None:
    """Another verdict, and whatever is done, at once."""
    first = decide(SPEC, begun(), Evidence(), START)
    again = decide(SPEC, begun(), Evidence(), START + timedelta(minutes=59))
    later = decide(SPEC, begun(), Evidence(), START + timedelta(hours=1))
    other = decide(SPEC, begun(), GOOD, START + timedelta(minutes=30))
    assert is_news(None, first)
    assert not is_news(first, again)
    assert is_news(first, later)
    assert other.action == "wait"
    assert is_news(first, other)


# Evidence.


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


# Looks, and replay.


def snapshots_of(every: int) -> list[Snapshot]:
    """What was known after each so many hours of a rollout whose challenger breaks on day 20."""
    last = 504
    errors = counted([0] * 480 + [40] * (last - 480), [0] * last, 100)
    latency = counted([1] * last, [1] * last, 100)
    scores = compared(0.2, last, hours=1, rows=30)
    quality = compared(-0.01, last // 24, spread=0.01)
    return [
        Snapshot(
            START + timedelta(hours=hour),
            Evidence(
                errors=errors[:hour],
                latency=latency[:hour],
                scores=scores[:hour],
                quality=quality[: hour // 24],
            ),
        )
        for hour in range(every, last + 1, every)
    ]


def test_a_decision_does_not_depend_on_earlier_looks() -> None:
    """Asked every six hours or every two days: at the same moment, in the same stage, the same."""
    seldom, often = snapshots_of(48), snapshots_of(6)
    spec = RolloutSpec(strategy="guarded", steps=())
    moments = {snapshot.at: snapshot for snapshot in often}
    for snapshot in seldom[:6]:
        one = decide(spec, begun(spec), snapshot.evidence, snapshot.at)
        assert one == decide(spec, begun(spec), moments[snapshot.at].evidence, snapshot.at)


def test_a_replay_decides_as_it_was_decided_live() -> None:
    """Live, one tick at a time with a state that is stored in between; then all at once."""
    snapshots = snapshots_of(12)
    live: list[RolloutDecision] = []
    spec = RolloutSpec(strategy="guarded", watch_hours=480)
    stored: str | None = begun(spec).model_dump_json()
    for at, evidence in snapshots:
        if stored is None:
            break
        state = Rollout.model_validate_json(stored)
        kept = Evidence.model_validate_json(evidence.model_dump_json())
        decision = decide(spec, state, kept, at)
        live.append(decision)
        following = after(spec, state, decision)
        stored = None if following is None else following.model_dump_json()
    assert list(replayed(spec, begun(spec), snapshots)) == live
    taken = [decision.action for decision in live if decision.action != "wait"]
    assert taken == ["step", "step", "step", "promote", "rollback"]


# The spec.


def test_contradictions_in_the_yaml_are_named() -> None:
    """Each with its place."""
    spec = RolloutSpec.model_validate(
        {
            "strategy": "guarded",
            "steps": [0.5, 0.25, 1.0],
            "quality": {"abort_above": 0.02, "promote_below": 0.02},
            "latency": {"abort_above": 0.05, "promote_below": 0.02},
        }
    )
    assert [".".join(map(str, problem.path)) for problem in problems(spec)] == [
        "rollout.steps.2",
        "rollout.steps.1",
        "rollout.quality.promote_below",
        "rollout.latency.promote_below",
    ]
    nothing = RolloutSpec(strategy="guarded", shadow_minutes=0, steps=())
    assert [problem.path[-1] for problem in problems(nothing)] == ["strategy"]
    assert list(problems(SPEC)) == []


def test_a_guard_is_switched_off_by_null() -> None:
    """As YAML writes it."""
    assert RolloutSpec.model_validate({"latency": None}).latency is None
