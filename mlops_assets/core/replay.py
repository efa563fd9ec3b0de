"""A year of retraining decisions by look-up, and what could have been decided at best.

Every model that a policy could have trained has been scored on every day once
(:class:`LossMatrix`); a policy's year is then a walk through that matrix, decided by the same
function as live.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.retraining import Policy
from mlops_assets.core.retraining_records import (
    Costs,
    Decision,
    History,
    Signals,
    Training,
    after,
    with_training,
)
from mlops_assets.core.windows import day_start

Vector = npt.NDArray[np.float64]

SignalsOf = Callable[[date, date, date], Signals]
"""From a day, the end of the champion's training window, and the first day on which it served, to
the signals after that day: a champion is judged by the days that it answered itself."""

Promotes = Callable[[date, date], bool]
"""From the ends of the champion's and the challenger's training windows to whether the gate lets
the challenger take over."""

LossOf = Callable[[date, date], float]
"""From the end of a training window and a scoring day to the log-loss; NaN where no row has one."""


@dataclass(frozen=True)
class LossMatrix:
    """Log-loss of each model on each day.

    ``trained_until`` (T ascending first days after a training window), ``days`` (S ascending
    scoring days), ``loss`` of shape (T, S) in nats, NaN where a day has no rows or a model was not
    scored, and ``rows`` of shape (S,), labelled rows per day.
    """

    trained_until: tuple[date, ...]
    days: tuple[date, ...]
    loss: Vector
    rows: Vector

    def __post_init__(self) -> None:
        shape = (len(self.trained_until), len(self.days))
        if self.loss.shape != shape or self.rows.shape != shape[1:]:
            raise PermanentError(
                f"the loss matrix has shape {self.loss.shape} and {self.rows.shape} rows for "
                f"{shape[0]} models and {shape[1]} days: give one loss per pair, one count per day"
            )
        for name, found in (("trained_until", self.trained_until), ("days", self.days)):
            if list(found) != sorted(set(found)):
                raise PermanentError(f"{name} of the loss matrix has to ascend, each day once")

    def loss_of(self, trained_until: date, day: date) -> float:
        """The loss of one model on one day. Raises PermanentError when it is not in the matrix."""
        return float(self.loss[self.model(trained_until), _place(self.days, day, "day")])

    def model(self, trained_until: date) -> int:
        """The row of the model trained until then. Raises PermanentError for an unknown one."""
        return _place(self.trained_until, trained_until, "model trained until")

    def newest(self, until: date) -> date:
        """The latest training window's end that is no later than ``until``."""
        place = bisect_right(self.trained_until, until)
        if place == 0:
            raise PermanentError(
                f"the loss matrix has no model trained until {until} or before: train an earlier "
                "one"
            )
        return self.trained_until[place - 1]


@dataclass(frozen=True)
class Replay:
    """A policy's walk over ``days``, one entry a day in each of the daily fields.

    ``loss`` is the log-loss (nats) of the model that served on the day, of shape (days,), ``rows``
    how many rows it is a mean of; ``decisions`` are taken after the day. ``promoted`` are the
    windows' ends of the models that took over, in order.
    """

    days: tuple[date, ...]
    loss: Vector
    rows: Vector
    trained_until: tuple[date, ...]
    decisions: tuple[Decision, ...]
    trainings: tuple[Training, ...]
    promoted: tuple[date, ...]
    cost: float
    """In the costs' currency."""

    @property
    def log_loss(self) -> float:
        """The mean over all rows; NaN without any."""
        return mean_loss(self.loss, self.rows)


def always(champion: date, challenger: date) -> bool:
    """A gate that every challenger passes."""
    del champion, challenger
    return True


def mean_loss(loss: Vector, rows: Vector) -> float:
    """The mean of daily means (shape (days,)) over rows, leaving out days without a loss."""
    counted = np.where(np.isnan(loss), 0.0, rows)
    total = counted.sum()
    return float(np.nansum(loss * counted) / total) if total else float("nan")


def next_day(day: date) -> date:
    """The end of a training window whose last day is ``day``."""
    return day + timedelta(days=1)


def replay(
    policy: Policy,
    days: Sequence[date],
    signals_of: SignalsOf,
    loss_of: LossOf,
    *,
    first: date,
    costs: Costs,
    rows: Vector | None = None,
    timezone: str = "UTC",
    window_end: Callable[[date], date] = next_day,
    promotes: Promotes = always,
) -> Replay:
    """What ``policy`` would have done over ``days`` (ascending), and how its models scored.

    ``first`` is the end of the first champion's training window; it serves from the first of the
    days. On each day the champion is scored, then the policy decides, at the midnight that ends the
    day in ``timezone``. A training started there ends there, at the price of ``costs``; its model,
    trained until ``window_end(day)``, serves from the next day on if it ``promotes``. Champions are
    version 1, 2, …; the version in the signals is replaced by that. ``rows`` (shape (days,)) weighs
    the days; default: all the same.

    Raises PermanentError when the days do not ascend.
    """
    if list(days) != sorted(set(days)):
        raise PermanentError("the days of a replay have to ascend, each once: sort them")
    zone = ZoneInfo(timezone)
    history, trained_until, version = History(), first, 1
    served_from = days[0] if days else first
    loss: list[float] = []
    served: list[date] = []
    promoted: list[date] = []
    decisions: list[Decision] = []
    for day in days:
        loss.append(loss_of(trained_until, day))
        served.append(trained_until)
        signals = signals_of(day, trained_until, served_from)
        if signals.champion_version != version:
            signals = signals.model_copy(update={"champion_version": version})
        now = day_start(next_day(day), timezone).astimezone(zone)
        decision = policy(signals, history, costs, now)
        decisions.append(decision)
        history = after(history, decision)
        if decision.retrain:
            history = with_training(history, succeeded(history.trainings[-1], costs))
            challenger = window_end(day)
            if promotes(trained_until, challenger):
                trained_until, version = challenger, version + 1
                served_from = next_day(day)
                promoted.append(challenger)
    return Replay(
        days=tuple(days),
        loss=np.array(loss, np.float64),
        rows=np.ones(len(days)) if rows is None else rows,
        trained_until=tuple(served),
        decisions=tuple(decisions),
        trainings=history.trainings,
        promoted=tuple(promoted),
        cost=sum(training.cost or 0.0 for training in history.trainings),
    )


def succeeded(training: Training, costs: Costs) -> Training:
    """``training`` as it ends in a replay: at once, at its price."""
    return training.model_copy(
        update={
            "ended": training.started,
            "outcome": "succeeded",
            "cost": costs.price_per_training,
        }
    )


@dataclass(frozen=True)
class Segment:
    """A part of a replay: mean log-loss (nats), trainings started in it and their cost."""

    first: date
    end: date
    log_loss: float
    trainings: int
    cost: float


def segment(found: Replay, first: date, end: date) -> Segment:
    """The part of ``found`` on days from ``first`` to before ``end``."""
    inside = np.array([first <= day < end for day in found.days], bool)
    started = [
        decision.numbers["price"]
        for decision in found.decisions
        if decision.retrain and first <= decision.day < end
    ]
    loss = mean_loss(found.loss[inside], found.rows[inside])
    return Segment(first, end, loss, len(started), sum(started))


@dataclass(frozen=True)
class Standing:
    """One policy on both halves; ``affordable`` says whether the first kept the budget."""

    name: str
    first: Segment
    second: Segment
    affordable: bool


@dataclass(frozen=True)
class Choice:
    """The policy chosen on the first half, and how all of them did, best first half first."""

    name: str
    budget: float | None
    standings: tuple[Standing, ...]


def choose(replays: Mapping[str, Replay], split: date, budget: float | None = None) -> Choice:
    """The policy with the lowest log-loss before ``split`` among those that cost at most
    ``budget`` there, with what each did from ``split`` on.

    Each replay is one walk over all days: a policy enters the second half with the model and the
    history that it made in the first, as it would live. Ties go to the cheaper, then to the name.

    Raises PermanentError for replays of different days, a half without loss, or when none keeps
    the budget.
    """
    if not replays or len({found.days for found in replays.values()}) != 1:
        raise PermanentError("give replays of one or more policies, all over the same days")
    days = next(iter(replays.values())).days
    if not days or not days[0] < split <= days[-1]:
        raise PermanentError(f"{split} does not split the replayed days; choose one inside")
    standings: list[Standing] = []
    for name, found in replays.items():
        begun, ended = segment(found, days[0], split), segment(found, split, next_day(days[-1]))
        if np.isnan(begun.log_loss) or np.isnan(ended.log_loss):
            raise PermanentError(f"policy {name!r} has a half without any loss; move {split}")
        affordable = budget is None or begun.cost <= budget * (1 + 1e-9)
        standings.append(Standing(name, begun, ended, affordable))
    standings.sort(key=lambda s: (s.first.log_loss, s.first.cost, s.name))
    for standing in standings:
        if standing.affordable:
            return Choice(standing.name, budget, tuple(standings))
    cheapest = min(standings, key=lambda s: s.first.cost)
    raise PermanentError(
        f"no policy keeps the budget of {budget:g} before {split}: the cheapest, "
        f"{cheapest.name!r}, costs {cheapest.first.cost:g}; add 'never' or raise the budget"
    )


def _place(known: tuple[date, ...], wanted: date, what: str) -> int:
    place = bisect_left(known, wanted)
    if place == len(known) or known[place] != wanted:
        raise PermanentError(f"the loss matrix has no {what} {wanted}; score it first")
    return place
