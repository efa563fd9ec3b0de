"""Replays of some days with an incident, or none, as the alerts would be raised day by day."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import polars as pl

from bench._incidents_inject import Frames, Incident
from bench._incidents_year import DAY, SCORE, VERSION, Answering, Year, scores_of
from mlops_assets.core.daily_profiles import DailyProfiles, daily
from mlops_assets.core.data_alarms import HISTORY_DAYS, Alarm, alarms
from mlops_assets.core.day_columns import crossed, crossing_name, crossings
from mlops_assets.core.layouts import Layout, layout_of
from mlops_assets.core.performance_days import DayStatistics, realized_days
from mlops_assets.core.profiles import Profile, profile
from mlops_assets.core.spec import LABEL, FeatureType

QUIET_BEFORE = 3
"""Days before an incident that are replayed too."""

SETTLED = 14
"""Days after which what was told is the new usual."""

_ROLE = "champion"
_ARRAYS = ("rows", "counts", "missing", "infinite", "below", "above", "mean", "deviations")


@dataclass(frozen=True)
class Episode:
    """An alert that was raised: while it holds on the days after, it is not raised again."""

    alarm: Alarm
    raised: date
    about: bool | None
    """Whether it is about the incident; None for a consequence of it, or in a quiet stretch."""


@dataclass(frozen=True)
class Outcome:
    """What a replay with an incident brought."""

    incident: Incident
    delay: int | None
    """Days from the first bad one to the alert about it; None when there was none in time."""
    right: int
    """Alerts about it: one, or more where several columns broke; not those raised again."""
    false: tuple[Episode, ...]
    consequences: int


@dataclass
class Watch:
    """The year as profiles under each model's layout, and outcomes; what replays start from."""

    year: Year
    frames: Frames
    pairs: tuple[tuple[str, str], ...]
    layouts: dict[int, Layout] = field(default_factory=dict[int, Layout])
    profiles: dict[int, DailyProfiles] = field(default_factory=dict[int, DailyProfiles])
    rows: dict[date, int] = field(default_factory=dict[date, int])
    outcomes: dict[date, tuple[DayStatistics, ...]] = field(
        default_factory=dict[date, tuple[DayStatistics, ...]]
    )


def watch_of(year: Year) -> Watch:
    """Profile each day that a model answers, and the 90 before, under the model's layout."""
    training = year.events.filter(pl.col(DAY) < year.models[0].since)
    types = year.spec.feature_types
    categories = [name for name, kind in types.items() if kind == "category"]
    pairs = crossings(training, categories)
    events = crossed(year.events, pairs)
    watched: dict[str, FeatureType] = {**types}
    watched |= dict.fromkeys((crossing_name(*pair) for pair in pairs), "category")
    frames = {
        day: frame
        for (day,), frame in year.events.partition_by(DAY, as_dict=True).items()
        if isinstance(day, date)
    }
    wide = {day: crossed(frame, pairs) for day, frame in frames.items()}
    watch = Watch(year, frames, pairs, rows={day: f.height for day, f in frames.items()})
    watch.outcomes = {day: _outcomes(frame) for day, frame in frames.items()}
    ends = [*(model.since for model in year.models[1:]), date.max]
    for model, end in zip(year.models, ends, strict=True):
        layout = layout_of(events.filter(pl.col(DAY) < model.since), watched)
        first = model.since - timedelta(days=HISTORY_DAYS)
        watch.layouts[model.version] = layout
        watch.profiles[model.version] = daily(
            {day: profile(f, layout) for day, f in wide.items() if first <= day < end}, layout
        )
    return watch


def replayed(watch: Watch, incident: Incident) -> Outcome:
    """From three quiet days before the incident to the last on which it may be told in time."""
    changed: dict[date, pl.DataFrame | None] = {}
    days = _days(incident.first - timedelta(days=QUIET_BEFORE), QUIET_BEFORE + incident.within + 1)
    for day in days:
        age = (day - incident.first).days
        if 0 <= age < incident.days:
            frame = incident.change(watch.frames[day], day)
            changed[day] = None if frame is None else answered(watch.year, frame, day)
    episodes = _episodes(watch, days, changed, incident)
    about = [each for each in episodes if each.about]
    delay = (about[0].raised - incident.first).days if about else None
    return Outcome(
        incident=incident,
        delay=delay,
        right=len({each.alarm.columns[:1] or each.alarm.kind for each in about}),
        false=tuple(each for each in episodes if each.about is False),
        consequences=sum(each.about is None for each in episodes),
    )


def quiet(watch: Watch, first: date, end: date) -> tuple[Episode, ...]:
    """The alerts of the days as they were."""
    return _episodes(watch, _days(first, (end - first).days), {}, None)


def _episodes(
    watch: Watch,
    days: Iterable[date],
    changed: Mapping[date, pl.DataFrame | None],
    incident: Incident | None,
) -> tuple[Episode, ...]:
    rows = watch.rows | {day: 0 if f is None else f.height for day, f in changed.items()}
    outcomes = watch.outcomes | {
        day: () if frame is None else _outcomes(frame) for day, frame in changed.items()
    }
    cache: dict[tuple[int, date], Profile] = {}
    raised: list[Episode] = []
    held: dict[tuple[str, ...], date] = {}
    recent: list[Alarm] = []
    for day in days:
        model = watch.year.model_of(day)
        assert model is not None
        known = {other: count for other, count in rows.items() if other <= day}
        recent = [each for each in recent if (day - each.day).days <= SETTLED]
        found = alarms(
            day,
            _with(watch, model, day, changed, cache),
            rows=known,
            # Outcomes of a day are known in the night after the next one.
            outcomes=[
                item
                for other in _days(day - timedelta(days=70), 70)
                for item in outcomes.get(other, ())
            ],
            set_aside={cell for each in recent for cell in each.cells},
        )
        recent += found
        for alarm in found:
            key = alarm.columns[:1] or (alarm.kind,)
            if held.get(key) != day - timedelta(days=1):
                raised.append(Episode(alarm, day, _about(incident, alarm)))
            held[key] = day
    return tuple(raised)


def _about(incident: Incident | None, alarm: Alarm) -> bool | None:
    if incident is None:
        return None
    if incident.is_consequence(alarm):
        return None
    return alarm.day >= incident.first and incident.is_about(alarm)


def _with(
    watch: Watch,
    model: Answering,
    day: date,
    changed: Mapping[date, pl.DataFrame | None],
    cache: dict[tuple[int, date], Profile],
) -> DailyProfiles:
    """The profiles under the model's layout until ``day``, with what has changed of them."""
    layout, base = watch.layouts[model.version], watch.profiles[model.version]
    kept = base.between(day - timedelta(days=HISTORY_DAYS), day + timedelta(days=1))
    gone = {other for other, frame in changed.items() if frame is None}
    new: dict[date, Profile] = {}
    for other, frame in changed.items():
        if frame is None or other > day:
            continue
        key = model.version, other
        if key not in cache:
            cache[key] = profile(crossed(frame, watch.pairs), layout)
        new[other] = cache[key]
    if not new and not gone & set(kept.days):
        return kept
    patch = daily(new, layout)
    place = {other: n for n, other in enumerate(kept.days)}
    arrays = {name: getattr(kept, name).copy() for name in _ARRAYS}
    others = list(kept.others)
    for n, other in enumerate(patch.days):
        for name, array in arrays.items():
            array[place[other]] = getattr(patch, name)[n]
        others[place[other]] = patch.others[n]
    left = [n for n, other in enumerate(kept.days) if other not in gone]
    return replace(
        kept,
        days=tuple(kept.days[n] for n in left),
        others=tuple(others[n] for n in left),
        **{name: array[left] for name, array in arrays.items()},
    )


def answered(year: Year, frame: pl.DataFrame, day: date) -> pl.DataFrame:
    """The rows with the score that the day's model gives to what they have become."""
    model = year.model_of(day)
    assert model is not None
    return frame.with_columns(*scores_of(model, frame))


def _outcomes(frame: pl.DataFrame) -> tuple[DayStatistics, ...]:
    rows = frame.filter(pl.col(LABEL).is_not_null() & pl.col(SCORE).is_not_null())
    if not rows.height:
        return ()
    return realized_days(
        np.array(rows[DAY].to_list(), dtype="datetime64[D]"),
        rows[LABEL].to_numpy(),
        rows[SCORE].to_numpy(),
        versions=rows[VERSION].to_list(),
        roles=_ROLE,
    )


def _days(first: date, count: int) -> list[date]:
    return [first + timedelta(days=n) for n in range(count)]
