"""Retraining policies: the laws of whatever they live through."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_support import DRIFT, FREE, Life, signals_on, spec_of, started_days, time_after

from mlops_assets.core.retraining_records import (
    Costs,
    Decision,
    Training,
    outstanding,
    with_training,
)
from mlops_assets.core.retraining_spec import RetrainingSpec


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
