"""Profiles of many days as arrays, so that any window of them is one sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.layouts import Layout
from mlops_assets.core.profiles import SUM_EXPONENT, ColumnProfile, Profile, merged_others

Counts = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DailyProfiles:
    """The profiles of days in order, under one layout. Arrays are indexed by day, then column."""

    layout: Layout
    days: tuple[date, ...]
    rows: Counts
    """(days,)"""
    counts: Counts
    """(days, bins of all columns, one column's after the other's)."""
    missing: Counts
    """(days, columns): null or NaN."""
    infinite: Counts
    below: Matrix
    """(days, columns): sum of the values in the first bin; likewise ``above`` in the last."""
    above: Matrix
    mean: Matrix
    """(days, columns): of the finite values; 0 where there are none."""
    deviations: Matrix
    """(days, columns): sum of the squared deviations from that day's mean."""
    others: tuple[Mapping[str, Mapping[str, int]], ...]
    """For each day the counts of unlisted categories, by column that has some."""

    @cached_property
    def starts(self) -> npt.NDArray[np.intp]:
        """(columns + 1,): where each column's bins start in ``counts``, and where the last end."""
        widths = [len(column.groups) for column in self.layout.columns]
        return np.cumsum([0, *widths]).astype(np.intp)

    def between(self, first: date, end: date) -> "DailyProfiles":
        """The days from ``first`` to before ``end``."""
        places = [n for n, day in enumerate(self.days) if first <= day < end]
        kept = slice(places[0], places[-1] + 1) if places else slice(0, 0)
        return DailyProfiles(
            layout=self.layout,
            days=self.days[kept],
            rows=self.rows[kept],
            counts=self.counts[kept],
            missing=self.missing[kept],
            infinite=self.infinite[kept],
            below=self.below[kept],
            above=self.above[kept],
            mean=self.mean[kept],
            deviations=self.deviations[kept],
            others=self.others[kept],
        )

    def select(self, names: Sequence[str]) -> "DailyProfiles":
        """The columns ``names``, each of which the layout has, in this order."""
        place = {column.name: n for n, column in enumerate(self.layout.columns)}
        chosen = [place[name] for name in names]
        if chosen == list(range(len(self.layout.columns))):
            return self
        bins = [place for n in chosen for place in range(self.starts[n], self.starts[n + 1])]
        return DailyProfiles(
            layout=Layout(columns=tuple(self.layout.columns[n] for n in chosen)),
            days=self.days,
            rows=self.rows,
            counts=self.counts[:, bins],
            missing=self.missing[:, chosen],
            infinite=self.infinite[:, chosen],
            below=self.below[:, chosen],
            above=self.above[:, chosen],
            mean=self.mean[:, chosen],
            deviations=self.deviations[:, chosen],
            others=self.others,
        )

    def named_others(self, column: str) -> dict[str, int]:
        """The window's counts of unlisted categories, for the smallest by hash."""
        limit = next(each.others for each in self.layout.columns if each.name == column)
        return merged_others([day[column] for day in self.others if column in day], limit)


def daily(profiles: Mapping[date, Profile], layout: Layout) -> DailyProfiles:
    """The profiles as arrays, in the order of their days.

    Raises PermanentError for a profile of another layout.
    """
    days = sorted(profiles)
    digest = layout.digest
    for day in days:
        if profiles[day].layout != digest:
            raise PermanentError(
                f"the profile of {day} has another layout: profile that day again with the "
                "model's layout"
            )
    ordered = [profiles[day] for day in days]
    shape = (len(days), len(layout.columns))
    bins = sum(len(column.groups) for column in layout.columns)
    counts = np.empty((len(days), bins), dtype=np.int64)
    whole = np.empty((2, *shape), dtype=np.int64)
    numbers = np.empty((4, *shape))
    for n, each in enumerate(ordered):
        counts[n] = [count for column in each.columns for count in column.counts]
        for c, column in enumerate(each.columns):
            whole[:, n, c] = column.missing, column.infinite
            numbers[:, n, c] = _moments(column)
    return DailyProfiles(
        layout=layout,
        days=tuple(days),
        rows=np.array([each.rows for each in ordered], dtype=np.int64),
        counts=counts,
        missing=whole[0],
        infinite=whole[1],
        below=numbers[0],
        above=numbers[1],
        mean=numbers[2],
        deviations=numbers[3],
        others=tuple(
            {column.name: column.others for column in each.columns if column.others}
            for each in ordered
        ),
    )


def _moments(column: ColumnProfile) -> tuple[float, float, float, float]:
    """Sums of the first and the last bin, mean, and sum of squared deviations from it.

    Rounded once at the end, from exact sums: no digits cancel.
    """
    if column.least is None:
        return 0.0, 0.0, 0.0, 0.0
    n = sum(column.counts)
    unit = 1 << -SUM_EXPONENT
    return (
        column.below / unit,
        column.above / unit,
        column.total / (n * unit),
        (column.squares * n - column.total**2) / (n * unit * unit),
    )
