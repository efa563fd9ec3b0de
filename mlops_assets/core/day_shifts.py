"""Numbers whose mean is not what their companions tell, on one day or over two weeks."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from mlops_assets.core.companions import Fit, Matrix, Vector, fit
from mlops_assets.core.day_series import POOLED_DAYS, DaySeries

FIT_DAYS = 60
"""Days that companions are chosen on: two months, since what goes together changes by season."""

SLOW_DAYS = 14
"""Days whose mean is judged for a slow drift, against the 60 before them."""

_LEAST_FIT_DAYS = 40  # of a slow drift: over two weeks small errors of a fit add up
_SUDDEN, _WORST = 8.0, 3.0
_SLOW = 8.0
_TOLD = 0.5  # a number that companions tell less has a season of its own
_LEAST_SHIFT = 0.1  # in standard deviations inside a day: less hardly moves a model
_FLOOR = 0.02  # likewise: errors below it are taken for this, so that rounding is no defect
_DOUBTFUL = 4.0  # times the usual error of a companion that may be the wrong one
_MOST_BLAMED = 8  # of columns that look wrong at once, those that are tried as the culprit


@dataclass(frozen=True)
class _Judged:
    """A number against what it should be; positive where it is more."""

    times: float
    """How many times the usual error the difference is."""
    alarming: bool
    found: float
    told: float
    companions: tuple[str, ...]

    @property
    def text(self) -> str:
        by = f" by {', '.join(self.companions)}" if self.companions else ""
        return (
            f"has mean {self.found:.4g}, {self.told:.4g} expected{by} "
            f"({abs(self.times):.0f} times the usual error)"
        )


_Judge = Callable[[int, Collection[int]], _Judged | None]
"""Judges a column without the help of some others."""


def shifted(series: DaySeries, broken: Collection[str]) -> dict[str, str]:
    """The numbers whose mean on the newest day is not what others, or the days before, tell.

    ``broken`` are known to be wrong: not judged, and no others are told by them.
    """
    numbers = _numbers(series)
    means = series.mean[:, numbers]
    own = _own_forecasts(means)
    scale = _scale(series, numbers)
    window = slice(max(0, len(means) - 1 - FIT_DAYS), len(means) - 1)

    def judge(n: int, without: Collection[int]) -> _Judged | None:
        others = means.copy()
        others[:, [n, *without]] = np.nan
        candidates = np.concatenate([own[n], others], axis=1)
        found = fit(means[window, n], candidates[window], candidates[-1], _FLOOR * scale[n])
        if found is None or not np.isfinite(means[-1, n]):
            return None
        told = found.told(candidates[-1:])
        difference = float(means[-1, n] - told.value[0])
        floor, widening = _FLOOR * scale[n], told.widening[0]
        times = difference / (max(found.error, floor) * widening + told.unsure[0])
        worst = abs(difference) / (max(found.worst, floor) * widening)
        large = abs(difference) >= _LEAST_SHIFT * scale[n]
        names = ["the last day", "the last weeks", "this weekday"]
        names += [series.columns[place].name for place in numbers]
        return _Judged(
            times=float(times),
            alarming=bool(large and abs(times) >= _SUDDEN and worst >= _WORST),
            found=float(means[-1, n]),
            told=float(told.value[0]),
            companions=tuple(names[place] for place in found.companions),
        )

    return _culprits(series, numbers, broken, judge)


def slowly_shifted(series: DaySeries, broken: Collection[str]) -> dict[str, str]:
    """The numbers whose mean over two weeks is not what others tell, as :func:`shifted`.

    Only numbers of which others told more than half on the 60 days before: the rest have seasons.
    """
    numbers = _numbers(series)
    means = series.mean[:, numbers]
    scale = _scale(series, numbers)
    end = len(means) - SLOW_DAYS
    window = slice(max(0, end - FIT_DAYS), end)
    if end - window.start < _LEAST_FIT_DAYS:
        return {}

    def judge(n: int, without: Collection[int]) -> _Judged | None:
        others = means.copy()
        others[:, [n, *without]] = np.nan
        recent = means[end:, n]
        today = np.where(np.isfinite(others[end:]).all(axis=0), others[-1], np.nan)
        floor = _FLOOR * scale[n]
        found = fit(means[window, n], others[window], today, floor)
        if (
            found is None
            or not np.isfinite(recent).all()
            or np.isfinite(found.residuals).sum() < _LEAST_FIT_DAYS
            or max(found.error, floor) > _TOLD * found.before
        ):
            return None
        told = found.told(others[end:])
        difference = float((recent - told.value).mean())
        row = found.rows(others[end:]).mean(axis=0)
        spread = _of_means(found, len(recent)) + float(row @ found.inverse @ row)
        times = difference / (max(found.error, floor) * np.sqrt(spread))
        large = abs(difference) >= _LEAST_SHIFT * scale[n]
        return _Judged(
            times=float(times),
            alarming=bool(large and abs(times) >= _SLOW),
            found=float(recent.mean()),
            told=float(told.value.mean()),
            companions=tuple(series.columns[numbers[place]].name for place in found.companions),
        )

    found = _culprits(series, numbers, broken, judge)
    return {name: f"over {SLOW_DAYS} days {text}" for name, text in found.items()}


def _culprits(
    series: DaySeries, numbers: list[int], broken: Collection[str], judge: _Judge
) -> dict[str, str]:
    """The columns that are wrong, the clearest first, each with its sentence.

    One wrong column makes those look wrong that are told by it. So of those that look wrong the
    one is blamed without which the others look best, until none looks wrong. A companion without
    which the blamed one does not look wrong either may be the wrong one: it is named next.
    """
    names = [series.columns[place].name for place in numbers]
    without = [n for n, name in enumerate(names) if name in broken]
    judged = _without([n for n in range(len(numbers)) if n not in without], without, judge)
    suspects = {n: each for n, each in judged.items() if each.alarming}
    found: dict[str, str] = {}
    while suspects:
        ranked = sorted(suspects, key=lambda n: -abs(suspects[n].times))
        cleared = {
            n: _without([other for other in ranked if other != n], [*without, n], judge)
            for n in ranked[:_MOST_BLAMED]
        }
        culprit = min(
            cleared,
            key=lambda n: max((abs(each.times) for each in cleared[n].values()), default=0.0),
        )
        found[names[culprit]] = suspects[culprit].text
        if not any(each.alarming for each in cleared[culprit].values()):
            for n, each in judged.items():
                if (
                    names[n] in suspects[culprit].companions
                    and abs(each.times) >= _DOUBTFUL
                    and not any(
                        other.alarming
                        for other in _without([culprit], [*without, n], judge).values()
                    )
                ):
                    found[names[n]] = f"may be wrong in its place: it {each.text}"
        without.append(culprit)
        suspects = {n: each for n, each in cleared[culprit].items() if each.alarming}
    return found


def _without(numbers: list[int], without: list[int], judge: _Judge) -> dict[int, _Judged]:
    found = {n: judge(n, without) for n in numbers}
    return {n: each for n, each in found.items() if each is not None}


def _numbers(series: DaySeries) -> list[int]:
    """The columns that are numbers and vary inside days. What does not, such as the day of the
    year, is no sample of anything.
    """
    spread = np.nan_to_num(series.spread[:-1])
    return [
        n
        for n, column in enumerate(series.columns)
        if column.type == "float" and np.count_nonzero(spread[:, n]) > len(spread) / 2
    ]


def _scale(series: DaySeries, numbers: list[int]) -> Vector:
    """Standard deviation inside a day, root mean square of the days."""
    spread = series.spread[:-1, numbers]
    known = np.isfinite(spread)
    squares = np.where(known, spread, 0) ** 2
    return np.sqrt(squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _own_forecasts(means: Matrix) -> list[Matrix]:
    """What each number's own past tells for each day: the last day, the last 28 days, and the same
    weekday of the last four weeks; for each number of shape (days, 3).
    """
    last = np.full_like(means, np.nan)
    last[1:] = means[:-1]
    known = np.isfinite(means)
    sums = np.cumsum(np.where(known, means, 0), axis=0)
    counts = np.cumsum(known, axis=0)
    weeks = np.full_like(means, np.nan)
    weekday = np.full_like(means, np.nan)
    for day in range(1, len(means)):
        before = day - 1 - POOLED_DAYS
        total, count = sums[day - 1], counts[day - 1]
        if before >= 0:
            total, count = total - sums[before], count - counts[before]
        weeks[day] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        alike = means[max(day % 7, day - POOLED_DAYS) : day : 7]
        seen = np.isfinite(alike).sum(axis=0)
        total = np.nansum(alike, axis=0)
        weekday[day] = np.where(seen > 0, total / np.maximum(seen, 1), np.nan)
    return [
        np.stack([last[:, n], weeks[:, n], weekday[:, n]], axis=1) for n in range(means.shape[1])
    ]


def _of_means(found: Fit, days: int) -> float:
    """Variance of the mean of ``days`` residuals that follow each other, in squared errors."""
    known = found.residuals[np.isfinite(found.residuals)]
    centred = known - known.mean()
    size = float((centred**2).sum())
    rho = float((centred[1:] * centred[:-1]).sum()) / size if size > 0 else 0.0
    rho = min(max(rho, 0.0), 0.9)
    return (1 + rho) / (1 - rho) / days
