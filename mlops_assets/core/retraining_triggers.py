"""What asks for a retraining: each policy's reading of the signals, and its hysteresis.

A reading holds, does not hold, or is unknown. An unknown one neither counts nor resets: labels that
come late do not make a decline look over. Combinations follow Kleene's three-valued logic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from mlops_assets.core.retraining_records import Counters, Signals
from mlops_assets.core.retraining_spec import (
    AllOfSpec,
    AnyOfSpec,
    DriftSpec,
    EverySpec,
    FreshnessSpec,
    LeafSpec,
    PerformanceSpec,
    PolicySpec,
    leaves,
)


@dataclass(frozen=True)
class Reading:
    """One policy's reading; ``cleared`` says whether it may ask again after it has asked."""

    holds: bool | None
    cleared: bool
    reason: str
    numbers: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Evaluation:
    """What a whole policy says about a day.

    ``asks`` is ``holds`` after hysteresis; ``counters`` are those after this day when no signal is
    raised, and ``counters_raised`` those when one is.
    """

    asks: bool
    holds: bool | None
    reasons: tuple[str, ...]
    numbers: dict[str, float]
    counters: Counters
    counters_raised: Counters


def evaluate(
    policy: PolicySpec,
    signals: Signals,
    last_training: date | None,
    today: date,
    counters: Counters,
) -> Evaluation:
    """``policy`` on ``signals``, given the ``counters`` as of the day before.

    ``last_training`` is the day on which the last training that did not fail started.
    """
    holds: dict[str, bool | None] = {}
    asks: dict[str, bool | None] = {}
    reasons: list[str] = []
    numbers: dict[str, float] = {}
    streaks: dict[str, int] = {}
    fired: list[str] = []
    clearing: list[str] = []
    for path, leaf in leaves(policy):
        reading = _read(leaf, signals, last_training, today)
        held = counters.streaks.get(path, 0)
        if reading.holds is not None:
            held = held + 1 if reading.holds else 0
        needed = leaf.evaluations if isinstance(leaf, DriftSpec | PerformanceSpec) else 1
        waits = path in counters.fired and not reading.cleared
        holds[path] = reading.holds
        asks[path] = reading.holds is True and held >= needed and not waits
        reason = reading.reason
        if reading.holds and needed > 1:
            reason += f", for evaluation {held} of {needed}"
        if reading.holds and waits:
            reason += ", and has not fallen below its lower level since it last asked"
        reasons.append(reason)
        numbers.update(reading.numbers)
        if held:
            streaks[path] = held
        if waits:
            fired.append(path)
        if asks[path] and _clears(leaf):
            clearing.append(path)
    return Evaluation(
        asks=_combined(policy, asks) is True,
        holds=_combined(policy, holds),
        reasons=tuple(reasons),
        numbers=numbers,
        counters=Counters(streaks=streaks, fired=tuple(fired)),
        # A training answers whatever was counting towards it.
        counters_raised=Counters(fired=(*fired, *clearing)),
    )


def _clears(leaf: LeafSpec) -> bool:
    return isinstance(leaf, DriftSpec | PerformanceSpec) and leaf.clear_below is not None


def _combined(
    policy: PolicySpec, of: Mapping[str, bool | None], path: str = "policy"
) -> bool | None:
    if not isinstance(policy, AnyOfSpec | AllOfSpec):
        return of[path]
    parts = [_combined(part, of, f"{path}.policies.{n}") for n, part in enumerate(policy.policies)]
    decisive = isinstance(policy, AnyOfSpec)
    if decisive in parts:
        return decisive
    return None if None in parts else not decisive


def _read(leaf: LeafSpec, signals: Signals, last_training: date | None, today: date) -> Reading:
    if isinstance(leaf, DriftSpec):
        return _read_drift(leaf, signals)
    if isinstance(leaf, PerformanceSpec):
        return _read_performance(leaf, signals)
    if isinstance(leaf, EverySpec):
        since = max(last_training or signals.trained_until, signals.trained_until)
        days = (today - since).days
        due = days >= leaf.days
        reason = f"{days} days since the last training, {_says(due)} every {leaf.days} days"
        return Reading(due, True, reason, {"days_since_training": float(days)})
    if isinstance(leaf, FreshnessSpec):
        age = (today - signals.trained_until).days
        old = age > leaf.max_age_days
        reason = (
            f"the champion is {age} days old, {'more' if old else 'not more'} than "
            f"{leaf.max_age_days}"
        )
        return Reading(old, True, reason, {"age_days": float(age)})
    return Reading(False, True, "the policy is never to retrain")


def _says(due: bool) -> str:
    return "due" if due else "not due yet for"


def _read_drift(leaf: DriftSpec, signals: Signals) -> Reading:
    if signals.drift is None:
        return Reading(None, False, "drift is not known")
    weighted = signals.drift.weighted
    above = weighted > leaf.above
    reason = f"drift {weighted:.4g} is {'above' if above else 'not above'} {leaf.above:g}"
    if signals.drift.drifted:
        named = ", ".join(signals.drift.drifted[:5])
        more = len(signals.drift.drifted) - 5
        reason += f" (drifted: {named}{f' and {more} more' if more > 0 else ''})"
    cleared = leaf.clear_below is None or weighted < leaf.clear_below
    numbers = {"drift": weighted, "drifted_features": float(len(signals.drift.drifted))}
    return Reading(above, cleared, reason, numbers)


def _read_performance(leaf: PerformanceSpec, signals: Signals) -> Reading:
    found = signals.realized if leaf.source == "realized" else signals.estimated
    if found is None:
        return Reading(None, False, f"{leaf.source} performance is not known")
    judged = found.low if leaf.judged_by == "interval" else found.loss
    excess = judged - found.reference
    worse = excess >= leaf.worse_by
    reason = (
        f"{leaf.source} log-loss {found.loss:.4g} (from {found.low:.4g} to {found.high:.4g}) "
        f"is {'worse' if worse else 'not worse'} than the holdout's {found.reference:.4g} "
        f"by {leaf.worse_by:g}, judged by the {leaf.judged_by}"
    )
    cleared = leaf.clear_below is None or excess < leaf.clear_below
    numbers = {
        f"{leaf.source}_loss": found.loss,
        f"{leaf.source}_low": found.low,
        f"{leaf.source}_high": found.high,
        "reference_loss": found.reference,
    }
    return Reading(worse, cleared, reason, numbers)
