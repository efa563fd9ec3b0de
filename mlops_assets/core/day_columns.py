"""Columns that are unlike themselves on a day: stuck, empty, with new values or other shares.

Each function looks at the newest day of the series and gives what is wrong by column, the clearest
first. Limits are multiples of the most, or the least, that the 60 days before had.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import polars as pl

from mlops_assets.core.day_series import DaySeries, Vector

CROSS = " & "
"""Between the names, and the values, of two categories that are watched together."""

_JUDGED = 60
_LEAST_DAYS = 21
_MOST_PAIRS = 512  # more are too rare each: a layout lists the 64 most frequent

_DISTANCE, _LEAST_DISTANCE = 1.5, 0.02
_SPREAD, _CHANGE = 0.3, 0.35
_NEW_CATEGORIES, _NEW_PAIRS = 0.005, 0.02
_NEW_NUMBERS = 0.2
_MISSING = 0.1
_OFTEN = 3.0
# Agreement inside a day, usual and on one day of ten, of numbers that may be called stuck: others
# have few values a day, or rest at one; and of what is the same all day, like the day of the year.
_VARIES, _MOSTLY_VARIES, _CONSTANT = 0.2, 0.5, 0.95
_MOSTLY = 0.25  # share of the rows that have to have a value to call a number stuck


def crossings(frame: pl.DataFrame, categories: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The pairs of ``categories`` to watch together, since alone their shares hide a swap: those
    with at most 512 combinations in ``frame``, the training rows.
    """
    return tuple(
        (one, other)
        for one, other in combinations(categories, 2)
        if frame.select(pl.struct(one, other).n_unique()).item() <= _MOST_PAIRS
    )


def crossed(frame: pl.DataFrame, pairs: Iterable[tuple[str, str]]) -> pl.DataFrame:
    """``frame`` with a category more for each pair of its columns, null where one of them is."""
    return frame.with_columns(
        pl.format("{}" + CROSS + "{}", one, other).alias(crossing_name(one, other))
        for one, other in pairs
    )


def crossing_name(one: str, other: str) -> str:
    """The column of a pair."""
    return f"{one}{CROSS}{other}"


def stuck(series: DaySeries) -> dict[str, str]:
    """Numbers that vary on each day, and now hardly inside the day, or come as on the day before.

    One number that comes again is a coincidence, where little happens from day to day; it is told
    on the second day, and two at once on the first.
    """
    found: dict[str, str] = {}
    again: dict[str, str] = {}
    twice: set[str] = set()
    for n, column in enumerate(series.columns):
        if column.type != "float" or not 1 - series.missing[-1, n] >= _MOSTLY:
            continue
        usual = _past(series.agreement[:, n])
        if (
            len(usual) < _LEAST_DAYS
            or np.median(usual) > _VARIES
            or np.quantile(usual, 0.9) > _MOSTLY_VARIES
        ):
            continue
        spreads, spread = _past(series.spread[:, n]), series.spread[-1, n]
        changes, change = _past(series.change[:-1, n]), series.change[-1, n]
        if len(spreads) and spread < _SPREAD * spreads.min():
            found[column.name] = f"varies by {spread:.3g}, by {spreads.min():.3g} at least before"
        elif len(changes) and change < _CHANGE * changes.min():
            again[column.name] = (
                f"came as on the day before (Jensen-Shannon distance {change:.3f}, "
                f"{changes.min():.3f} at least before)"
            )
            if series.change[-2, n] < _CHANGE * changes.min():
                twice.add(column.name)
    if len(again) > 1:
        return found | again
    return found | {name: text for name, text in again.items() if name in twice}


def missing(series: DaySeries) -> dict[str, str]:
    """Columns with many more rows without a value than on any day before."""
    found: dict[str, tuple[float, str]] = {}
    for n, column in enumerate(series.columns):
        usual, share = _past(series.missing[:, n]), series.missing[-1, n]
        if len(usual) < _LEAST_DAYS or CROSS in column.name:
            continue
        most = usual.max()
        if share > most + _MISSING and share > min(_OFTEN * most, (3 + most) / 4):
            text = f"has no value in {share:.0%} of the rows, in {most:.0%} at most before"
            found[column.name] = share - most, text
    return {name: found[name][1] for name in sorted(found, key=lambda name: -found[name][0])}


def categories(series: DaySeries) -> dict[str, str]:
    """Categories with new values or other shares, alone or in pairs."""
    return _by_category(_categories(series))


def _categories(series: DaySeries) -> dict[str, tuple[float, str]]:
    """How many times more than ever before each category's shares changed, and in words."""
    found: dict[str, tuple[float, str]] = {}
    for n, column in enumerate(series.columns):
        if column.type != "category":
            continue
        distances, distance = _past(series.distance[:, n]), series.distance[-1, n]
        news, new = _past(series.new[:, n]), series.new[-1, n]
        if len(distances) < _LEAST_DAYS:
            continue
        least = _NEW_PAIRS if CROSS in column.name else _NEW_CATEGORIES
        times = distance / max(distances.max(), _LEAST_DISTANCE)
        if times >= _DISTANCE:
            found[column.name] = (
                float(times),
                f"is {distance:.3f} from the weeks before (Jensen-Shannon distance), "
                f"{distances.max():.3f} at most before",
            )
        elif len(news) and new >= max(least, _OFTEN * news.max()):
            found[column.name] = 1.0, f"has new values in {new:.1%} of the rows"
    return found


def _by_category(found: Mapping[str, tuple[float, str]]) -> dict[str, str]:
    """Pairs told by the category that most of them have in common, the others being explained."""
    parts = {name: name.split(CROSS) for name in found}
    weight: dict[str, tuple[int, float]] = {}
    for name, (times, _) in found.items():
        for part in parts[name]:
            count, most = weight.get(part, (0, 0.0))
            weight[part] = count + 1, max(most, times)
    told: dict[str, str] = {}
    left = set(found)
    while left:
        culprit = max(
            (part for name in left for part in parts[name]),
            key=lambda part: (sum(part in parts[name] for name in left), weight[part], part),
        )
        explained = [name for name in found if name in left and culprit in parts[name]]
        clearest = max(explained, key=lambda name: found[name][0])
        text = found[clearest][1]
        told[culprit] = text if clearest == culprit else f"{text} (as {clearest})"
        left -= set(explained)
    return told


def new_values(series: DaySeries) -> dict[str, str]:
    """Numbers where there never were any, between those that there were."""
    found: dict[str, str] = {}
    for n, column in enumerate(series.columns):
        if column.type != "float":
            continue
        news, new = _past(series.new[:, n]), series.new[-1, n]
        usual = _past(series.agreement[:, n])
        # What is the same all day is new each day.
        if len(usual) < _LEAST_DAYS or np.median(usual) > _CONSTANT:
            continue
        if len(news) and new >= max(_NEW_NUMBERS, _OFTEN * news.max()):
            found[column.name] = f"has values that it never had in {new:.0%} of the rows"
    return found


def _past(series: Vector) -> Vector:
    """What the judged days before the last one have; the first days have little before them."""
    past = series[max(len(series) - 1 - _JUDGED, min(_JUDGED // 2, len(series) // 2)) : -1]
    return past[np.isfinite(past)]
