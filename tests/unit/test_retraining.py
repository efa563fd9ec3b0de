"""Retraining policies: what asks, what holds back, what is kept, and the laws of all of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.retraining import policy
from mlops_assets.core.retraining_records import (
    Costs,
    Decision,
    DriftSignal,
    History,
    PerformanceSignal,
    Signals,
    Training,
    after,
    outstanding,
    with_training,
)
from mlops_assets.core.retraining_spec import RetrainingSpec, problems

FIRST = date(2013, 3, 1)
FREE = Costs(price_per_training=1, currency="EUR")
DRIFT: dict[str, Any] = {"kind": "drift", "above": 0.2}


def spec_of(policy: dict[str, Any], **guards: Any) -> RetrainingSpec:
    """A spec as YAML gives it; no cooldown unless asked for."""
    return RetrainingSpec.model_validate({"policy": policy, "cooldown_days": 0, **guards})


def signals_on(n: int, drift: float | None = None, **changes: Any) -> Signals:
    """The signals after day ``n``, all days labelled, the champion trained until the first."""
    day = FIRST + timedelta(days=n)
    fields: dict[str, Any] = {
        "use_case": "visits",
        "day": day,
        "champion_version": 1,
        "trained_until": FIRST,
        "drift": None if drift is None else {"weighted": drift, "drifted": ("hour",)},
        "labelled_until": day + timedelta(days=1),
    }
    return Signals.model_validate({**fields, **changes})


def time_after(n: int, hours: float = 0) -> datetime:
    """The midnight that ends day ``n``, in UTC, and so many hours more."""
    return datetime(2013, 3, 2, tzinfo=UTC) + timedelta(days=n, hours=hours)


def ended(history: History, outcome: str, cost: float) -> History:
    """``history`` with its last training ended after an hour."""
    last = history.trainings[-1]
    return with_training(
        history,
        last.model_copy(
            update={
                "outcome": outcome,
                "ended": last.started + timedelta(hours=1),
                "cost": cost,
            }
        ),
    )


@dataclass
class Life:
    """A use case lived through: each tick decides, and the history grows."""

    spec: RetrainingSpec
    costs: Costs = FREE
    history: History = field(default_factory=History)

    def tick(self, signals: Signals, now: datetime | None = None) -> Decision:
        """Decide and take the decision."""
        n = (signals.day - FIRST).days
        decision = policy(self.spec)(signals, self.history, self.costs, now or time_after(n))
        self.history = after(self.history, decision)
        return decision

    def end(self, outcome: str = "succeeded") -> None:
        """The last training ends."""
        self.history = ended(self.history, outcome, self.costs.price_per_training)


def started_days(life: Life, drifts: Sequence[float | None], end: bool = True) -> list[int]:
    """The days on which trainings start, each ended by the next one and not promoted."""
    found: list[int] = []
    for n, drift in enumerate(drifts):
        if life.tick(signals_on(n, drift)).retrain:
            found.append(n)
            if end:
                life.end()
    return found


# What asks.


def test_never_says_no_with_a_reason() -> None:
    """A no is a decision too, with the numbers that it rests on."""
    decision = Life(spec_of({"kind": "never"})).tick(signals_on(0, 9.0))
    assert (decision.retrain, decision.put_off, decision.signal_id) == (False, None, None)
    assert decision.reasons == ("the policy is never to retrain",)
    assert decision.numbers == {"spent_this_month": 0.0, "price": 1.0}


def test_every_counts_from_the_champions_window_and_then_from_trainings() -> None:
    """28 days after the window's end, and 28 days after each start."""
    life = Life(spec_of({"kind": "every", "days": 28}))
    assert started_days(life, [None] * 90) == [27, 55, 83]


def test_every_is_not_delayed_by_the_change_of_clocks() -> None:
    """Days are the use case's: one of 23 hours counts as one."""
    zone = ZoneInfo("America/New_York")
    life = Life(spec_of({"kind": "every", "days": 10}))
    for n in range(12):  # the clocks change on 2013-03-10
        midnight = datetime(2013, 3, 2, tzinfo=zone) + timedelta(days=n)
        assert life.tick(signals_on(n), midnight).retrain == (n == 9)
        if n == 9:
            life.end()


def test_drift_asks_above_the_threshold_alone() -> None:
    """The threshold itself is no drift, and unknown drift is none."""
    life = Life(spec_of(DRIFT))
    assert started_days(life, [0.2, None, 0.21, 0.1]) == [2]
    assert life.history.last is not None
    assert life.history.last.numbers["drift"] == 0.1


@pytest.mark.parametrize(
    ("judged_by", "low", "loss", "asks"),
    [
        ("interval", 0.52, 0.60, False),  # worse for sure, but not by 0.05
        ("interval", 0.56, 0.60, True),
        ("value", 0.40, 0.56, True),
        ("value", 0.40, 0.53, False),
    ],
)
def test_performance_asks_when_the_loss_is_worse_than_the_holdouts(
    judged_by: str, low: float, loss: float, asks: bool
) -> None:
    """By at least so much, judged by the interval's lower end or by the value."""
    spec = spec_of({"kind": "performance", "worse_by": 0.05, "judged_by": judged_by})
    realized = PerformanceSignal(low=low, loss=loss, high=0.7, reference=0.5)
    assert Life(spec).tick(signals_on(0, realized=realized)).retrain == asks
    assert not Life(spec).tick(signals_on(0, estimated=realized)).retrain


def test_performance_can_be_judged_by_the_estimate() -> None:
    """Before labels come; the realized loss is not looked at then."""
    spec = spec_of({"kind": "performance", "worse_by": 0.05, "source": "estimated"})
    bad = PerformanceSignal(low=0.6, loss=0.6, high=0.7, reference=0.5)
    assert Life(spec).tick(signals_on(0, estimated=bad)).retrain
    assert not Life(spec).tick(signals_on(0, realized=bad)).retrain


def test_freshness_asks_when_the_champion_is_older_than_allowed() -> None:
    """More than the most days from its window's end until today."""
    life = Life(spec_of({"kind": "freshness", "max_age_days": 10}))
    assert started_days(life, [None] * 12) == [10, 11]


@pytest.mark.parametrize(("kind", "expected"), [("any_of", [0, 9]), ("all_of", [11])])
def test_policies_combine(kind: str, expected: list[int]) -> None:
    """One is enough, or all have to ask on the same day; the unknown does not ask."""
    spec = spec_of({"kind": kind, "policies": [DRIFT, {"kind": "every", "days": 10}]})
    drifts = [0.3, *[None] * 10, 0.3] if kind == "all_of" else [0.3, *[None] * 10]
    assert started_days(Life(spec), drifts) == ([0, 10] if kind == "any_of" else expected)


def test_combinations_nest() -> None:
    """A branch inside a branch asks under its own condition."""
    both = {"kind": "all_of", "policies": [DRIFT, {"kind": "freshness", "max_age_days": 2}]}
    spec = spec_of({"kind": "any_of", "policies": [both, {"kind": "every", "days": 100}]})
    assert started_days(Life(spec), [0.3, 0.3, 0.1, 0.3]) == [3]


# Hysteresis.


def test_drift_has_to_hold_for_so_many_evaluations() -> None:
    """An evaluation below begins anew, an unknown one neither counts nor resets."""
    life = Life(spec_of({**DRIFT, "evaluations": 3}))
    assert started_days(life, [0.3, 0.3, 0.1, 0.3, None, 0.3, 0.3, 0.3]) == [6]


def test_an_evaluation_counts_once_a_day_however_often_it_is_made() -> None:
    """Ticks come every minute, and a day that arrives twice is one day."""
    life = Life(spec_of({**DRIFT, "evaluations": 2}))
    for hour in range(20):
        assert not life.tick(signals_on(0, 0.3), time_after(0, hour)).retrain
    assert life.tick(signals_on(1, 0.3)).retrain


def test_a_corrected_day_counts_as_it_was_last_seen() -> None:
    """Late data takes the day's vote back."""
    life = Life(spec_of({**DRIFT, "evaluations": 2}))
    life.tick(signals_on(0, 0.3))
    life.tick(signals_on(0, 0.1), time_after(0, 1))
    assert not life.tick(signals_on(1, 0.3)).retrain
    assert life.tick(signals_on(2, 0.3)).retrain


def test_a_day_that_comes_late_is_not_counted() -> None:
    """Out of order it neither asks nor resets, and the decision says so."""
    life = Life(spec_of({**DRIFT, "evaluations": 2}))
    life.tick(signals_on(5, 0.3))
    late = life.tick(signals_on(3, 0.0), time_after(5, 1))
    assert "comes after day 2013-03-06 was decided on" in late.reasons[-1]
    assert life.tick(signals_on(6, 0.3)).retrain


def test_drift_has_to_clear_before_it_asks_again() -> None:
    """Between the two levels nothing happens, whichever model serves."""
    life = Life(spec_of({**DRIFT, "clear_below": 0.1}))
    assert started_days(life, [0.3, 0.3, 0.15, 0.3, 0.05, 0.15, 0.3]) == [0, 6]


def test_a_new_champion_starts_the_count_anew() -> None:
    """What the old one went through says nothing about it."""
    life = Life(spec_of({**DRIFT, "evaluations": 3}))
    for n in range(2):
        life.tick(signals_on(n, 0.3))
    new = {"champion_version": 2, "trained_until": FIRST + timedelta(days=2)}
    assert [life.tick(signals_on(n, 0.3, **new)).retrain for n in (2, 3, 4)] == [False, False, True]


# What holds back, and that it is kept.


def test_what_the_cooldown_puts_off_starts_when_it_ends() -> None:
    """Even though the drift is gone by then, and once."""
    life = Life(spec_of(DRIFT, cooldown_days=7))
    drifts = [0.3, 0.1, 0.3, *[0.1] * 12]
    put_off = []
    for n, drift in enumerate(drifts):
        decision = life.tick(signals_on(n, drift))
        put_off += [(n, decision.put_off)] if decision.put_off else []
        if decision.retrain:
            life.end()
    assert put_off == [(n, "cooldown") for n in (2, 3, 4, 5, 6)]
    assert [t.signal_id for t in life.history.trainings] == ["2013-03-01.v1", "2013-03-03.v1"]
    assert life.history.trainings[1].started == time_after(7)


def test_what_is_put_off_can_be_dropped_when_it_holds_no_more() -> None:
    """When the policy says so; the decision that drops it says so too."""
    life = Life(spec_of(DRIFT, cooldown_days=7, keep_put_off=False))
    for n, drift in enumerate([0.3, 0.1, 0.3]):
        if life.tick(signals_on(n, drift)).retrain:
            life.end()
    dropped = life.tick(signals_on(3, 0.1))
    assert "signal 2013-03-03.v1 is dropped: the policy does not hold any more" in dropped.reasons
    assert not any(life.tick(signals_on(n, 0.1)).retrain for n in range(4, 20))


def test_a_champion_that_was_trained_on_the_day_of_the_signal_answers_it() -> None:
    """However it came about: another training would answer nothing."""
    life = Life(spec_of(DRIFT, wait_for_inputs=True))
    assert life.tick(signals_on(0, 0.3, stale_inputs=("visits/raw",))).put_off == "stale_inputs"
    new = {"champion_version": 2, "trained_until": FIRST + timedelta(days=1)}
    answered = life.tick(signals_on(1, 0.1, **new))
    assert not answered.retrain
    assert any("is answered: the champion is trained until" in r for r in answered.reasons)


def test_one_training_at_a_time() -> None:
    """A person's training holds the policy's back; what it puts off is kept."""
    manual = Training(
        use_case="visits",
        signal_id="by-hand",
        attempt=1,
        signal_day=FIRST,
        champion_version=1,
        started=time_after(-1),
        manual=True,
    )
    life = Life(spec_of(DRIFT), history=History(trainings=(manual,)))
    assert life.tick(signals_on(0, 0.3), time_after(-1, 5)).put_off == "single_flight"
    life.end()
    assert life.tick(signals_on(0, 0.1), time_after(-1, 6)).retrain


def test_the_training_in_progress_answers_what_its_own_champion_goes_on_to_show() -> None:
    """Drift that lasts until the new model serves is one signal, not one a day."""
    life = Life(spec_of(DRIFT, lost_after_hours=100))
    assert life.tick(signals_on(0, 0.3)).retrain
    again = life.tick(signals_on(1, 0.3))
    assert (again.retrain, again.signal_id) == (False, None)
    assert any("in progress, answers it" in reason for reason in again.reasons)


def test_the_budget_holds_back_until_the_next_month() -> None:
    """Two of three are affordable in March; the third starts when April does."""
    costs = Costs(price_per_training=4, currency="EUR", budget_per_month=10)
    life = Life(spec_of({"kind": "every", "days": 5}), costs)
    assert started_days(life, [None] * 35) == [4, 9, 30]
    assert life.history.trainings[2].signal_id == "2013-03-15.v1"
    assert life.history.trainings[2].started == datetime(2013, 4, 1, tzinfo=UTC)


def test_a_put_off_names_every_guard_and_the_first_decides_its_word() -> None:
    """So that a person sees what has to lift."""
    costs = Costs(price_per_training=12, currency="EUR", budget_per_month=10)
    signals = signals_on(0, 0.3, stale_inputs=("visits/raw",), labelled_until=None)
    decision = Life(spec_of(DRIFT), costs).tick(signals)
    assert decision.put_off == "budget"
    said = "; ".join(decision.reasons)
    assert "0 EUR are spent in 2013-03 and a training costs 12: more than the month's 10" in said
    assert "0 labelled days are new to the champion, of 1" in said
    assert "inputs are late: visits/raw" in said


def test_without_labels_nothing_is_trained() -> None:
    """The same data would give the same model; the signal waits for them."""
    life = Life(spec_of(DRIFT, new_days=3))
    until = FIRST + timedelta(days=2)
    assert life.tick(signals_on(5, 0.3, labelled_until=until)).put_off == "labels"
    assert life.tick(signals_on(6, 0.0, labelled_until=until + timedelta(days=1))).retrain


def test_a_failed_training_is_tried_again_until_the_signal_is_given_up() -> None:
    """Each attempt under its own key, without waiting for the cooldown, then no more."""
    life = Life(spec_of({**DRIFT, "clear_below": 0.1}, cooldown_days=30, attempts_per_signal=3))
    keys = []
    for hour in range(5):
        decision = life.tick(signals_on(0, 0.3), time_after(0, hour))
        if decision.retrain:
            keys.append(decision.run_key)
            life.end("failed")
    assert keys == [f"visits:2013-03-01.v1:{n}" for n in (1, 2, 3)]
    given_up = life.tick(signals_on(0, 0.3), time_after(0, 6))
    assert given_up.signal_id is None
    assert not any("given up" in reason for reason in given_up.reasons)  # it was said once


def test_attempts_are_capped_per_day() -> None:
    """The next one starts on the next day."""
    life = Life(spec_of(DRIFT, attempts_per_day=2, attempts_per_signal=9))
    for hour in range(2):
        assert life.tick(signals_on(0, 0.3), time_after(0, hour)).retrain
        life.end("failed")
    assert life.tick(signals_on(0, 0.3), time_after(0, 3)).put_off == "attempts"
    assert life.tick(signals_on(0, 0.3), time_after(1)).retrain


def test_a_training_without_an_end_is_lost_after_a_while() -> None:
    """A run that never came to be blocks nobody for ever; its end, when it comes, counts."""
    life = Life(spec_of(DRIFT, lost_after_hours=24, attempts_per_day=1))
    assert life.tick(signals_on(0, 0.3)).retrain
    first = life.history.trainings[0]
    assert not life.tick(signals_on(0, 0.3), time_after(0, 23)).retrain
    second = life.tick(signals_on(0, 0.3, stale_inputs=("a",)), time_after(0, 25))
    assert (second.attempt, second.put_off) == (2, "stale_inputs")
    end = {"outcome": "succeeded", "ended": time_after(0, 26)}
    life.history = with_training(life.history, first.model_copy(update=end))
    answered = life.tick(signals_on(0, 0.3), time_after(0, 27))
    assert not answered.retrain
    assert any("a training that counted as lost has ended" in r for r in answered.reasons)


def test_a_policy_that_becomes_never_drops_what_was_put_off() -> None:
    """Never is never."""
    life = Life(spec_of(DRIFT))
    life.tick(signals_on(0, 0.3, stale_inputs=("a",)))
    life.spec = spec_of({"kind": "never"})
    decision = life.tick(signals_on(1, 0.3))
    assert not decision.retrain
    assert any("is dropped: the policy is never to retrain" in r for r in decision.reasons)


def test_a_clock_that_goes_back_starts_nothing_until_it_has_caught_up() -> None:
    """And forgets nothing."""
    life = Life(spec_of(DRIFT))
    life.tick(signals_on(4, 0.1))
    back = life.tick(signals_on(5, 0.3), time_after(1))
    assert (back.retrain, back.put_off) == (False, "clock")
    assert life.tick(signals_on(5, 0.1), time_after(5)).retrain


def test_a_decided_training_is_outstanding_until_it_ends() -> None:
    """Who restarts between decision and run requests it again, under the same key."""
    life = Life(spec_of(DRIFT))
    decision = life.tick(signals_on(0, 0.3))
    assert [t.run_key for t in outstanding(life.history)] == [decision.run_key]
    life.end("failed")
    assert outstanding(life.history) == ()


def test_an_ended_training_is_not_opened_again() -> None:
    """A start that is reported after the end changes nothing."""
    life = Life(spec_of(DRIFT))
    life.tick(signals_on(0, 0.3))
    running = life.history.trainings[0]
    life.end()
    assert with_training(life.history, running) == life.history


def test_a_time_without_a_zone_and_a_foreign_history_are_refused() -> None:
    """Both would decide on the wrong days or trainings."""
    life = Life(spec_of(DRIFT))
    with pytest.raises(PermanentError, match="has no time zone"):
        life.tick(signals_on(0), datetime(2013, 3, 2))  # noqa: DTZ001
    life.tick(signals_on(0))
    with pytest.raises(PermanentError, match="the history has an entry of visits"):
        life.tick(signals_on(1, use_case="churn"))


def test_an_interval_that_leaves_out_its_loss_is_refused() -> None:
    """And numbers that are none."""
    with pytest.raises(ValidationError, match="leaves out the loss"):
        PerformanceSignal(loss=0.5, low=0.6, high=0.7, reference=0.5)
    with pytest.raises(ValidationError):
        DriftSignal(weighted=float("nan"))


def test_equal_arguments_give_equal_decisions_and_other_inputs_another_digest() -> None:
    """The digest tells one evaluation from another."""
    decide = policy(spec_of(DRIFT))
    one = decide(signals_on(0, 0.1), History(), FREE, time_after(0))
    assert one == decide(signals_on(0, 0.1), History(), FREE, time_after(0))
    others = [
        decide(signals_on(0, 0.2), History(), FREE, time_after(0)),
        decide(
            signals_on(0, 0.1),
            History(),
            Costs(price_per_training=2, currency="EUR"),
            one.decided_at,
        ),
        policy(spec_of({**DRIFT, "above": 0.3}))(
            signals_on(0, 0.1), History(), FREE, one.decided_at
        ),
    ]
    assert one.inputs not in {other.inputs for other in others}


# Laws.


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[int, float, float | None, str | None]]:
    """Ticks: a day (late, repeated or with gaps), hours on the clock (also back), drift, and how
    the training in progress ends before the tick.
    """
    found, day, clock = [], 0, 0.0
    for _ in range(draw(st.integers(5, 40))):
        day = max(0, day + draw(st.sampled_from([-2, 0, 1, 1, 1, 1, 2, 9])))
        clock = max(clock + draw(st.sampled_from([-5.0, 0.0, 1.0])), day * 24.0)
        clock += draw(st.sampled_from([0.0, 0.0, -30.0]))
        drift = draw(st.sampled_from([0.05, 0.15, 0.25, 0.35, None]))
        ends = draw(st.sampled_from([None, "succeeded", "succeeded", "failed"]))
        found.append((day, clock, drift, ends))
    return found


def lived(
    spec: RetrainingSpec,
    ticks: list[tuple[int, float, float | None, str | None]],
    costs: Costs = FREE,
) -> tuple[list[Decision], tuple[Training, ...]]:
    """The decisions and trainings of a life, through JSON as a ledger would keep them."""
    life = Life(spec, costs)
    decisions = []
    for day, clock, drift, ends in ticks:
        running = outstanding(life.history)
        if ends and running:
            last = running[-1].model_copy(
                update={
                    "outcome": ends,
                    "ended": running[-1].started,
                    "cost": costs.price_per_training,
                }
            )
            life.history = with_training(life.history, last)
        decisions.append(life.tick(signals_on(day, drift), time_after(0, clock)))
        kept = Decision.model_validate_json(decisions[-1].model_dump_json())
        assert kept == decisions[-1]
        life.history = replace(life.history, last=kept)
    return decisions, life.history.trainings


@settings(max_examples=120, deadline=None)
@given(lives(), st.integers(0, 12), st.integers(1, 3), st.booleans())
def test_no_two_signals_start_trainings_within_the_cooldown(
    ticks: list[tuple[int, float, float | None, str | None]],
    cooldown: int,
    evaluations: int,
    keep: bool,
) -> None:
    """Whatever the clock, the days and the runs do."""
    spec = spec_of({**DRIFT, "evaluations": evaluations}, cooldown_days=cooldown, keep_put_off=keep)
    _, trainings = lived(spec, ticks)
    for one, other in pairwise(trainings):
        if one.signal_id != other.signal_id:
            assert (other.started.date() - one.started.date()).days >= cooldown


@settings(max_examples=120, deadline=None)
@given(lives(), st.integers(0, 5), st.integers(1, 4), st.integers(1, 3))
def test_budget_caps_and_single_flight_hold(
    ticks: list[tuple[int, float, float | None, str | None]],
    affordable: int,
    attempts: int,
    per_day: int,
) -> None:
    """Never over the budget in a month, never more attempts, never two keys or two at once."""
    costs = Costs(price_per_training=0.1, currency="EUR", budget_per_month=0.1 * affordable)
    spec = spec_of(DRIFT, attempts_per_signal=attempts, attempts_per_day=per_day)
    decisions, trainings = lived(spec, ticks, costs)
    months = [(t.started.year, t.started.month) for t in trainings]
    assert all(months.count(month) <= affordable for month in months)
    days = [t.started.date() for t in trainings]
    assert all(days.count(day) <= per_day for day in days)
    keys = [t.run_key for t in trainings]
    assert len(set(keys)) == len(keys)
    signals = [t.signal_id for t in trainings]
    assert all(signals.count(signal) <= attempts for signal in signals)
    assert keys == [decision.run_key for decision in decisions if decision.retrain]


@settings(max_examples=120, deadline=None)
@given(lives(), st.integers(0, 12))
def test_what_is_put_off_starts_once_or_is_said_to_have_ended(
    ticks: list[tuple[int, float, float | None, str | None]], cooldown: int
) -> None:
    """No signal vanishes and none succeeds twice, however it is held back."""
    spec = spec_of(DRIFT, cooldown_days=cooldown, lost_after_hours=8784)
    decisions, trainings = lived(spec, ticks)
    for signal in {d.signal_id for d in decisions if d.put_off}:
        assert sum(t.signal_id == signal and t.outcome == "succeeded" for t in trainings) <= 1
        mine = [n for n, d in enumerate(decisions) if d.signal_id == signal]
        left = mine[-1] + 1 < len(decisions) and decisions[mine[-1]].put_off is not None
        if left:  # the signal was pending, and the next decision is not about it
            assert any(str(signal) in reason for reason in decisions[mine[-1] + 1].reasons)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.sampled_from([0.05, 0.15, 0.25, 0.35, None]), max_size=70),
    st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.3]), st.sampled_from([0.0, 0.1, 0.2, 0.3])),
    st.integers(0, 9),
    st.integers(1, 4),
)
def test_a_stricter_threshold_never_retrains_more_often(
    drifts: list[float | None], levels: tuple[float, float], cooldown: int, affordable: int
) -> None:
    """On the same signals, without hysteresis, with a cooldown and a budget."""
    costs = Costs(price_per_training=1, currency="EUR", budget_per_month=affordable)
    loose, strict = (
        started_days(
            Life(spec_of({**DRIFT, "above": level}, cooldown_days=cooldown), costs), drifts
        )
        for level in sorted(levels)
    )
    assert len(strict) <= len(loose)


# The spec.


def test_the_spec_is_written_as_yaml_has_it() -> None:
    """And what is not given has its default: never."""
    assert RetrainingSpec().policy.kind == "never"
    nested = {"kind": "any_of", "policies": [DRIFT, {"kind": "every", "days": 28}]}
    spec = spec_of(nested)
    assert RetrainingSpec.model_validate(json.loads(spec.model_dump_json())) == spec
    assert list(problems(spec)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "sometimes"},
        {"kind": "drift"},
        {"kind": "drift", "above": 0.2, "below": 0.1},
        {"kind": "every", "days": 0},
        {"kind": "any_of", "policies": [DRIFT]},
        {"above": 0.2},
    ],
)
def test_a_policy_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    """Unknown kinds and fields, missing and impossible values."""
    with pytest.raises(ValidationError):
        spec_of(wrong)


@pytest.mark.parametrize(
    ("policy", "place", "says"),
    [
        ({**DRIFT, "clear_below": 0.3}, "retraining.policy.clear_below", "choose a lower one"),
        ({"kind": "performance", "worse_by": 0.1, "clear_below": 0.2},
         "retraining.policy.clear_below", "choose a lower one"),
        ({"kind": "every", "days": 3}, "retraining.policy.days", "sooner than the cooldown of 7"),
        ({"kind": "any_of", "policies": [DRIFT, {"kind": "never"}]},
         "retraining.policy.policies.1", "remove it"),
    ],
)  # fmt: skip
def test_a_contradiction_is_one_problem_at_its_place(
    policy: dict[str, Any], place: str, says: str
) -> None:
    """One mistake, one problem, with what to change."""
    (problem,) = problems(spec_of(policy, cooldown_days=7))
    assert ".".join(map(str, problem.path)) == place
    assert says in problem.message


def test_every_field_says_what_it_is_with_its_default() -> None:
    """The schema is the documentation."""
    schema = RetrainingSpec.model_json_schema()
    for name, part in {"RetrainingSpec": schema, **schema["$defs"]}.items():
        assert part["description"], name
        assert part["additionalProperties"] is False, name
        for name_of, described in part["properties"].items():
            text = described.get("description", "")
            assert text.endswith("."), f"{name}.{name_of}"
            assert (name_of in part.get("required", [])) != ("Default" in text), f"{name}.{name_of}"
