"""Replay by look-up, hindsight's best, and the choice between policies."""

from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.hindsight import hindsight, regret
from mlops_assets.core.replay import (
    LossMatrix,
    Replay,
    choose,
    next_day,
    replay,
    segment,
    succeeded,
)
from mlops_assets.core.retraining import policy
from mlops_assets.core.retraining_records import (
    Costs,
    Decision,
    DriftSignal,
    History,
    PerformanceSignal,
    Signals,
    after,
    with_training,
)
from mlops_assets.core.retraining_spec import RetrainingSpec
from mlops_assets.core.windows import day_start

FIRST = date(2013, 3, 1)
COSTS = Costs(price_per_training=2.0, currency="EUR")
NEVER: dict[str, Any] = {"kind": "never"}
WEEKLY: dict[str, Any] = {"kind": "every", "days": 7}
DRIFT: dict[str, Any] = {"kind": "drift", "above": 0.2}


def matrix(n: int = 60, seed: int = 7) -> LossMatrix:
    """A model a day; the older one is on a day, the worse, with noise."""
    days = tuple(FIRST + timedelta(days=k) for k in range(n))
    age = np.arange(n)[None, :] - np.arange(n)[:, None]
    noise = np.random.default_rng(seed).normal(0, 0.02, (n, n))
    rows = np.random.default_rng(seed + 1).integers(1, 900, n).astype(float)
    return LossMatrix(days, days, 0.4 + 0.01 * np.maximum(age, 0) + noise, rows)


def signals_of(day: date, trained_until: date, served_from: date) -> Signals:
    """Drift grows with the champion's age; the version is left to the replay."""
    assert trained_until <= served_from <= day
    age = (day - trained_until).days
    loss = 0.5 + 0.002 * age
    return Signals(
        use_case="visits",
        day=day,
        champion_version=0,
        trained_until=trained_until,
        drift=DriftSignal(weighted=max(0, age) / 100),
        realized=PerformanceSignal(loss=loss, low=loss - 0.01, high=loss + 0.01, reference=0.5),
        labelled_until=next_day(day),
    )


def replayed(
    described: dict[str, Any], found: LossMatrix, costs: Costs = COSTS, **guards: Any
) -> Replay:
    """A policy over all days of a matrix."""
    spec = RetrainingSpec.model_validate({"policy": described, "cooldown_days": 0, **guards})
    return replay(
        policy(spec),
        found.days,
        signals_of,
        found.loss_of,
        first=FIRST,
        costs=costs,
        rows=found.rows,
        # No day after the last has a model in the matrix.
        window_end=lambda day: found.newest(next_day(day)),
    )


def test_a_replay_without_trainings_is_the_first_models_row() -> None:
    """Scored each day, for nothing."""
    found = matrix()
    never = replayed(NEVER, found)
    assert np.array_equal(never.loss, found.loss[0])
    assert never.log_loss == pytest.approx(np.average(found.loss[0], weights=found.rows))
    assert (never.cost, never.trainings, set(never.trained_until)) == (0, (), {FIRST})
    assert len(never.decisions) == 60


def test_a_model_serves_from_the_day_after_its_training() -> None:
    """The decision falls after the day was scored."""
    found = matrix(20)
    weekly = replayed(WEEKLY, found)
    expected = [FIRST + timedelta(days=7 * (n // 7)) for n in range(20)]
    assert list(weekly.trained_until) == expected
    assert [weekly.loss[n] for n in (6, 7)] == [found.loss[0, 6], found.loss[7, 7]]
    assert weekly.cost == 4.0
    assert [d.champion_version for d in weekly.decisions] == [1 + n // 7 for n in range(20)]


def test_a_policy_that_looks_at_signals_is_shown_those_of_its_own_model() -> None:
    """Drift of a fresh model is small, so that it asks at its age and not each day."""
    drift = replayed(DRIFT, matrix())
    assert [(d.day - FIRST).days for d in drift.decisions if d.retrain] == [21, 43]


def test_days_without_a_loss_count_for_nothing() -> None:
    """Not as zero, and not as NaN."""
    found = matrix(10)
    found.loss[:, 4] = np.nan
    kept = np.delete(np.arange(10), 4)
    expected = np.average(found.loss[0, kept], weights=found.rows[kept])
    assert replayed(NEVER, found).log_loss == pytest.approx(expected)
    assert hindsight(found, FIRST, 0).log_loss == pytest.approx(expected)


def test_what_the_matrix_does_not_have_is_named() -> None:
    """A model or a day that nobody scored; days out of order."""
    found = matrix(5)
    with pytest.raises(PermanentError, match="no model trained until 2014-01-01"):
        found.loss_of(date(2014, 1, 1), FIRST)
    with pytest.raises(PermanentError, match="no day 2014-01-01"):
        found.loss_of(FIRST, date(2014, 1, 1))
    with pytest.raises(PermanentError, match="no model trained until 2013-02-01 or before"):
        found.newest(date(2013, 2, 1))
    with pytest.raises(PermanentError, match="have to ascend"):
        spec = RetrainingSpec()
        replay(policy(spec), found.days[::-1], signals_of, found.loss_of, first=FIRST, costs=COSTS)
    with pytest.raises(PermanentError, match="one loss per pair"):
        LossMatrix(found.days, found.days[1:], found.loss, found.rows)
    with pytest.raises(PermanentError, match="days of the loss matrix has to ascend"):
        LossMatrix(found.days, found.days[::-1], found.loss, found.rows)


@pytest.mark.parametrize(
    "described",
    [
        WEEKLY,
        {**DRIFT, "evaluations": 2, "clear_below": 0.1},
        {"kind": "performance", "worse_by": 0.02},
        {"kind": "any_of", "policies": [DRIFT, {"kind": "freshness", "max_age_days": 15}]},
    ],
)
def test_replayed_decisions_equal_live_ones(described: dict[str, Any]) -> None:
    """A sensor that ticks day by day, its history kept as JSON, decides the same."""
    spec = RetrainingSpec.model_validate({"policy": described, "cooldown_days": 9})
    costs = COSTS.model_copy(update={"budget_per_month": 4.0})
    decide, found = policy(spec), matrix()
    days = found.days
    history, trained_until, version = History(), FIRST, 1
    live: list[Decision] = []
    for day in days:
        now = day_start(next_day(day), "Europe/Berlin")
        signals = signals_of(day, trained_until, trained_until).model_copy(
            update={"champion_version": version}
        )
        kept = Signals.model_validate_json(signals.model_dump_json())
        zoned = now.astimezone(ZoneInfo("Europe/Berlin"))
        decision = Decision.model_validate_json(
            decide(kept, history, costs, zoned).model_dump_json()
        )
        live.append(decision)
        history = after(history, decision)
        if decision.retrain:
            history = with_training(history, succeeded(history.trainings[-1], costs))
            trained_until, version = next_day(day), version + 1
    walked = replay(
        decide,
        days,
        signals_of,
        lambda _trained, _day: 0.5,
        first=FIRST,
        costs=costs,
        timezone="Europe/Berlin",
    )
    assert list(walked.decisions) == live
    assert walked.trainings == history.trainings
    assert len(walked.trainings) >= 2


def brute_force(found: LossMatrix, trainings: int, delay: int) -> float:
    """The best over every choice of models, by trying all of them."""
    n, best = len(found.days), np.inf
    for k in range(trainings + 1):
        for chosen in combinations(range(1, n), k):
            serving = np.zeros(n, int)
            for model in chosen:
                serving[model + delay :] = model
            loss = found.loss[serving, np.arange(n)]
            best = min(best, float(np.average(loss, weights=found.rows)))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(0, 3), st.integers(0, 2), st.integers(0, 10_000))
def test_hindsight_finds_the_best_of_all_choices(
    n: int, trainings: int, delay: int, seed: int
) -> None:
    """Equal to trying all, and its models reach its loss."""
    rng = np.random.default_rng(seed)
    days = tuple(FIRST + timedelta(days=k) for k in range(n))
    found = LossMatrix(days, days, rng.uniform(0.1, 0.9, (n, n)), rng.uniform(1, 9, n))
    best = hindsight(found, FIRST, trainings, delay)
    assert best.log_loss == pytest.approx(brute_force(found, trainings, delay))
    assert len(best.trained_until) <= trainings
    serving = np.zeros(n, int)
    for until in best.trained_until:
        serving[found.model(until) + delay :] = found.model(until)
    reached = np.average(found.loss[serving, np.arange(n)], weights=found.rows)
    assert best.log_loss == pytest.approx(reached)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([NEVER, WEEKLY, DRIFT]))
def test_no_policy_beats_hindsight(seed: int, described: dict[str, Any]) -> None:
    """Regret is never negative, and more trainings only help hindsight."""
    found = matrix(40, seed)
    assert regret(replayed(described, found), found) >= -1e-12
    losses = [hindsight(found, FIRST, k).log_loss for k in range(6)]
    assert losses == sorted(losses, reverse=True)


def test_hindsight_skips_models_that_were_not_scored() -> None:
    """A hole in the matrix is no perfect day; without any way through, it says so."""
    found = matrix(6)
    found.loss[2, 4] = np.nan
    assert date(2013, 3, 3) not in hindsight(found, FIRST, 1).trained_until
    found.loss[0, 1] = np.nan
    with pytest.raises(PermanentError, match="not scored on every day"):
        hindsight(found, FIRST, 0)
    with pytest.raises(PermanentError, match="has no loss on 2013-03-02"):
        regret(replayed(NEVER, found), found)
    with pytest.raises(PermanentError, match="give 0 or more"):
        hindsight(found, FIRST, -1)


def test_the_choice_is_made_on_the_first_half_and_reported_on_the_second() -> None:
    """Lowest loss there; what the second half shows changes nothing."""
    found = matrix()
    split = FIRST + timedelta(days=30)
    replays = {
        name: replayed(described, found)
        for name, described in {"never": NEVER, "weekly": WEEKLY, "drift": DRIFT}.items()
    }
    choice = choose(replays, split)
    assert choice.name == "weekly"
    assert [s.name for s in choice.standings] == ["weekly", "drift", "never"]
    weekly = choice.standings[0]
    assert (weekly.first.trainings, weekly.second.trainings) == (4, 4)
    assert weekly.first.cost + weekly.second.cost == replays["weekly"].cost
    whole = segment(replays["weekly"], FIRST, FIRST + timedelta(days=60))
    assert whole.log_loss == pytest.approx(replays["weekly"].log_loss)
    spoilt = matrix()
    spoilt.loss[:, 30:] = np.random.default_rng(0).uniform(0, 1, (60, 30))
    again = {
        name: replayed(described, spoilt)
        for name, described in {"never": NEVER, "weekly": WEEKLY, "drift": DRIFT}.items()
    }
    assert choose(again, split).name == "weekly"


def test_the_choice_keeps_the_budget() -> None:
    """The best that is affordable on the first half, or none."""
    found = matrix()
    replays = {"weekly": replayed(WEEKLY, found), "drift": replayed(DRIFT, found)}
    split = FIRST + timedelta(days=30)
    choice = choose(replays, split, budget=2.0)
    assert choice.name == "drift"
    assert [s.affordable for s in choice.standings] == [False, True]
    with pytest.raises(PermanentError, match="the cheapest, 'drift', costs 2"):
        choose(replays, split, budget=1.0)


def test_equally_good_policies_rank_by_cost_and_name() -> None:
    """The same replays give the same choice, in whatever order they come."""
    found = matrix(20)
    found.loss[:] = 0.5
    replays = {"b": replayed(NEVER, found), "a": replayed(NEVER, found)}
    replays["0"] = replayed(WEEKLY, found)
    choice = choose(replays, FIRST + timedelta(days=10))
    assert [s.name for s in choice.standings] == ["a", "b", "0"]


def test_replays_that_cannot_be_compared_are_refused() -> None:
    """Other days, no replay, a split outside, a half without a loss."""
    one, other = replayed(NEVER, matrix(20)), replayed(NEVER, matrix(10))
    middle = FIRST + timedelta(days=5)
    with pytest.raises(PermanentError, match="all over the same days"):
        choose({"a": one, "b": other}, middle)
    with pytest.raises(PermanentError, match="all over the same days"):
        choose({}, middle)
    with pytest.raises(PermanentError, match="does not split"):
        choose({"a": one}, FIRST)
    with pytest.raises(PermanentError, match="about different days"):
        regret(one, matrix(10))
    empty = matrix(10)
    empty.loss[:, 5:] = np.nan
    with pytest.raises(PermanentError, match="a half without any loss"):
        choose({"a": replayed(NEVER, empty)}, middle)


def test_decisions_are_taken_at_the_end_of_the_day() -> None:
    """In the use case's time zone, whatever its clocks do."""
    walked = replay(
        policy(RetrainingSpec()),
        [date(2013, 3, 9), date(2013, 3, 10)],
        signals_of,
        lambda _trained, _day: 0.5,
        first=FIRST,
        costs=COSTS,
        timezone="America/New_York",
    )
    assert [d.decided_at for d in walked.decisions] == [
        datetime(2013, 3, 10, 5, tzinfo=UTC),
        datetime(2013, 3, 11, 4, tzinfo=UTC),
    ]
