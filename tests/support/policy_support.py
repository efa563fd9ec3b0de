"""A use case lived through by its retraining policy, tick by tick."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from mlops_assets.core.retraining import policy
from mlops_assets.core.retraining_records import (
    Costs,
    Decision,
    History,
    Signals,
    after,
    with_training,
)
from mlops_assets.core.retraining_spec import RetrainingSpec

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
