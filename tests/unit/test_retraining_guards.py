"""Retraining policies: what holds a training back, and that it is kept."""

from datetime import UTC, datetime, timedelta

import pytest
from policy_support import DRIFT, FIRST, FREE, Life, signals_on, spec_of, started_days, time_after
from pydantic import ValidationError

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.retraining import policy
from mlops_assets.core.retraining_records import (
    Costs,
    DriftSignal,
    History,
    PerformanceSignal,
    Training,
    outstanding,
    with_training,
)


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
