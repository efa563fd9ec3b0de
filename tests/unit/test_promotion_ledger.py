"""The promotion ledger's meaning: what is served since each entry, and the same again in replay."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.evidence_changes import changes, laid_over
from mlops_assets.core.latency import LATENCY_EDGES_S
from mlops_assets.core.ledger_replay import replayed_ledger
from mlops_assets.core.promotion_ledger import (
    Begun,
    Chosen,
    Decided,
    LedgerRecord,
    State,
    UnderWay,
    Wanted,
    folded,
    followed,
    serves,
    towards,
)
from mlops_assets.core.replica_reports import ModelTotals, ReplicaReport
from mlops_assets.core.rollout import begin, decide
from mlops_assets.core.rollout_counts import count, new_counts, readiness
from mlops_assets.core.rollout_records import Evidence, Readiness, RolloutDecision
from mlops_assets.core.rollout_spec import ErrorGuardSpec, LatencyGuardSpec, RolloutSpec
from mlops_assets.core.rollout_state import ServedModel, first_release
from mlops_assets.core.rollout_text import history_markdown, live_at, serving

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ONE, TWO = (ServedModel(version=n, sha256=f"{n}" * 64, artifact=f"{n}.ubj") for n in (1, 2))
FAST = RolloutSpec(
    strategy="guarded",
    shadow_minutes=10,
    steps=(0.5,),
    step_minutes=10,
    step_requests=20,
    quality=None,
    scores=None,
    errors=ErrorGuardSpec(abort_above=0.01, promote_below=0.5, min_requests=20),
    latency=None,
    watch_hours=1,
)


def _begun(policy: RolloutSpec = FAST) -> Begun:
    rollout = begin(policy, use_case="flights", rollout_id="r1", champion=1, challenger=2, now=NOON)
    return Begun(
        rollout=rollout,
        champion=ONE,
        challenger=TWO,
        policy=policy,
        slow_edge=None,
        by="the policy",
        reason="version 2 passed the gate",
    )


def _report(
    requests: tuple[int, int],
    errors: tuple[int, int] = (0, 0),
    replica: str = "a",
    slow: tuple[int, int] = (0, 0),
) -> ReplicaReport:
    def part(n: int) -> ModelTotals:
        fast, last = requests[n] - slow[n], slow[n]
        return ModelTotals(
            rollout_id="r1",
            version=n + 1,
            role="champion" if n == 0 else "challenger",
            requests=requests[n],
            rows=requests[n],
            returned=requests[n],
            errors=errors[n],
            skipped=0,
            seconds=0.0,
            latency=(fast, *[0] * (len(LATENCY_EDGES_S) - 1), last),
        )

    return ReplicaReport(
        replica=replica,
        instance=replica,
        workers=1,
        use_case="flights",
        revision=1,
        refused=None,
        champion=1,
        challenger=2,
        ready=True,
        error=None,
        at=NOON,
        ended=False,
        lost_log_records=0,
        totals=(part(0), part(1)),
    )


def _under_way(state: State) -> UnderWay:
    assert state.under_way is not None
    return state.under_way


def _decided(state: State, reports: list[ReplicaReport], now: datetime) -> Decided:
    """What a tick records."""
    known = _under_way(state)
    counts = count(known, reports, FAST, now)
    evidence = counts.evidence.model_copy(update={"readiness": Readiness(at=now)})
    decision = decide(FAST, known.rollout, evidence, now)
    return Decided(
        decision=decision,
        policy=FAST,
        evidence=changes(known.evidence, evidence),
        counted=new_counts(known, counts),
        slow_edge=counts.slow_edge,
        by="the policy",
    )


LOOKS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 3), st.integers(0, 40)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(LOOKS)
def test_a_replay_of_the_ledger_decides_as_live(
    looks: list[tuple[int, int, int, int]],
) -> None:
    """Whatever came in, and whenever it was looked at."""
    records: list[LedgerRecord] = [_begun()]
    state, now = folded(records), NOON
    requests, errors = [0, 0], [0, 0]
    for champion, challenger, failed, minutes in looks:
        if state.under_way is None:
            break
        now += minutes * MINUTE
        requests[0] += champion
        requests[1] += challenger
        errors[1] += failed
        report = _report((requests[0], requests[1]), (0, errors[1]))
        records.append(_decided(state, [report], now))
        state = followed(state, records[-1])
    found = replayed_ledger(records)
    assert found.replayed == tuple(decision for decision, _ in found.live)
    assert folded(records) == state


@settings(max_examples=30, deadline=None)
@given(LOOKS)
def test_counts_add_up_however_often_one_looks(
    looks: list[tuple[int, int, int, int]],
) -> None:
    """Each request is evidence once, of whichever replica, and of those that are gone too."""
    state, now = folded([_begun()]), NOON
    total = {name: [0, 0] for name in ("a", "b")}
    failed = 0
    for n, (champion, challenger, errors, _) in enumerate(looks):
        now += timedelta(seconds=1)
        name = "ab"[n % 2]
        total[name][0] += champion
        total[name][1] += challenger
        failed += errors if name == "b" else 0
        reports = [
            _report((total["a"][0], total["a"][1])),
            _report((total["b"][0], total["b"][1]), (0, failed), "b"),
        ]
        waits = _decided(state, reports, now)
        wait = waits.decision.model_copy(update={"action": "wait"})
        state = followed(state, waits.model_copy(update={"decision": wait}))
    blocks = _under_way(state).evidence.errors
    assert sum(block.champion_requests for block in blocks) == total["a"][0] + total["b"][0]
    challenger = total["a"][1] + total["b"][1] + failed
    assert _under_way(state).evidence.requests == challenger
    assert sum(block.challenger_hits for block in blocks) == failed


def test_a_replica_that_begins_anew_is_counted_from_nothing() -> None:
    """Under the same name, as a worker that lost its file."""
    state = folded([_begun()])
    state = followed(state, _decided(state, [_report((50, 50))], NOON + MINUTE))
    state = followed(state, _decided(state, [_report((5, 5))], NOON + 2 * MINUTE))
    assert _under_way(state).evidence.requests == 55


def test_requests_that_set_the_threshold_are_no_evidence_of_latency() -> None:
    """It is fixed once, by the champion; what comes after is counted against it."""
    policy = FAST.model_copy(update={"latency": LatencyGuardSpec(quantile=0.9)})
    known = _under_way(folded([_begun(policy)]))
    few = count(known, [_report((10, 10))], policy, NOON + MINUTE)
    assert (few.slow_edge, few.evidence.latency) == (None, ())
    first = count(known, [_report((100, 100))], policy, NOON + MINUTE)
    assert first.slow_edge == LATENCY_EDGES_S[0]
    assert first.evidence.latency == ()
    after = replace(known, slow_edge=first.slow_edge, counted=first.counted)
    (block,) = count(
        after, [_report((150, 160), slow=(0, 30))], policy, NOON + 2 * MINUTE
    ).evidence.latency
    assert (block.champion_requests, block.champion_hits) == (50, 0)
    assert (block.challenger_requests, block.challenger_hits) == (60, 30)


def test_a_refusal_counts_once_it_lasts() -> None:
    """A store that is away for a moment ends no rollout; and a clock that goes back none either."""
    first = readiness(None, NOON, (), ["its file is gone"], FAST)
    assert (first.waiting_since, first.failed) == (NOON, ())
    later = readiness(first, NOON + 2 * MINUTE, (), ["its file is gone"], FAST)
    assert (later.waiting_since, later.failed) == (NOON, ("its file is gone",))
    back = readiness(first, NOON - MINUTE, ["a"], (), FAST)
    assert (back.waiting_since, back.failed) == (NOON - MINUTE, ())
    assert readiness(later, NOON + 3 * MINUTE, (), (), FAST).waiting_since is None


@settings(max_examples=30, deadline=None)
@given(LOOKS, LOOKS)
def test_changes_laid_over_what_was_there_are_what_is_there(
    before: list[tuple[int, int, int, int]], after: list[tuple[int, int, int, int]]
) -> None:
    """Which is how the ledger keeps evidence."""

    def evidence(looks: list[tuple[int, int, int, int]]) -> Evidence:
        known = _under_way(folded([_begun()]))
        for n, look in enumerate(looks):
            now = NOON + n * timedelta(hours=1)
            counted = count(known, [_report((look[0], look[1]), replica=f"{n}")], FAST, now)
            known = replace(known, evidence=counted.evidence)
        return known.evidence

    one, two = evidence(before), evidence([*before, *after])
    assert laid_over(one, changes(one, two)) == two
    assert changes(two, two) == Evidence(readiness=two.readiness)


def test_each_entry_says_what_is_served_since() -> None:
    """Shadow, canary, watch, and a person's choice; the past stays known."""
    records: list[LedgerRecord] = [
        Chosen(champion=ONE, at=NOON - MINUTE, by="ann", reason="the first"),
        _begun(),
    ]
    state = folded(records)
    assert serving(state.wanted) == "version 1; version 2 in shadow"
    for n in (1, 2):
        report = _report((100 * n, 100 * n))
        records.append(_decided(state, [report], NOON + 11 * n * MINUTE))
        state = followed(state, records[-1])
    assert serving(state.wanted) == "version 2; watched, with version 1 beside it"
    records.append(_decided(state, [], NOON + 200 * MINUTE))
    assert serving(folded(records).wanted) == "version 2"
    then = live_at(records, NOON + 15 * MINUTE).wanted
    assert serving(then) == "version 1; version 2 in canary, for 50% of the callers"
    assert serving(live_at(records, NOON - 2 * MINUTE).wanted) == "nothing"
    history = history_markdown(records)
    assert [word in history for word in ("**step** 50%", "**promote**", "**settle**", "ann")] == [
        True,
        True,
        True,
        True,
    ]


def test_a_release_that_serves_what_is_wanted_is_left_alone() -> None:
    """Models are known by their bytes; another state is the next revision."""
    release = first_release("flights", ONE, NOON, "first")
    moved = ONE.model_copy(update={"artifact": "/elsewhere/1.ubj"})
    assert towards(release, Wanted(champion=moved), NOON, "again") is release
    wanted = Wanted(champion=ONE, challenger=TWO, mode="canary", share=0.5, rollout_id="r1")
    canary = towards(release, wanted, NOON, "step")
    assert (canary.revision, canary.share, canary.reason) == (2, 0.5, "step")
    assert serves(canary, wanted)
    assert not serves(release, wanted)


def test_a_decision_about_no_rollout_is_refused() -> None:
    """A ledger that says so is damaged."""
    decision = _decided(folded([_begun()]), [], NOON + MINUTE)
    with pytest.raises(PermanentError, match="rollout r1, which is not under way"):
        folded([decision])


def test_another_policy_is_replayed_on_the_same_evidence() -> None:
    """A stricter one aborts what was promoted; one of another unit is refused."""
    records: list[LedgerRecord] = [_begun()]
    state = folded(records)
    for n in (1, 2):
        report = _report((100 * n, 96 * n), (0, 4 * n))
        loose = _decided(state, [report], NOON + 11 * n * MINUTE)
        records.append(loose)
        state = followed(state, loose)
    actions = [decision.action for decision, _ in replayed_ledger(records).live]
    assert actions[0] == "step"
    strict = ErrorGuardSpec(abort_above=0.0, promote_below=0.5, min_requests=1)
    lenient = FAST.model_copy(update={"shadow_minutes": 600, "errors": strict})
    found: tuple[RolloutDecision, ...] = replayed_ledger(records, policy=lenient).replayed
    assert found[0].action == "wait"
    with pytest.raises(PermanentError, match="the ledger does not have rollout 'r9'"):
        replayed_ledger(records, "r9")
