"""What each day's rows look like, as a few numbers per column: what alarms are about."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import numpy as np
import numpy.typing as npt

from mlops_assets.core.daily_profiles import DailyProfiles
from mlops_assets.core.layouts import ColumnLayout
from mlops_assets.core.profiles import rank

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

POOLED_DAYS = 28
"""Days that a category's shares are compared with: four of each weekday."""

_NONE: Mapping[str, int] = {}

Cell = tuple[date, str]
"""A day and a column."""


@dataclass(frozen=True)
class DaySeries:
    """Matrices of shape (days, columns); NaN where a day has no such number, or it is set aside."""

    days: tuple[date, ...]
    columns: tuple[ColumnLayout, ...]
    rows: Vector
    """(days,)"""
    mean: Matrix
    """Of numbers; NaN for categories, like ``spread``."""
    spread: Matrix
    """Standard deviation inside the day."""
    missing: Matrix
    """Share of rows without a value: null, NaN or infinite."""
    new: Matrix
    """Share of the values that no day before has: of categories those that are new, of numbers
    those in bins between the least and the largest so far, such as fractions where there were
    none. A record temperature is not new.
    """
    distance: Matrix
    """Of categories: Jensen-Shannon distance (base 2) from the 28 days before; NaN for numbers."""
    change: Matrix
    """Of numbers: Jensen-Shannon distance of the day's bins from those of the day before."""
    agreement: Matrix
    """Share of pairs of values that are in one bin: 1 for a constant."""

    @property
    def names(self) -> list[str]:
        """Of the columns, in order."""
        return [column.name for column in self.columns]


def day_series(profiles: DailyProfiles, set_aside: Collection[Cell] = ()) -> DaySeries:
    """The series of ``profiles``, as if the columns ``set_aside`` had not come on these days."""
    columns = profiles.layout.columns
    aside = _flags(profiles, set_aside)
    shape = aside.shape
    counts = profiles.counts.astype(np.float64)
    values = np.zeros(shape)
    new, distance, change, agreement = (np.full(shape, np.nan) for _ in range(4))
    for n, column in enumerate(columns):
        bins = counts[:, profiles.starts[n] : profiles.starts[n + 1]]
        bins[aside[:, n]] = 0  # a view: ``counts`` is this function's own copy
        values[:, n] = bins.sum(axis=1)
        agreement[:, n] = (bins**2).sum(axis=1)
        if column.type == "category":
            new[:, n] = _new(bins[:, :-1]) + _new_others(profiles, column, aside[:, n])
            distance[:, n] = _from_pool(bins)
        else:
            new[:, n] = _new(bins, inside=True)
            change[1:, n] = _jensen_shannon(bins[1:], bins[:-1])
    rows = profiles.rows.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(values > 0, profiles.deviations / values, np.nan)
        missing = 1 - values / rows[:, None]
        new /= values
        agreement /= values**2
    numbers = np.array([column.type == "float" for column in columns], dtype=np.bool_)
    mean = np.where((values > 0) & numbers, profiles.mean, np.nan)
    return DaySeries(
        days=profiles.days,
        columns=columns,
        rows=rows,
        mean=mean,
        # Rounding may leave a variance of -1e-17.
        spread=np.where(numbers, np.sqrt(np.maximum(variance, 0)), np.nan),
        missing=np.where(aside, np.nan, missing),
        new=new,
        distance=distance,
        change=change,
        agreement=agreement,
    )


def repeats(profiles: DailyProfiles, days: int) -> tuple[date, float] | None:
    """The day of the last ``days`` before the newest one that it equals most, and in how many of
    the columns: share of those that tell days apart, which few of the days before have alike.

    Two columns are equal when counts, mean and deviation are, to the last bit. None where no
    column tells days apart.
    """
    earlier = list(range(max(0, len(profiles.days) - 1 - days), len(profiles.days) - 1))
    if not earlier:
        return None
    equal = _equal(profiles, -1, earlier)
    # A column that is the same on many days says nothing when it is the same once more.
    among = _equal(profiles, earlier[-1], earlier[:-1]) if len(earlier) > 1 else equal[:0]
    telling = np.ones(equal.shape[1], dtype=np.bool_) if not len(among) else ~among.any(axis=0)
    if not telling.any():
        return None
    shares = equal[:, telling].mean(axis=1)
    best = int(shares.argmax())
    return profiles.days[earlier[best]], float(shares[best])


def _equal(profiles: DailyProfiles, day: int, others: Sequence[int]) -> Flags:
    """Whether each column of ``day`` equals that of each of ``others``; (others, columns)."""
    same = (
        (profiles.mean[others] == profiles.mean[day])
        & (profiles.deviations[others] == profiles.deviations[day])
        & (profiles.missing[others] == profiles.missing[day])
    )
    bins = (profiles.counts[others] == profiles.counts[day]).astype(np.int64)
    widths = np.diff(profiles.starts)
    return same & (np.add.reduceat(bins, profiles.starts[:-1], axis=1) == widths)


def _flags(profiles: DailyProfiles, set_aside: Collection[Cell]) -> Flags:
    """Which cells are set aside, of shape (days, columns)."""
    flags = np.zeros((len(profiles.days), len(profiles.layout.columns)), dtype=np.bool_)
    day_of = {day: n for n, day in enumerate(profiles.days)}
    place = {column.name: n for n, column in enumerate(profiles.layout.columns)}
    for day, column in set_aside:
        if day in day_of and column in place:
            flags[day_of[day], place[column]] = True
    return flags


def _new(bins: Matrix, *, inside: bool = False) -> Vector:
    """Values of each day in bins that no day before has, or in those of them that are between two
    that some day has.
    """
    before = np.cumsum(bins, axis=0) - bins
    empty = before == 0
    if inside:
        ends = np.cumsum(before, axis=1), np.cumsum(before[:, ::-1], axis=1)[:, ::-1]
        empty &= (ends[0] > 0) & (ends[1] > 0)
    return np.where(empty, bins, 0).sum(axis=1)


def _new_others(profiles: DailyProfiles, column: ColumnLayout, aside: Flags) -> Vector:
    """Values of each day in unlisted categories that surely no day before has.

    A profile names all unlisted categories whose hash is not above the last that it names.
    """
    rank_of = cache(rank)  # the same categories come each day
    found = np.zeros(len(profiles.days))
    seen: set[str] = set()
    # Hashes above this one were not named by some earlier day: nobody knows whether they are new.
    highest: tuple[bytes, str] | None = None
    for n, day in enumerate(profiles.others):
        named: Mapping[str, int] = {} if aside[n] else day.get(column.name, _NONE)
        found[n] = sum(
            count
            for category, count in named.items()
            if category not in seen and (highest is None or rank_of(category) < highest)
        )
        seen.update(named)
        if len(named) >= column.others:
            last = max(map(rank_of, named))
            highest = last if highest is None else min(highest, last)
    return found


def _from_pool(bins: Matrix) -> Vector:
    """Each day's distance from the sum of the days before."""
    total = np.concatenate([np.zeros((1, bins.shape[1])), np.cumsum(bins, axis=0)])
    first = np.maximum(np.arange(len(bins)) - POOLED_DAYS, 0)
    return _jensen_shannon(bins, total[:-1] - total[first])


def _jensen_shannon(a: Matrix, b: Matrix) -> Vector:
    """Row by row, from counts; NaN where one has none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = (each / each.sum(axis=1, keepdims=True) for each in (a, b))
        middle = (p + q) / 2
        halves = [
            np.where(each > 0, each * np.log2(np.where(each > 0, each, 1) / middle), 0)
            for each in (p, q)
        ]
        found = (halves[0] + halves[1]).sum(axis=1) / 2
        found[~np.isfinite(p).all(axis=1) | ~np.isfinite(q).all(axis=1)] = np.nan
        return np.sqrt(np.clip(found, 0, 1))
