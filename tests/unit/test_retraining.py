"""Retraining policies: what asks, and for how long it has to."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from policy_support import DRIFT, FIRST, Life, signals_on, spec_of, started_days, time_after

from mlops_assets.core.retraining_records import (
    PerformanceSignal,
)


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
