"""What a retraining policy is given and what it answers: immutable documents, stored as JSON."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from mlops_assets.core.records import Record

PutOff = Literal[
    "clock", "single_flight", "cooldown", "attempts", "budget", "labels", "stale_inputs"
]
"""What holds a training back, in the order in which it is named."""


class DriftSignal(Record):
    """Current against training data: one number, weighted by importance, and what drifted."""

    weighted: float = Field(ge=0)
    drifted: tuple[str, ...] = ()


class PerformanceSignal(Record):
    """Log-loss (nats) over a recent window, with an interval, and on the model's own holdout."""

    loss: float
    low: float
    high: float
    reference: float

    @model_validator(mode="after")
    def _ordered(self) -> "PerformanceSignal":
        if not self.low <= self.loss <= self.high:
            raise ValueError(
                f"the interval {self.low} to {self.high} leaves out the loss {self.loss}"
            )
        return self


class Signals(Record):
    """What is known about a use case's champion. None stands for what is not known."""

    use_case: str
    day: date
    """The newest day that the signals are about, in the use case's time zone."""
    champion_version: int
    trained_until: date
    """First day after the champion's training window."""
    drift: DriftSignal | None = None
    realized: PerformanceSignal | None = None
    estimated: PerformanceSignal | None = None
    labelled_until: date | None = None
    """First day after the newest one with labels."""
    stale_inputs: tuple[str, ...] = ()
    """Assets that a training reads and that fail their freshness policy."""


class Costs(Record):
    """What one training costs and what a calendar month may cost, both in ``currency``."""

    price_per_training: float = Field(ge=0)
    currency: str
    budget_per_month: float | None = None


class Training(Record):
    """One attempt to answer a signal; identified by use case, signal and attempt."""

    use_case: str
    signal_id: str
    attempt: int
    signal_day: date
    champion_version: int
    """The champion when it started."""
    started: AwareDatetime
    ended: AwareDatetime | None = None
    outcome: Literal["running", "succeeded", "failed", "cancelled"] = "running"
    """``cancelled``: somebody stopped it on purpose, so that nobody starts it again."""
    seconds: float | None = None
    """How long its runs took, known when it ended."""
    cost: float | None = None
    """Known when it ended, in the price table's currency."""
    dagster_run_id: str = ""
    manual: bool = False
    """Started by a person: it holds others back, and nobody else retries it."""

    @property
    def run_key(self) -> str:
        """Unique to this attempt; a run requested twice under it starts once."""
        return f"{self.use_case}:{self.signal_id}:{self.attempt}"


class Pending(Record):
    """A signal that has not started its training yet."""

    signal_id: str
    day: date
    attempt: int
    reasons: tuple[str, ...]


class Counters(Record):
    """The memory of hysteresis, by the place of a policy in the spec."""

    streaks: dict[str, int] = Field(default={})
    """Evaluations for which it has held."""
    fired: tuple[str, ...] = ()
    """Those that have asked and have not cleared since."""


class State(Record):
    """What a decision has to know of those before it."""

    latest: AwareDatetime
    """The latest time of any decision so far."""
    day: date
    champion_version: int
    before: Counters
    """As of the last day before ``day``: a day that is evaluated again counts once."""
    current: Counters
    raised: date | None
    """The day of the last signal."""
    pending: Pending | None
    closed: str | None = None
    """The last signal that ended without a training of its own that succeeded: no more retries."""


class Decision(Record):
    """Whether to retrain, why, and the numbers that it rests on."""

    use_case: str
    decided_at: AwareDatetime
    day: date
    champion_version: int
    retrain: bool
    reasons: tuple[str, ...]
    put_off: PutOff | None
    """What holds back the signal, when there is one that does not start a training now."""
    signal_id: str | None
    signal_day: date | None
    attempt: int
    """Which training of the signal, from 1; 0 without a signal."""
    numbers: dict[str, float]
    inputs: str
    """SHA-256 (hexadecimal) of policy, signals, costs and trainings so far."""
    state: State

    @property
    def run_key(self) -> str:
        """Use case, signal and attempt: a run requested twice under it starts once."""
        return f"{self.use_case}:{self.signal_id}:{self.attempt}"


@dataclass(frozen=True)
class History:
    """The last decision about a use case, and every training, in the order of recording."""

    last: Decision | None = None
    trainings: tuple[Training, ...] = ()


def after(history: History, decision: Decision) -> History:
    """``history`` once ``decision`` is taken: a training runs from then on if it says so."""
    taken = replace(history, last=decision)
    if not decision.retrain or decision.signal_id is None or decision.signal_day is None:
        return taken
    training = Training(
        use_case=decision.use_case,
        signal_id=decision.signal_id,
        attempt=decision.attempt,
        signal_day=decision.signal_day,
        champion_version=decision.champion_version,
        started=decision.decided_at,
    )
    return with_training(taken, training)


def with_training(history: History, training: Training) -> History:
    """``history`` with what is known of ``training`` now; one that ended stays ended."""
    found = list(history.trainings)
    for n, known in enumerate(found):
        if known.run_key == training.run_key:
            if known.outcome == "running" or training.outcome != "running":
                found[n] = training
            break
    else:
        found.append(training)
    return replace(history, trainings=tuple(found))


def outstanding(history: History) -> tuple[Training, ...]:
    """Trainings that were decided and have not ended: request their runs, again if need be.

    A process that dies between a decision and its run leaves one here; the run key makes a second
    request harmless.
    """
    return tuple(t for t in history.trainings if t.outcome == "running" and not t.manual)
