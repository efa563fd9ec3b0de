"""Outcomes that nobody would expect: labels flipped, shifted, or joined with the wrong rows."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from mlops_assets.core.companions import Vector, fit
from mlops_assets.core.day_series import DaySeries
from mlops_assets.core.day_shifts import FIT_DAYS
from mlops_assets.core.performance_days import DayStatistics

LATEST = 2
"""Days that outcomes may be behind to be judged still."""

_LEAST_DAYS = 21
_LEAST_ROWS = 100  # fewer rank by chance
_SUDDEN, _WORST = 8.0, 2.0
_DOUBTFUL = 3.0
_FLOOR = 0.005  # share of positives: errors below it are taken for this
_RANKED = 28  # days of usual ranking
_LEFT_OF_ONE, _LEFT_OF_THREE = 0.1, 0.35
_ERRORS = 2.0  # standard errors by which scores may rank better than it looks


def label_finding(
    day: date,
    series: DaySeries,
    outcomes: Sequence[DayStatistics],
    broken: Collection[str] = (),
) -> tuple[date, str] | None:
    """The newest day with outcomes, and what is wrong with them; None where nothing is.

    - The share of positives is not what the features of the day, and of the next one where there
      is one, tell: a storm raises both. Features that are ``broken`` on the newest day tell
      nothing.
    - Scores rank labels hardly better than chance, on the day or over three days, where they did
      in the weeks before.
    """
    known = _by_day(outcomes, day)
    if not known:
        return None
    latest = max(known)
    if latest < day - timedelta(days=LATEST) or known[latest].rows < _LEAST_ROWS:
        return None
    share = _share(latest, known, series, broken)
    told = [_ranking(latest, known, doubt=share is not None and share.times >= _DOUBTFUL)]
    if share is not None and share.times >= _SUDDEN and share.worst >= _WORST:
        told.append(share.text)
    reasons = "; ".join(reason for reason in told if reason)
    return (latest, f"Outcomes of {latest}: {reasons}.") if reasons else None


class _Day(NamedTuple):
    rows: int
    share: float
    """Of positives."""
    auc: float
    """ROC AUC; NaN with one class."""
    error: float
    """Standard error of the AUC (Hanley and McNeil 1982): of few positives it says little."""


class _Share(NamedTuple):
    times: float
    """How many times the usual error the share of positives is off, and the worst before."""
    worst: float
    text: str


def _by_day(outcomes: Sequence[DayStatistics], day: date) -> dict[date, _Day]:
    of_day: dict[date, list[DayStatistics]] = {}
    for item in outcomes:
        if item.kind == "realized" and item.day <= day and item.rows:
            of_day.setdefault(item.day, []).append(item)
    return {each: _summary(items) for each, items in of_day.items()}


def _summary(items: Sequence[DayStatistics]) -> _Day:
    bins: dict[int, tuple[float, float]] = {}
    for item in items:
        for place, rows, of_rows in zip(item.bins, item.bin_rows, item.bin_positives, strict=True):
            before = bins.get(place, (0.0, 0.0))
            bins[place] = before[0] + of_rows, before[1] + rows - of_rows
    positives, negatives = np.array([bins[place] for place in sorted(bins)]).T
    below = np.cumsum(negatives) - negatives
    ones, zeros = float(positives.sum()), float(negatives.sum())
    share = ones / (ones + zeros)
    if not (ones > 0 and zeros > 0):
        return _Day(round(ones + zeros), share, math.nan, math.nan)
    auc = float(positives @ (below + negatives / 2)) / (ones * zeros)
    square = auc * auc
    variance = (
        auc
        - square
        + (ones - 1) * (auc / (2 - auc) - square)
        + (zeros - 1) * (2 * square / (1 + auc) - square)
    ) / (ones * zeros)
    return _Day(round(ones + zeros), share, auc, math.sqrt(max(0.0, variance)))


def _ranking(latest: date, known: Mapping[date, _Day], *, doubt: bool) -> str:
    """Whether scores stopped to rank labels, by more than few positives do by chance.

    Over three days, ``doubt`` about the share of positives makes up for it: labels that are wrong
    show in both.
    """
    days = {n: known.get(latest - timedelta(days=n)) for n in range(_RANKED + 3)}
    ranked = {n: each for n, each in days.items() if each is not None and math.isfinite(each.auc)}
    usual = [each.auc for n, each in ranked.items() if n >= 3]
    if len(usual) < _LEAST_DAYS:
        return ""
    better = float(np.median(usual)) - 0.5
    if better <= 0:
        return ""
    text = f"usually {better + 0.5:.2f}"
    if 0 in ranked:
        surely = ranked[0].auc + _ERRORS * ranked[0].error
        if surely - 0.5 < _LEFT_OF_ONE * better:
            return f"ROC AUC is {ranked[0].auc:.2f}, {text}"
    if ranked.keys() >= {0, 1, 2}:
        last = [ranked[n] for n in range(3)]
        three = sum(each.auc for each in last) / 3
        error = math.sqrt(sum(each.error**2 for each in last)) / 3
        surely = three if doubt else three + _ERRORS * error
        if surely - 0.5 < _LEFT_OF_THREE * better:
            return f"ROC AUC of three days is {three:.2f}, {text}"
    return ""


def _share(
    latest: date,
    known: Mapping[date, _Day],
    series: DaySeries,
    broken: Collection[str],
) -> _Share | None:
    """The share of positives against what features tell; None where they tell nothing."""
    place = {each: n for n, each in enumerate(series.days)}
    if latest not in place:
        return None
    means = series.mean.copy()
    means[-1, [name in broken for name in series.names]] = np.nan
    nobody = np.full(means.shape[1], np.nan)
    days = [each for each in place if 0 <= (latest - each).days <= FIT_DAYS]
    values = np.array([known[each].share if each in known else np.nan for each in days])

    def features(each: date) -> Vector:
        return means[place[each]] if each in place else nobody

    candidates = np.array(
        [np.concatenate([features(each), features(each + timedelta(days=1))]) for each in days]
    )
    found = fit(values[:-1], candidates[:-1], candidates[-1], _FLOOR)
    if found is None:
        return None
    told = found.told(candidates[-1:])
    difference = abs(float(values[-1] - told.value[0]))
    times = difference / (max(found.error, _FLOOR) * told.widening[0] + told.unsure[0])
    worst = difference / (max(found.worst, _FLOOR) * told.widening[0])
    text = (
        f"{values[-1]:.1%} are positive, {min(1.0, max(0.0, float(told.value[0]))):.1%} were "
        f"expected from the features ({times:.0f} times the usual error)"
    )
    return _Share(float(times), float(worst), text)
