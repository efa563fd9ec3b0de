"""What people are called for: a day that broke, or changed at once.

Drift against the training data is for the retraining policy. As an alert it would fire all summer:
seasons drift. So each day is compared with the weeks before it, in ways in which days hardly differ
by themselves (:mod:`mlops_assets.core.day_series`, :mod:`mlops_assets.core.companions`):

- ``missing_day``, ``volume``: the day is not there, or has too few or too many rows;
- ``repeated_day``: it is a copy of an earlier day;
- ``stuck``: a number hardly varies, or comes as on the day before;
- ``categories``: new ones, or shares that changed, alone or in pairs;
- ``new_values``: numbers where there never were any, between those that there were;
- ``missing_values``: more rows without a value;
- ``shift``: a number's mean is not what the numbers that move with it tell;
- ``slow_drift``: the same, over two weeks;
- ``labels``: outcomes that features, and the model, did not let expect.

Thresholds are multiples of what the weeks before did, from Jan to May of the flights; how often
they are wrong and what they find in the months after is measured (docs/alert-quality.md).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl

from mlops_assets.core.alerts import SEVERITIES, Kind, Severity
from mlops_assets.core.daily_profiles import DailyProfiles
from mlops_assets.core.day_labels import label_finding
from mlops_assets.core.day_series import Cell, DaySeries, Vector, day_series, repeats
from mlops_assets.core.day_shifts import shifted, slowly_shifted
from mlops_assets.core.performance_days import DayStatistics
from mlops_assets.core.records import Record
from mlops_assets.core.volume import expected_rows

AlarmKind = Literal[
    "missing_day",
    "volume",
    "repeated_day",
    "stuck",
    "categories",
    "new_values",
    "missing_values",
    "shift",
    "slow_drift",
    "labels",
]

ALERTS: Mapping[AlarmKind, Kind] = {
    "missing_day": "freshness",
    "volume": "volume",
    "repeated_day": "volume",
    "stuck": "drift",
    "categories": "drift",
    "new_values": "drift",
    "missing_values": "drift",
    "shift": "drift",
    "slow_drift": "drift",
    "labels": "performance_loss",
}
"""The kind of alert that people get."""

HISTORY_DAYS = 90
"""Days before the judged one that are looked at; more change nothing."""

ALL_COLUMNS = ""
"""The column of a cell that is a whole day."""

LABELS = "label"
"""The column of a cell that is the outcomes of a day."""

_JUDGED = 60  # of the history, the days whose own statistics are compared with
_LEAST_DAYS = 21
_COPY_DAYS = 28
_COPIED = 0.5  # no day of January to May had more than 0.16 of its columns from another
_CROSS = " & "
_MOST_PAIRS = 512  # more are too rare each: a layout lists the 64 most frequent

# Each a multiple of the most, or the least, that the judged days had.
_DISTANCE, _LEAST_DISTANCE = 1.5, 0.02
_SPREAD, _CHANGE = 0.3, 0.35
_NEW_CATEGORIES = 0.005
_NEW_NUMBERS = 0.2
_MISSING = 0.1
_OFTEN = 3.0
# Agreement inside a day, usual and on one day of ten, of numbers that may be called stuck: others
# have few values a day, or rest at one; and of what is the same all day, like the day of the year.
_VARIES, _MOSTLY_VARIES, _CONSTANT = 0.2, 0.5, 0.95
_MOSTLY = 0.25  # share of the rows that have to have a value to call a number stuck
_NAMED = 5

_SHIFTS: Mapping[AlarmKind, Callable[[DaySeries, Collection[str]], dict[str, str]]] = {
    "shift": shifted,
    "slow_drift": slowly_shifted,
}
_ARRAYS = ("rows", "counts", "missing", "infinite", "below", "above", "mean", "deviations")


class Alarm(Record):
    """One thing that is wrong with a day."""

    kind: AlarmKind
    day: date
    columns: tuple[str, ...] = ()
    """What it is about, the most telling first; empty: the whole day."""
    severity: Severity
    cause: str
    """One sentence with its numbers."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What later days should not be compared with; nothing of a slow drift, which is in all."""
        if self.kind == "slow_drift":
            return ()
        if self.kind == "labels":
            return ((self.day, LABELS),)
        return tuple((self.day, column) for column in self.columns or (ALL_COLUMNS,))


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
        pl.format("{}" + _CROSS + "{}", one, other).alias(crossing_name(one, other))
        for one, other in pairs
    )


def crossing_name(one: str, other: str) -> str:
    """The column of a pair."""
    return f"{one}{_CROSS}{other}"


def alarms(
    day: date,
    profiles: DailyProfiles,
    *,
    rows: Mapping[date, int] | None = None,
    outcomes: Sequence[DayStatistics] = (),
    set_aside: Collection[Cell] = (),
) -> tuple[Alarm, ...]:
    """What is wrong with ``day``, the most severe first; nothing for a day like others.

    ``profiles``: of features, and of pairs of categories (:func:`crossed`), under one layout, of
    the day and of up to 90 days before. Later ones are not looked at. ``rows``: of each day, the
    profiles' own by default. ``outcomes``: realized, of any versions and roles; the newest day that
    has some, up to two days back, is judged too. ``set_aside``: the cells of earlier alarms that
    were right, or are not settled: what broke is not what later days are compared with. Those of
    the last two weeks are enough: what lasts longer is the new usual.

    Of columns that changed together, those are named without which the others are as expected. A
    day without the rows that it should have is not judged further: what is missing may be what is
    unlike the rest.
    """
    found = {
        known: count
        for known, count in zip(profiles.days, profiles.rows.tolist(), strict=True)
        if known <= day
    }
    found |= dict(rows or {})
    if not found.get(day):
        return (_alarm("missing_day", day, (), "critical", f"There are no rows of {day}."),)
    whole = {known for known, column in set_aside if column == ALL_COLUMNS}
    volume = _volume(day, {known: n for known, n in found.items() if known not in whole})
    kept = _window(profiles, day, whole)
    about_rows = [volume] if volume is not None else _copied(day, kept)
    if about_rows:
        kept = _window(profiles, day, {*whole, day})
    series = day_series(kept, set_aside)
    about_contents: list[Alarm] = []
    if kept.days and kept.days[-1] == day:
        about_contents = _contents(day, series)
    spoiled = whole | {known for known, column in set_aside if column == LABELS}
    told = label_finding(
        day,
        series,
        [each for each in outcomes if each.day not in spoiled],
        [column for alarm in about_contents for column in alarm.columns],
    )
    about_labels = [_alarm("labels", told[0], (), "critical", told[1])] if told else []
    return tuple(
        sorted(
            (*about_rows, *about_contents, *about_labels),
            key=lambda alarm: -SEVERITIES.index(alarm.severity),
        )
    )


def _copied(day: date, kept: DailyProfiles) -> list[Alarm]:
    if not kept.days or kept.days[-1] != day:
        return []
    copy = repeats(kept, _COPY_DAYS)
    if copy is None or copy[1] < _COPIED:
        return []
    text = f"{copy[1]:.0%} of the columns of {day} are those of {copy[0]} to the last digit."
    return [_alarm("repeated_day", day, (), "critical", text)]


def _contents(day: date, series: DaySeries) -> list[Alarm]:
    found: list[Alarm] = []
    broken: list[str] = []
    found_in: tuple[tuple[AlarmKind, Severity, dict[str, str]], ...] = (
        ("stuck", "critical", _stuck(series)),
        ("missing_values", "critical", _missing(series)),
        ("categories", "warning", _by_category(_categories(series))),
        ("new_values", "warning", _new_values(series)),
    )
    for kind, severity, columns in found_in:
        news = {name: text for name, text in columns.items() if name not in broken}
        if news:
            found.append(_alarm(kind, day, tuple(news), severity, _sentence(news)))
            broken += news
    for kind, judge in _SHIFTS.items():
        news = judge(series, broken)
        if news:
            found.append(_alarm(kind, day, tuple(news), "warning", _sentence(news)))
            broken += news
    return found


def _volume(day: date, rows: Mapping[date, int]) -> Alarm | None:
    expected = expected_rows(rows, day)
    if expected is None or expected.holds(rows[day]):
        return None
    text = (
        f"{day} has {rows[day]:,} rows, {expected.low:,.0f} to {expected.high:,.0f} were expected "
        f"from {expected.days} days before."
    )
    return _alarm("volume", day, (), "critical", text)


def _stuck(series: DaySeries) -> dict[str, str]:
    """Numbers that vary on each day, and now hardly inside the day, or as on the day before."""
    found: dict[str, str] = {}
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
        spreads, changes = _past(series.spread[:, n]), _past(series.change[:, n])
        spread, change = series.spread[-1, n], series.change[-1, n]
        if len(spreads) and spread < _SPREAD * spreads.min():
            found[column.name] = f"varies by {spread:.3g}, by {spreads.min():.3g} at least before"
        elif len(changes) and change < _CHANGE * changes.min():
            found[column.name] = (
                f"came as on the day before (Jensen-Shannon distance {change:.3f}, "
                f"{changes.min():.3f} at least before)"
            )
    return found


def _missing(series: DaySeries) -> dict[str, str]:
    found: dict[str, tuple[float, str]] = {}
    for n, column in enumerate(series.columns):
        usual, share = _past(series.missing[:, n]), series.missing[-1, n]
        if len(usual) < _LEAST_DAYS or _CROSS in column.name:
            continue
        most = usual.max()
        if share > most + _MISSING and share > min(_OFTEN * most, (3 + most) / 4):
            text = f"has no value in {share:.0%} of the rows, in {most:.0%} at most before"
            found[column.name] = share - most, text
    return {name: found[name][1] for name in sorted(found, key=lambda name: -found[name][0])}


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
        times = distance / max(distances.max(), _LEAST_DISTANCE)
        if times >= _DISTANCE:
            found[column.name] = (
                float(times),
                f"is {distance:.3f} from the weeks before (Jensen-Shannon distance), "
                f"{distances.max():.3f} at most before",
            )
        elif len(news) and new >= max(_NEW_CATEGORIES, _OFTEN * news.max()):
            found[column.name] = 1.0, f"has new values in {new:.1%} of the rows"
    return found


def _by_category(found: Mapping[str, tuple[float, str]]) -> dict[str, str]:
    """Pairs told by the category that most of them have in common, the others being explained."""
    parts = {name: name.split(_CROSS) for name in found}
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


def _new_values(series: DaySeries) -> dict[str, str]:
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


def _window(profiles: DailyProfiles, day: date, without: Collection[date]) -> DailyProfiles:
    """The day and the 90 before it, less those that are set aside."""
    places = [
        n
        for n, known in enumerate(profiles.days)
        if 0 <= (day - known).days <= HISTORY_DAYS and (known == day or known not in without)
    ]
    return replace(
        profiles,
        days=tuple(profiles.days[n] for n in places),
        others=tuple(profiles.others[n] for n in places),
        **{name: getattr(profiles, name)[places] for name in _ARRAYS},
    )


def _alarm(
    kind: AlarmKind, day: date, columns: tuple[str, ...], severity: Severity, cause: str
) -> Alarm:
    return Alarm(kind=kind, day=day, columns=columns, severity=severity, cause=cause)


def _sentence(found: Mapping[str, str]) -> str:
    told = [f"{name} {text}" for name, text in list(found.items())[:_NAMED]]
    more = f"; {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{'; '.join(told)}{more}."
