"""Rollouts: what is decided in which stage, the same whenever and however often it is asked."""

from datetime import datetime, timedelta

import pytest
from rollout_evidence_support import (
    GOOD,
    GOOD_COUNTS,
    LONG,
    SPEC,
    START,
    begun,
    compared,
    counted,
    in_stage,
)

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.rollout import after, decide, is_news
from mlops_assets.core.rollout_records import (
    Evidence,
    Readiness,
    Rollout,
    RolloutDecision,
    merged,
)
from mlops_assets.core.rollout_replay import Snapshot, replayed
from mlops_assets.core.rollout_spec import RolloutSpec, problems


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
