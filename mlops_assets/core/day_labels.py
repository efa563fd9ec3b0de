"""Outcomes that nobody would expect: labels flipped, shifted, or joined with the wrong rows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta

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
_FLOOR = 0.005  # share of positives: errors below it are taken for this
_RANKED = 28  # days of usual ranking
_LEFT_OF_ONE, _LEFT_OF_THREE = 0.1, 0.35


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
    if latest < day - timedelta(days=LATEST) or known[latest][0] < _LEAST_ROWS:
        return None
    reasons = [_ranking(latest, known), _share(latest, known, series, broken)]
    told = [reason for reason in reasons if reason]
    return (latest, f"Outcomes of {latest}: {'; '.join(told)}.") if told else None


def _by_day(outcomes: Sequence[DayStatistics], day: date) -> dict[date, tuple[int, float, float]]:
    """Rows, share of positives and ROC AUC (NaN for one class) of each day until ``day``."""
    of_day: dict[date, list[DayStatistics]] = {}
    for item in outcomes:
        if item.kind == "realized" and item.day <= day and item.rows:
            of_day.setdefault(item.day, []).append(item)
    return {each: _summary(items) for each, items in of_day.items()}


def _summary(items: Sequence[DayStatistics]) -> tuple[int, float, float]:
    bins: dict[int, tuple[float, float]] = {}
    for item in items:
        for place, rows, positives in zip(
            item.bins, item.bin_rows, item.bin_positives, strict=True
        ):
            before = bins.get(place, (0.0, 0.0))
            bins[place] = before[0] + positives, before[1] + rows - positives
    positives, negatives = np.array([bins[place] for place in sorted(bins)]).T
    below = np.cumsum(negatives) - negatives
    pairs = float(positives.sum() * negatives.sum())
    auc = float(positives @ (below + negatives / 2)) / pairs if pairs > 0 else float("nan")
    total = sum(item.rows for item in items)
    return total, float(positives.sum()) / total, auc


def _ranking(latest: date, known: Mapping[date, tuple[int, float, float]]) -> str:
    """Whether scores stopped to rank labels."""
    usual = [
        known[each][2]
        for n in range(3, _RANKED + 3)
        if (each := latest - timedelta(days=n)) in known and np.isfinite(known[each][2])
    ]
    if len(usual) < _LEAST_DAYS:
        return ""
    better = float(np.median(usual)) - 0.5
    last = [
        known[each][2]
        for n in range(3)
        if (each := latest - timedelta(days=n)) in known and np.isfinite(known[each][2])
    ]
    if better <= 0 or not last:
        return ""
    three = float(np.mean(last))
    text = f"usually {better + 0.5:.2f}"
    if last[0] - 0.5 < _LEFT_OF_ONE * better and np.isfinite(known[latest][2]):
        return f"ROC AUC is {known[latest][2]:.2f}, {text}"
    if len(last) == 3 and three - 0.5 < _LEFT_OF_THREE * better:
        return f"ROC AUC of three days is {three:.2f}, {text}"
    return ""


def _share(
    latest: date,
    known: Mapping[date, tuple[int, float, float]],
    series: DaySeries,
    broken: Collection[str],
) -> str:
    """Whether the share of positives is another than features tell."""
    place = {each: n for n, each in enumerate(series.days)}
    if latest not in place:
        return ""
    means = series.mean.copy()
    means[-1, [name in broken for name in series.names]] = np.nan
    nobody = np.full(means.shape[1], np.nan)
    days = [each for each in place if 0 <= (latest - each).days <= FIT_DAYS]
    values = np.array([known[each][1] if each in known else np.nan for each in days])

    def features(each: date) -> Vector:
        return means[place[each]] if each in place else nobody

    candidates = np.array(
        [np.concatenate([features(each), features(each + timedelta(days=1))]) for each in days]
    )
    found = fit(values[:-1], candidates[:-1], candidates[-1], _FLOOR)
    if found is None:
        return ""
    told = found.told(candidates[-1:])
    difference = abs(float(values[-1] - told.value[0]))
    times = difference / (max(found.error, _FLOOR) * told.widening[0] + told.unsure[0])
    worst = difference / (max(found.worst, _FLOOR) * told.widening[0])
    if not (times >= _SUDDEN and worst >= _WORST):
        return ""
    return (
        f"{values[-1]:.1%} are positive, {min(1.0, max(0.0, float(told.value[0]))):.1%} were "
        f"expected from the features ({times:.0f} times the usual error)"
    )
