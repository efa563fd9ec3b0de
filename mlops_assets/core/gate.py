"""The gate: rules on an evaluation, judged by a paired bootstrap over days.

Rows of one day share weather, strikes and holidays, so that they are no independent draws: an
interval from resampled rows is too narrow, and a challenger passes by the luck of a day. Days are
drawn instead, with replacement, and every rule sees the same draws (Davison and Hinkley 1997,
section 3.8, resampling whole clusters; percentile intervals as in Efron and Tibshirani 1993,
chapter 13).

A day enters through sums, never through its rows again, so that a draw of days is a product with
the vector of how often each day is drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import cast

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.metrics import (
    Numbers,
    Vector,
    bins_of_equal_mass,
    checked,
    log_losses,
    squared_errors,
    starts_of_runs,
)
from mlops_assets.core.records import RuleResult, Verdict
from mlops_assets.core.spec import GateRule, GateSpec, Metric

Matrix = npt.NDArray[np.float64]
Days = npt.NDArray[np.generic] | Sequence[date] | Sequence[str] | Sequence[int]

MINIMUM_DAYS = 5
"""Fewer days have fewer than 126 different resamples: an interval from them says nothing."""

# Resamples at a time: bounds memory to some megabytes, whatever the number of samples.
_CHUNK = 2048

_Metric = Callable[[Matrix], Vector]
"""A metric of resamples: from how often each day is drawn, of shape (samples, days), to (samples,).
"""


@dataclass(frozen=True)
class _Rows:
    """The holdout: labels and the code of each row's day, from 0."""

    labels: Vector
    day: npt.NDArray[np.intp]
    days: int


def judge(
    spec: GateSpec,
    labels: Numbers,
    days: Days,
    *,
    challenger: Numbers,
    base_rate: Numbers,
    champion: Numbers | None,
    samples: int,
    seed: int,
) -> tuple[Verdict, tuple[RuleResult, ...]]:
    """The verdict on ``challenger``'s scores, and each rule's result, in the rules' order.

    ``labels``, ``days`` and all scores have shape (rows,) and are about the same rows. A rule
    passes when its whole interval keeps the bounds, fails when the whole interval breaks them, and
    else is inconclusive. One failed rule fails the gate; else one inconclusive rule makes it
    inconclusive. A rule against a champion passes when there is none.

    A gain is the reference's metric less the challenger's for losses, and the other way round for
    roc_auc, where the base rate's is 0.5. The bins of ``ece`` are those of the whole holdout in
    every resample; being a sum of absolute values it is larger in resamples than in the holdout,
    which makes ``at_most`` rules on it a little strict. An interval is widened to the value where
    it leaves it out, so that no rule fails whose value keeps the bounds.

    The same arguments give the same result.

    Raises PermanentError for wrong or unequally long inputs.
    """
    y, scores = checked(labels, challenger)
    if len(days) != len(y):
        raise PermanentError(
            f"there are {len(days)} days and {len(y)} labels: give the day of each row"
        )
    found, code = np.unique(np.asarray(days), return_inverse=True)
    rows = _Rows(y, code.astype(np.intp), len(found))
    references = {"base_rate": checked(labels, base_rate)[1]}
    if champion is not None:
        references["champion"] = checked(labels, champion)[1]

    judged = {
        n: _of_rule(rule, rows, scores, references)
        for n, rule in enumerate(spec.rules)
        if rule.against is None or rule.against in references
    }
    whole = np.ones((1, rows.days))
    values = {n: float(metric(whole)[0]) for n, metric in judged.items()}
    draws = _resampled(judged, rows.days, samples, seed)
    results = tuple(
        _result(rule, values[n], draws[n], spec.confidence, rows.days)
        if n in judged
        else _no_champion(rule)
        for n, rule in enumerate(spec.rules)
    )
    return _overall([result.verdict for result in results]), results


def _overall(verdicts: Sequence[Verdict]) -> Verdict:
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


def _resampled(
    judged: Mapping[int, _Metric], days: int, samples: int, seed: int
) -> dict[int, Vector]:
    """Each metric over the same ``samples`` draws of ``days`` days, NaN where it is undefined."""
    random = np.random.default_rng(seed)
    even = np.full(days, 1 / days)
    values = {n: np.empty(samples) for n in judged}
    for start in range(0, samples, _CHUNK):
        size = min(_CHUNK, samples - start)
        counts = random.multinomial(days, even, size=size).astype(np.float64)
        for n, metric in judged.items():
            values[n][start : start + size] = metric(counts)
    return values


def _of_rule(
    rule: GateRule, rows: _Rows, challenger: Vector, references: dict[str, Vector]
) -> _Metric:
    """What ``rule`` is about: the challenger's metric, or its gain over a reference."""
    own = _METRICS[rule.metric](rows, challenger)
    if rule.against is None:
        return own
    if rule.metric == "roc_auc" and rule.against == "base_rate":
        return lambda counts: own(counts) - 0.5
    other = _METRICS[rule.metric](rows, references[rule.against])
    if rule.metric == "roc_auc":
        return lambda counts: own(counts) - other(counts)
    return lambda counts: other(counts) - own(counts)


def _mean(of_rows: Callable[[Vector, Vector], Vector]) -> Callable[[_Rows, Vector], _Metric]:
    """A metric that is the mean over rows of ``of_rows(labels, scores)``."""

    def prepare(rows: _Rows, scores: Vector) -> _Metric:
        sums = np.bincount(rows.day, weights=of_rows(rows.labels, scores), minlength=rows.days)
        n = np.bincount(rows.day, minlength=rows.days).astype(np.float64)
        return lambda counts: (counts @ sums) / (counts @ n)

    return prepare


def _ece(rows: _Rows, scores: Vector) -> _Metric:
    at = bins_of_equal_mass(scores)
    bins = int(at.max()) + 1
    gaps = np.bincount(
        rows.day * bins + at, weights=scores - rows.labels, minlength=rows.days * bins
    ).reshape(rows.days, bins)
    n = np.bincount(rows.day, minlength=rows.days).astype(np.float64)
    return lambda counts: np.abs(counts @ gaps).sum(axis=1) / (counts @ n)


def _roc_auc(rows: _Rows, scores: Vector) -> _Metric:
    """Area under the ROC curve, exact in every resample.

    Of the pairs of a positive of day d and a negative of day e, ``wins[d, e]`` are in the right
    order (ties count one half). A resample that draws the days ``c`` times has c·wins·c of them,
    of (c·positives)(c·negatives) pairs in all.
    """
    order = np.argsort(scores)
    run = np.cumsum(starts_of_runs(scores[order])) - 1
    day = rows.day[order]
    positive = rows.labels[order] == 1
    positives = np.bincount(day[positive], minlength=rows.days).astype(np.float64)
    negatives = np.bincount(day[~positive], minlength=rows.days).astype(np.float64)
    run_of_positive, day_of_positive = run[positive], day[positive]
    run_of_negative, day_of_negative = run[~positive], day[~positive]
    wins = np.empty((rows.days, rows.days))
    for e in range(rows.days):
        runs = run_of_negative[day_of_negative == e]
        below = np.searchsorted(runs, run_of_positive, side="left")
        not_above = np.searchsorted(runs, run_of_positive, side="right")
        wins[:, e] = np.bincount(
            day_of_positive, weights=(below + not_above) / 2, minlength=rows.days
        )

    def areas(counts: Matrix) -> Vector:
        won = ((counts @ wins) * counts).sum(axis=1)
        pairs = (counts @ positives) * (counts @ negatives)
        return np.divide(won, pairs, out=np.full(len(counts), np.nan), where=pairs > 0)

    return areas


_METRICS: dict[Metric, Callable[[_Rows, Vector], _Metric]] = {
    "log_loss": _mean(log_losses),
    "brier": _mean(squared_errors),
    "ece": _ece,
    "roc_auc": _roc_auc,
}


def _result(
    rule: GateRule, value: float, draws: Vector, confidence: float, days: int
) -> RuleResult:
    if np.isnan(value):
        raise PermanentError(
            f"{rule.metric} is undefined, the labels have one class only: judge a longer window or "
            "check how the label is computed"
        )
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        defined = np.array([value])
    tail = (1 - confidence) / 2
    low, high = cast("list[float]", np.quantile(defined, [tail, 1 - tail]).tolist())
    low, high = min(low, value), max(high, value)
    what = f"{_subject(rule)} is {_number(value)}"
    interval = (
        f"{100 * confidence:.4g}% interval {_number(low)} to {_number(high)} over {days} days"
    )
    verdict, comment = _verdict(rule, low, high)
    undefined = 1 - len(defined) / len(draws)
    if days < MINIMUM_DAYS:
        verdict = "inconclusive"
        comment = f"fewer than {MINIMUM_DAYS} days say too little: judge a longer holdout"
    elif undefined > 1 - confidence:
        verdict = "inconclusive"
        comment = (
            f"{undefined:.0%} of the resamples have one class only: judge a longer holdout, "
            "too few days have both outcomes"
        )
    return RuleResult(
        rule=_name(rule),
        value=value,
        low=low,
        high=high,
        verdict=verdict,
        reason=f"{what} ({interval}); {_bounds(rule)} is asked for: {comment}",
    )


def _verdict(rule: GateRule, low: float, high: float) -> tuple[Verdict, str]:
    """The verdict on an interval, and what it means in words."""
    least = -np.inf if rule.at_least is None else rule.at_least
    most = np.inf if rule.at_most is None else rule.at_most
    if least <= low and high <= most:
        return "pass", "the whole interval keeps it"
    if high < least or most < low:
        return "fail", "the whole interval breaks it"
    return "inconclusive", "the interval lies on both sides, more days may decide"


def _no_champion(rule: GateRule) -> RuleResult:
    return RuleResult(
        rule=_name(rule),
        value=0.0,
        low=0.0,
        high=0.0,
        verdict="pass",
        reason="there is no other champion to compare with",
    )


def _name(rule: GateRule) -> str:
    against = "" if rule.against is None else f" against {rule.against}"
    return f"{rule.metric}{against} {_bounds(rule)}"


def _subject(rule: GateRule) -> str:
    if rule.against is None:
        return rule.metric
    return f"the gain in {rule.metric} over the {rule.against.replace('_', ' ')}"


def _bounds(rule: GateRule) -> str:
    bounds = [
        f"{words} {_number(bound)}"
        for words, bound in (("at least", rule.at_least), ("at most", rule.at_most))
        if bound is not None
    ]
    return " and ".join(bounds)


def _number(value: float) -> str:
    """Four digits that count, without an exponent for everyday sizes."""
    return f"{value:.4g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.2e}"
