"""Incidents: what is done to the days of a use case, as it would look from the first bad day on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from bench._incidents_year import DAY, Year
from mlops_assets.core.data_alarms import Alarm, AlarmKind
from mlops_assets.core.spec import LABEL

Frames = Mapping[date, pl.DataFrame]
Change = Callable[[pl.DataFrame, date], pl.DataFrame | None]
"""What becomes of a day's rows; None when the day does not come."""

WEEK = timedelta(days=7)
WITHIN = 3
"""Days after the first bad one in which an incident has to be told."""
SLOW_WITHIN = 55
"""Likewise for a slow drift: eight weeks."""

WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
SENSORS = ("temp", "dewp", "humid", "wind_speed", "pressure")
"""Those that move all day. The others rest for days (no rain, a view of ten miles), and while they
do, one that is stuck sends what one that works does."""

NO_ROWS = "day missing"
NAMED = 3
"""Columns of an alarm that count as named: it may say that one of two or three is wrong."""

_LEAST_IMPORTANCE = 0.01
_LEAST_SHARE = 0.01
_OF_DATA: frozenset[AlarmKind] = frozenset(
    {"stuck", "categories", "new_values", "missing_values", "shift", "slow_drift"}
)
_OF_ROWS: frozenset[AlarmKind] = frozenset({"volume", "repeated_day"})


@dataclass(frozen=True)
class Incident:
    """One incident: what it does to days from ``first`` on, and which alarms are about it."""

    kind: str
    what: str
    first: date
    days: int
    """Days that it lasts; the replay may end before."""
    change: Change
    columns: frozenset[str]
    """Those it breaks; empty for one of whole days or of labels."""
    alarms: frozenset[AlarmKind]
    within: int = WITHIN

    def is_about(self, alarm: Alarm) -> bool:
        """Whether ``alarm`` tells this incident: its kind, and among the columns named first."""
        if alarm.kind not in self.alarms:
            return False
        return not self.columns or bool(self.columns & set(alarm.columns[:NAMED]))

    def is_consequence(self, alarm: Alarm) -> bool:
        """Whether ``alarm`` is about answers that got worse by wrong features."""
        return bool(self.columns) and alarm.kind == "labels"


Make = Callable[[Year, Frames, date, np.random.Generator], Incident]


def scaled(factor: float) -> Make:
    """A number comes in another unit from a day on: one with 1 % of the model's importance that
    varies inside days.
    """

    def make(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
        column = str(rng.choice(numbers(year, frames, first)))
        return Incident(
            kind=f"scaled by {factor:g}",
            what=column,
            first=first,
            days=WITHIN + 1,
            change=lambda frame, _: frame.with_columns(pl.col(column) * factor),
            columns=frozenset({column}),
            alarms=_OF_DATA,
        )

    return make


def slow_drift(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """A number grows by 2 % of its first value each week, a little each day."""
    column = str(rng.choice(numbers(year, frames, first)))

    def change(frame: pl.DataFrame, day: date) -> pl.DataFrame:
        return frame.with_columns(pl.col(column) * (1 + 0.02 * ((day - first) / WEEK)))

    return Incident(
        kind="slow drift, 2 % a week",
        what=column,
        first=first,
        days=SLOW_WITHIN + 1,
        change=change,
        columns=frozenset({column}),
        alarms=_OF_DATA,
        within=SLOW_WITHIN,
    )


def swapped(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """Two values of a category change places, each of 1 % of the rows before at least."""
    column, (one, other) = _categories(year, frames, first, rng, 2)
    places = {one: other, other: one}
    return Incident(
        kind="categories swapped",
        what=f"{column} {one} and {other}",
        first=first,
        days=WITHIN + 1,
        change=lambda frame, _: frame.with_columns(pl.col(column).replace(places)),
        columns=frozenset({column}),
        alarms=_OF_DATA,
    )


def renamed(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """A value of a category gets another name, one of 1 % of the rows before at least."""
    column, (one,) = _categories(year, frames, first, rng, 1)
    return Incident(
        kind="category renamed",
        what=f"{column} {one}",
        first=first,
        days=WITHIN + 1,
        change=lambda frame, _: frame.with_columns(pl.col(column).replace({one: f"{one}_2"})),
        columns=frozenset({column}),
        alarms=_OF_DATA,
    )


def stuck_sensor(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """One measure stays what it was at each airport's last flight of the day before."""
    return _stuck("sensor stuck", (str(rng.choice(SENSORS)),), frames, first)


def stuck_feed(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """All weather stays what it was at each airport's last flight of the day before."""
    return _stuck("feed stuck", WEATHER, frames, first)


def repeated_feed(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """The weather of the day before comes again, hour by hour."""
    before = frames[first - timedelta(days=1)]
    hourly = before.group_by("origin", "hour", maintain_order=True).agg(pl.col(WEATHER).first())

    def change(frame: pl.DataFrame, _: date) -> pl.DataFrame:
        kept = frame.drop(WEATHER)
        came = kept.join(hourly, on=["origin", "hour"], how="left", maintain_order="left")
        return came.select(frame.columns)

    return Incident(
        kind="feed repeated",
        what="weather",
        first=first,
        days=WITHIN + 1,
        change=change,
        columns=frozenset(WEATHER),
        alarms=_OF_DATA,
    )


def flipped(share: float) -> Make:
    """Labels of a random share of the rows turn into their opposite."""

    def make(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
        seed = int(rng.integers(2**31))

        def change(frame: pl.DataFrame, day: date) -> pl.DataFrame:
            random = np.random.default_rng((seed, day.toordinal())).random(frame.height)
            chosen = pl.Series(random < share)
            turned = pl.when(chosen).then(1 - pl.col(LABEL)).otherwise(pl.col(LABEL))
            return frame.with_columns(turned.alias(LABEL))

        return Incident(
            kind=f"labels flipped, {share:.0%}",
            what="label",
            first=first,
            days=WITHIN + 1,
            change=change,
            columns=frozenset(),
            alarms=frozenset({"labels"}),
        )

    return make


def missing_day(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """A day does not come."""
    return _of_rows(NO_ROWS, first, lambda frame, _: None, frozenset({"missing_day"}))


def half_day(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """Only the first or the last half of a day's rows comes."""
    tail = bool(rng.integers(2))

    def change(frame: pl.DataFrame, _: date) -> pl.DataFrame:
        half = frame.height // 2
        return frame.tail(half) if tail else frame.head(half)

    return _of_rows("half of a day missing", first, change, _OF_ROWS)


def doubled_day(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """Each row of a day comes twice."""
    return _of_rows("day doubled", first, lambda frame, _: pl.concat([frame, frame]), _OF_ROWS)


def copied_day(year: Year, frames: Frames, first: date, rng: np.random.Generator) -> Incident:
    """The day before, or that of the week before, comes again in the place of a day."""
    source = frames[first - timedelta(days=int(rng.choice([1, 7])))]
    calendar = ["weekday", "day_of_year", "days_to_holiday", "days_since_holiday", DAY]

    def change(frame: pl.DataFrame, _: date) -> pl.DataFrame:
        # The day's own calendar: that is computed from the partition, not copied with the rows.
        return source.with_columns(pl.lit(frame[name][0]).alias(name) for name in calendar)

    return _of_rows("day copied", first, change, _OF_ROWS)


KINDS: tuple[Make, ...] = (
    scaled(1.8),
    scaled(10),
    swapped,
    renamed,
    stuck_sensor,
    stuck_feed,
    repeated_feed,
    flipped(0.3),
    flipped(0.5),
    flipped(1.0),
    missing_day,
    half_day,
    doubled_day,
    copied_day,
    slow_drift,
)


def numbers(year: Year, frames: Frames, first: date) -> list[str]:
    """The numbers with 1 % of the importance in the model that answers, that vary inside days."""
    model = year.model_of(first)
    assert model is not None
    of_day = frames[first]
    return [
        name
        for name, kind in year.spec.feature_types.items()
        if kind == "float"
        and model.importances.get(name, 0) >= _LEAST_IMPORTANCE
        and of_day[name].drop_nulls().n_unique() > 1
    ]


def _categories(
    year: Year, frames: Frames, first: date, rng: np.random.Generator, count: int
) -> tuple[str, list[str]]:
    names = [name for name, kind in year.spec.feature_types.items() if kind == "category"]
    column = str(rng.choice(names))
    before = pl.concat([frames[first - timedelta(days=n)][column] for n in range(1, 8)])
    shares = before.drop_nulls().value_counts(normalize=True, sort=True, name="share")
    frequent = shares.filter(pl.col("share") >= _LEAST_SHARE)[column].sort().to_list()
    return column, [str(value) for value in rng.choice(frequent, count, replace=False)]


def _stuck(kind: str, columns: tuple[str, ...], frames: Frames, first: date) -> Incident:
    last = frames[first - timedelta(days=1)].group_by("origin").agg(pl.col(columns).last())

    def change(frame: pl.DataFrame, _: date) -> pl.DataFrame:
        kept = frame.drop(columns)
        return kept.join(last, on="origin", how="left", maintain_order="left").select(frame.columns)

    return Incident(
        kind=kind,
        what=", ".join(columns),
        first=first,
        days=WITHIN + 1,
        change=change,
        columns=frozenset(columns),
        alarms=_OF_DATA,
    )


def _of_rows(kind: str, first: date, change: Change, alarms: frozenset[AlarmKind]) -> Incident:
    return Incident(
        kind=kind,
        what="the day",
        first=first,
        days=1,
        change=change,
        columns=frozenset(),
        alarms=alarms,
    )
