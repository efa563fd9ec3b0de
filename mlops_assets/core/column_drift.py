"""The distances between two windows of daily profiles, column by column, without a decision."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops_assets.core.daily_profiles import DailyProfiles
from mlops_assets.core.day_noise import Shift, shift
from mlops_assets.core.distances import (
    Side,
    jensen_shannon_distance,
    kolmogorov_smirnov,
    population_stability_index,
    wasserstein,
)
from mlops_assets.core.layouts import ColumnLayout
from mlops_assets.core.profiles import rank
from mlops_assets.core.records import Record

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

NAMED_CATEGORIES = 10
"""New and lost categories that a result names, the most frequent first."""


class CategoryShare(Record):
    """A category that only one of the windows has, and its share of that one's values."""

    category: str
    share: float


class Distances(Record):
    """How far one column of the current window is from the reference. What is about values is None
    where one of the windows has none.
    """

    psi: float | None = None
    """Population stability index over groups, in nats."""
    jensen_shannon: float | None = None
    """Jensen-Shannon distance over groups, to base 2, 0 to 1."""
    kolmogorov_smirnov: float | None = None
    """Of numbers, over bins; at most one bin's share less than that of the values themselves."""
    wasserstein: float | None = None
    """Of numbers, over bins, in standard deviations of the reference; None where the reference is
    constant and the current window differs."""
    missing_reference: float
    """Share of the reference's rows that have no value: null, NaN or infinite."""
    missing_change: float
    """The current window's share of such rows, less the reference's; -1 to 1."""
    new: tuple[CategoryShare, ...] = ()
    lost: tuple[CategoryShare, ...] = ()
    new_share: float = 0.0
    """Share of the current values in all new categories; at least, where profiles could not name
    all. Likewise ``lost_share``, of the reference's values."""
    lost_share: float = 0.0


@dataclass(frozen=True)
class Measured:
    """A column's distances, and how the shifts of values and of missing rows compare with days."""

    distances: Distances
    values: Shift | None
    missing: Shift | None


@dataclass(frozen=True)
class _Window:
    """A window's counts by day, and its moments by column."""

    daily: DailyProfiles
    groups: Matrix
    """(days, groups of all columns)."""
    bins: Vector
    values: Matrix
    """(days, columns): rows with a value."""
    mean: Vector
    deviation: Vector


def measure(reference: DailyProfiles, current: DailyProfiles, block_days: int) -> list[Measured]:
    """Each column's distances. Both windows have the same layout, and rows."""
    columns = reference.layout.columns
    # A group starts where its number changes; the first of a column is 0 like the last may be of
    # the one before.
    firsts = [np.unique(column.groups, return_index=True)[1] for column in columns]
    starts = np.concatenate(
        [
            np.empty(0, dtype=np.intp),
            *(s + f for s, f in zip(reference.starts, firsts, strict=False)),
        ]
    ).astype(np.intp)
    ends = np.cumsum([0, *map(len, firsts)])
    before, now = _window(reference, starts), _window(current, starts)
    return [
        _column(before, now, n, slice(ends[n], ends[n + 1]), block_days)
        for n in range(len(columns))
    ]


def _window(daily: DailyProfiles, group_starts: npt.NDArray[np.intp]) -> _Window:
    if not daily.layout.columns:
        none = np.empty(0)
        return _Window(daily, none, none, none, none, none)
    values = np.add.reduceat(daily.counts, daily.starts[:-1], axis=1).astype(np.float64)
    n = np.maximum(values.sum(axis=0), 1)
    mean = (values * daily.mean).sum(axis=0) / n
    # Deviations from the window's mean are those from each day's, and those of the days' means.
    squares = daily.deviations.sum(axis=0) + (values * (daily.mean - mean) ** 2).sum(axis=0)
    return _Window(
        daily=daily,
        groups=np.add.reduceat(daily.counts, group_starts, axis=1).astype(np.float64),
        bins=daily.counts.sum(axis=0).astype(np.float64),
        values=values,
        mean=mean,
        deviation=np.sqrt(squares / n),
    )


def _column(before: _Window, now: _Window, n: int, groups: slice, block_days: int) -> Measured:
    column = before.daily.layout.columns[n]
    present = [window.values[:, n] for window in (before, now)]
    rows = [window.daily.rows.astype(np.float64) for window in (before, now)]
    shares = [1 - float(p.sum() / r.sum()) for p, r in zip(present, rows, strict=True)]
    measured: dict[str, float | None] = {}
    values = None
    if min(p.sum() for p in present) > 0:
        days = before.groups[:, groups], now.groups[:, groups]
        p, q = (window.sum(axis=0) / window.sum() for window in days)
        measured = {
            "psi": population_stability_index(p, q),
            "jensen_shannon": jensen_shannon_distance(p, q),
        }
        values = shift(*days, block_days)
        if column.type == "float":
            a, b = _side(before, n), _side(now, n)
            distance = wasserstein(a, b, np.array(column.edges))
            measured["kolmogorov_smirnov"] = kolmogorov_smirnov(a.shares, b.shares)
            deviation = float(before.deviation[n])
            if deviation > 0 or distance == 0:
                measured["wasserstein"] = distance / deviation if distance else 0.0
    missing = [np.stack([p, r - p], axis=1) for p, r in zip(present, rows, strict=True)]
    new, new_share = _only_in(now, before, n)
    lost, lost_share = _only_in(before, now, n)
    distances = Distances(
        **measured,
        missing_reference=shares[0],
        missing_change=shares[1] - shares[0],
        new=new,
        lost=lost,
        new_share=new_share,
        lost_share=lost_share,
    )
    return Measured(distances, values, shift(missing[0], missing[1], block_days))


def _side(window: _Window, n: int) -> Side:
    starts, edges = window.daily.starts, window.daily.layout.columns[n].edges
    counts = window.bins[starts[n] : starts[n + 1]]
    below = above = 0.0
    if edges and counts[0]:
        below = max(0.0, edges[0] - float(window.daily.below[:, n].sum() / counts[0]))
    if edges and counts[-1]:
        above = max(0.0, float(window.daily.above[:, n].sum() / counts[-1]) - edges[-1])
    return Side(counts / counts.sum(), float(window.mean[n]), below, above)


def _only_in(one: _Window, other: _Window, n: int) -> tuple[tuple[CategoryShare, ...], float]:
    """The categories that surely only ``one`` window has, the most frequent, and the share of all.

    The other's profiles name all unlisted categories whose hash is not above the last they name.
    """
    column = one.daily.layout.columns[n]
    if column.type == "float":
        return (), 0.0
    bins = slice(one.daily.starts[n], one.daily.starts[n + 1])
    ours, theirs = one.bins[bins], other.bins[bins]
    only = {
        category: count
        for category, count, there in zip(column.categories, ours, theirs, strict=False)
        if count and not there
    }
    if ours[-1]:
        named = other.daily.named_others(column.name)
        only |= {
            category: count
            for category, count in one.daily.named_others(column.name).items()
            if category not in named and _would_be_named(category, named, column)
        }
    total = ours.sum()
    top = sorted(only, key=lambda category: (-only[category], category))[:NAMED_CATEGORIES]
    return (
        tuple(CategoryShare(category=each, share=float(only[each] / total)) for each in top),
        float(sum(only.values()) / total) if only else 0.0,
    )


def _would_be_named(category: str, named: Mapping[str, int], column: ColumnLayout) -> bool:
    if len(named) < column.others:
        return True
    return rank(category) < max(rank(each) for each in named)
