"""What holds a retraining back, and what trainings have cost.

Days and months are those of the time zone of ``at``, the time of the decision.
"""

from datetime import UTC, date, datetime, timedelta

from mlops_assets.core.retraining_records import (
    Costs,
    History,
    Pending,
    PutOff,
    Signals,
    Training,
)
from mlops_assets.core.retraining_spec import RetrainingSpec


def guards(
    spec: RetrainingSpec,
    signals: Signals,
    history: History,
    costs: Costs,
    pending: Pending,
    at: datetime,
    now: datetime,
) -> list[tuple[PutOff, str]]:
    """Each guard that holds ``pending`` back, with its reason."""
    held: list[tuple[PutOff, str]] = []
    trainings = history.trainings
    # In UTC: in one zone, the hour that clocks repeat compares by what they show.
    if now.astimezone(UTC) < at.astimezone(UTC):
        held.append(("clock", f"the clock has gone back from {at.isoformat()}: waits until then"))
    running = [t.run_key for t in trainings if runs(spec, t, at)]
    if running:
        held.append(("single_flight", f"training {running[0]} is in progress"))
    others = [day(t.started, at) for t in trainings if t.signal_id != pending.signal_id]
    free = max(others, default=date.min)
    if others and (at.date() - free).days < spec.cooldown_days:
        until = free + timedelta(days=spec.cooldown_days)
        held.append(("cooldown", f"in the cooldown after the training of {free}, until {until}"))
    started = sum(day(t.started, at) == at.date() for t in trainings)
    if started >= spec.attempts_per_day:
        held.append(("attempts", f"{started} trainings have started today, which is the cap"))
    if _over_budget(history, costs, at):
        held.append(
            (
                "budget",
                f"{spent(history, costs, at):g} {costs.currency} are spent in {at:%Y-%m} and a "
                f"training costs {costs.price_per_training:g}: more than the month's "
                f"{costs.budget_per_month:g}",
            )
        )
    labelled = signals.labelled_until
    new = 0 if labelled is None else max(0, (labelled - signals.trained_until).days)
    if new < spec.new_days:
        held.append(("labels", f"{new} labelled days are new to the champion, of {spec.new_days}"))
    if spec.wait_for_inputs and signals.stale_inputs:
        held.append(("stale_inputs", f"inputs are late: {', '.join(signals.stale_inputs)}"))
    return held


def free_from(spec: RetrainingSpec, history: History, costs: Costs, at: datetime) -> date | None:
    """The first day on which no cooldown, cap or budget holds a new signal back.

    None where one training alone costs more than a month's budget.
    """
    today, budget = at.date(), costs.budget_per_month
    if budget is not None and costs.price_per_training > budget * (1 + 1e-9):
        return None
    started = [day(training.started, at) for training in history.trainings]
    free = max([today, *(past + timedelta(days=spec.cooldown_days) for past in started)])
    if free == today and started.count(today) >= spec.attempts_per_day:
        free += timedelta(days=1)
    if _over_budget(history, costs, at) and (free.year, free.month) == (today.year, today.month):
        return (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return free


def _over_budget(history: History, costs: Costs, at: datetime) -> bool:
    """Whether another training costs more than the month of ``at`` has left."""
    if costs.budget_per_month is None:
        return False
    # A sum of prices may miss a budget that it meets by the last bit.
    most = costs.budget_per_month * (1 + 1e-9)
    return spent(history, costs, at) + costs.price_per_training > most


def spent(history: History, costs: Costs, at: datetime) -> float:
    """Cost of the trainings started in the month of ``at``; at today's price where unknown."""
    price = costs.price_per_training
    return sum(
        price if training.cost is None else training.cost
        for training in history.trainings
        if (moment := training.started.astimezone(at.tzinfo)).year == at.year
        and moment.month == at.month
    )


def failed(spec: RetrainingSpec, training: Training, at: datetime) -> bool:
    """Whether ``training`` has failed, or should have ended by ``at``."""
    if training.outcome != "running":
        return training.outcome == "failed"
    return at - training.started >= timedelta(hours=spec.lost_after_hours)


def runs(spec: RetrainingSpec, training: Training, at: datetime) -> bool:
    """Whether ``training`` is in progress."""
    return training.outcome == "running" and not failed(spec, training, at)


def day(moment: datetime, at: datetime) -> date:
    """The calendar day of ``moment``."""
    return moment.astimezone(at.tzinfo).date()
