"""Replayed decisions equal the live sensor's on the same history."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from lifecycle_support import places_under
from retraining_support import Live, drift_record, performance_record, retrained

from mlops_assets.adapters.prices import costs_of
from mlops_assets.core.replay import next_day, replay
from mlops_assets.core.retraining import policy
from mlops_assets.core.retraining_records import History, Signals
from mlops_assets.core.signals import signals_of
from mlops_assets.core.windows import day_start

FIRST = date(2024, 3, 22)
TRAINED = date(2024, 3, 19)
DAYS = [FIRST + timedelta(days=n) for n in range(18)]
"""With the hour that clocks skip, and the end of a month."""

DRIFT = {"kind": "drift", "above": 0.15, "evaluations": 2, "clear_below": 0.1}
LOSS = {"kind": "performance", "worse_by": 0.02}


def _drift(day: date, trained_until: date) -> float:
    """Grows with the champion's age, noisily."""
    noise = float(np.random.default_rng(day.toordinal()).uniform(-0.05, 0.05))
    return min(1.0, max(0.0, 0.03 * (day - trained_until).days + noise))


def _loss(day: date, trained_until: date) -> float:
    noise = float(np.random.default_rng([day.toordinal(), 1]).uniform(-0.01, 0.01))
    return 0.5 + 0.006 * (day - trained_until).days + noise


@pytest.mark.parametrize(
    ("described", "guards", "lag", "least"),
    [
        ({"kind": "every", "days": 6}, {"cooldown_days": 2}, 0, 0),
        (DRIFT, {"cooldown_days": 4}, 0, 0),
        (LOSS, {"cooldown_days": 1, "budget_per_month": 0.07}, 2, 8),
        (
            {"kind": "freshness", "max_age_days": 4},
            {"cooldown_days": 7, "keep_put_off": False},
            1,
            0,
        ),
        (
            {"kind": "any_of", "policies": [LOSS, DRIFT, {"kind": "every", "days": 9}]},
            {"cooldown_days": 3, "budget_per_month": 0.07},
            0,
            0,
        ),
    ],
    ids=["every", "drift", "performance", "freshness", "any_of"],
)
def test_replayed_decisions_equal_the_live_ones(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    described: dict[str, Any],
    guards: dict[str, Any],
    lag: int,
    least: int,
) -> None:
    """All of them, with their reasons, numbers and states, where labels come ``lag`` days late and
    the gate refuses a challenger with ``least`` new days or fewer.
    """
    spec = retrained(described, **guards)
    monkeypatch.setenv("MLOPS_CLOCK", str(tmp_path / "clock.json"))

    def labelled(day: date) -> date:
        return next_day(day) - timedelta(days=lag)

    def promotes(champion: date, challenger: date) -> bool:
        return (challenger - champion).days > least

    def signals(day: date, trained_until: date, served_from: date) -> Signals:
        del served_from
        drift = drift_record(day, 1, _drift(day, trained_until))
        loss = _loss(day, trained_until)
        found = signals_of(
            "visits", drift, performance_record(day, 1, labelled(day), loss), 1, trained_until
        )
        assert found is not None
        return found

    costs = costs_of(spec, History())
    replayed = replay(
        policy(spec.retraining),
        DAYS,
        signals,
        lambda _trained, _day: 0.5,
        first=TRAINED,
        costs=costs,
        timezone=spec.timezone,
        window_end=labelled,
        promotes=promotes,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        live = Live(spec, places_under(tmp_path), instance, tmp_path / "clock.json")
        trained, version = TRAINED, 1
        live.champion(version, trained)
        for day in DAYS:
            live.at(day_start(next_day(day), spec.timezone))
            live.tells(
                day,
                _drift(day, trained),
                version=version,
                labelled_until=labelled(day),
                loss=_loss(day, trained),
            )
            for request in live.tick().run_requests:
                live.run(request, "success", seconds=600)
                config = request.run_config["ops"]["visits__training_set"]["config"]
                challenger = date.fromisoformat(config["end"])
                if promotes(trained, challenger):
                    trained, version = challenger, version + 1
                    live.champion(version, trained)
        taken = live.book.decisions
    assert [d.retrain for d in taken] == [d.retrain for d in replayed.decisions]
    assert taken == replayed.decisions
    assert any(d.retrain for d in taken)
