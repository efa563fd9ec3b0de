"""Retraining policies: pure functions from signals, history, costs and time to a decision.

The triggers (:mod:`~mlops_assets.core.retraining_triggers`) raise a signal; guards hold it back.
A signal that is held back is pending: it is part of the decision's state and is looked at again
each time, until it starts a training, is answered by a champion that was trained on its day, or is
given up: after its last attempt, or when somebody cancels its training. Each of these ends is a
reason in a decision. Between a signal and its end no other one is raised.

Days are calendar days in the time zone of ``now``: triggers count the days of the signals, guards
those of the clock.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.retraining_guards import day, failed, guards, runs, spent
from mlops_assets.core.retraining_records import (
    Costs,
    Counters,
    Decision,
    History,
    Pending,
    Signals,
    State,
    Training,
)
from mlops_assets.core.retraining_spec import NeverSpec, RetrainingSpec
from mlops_assets.core.retraining_triggers import Evaluation, evaluate

Policy = Callable[[Signals, History, Costs, datetime], Decision]
"""Signals, history, costs and the aware time, in the use case's time zone, to the decision."""


def policy(spec: RetrainingSpec) -> Policy:
    """The policy that ``spec`` describes.

    It raises PermanentError for a time without a time zone and for a history of another use case.
    """
    # Part of every decision's identity, and the same for all of them.
    described = spec.model_dump_json()

    def decide(signals: Signals, history: History, costs: Costs, now: datetime) -> Decision:
        return _decide(spec, described, signals, history, costs, now)

    return decide


def is_news(last: Decision | None, decision: Decision, now: datetime) -> bool:
    """Whether ``decision`` belongs into the ledger after ``last``; ``now`` is when it was taken.

    The same answer to the same question is recorded once on a day, and once an hour while a signal
    is put off.
    """
    if last is None or decision.retrain or decision.inputs != last.inputs:
        return True
    before = last.decided_at.astimezone(now.tzinfo)
    if before.date() != now.date():
        return True
    # In UTC: in one zone, the hour that clocks repeat is not counted.
    passed = abs(decision.decided_at - last.decided_at)
    return decision.state.pending is not None and passed >= timedelta(hours=1)


def _decide(
    spec: RetrainingSpec,
    described: str,
    signals: Signals,
    history: History,
    costs: Costs,
    now: datetime,
) -> Decision:
    _check(signals, history, now)
    last = history.last.state if history.last else None
    # A clock that goes back must not make a cooldown or a month end twice.
    at = now if last is None else max(now, last.latest).astimezone(now.tzinfo)
    before = _counters_before(last, signals)
    found = evaluate(
        spec.policy, signals, _last_training(spec, history, at), at.date(), before or Counters()
    )
    reasons = list(found.reasons)
    numbers = dict(found.numbers)

    raised = last.raised if last else None
    pending = _carried(spec, history, at)
    closed = last.closed if last else None
    if pending is not None and (end := _end(spec, pending, signals, history, found)):
        reasons.append(f"signal {pending.signal_id} {end}")
        pending, closed = None, pending.signal_id
    elif pending is None and (cancelled := _cancelled(history)):
        reasons.append(f"signal {cancelled} is given up: its training was cancelled")
        closed = cancelled
    current = found.counters
    if before is None and last is not None:
        current = last.current
        if signals.day < last.day:
            reasons.append(f"day {signals.day} comes after day {last.day} was decided on: no count")
        elif pending is None:
            reasons.append(f"day {signals.day} has raised its signal")
    elif found.asks and pending is None:
        answering = _answering(spec, signals, history, at)
        if signals.trained_until > signals.day:
            reasons.append(f"the champion has seen day {signals.day}: no signal")
        elif answering is not None:
            reasons.append(f"training {answering.run_key}, which is in progress, answers it")
        else:
            current, raised = found.counters_raised, signals.day
            signal_id = f"{signals.day}.v{signals.champion_version}"
            pending = Pending(
                signal_id=signal_id, day=signals.day, attempt=1, reasons=found.reasons
            )

    held = [] if pending is None else guards(spec, signals, history, costs, pending, at, now)
    reasons += [reason for _, reason in held]
    numbers |= {
        "spent_this_month": spent(history, costs, at),
        "price": costs.price_per_training,
    }
    retrain = pending is not None and not held
    if pending is not None and signals.day != pending.day:
        reasons.append(f"signal {pending.signal_id}: {'; '.join(pending.reasons)}")
    kept = None if retrain else pending
    if last is not None and signals.day < last.day:
        state = last.model_copy(update={"latest": _utc(at), "pending": kept, "closed": closed})
    else:
        state = State(
            latest=_utc(at),
            day=signals.day,
            champion_version=signals.champion_version,
            before=_previous(last, signals),
            current=current,
            raised=raised,
            pending=kept,
            closed=closed,
        )
    return Decision(
        use_case=signals.use_case,
        decided_at=_utc(now),
        day=signals.day,
        champion_version=signals.champion_version,
        retrain=retrain,
        reasons=tuple(reasons),
        put_off=held[0][0] if held else None,
        signal_id=pending.signal_id if pending else None,
        signal_day=pending.day if pending else None,
        attempt=pending.attempt if pending else 0,
        numbers=numbers,
        inputs=_digest(described, signals, history, costs),
        state=state,
    )


def _check(signals: Signals, history: History, now: datetime) -> None:
    if now.utcoffset() is None:
        raise PermanentError(
            f"the time {now} has no time zone: give it in the one of {signals.use_case}"
        )
    entries = (*((history.last,) if history.last else ()), *history.trainings)
    for entry in entries:
        if entry.use_case != signals.use_case:
            raise PermanentError(
                f"the signals are of {signals.use_case} and the history has an entry of "
                f"{entry.use_case}: give the use case's own history"
            )


def _counters_before(last: State | None, signals: Signals) -> Counters | None:
    """The counters as of the day before the signals'; None where their day counts no more.

    A day is counted as it was last seen, unless it has raised a signal or a later one was counted.
    """
    if last is None:
        return Counters()
    if signals.day < last.day or last.raised == signals.day:
        return None
    return _previous(last, signals)


def _previous(last: State | None, signals: Signals) -> Counters:
    """The counters as of the last day before the newest one seen."""
    if last is None:
        return Counters()
    counters = last.current if signals.day > last.day else last.before
    if last.champion_version == signals.champion_version:
        return counters
    # What the old champion went through says nothing about the new one.
    return Counters(fired=counters.fired)


def _last_training(spec: RetrainingSpec, history: History, at: datetime) -> date | None:
    return max(
        (
            day(t.started, at)
            for t in history.trainings
            if not failed(spec, t, at) and t.outcome != "cancelled"
        ),
        default=None,
    )


def _cancelled(history: History) -> str | None:
    """The last signal, when its training was cancelled and no decision has said so yet."""
    own = [training for training in history.trainings if not training.manual]
    if history.last is None or not own or own[-1].outcome != "cancelled":
        return None
    state, signal = history.last.state, own[-1]
    new = state.raised == signal.signal_day and state.closed != signal.signal_id
    return signal.signal_id if new else None


def _answering(
    spec: RetrainingSpec, signals: Signals, history: History, at: datetime
) -> Training | None:
    """A training in progress that a signal about the same champion has started."""
    for training in history.trainings:
        same = training.champion_version == signals.champion_version and not training.manual
        if same and runs(spec, training, at):
            return training
    return None


def _carried(spec: RetrainingSpec, history: History, at: datetime) -> Pending | None:
    """What earlier decisions have left to do: a signal put off, or the last one's next attempt."""
    if history.last is None or history.last.state.pending is not None:
        return history.last.state.pending if history.last else None
    own = [training for training in history.trainings if not training.manual]
    if not own or not failed(spec, own[-1], at) or own[-1].signal_id == history.last.state.closed:
        return None
    last = own[-1]
    how = "failed" if last.outcome == "failed" else "has not ended in time"
    return Pending(
        signal_id=last.signal_id,
        day=last.signal_day,
        attempt=last.attempt + 1,
        reasons=(f"attempt {last.attempt} {how}",),
    )


def _end(
    spec: RetrainingSpec,
    pending: Pending,
    signals: Signals,
    history: History,
    found: Evaluation,
) -> str | None:
    """What ends ``pending`` without another training, if anything does."""
    if isinstance(spec.policy, NeverSpec):
        return "is dropped: the policy is never to retrain"
    if signals.trained_until > pending.day:
        return f"is answered: the champion is trained until {signals.trained_until}, on its day too"
    if any(
        t.signal_id == pending.signal_id and t.outcome == "succeeded" for t in history.trainings
    ):
        return "is answered: a training that counted as lost has ended"
    if pending.attempt > spec.attempts_per_signal:
        return f"is given up: {pending.reasons[0]}, which was the last"
    late = history.last is not None and signals.day < history.last.state.day
    if found.holds is False and not late and not spec.keep_put_off:
        return "is dropped: the policy does not hold any more"
    return None


def _digest(described: str, signals: Signals, history: History, costs: Costs) -> str:
    # The last decision is left out, so that the same evaluation made twice is known as one.
    trainings = [f"{t.run_key} {t.outcome} {t.cost}" for t in history.trainings]
    text = "\n".join([described, signals.model_dump_json(), costs.model_dump_json(), *trainings])
    return hashlib.sha256(text.encode()).hexdigest()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
