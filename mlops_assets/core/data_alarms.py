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

Limits are multiples of what the weeks before did, chosen on March to May of the flights. How often
they are wrong in the months after, and what they find, is measured (docs/alert-quality.md).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date

from mlops_assets.core.alerts import SEVERITIES, Severity
from mlops_assets.core.daily_profiles import DailyProfiles
from mlops_assets.core.day_columns import categories, missing, new_values, stuck
from mlops_assets.core.day_labels import label_finding
from mlops_assets.core.day_series import Cell, DaySeries, day_series, repeats
from mlops_assets.core.day_shifts import shifted, slowly_shifted
from mlops_assets.core.monitoring_records import ALL_COLUMNS, LABELS, Alarm, AlarmKind
from mlops_assets.core.performance_days import DayStatistics
from mlops_assets.core.volume import expected_rows

HISTORY_DAYS = 90
"""Days before the judged one that are looked at; more change nothing."""

_LEAST_DAYS = 21
_COPY_DAYS = 28
_COPIED = 0.5  # no day of March to May had more than 0.16 of its columns from another
_NAMED = 5

_SHIFTS: Mapping[AlarmKind, Callable[[DaySeries, Collection[str]], dict[str, str]]] = {
    "shift": shifted,
    "slow_drift": slowly_shifted,
}
_ARRAYS = ("rows", "counts", "missing", "infinite", "below", "above", "mean", "deviations")


def alarms(
    day: date,
    profiles: DailyProfiles,
    *,
    rows: Mapping[date, int] | None = None,
    outcomes: Sequence[DayStatistics] = (),
    set_aside: Collection[Cell] = (),
) -> tuple[Alarm, ...]:
    """What is wrong with ``day``, the most severe first; nothing for a day like others.

    ``profiles``: of features, and of pairs of categories (:mod:`mlops_assets.core.day_columns`),
    under one layout, of the day and of up to 90 days before. Later ones are not looked at, and
    without the day's own its contents are not judged. ``rows``: of each day, the profiles' own by
    default. ``outcomes``: realized, of any versions and roles; the newest day that has some, up to
    two days back, is judged too. ``set_aside``: the cells of earlier alarms that were right, or are
    not settled: what broke is not what later days are compared with. Those of the last two weeks
    are enough: what lasts longer is the new usual.

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
    whole = {known for known, column in set_aside if column == ALL_COLUMNS and known != day}
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
        ("stuck", "critical", stuck(series)),
        ("missing_values", "critical", missing(series)),
        ("categories", "warning", categories(series)),
        ("new_values", "warning", new_values(series)),
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


def _window(profiles: DailyProfiles, day: date, without: Collection[date]) -> DailyProfiles:
    """The day and the 90 before it, less those that are set aside."""
    places = [
        n
        for n, known in enumerate(profiles.days)
        if 0 <= (day - known).days <= HISTORY_DAYS and known not in without
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
