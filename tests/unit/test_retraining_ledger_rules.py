"""Which decisions are worth recording, what a cancelled training does, when one is possible."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mlops_assets.core.replay import succeeded
from mlops_assets.core.retraining import is_news, policy
from mlops_assets.core.retraining_guards import free_from
from mlops_assets.core.retraining_records import (
    Costs,
    Decision,
    DriftSignal,
    History,
    Signals,
    after,
    with_training,
)
from mlops_assets.core.retraining_spec import RetrainingSpec

ZONE = ZoneInfo("Europe/Berlin")
NOON = datetime(2024, 4, 12, 12, tzinfo=ZONE)
COSTS = Costs(price_per_training=2.0, currency="USD")


def _spec(**fields: Any) -> RetrainingSpec:
    return RetrainingSpec.model_validate(
        {"policy": {"kind": "drift", "above": 0.2}, "cooldown_days": 7, **fields}
    )


def _decide(
    history: History, now: datetime, drift: float, *, spec: RetrainingSpec | None = None, ago: int
) -> Decision:
    day = now.date() - timedelta(days=ago)
    signals = Signals(
        use_case="visits",
        day=day,
        champion_version=1,
        trained_until=date(2024, 4, 1),
        drift=DriftSignal(weighted=drift),
        labelled_until=day + timedelta(days=1),
    )
    return policy(spec or _spec())(signals, history, COSTS, now)


def _trained(outcome: str, now: datetime = NOON) -> History:
    history = after(History(), _decide(History(), now, 0.3, ago=1))
    end = {"outcome": outcome, "ended": now + timedelta(hours=1), "cost": 2.0}
    return with_training(history, history.trainings[0].model_copy(update=end))


def test_the_same_answer_is_recorded_once_a_day() -> None:
    """Midnight is the use case's own."""
    first = _decide(History(), NOON, 0.1, ago=1)
    assert is_news(None, first, NOON)
    history = after(History(), first)
    late = NOON.replace(hour=23, minute=59)
    assert not is_news(first, _decide(history, late, 0.1, ago=1), late)
    midnight = late + timedelta(minutes=1)
    assert midnight.astimezone(UTC).date() == NOON.date()
    assert is_news(first, _decide(history, midnight, 0.1, ago=2), midnight)


def test_other_numbers_are_recorded_at_once() -> None:
    """On the same day, a minute later."""
    first = _decide(History(), NOON, 0.1, ago=1)
    soon = NOON + timedelta(minutes=1)
    assert is_news(first, _decide(after(History(), first), soon, 0.15, ago=1), soon)


def test_a_signal_that_is_put_off_is_recorded_once_an_hour() -> None:
    """Also when the clock has gone back by more."""
    history = _trained("succeeded")
    next_day = NOON + timedelta(days=1)
    held = _decide(history, next_day, 0.3, ago=1)
    assert held.put_off == "cooldown"
    history = after(history, held)
    for minutes, news in ((59, False), (60, True), (-59, False), (-61, True)):
        then = next_day + timedelta(minutes=minutes)
        assert is_news(held, _decide(history, then, 0.3, ago=1), then) == news


def test_a_decision_to_retrain_is_always_recorded() -> None:
    """However soon after the last one."""
    first = _decide(History(), NOON, 0.1, ago=1)
    assert is_news(first, _decide(after(History(), first), NOON, 0.3, ago=1), NOON)


def test_a_cancelled_training_is_not_started_again() -> None:
    """It is said once; the next day's signal waits for the cooldown, and then asks."""
    history = _trained("cancelled")
    said = _decide(history, NOON + timedelta(hours=2), 0.3, ago=1)
    assert "signal 2024-04-11.v1 is given up: its training was cancelled" in said.reasons
    assert (said.retrain, said.state.pending) == (False, None)
    history = after(history, said)
    days: list[tuple[str | None, bool]] = []
    for n in range(1, 8):
        decision = _decide(history, NOON + timedelta(days=n), 0.3, ago=1)
        assert not any("cancelled" in reason for reason in decision.reasons)
        days.append((decision.put_off, decision.retrain))
        history = after(history, decision)
    assert days == [("cooldown", False)] * 6 + [(None, True)]


def test_a_cancelled_training_does_not_count_for_the_calendar() -> None:
    """Every 10 days asks again, since nothing was trained."""
    every = _spec(policy={"kind": "every", "days": 10}, cooldown_days=2)
    first = _decide(History(), NOON, 0, spec=every, ago=1)
    assert first.retrain
    history = after(History(), first)
    end = {"outcome": "cancelled", "ended": NOON, "cost": 0.0}
    history = with_training(history, history.trainings[0].model_copy(update=end))
    history = after(history, _decide(history, NOON, 0, spec=every, ago=1))
    later = _decide(history, NOON + timedelta(days=2), 0, spec=every, ago=1)
    assert later.retrain


@pytest.mark.parametrize(
    ("guards", "budget", "expected"),
    [
        ({"cooldown_days": 7}, None, date(2024, 4, 19)),
        ({"cooldown_days": 0, "attempts_per_day": 2}, None, date(2024, 4, 12)),
        ({"cooldown_days": 0, "attempts_per_day": 1}, None, date(2024, 4, 13)),
        ({"cooldown_days": 0}, 3.0, date(2024, 5, 1)),
        ({"cooldown_days": 0}, 4.0, date(2024, 4, 12)),
        ({"cooldown_days": 30}, 3.0, date(2024, 5, 12)),
        ({"cooldown_days": 0}, 1.0, None),
    ],
)
def test_the_next_possible_training_is_after_cooldown_cap_and_budget(
    guards: dict[str, int], budget: float | None, expected: date | None
) -> None:
    """And never, where one costs more than a month may."""
    history = after(History(), _decide(History(), NOON, 0.3, ago=1))
    history = with_training(history, succeeded(history.trainings[0], COSTS))
    costs = COSTS.model_copy(update={"budget_per_month": budget})
    assert free_from(_spec(**guards), history, costs, NOON) == expected
    assert free_from(_spec(**guards), History(), costs, NOON) == (
        None if expected is None else NOON.date()
    )
