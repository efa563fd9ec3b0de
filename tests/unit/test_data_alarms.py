"""Alarms of a day: quiet days raise none, each kind of incident its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from mlops_assets.core.alerts import KINDS
from mlops_assets.core.daily_profiles import DailyProfiles, daily
from mlops_assets.core.data_alarms import alarms
from mlops_assets.core.day_columns import crossed, crossing_name, crossings
from mlops_assets.core.layouts import Layout, layout_of
from mlops_assets.core.monitoring_records import ALERTS, ALL_COLUMNS, LABELS, Alarm
from mlops_assets.core.performance_days import DayStatistics, realized_days
from mlops_assets.core.profiles import profile
from mlops_assets.core.spec import FeatureType

FIRST = date(2024, 1, 1)
DAYS = 100
LAST = FIRST + timedelta(days=DAYS - 1)
PAIR = ("carrier", "origin")
TYPES: Mapping[str, FeatureType] = {
    "temp": "float",
    "dewp": "float",
    "distance": "float",
    "delay": "float",
    "gust": "float",
    "weekday": "float",
    "constant": "float",
    "nothing": "float",
    "carrier": "category",
    "origin": "category",
    crossing_name(*PAIR): "category",
}
Change = Callable[[pl.DataFrame], pl.DataFrame]


def day_of(n: int) -> pl.DataFrame:
    """A day of 400 flights in a season that warms up: temperature and dew point go together, the
    share of late flights with the mean delay, and each carrier has an airport of its own.
    """
    rng = np.random.default_rng((7, n))
    rows = 400
    warmth = 20 + n / 3 + 8 * rng.normal()
    temp = np.round(warmth + 5 * np.sin(np.arange(rows) / 60) + 0.5 * rng.normal(size=rows), 1)
    storm = rng.gamma(2.0, 5.0)
    carrier = rng.choice(["AA", "B6", "UA", "DL"], rows, p=[0.24, 0.26, 0.27, 0.23])
    home = {"AA": "LGA", "B6": "JFK", "UA": "EWR", "DL": "LGA"}
    away = rng.choice(["JFK", "EWR", "LGA"], rows)
    chance = 1 / (1 + np.exp(-(rng.normal(size=rows) * 1.5 + storm / 5 - 3)))
    return pl.DataFrame(
        {
            "temp": temp,
            "dewp": temp - 10 + rng.normal(size=rows),
            "distance": rng.choice([200.0, 500.0, 1000.0, 2500.0], rows),
            "delay": storm + 10 * rng.normal(size=rows),
            "gust": np.where(rng.uniform(size=rows) < 0.1, np.nan, rng.gamma(3.0, 4.0, rows)),
            "weekday": float(n % 7),
            "constant": 1.0,
            "carrier": carrier,
            "origin": np.where(
                rng.uniform(size=rows) < 0.8, [home[each] for each in carrier], away
            ),
            "label": (rng.uniform(size=rows) < chance).astype(int),
            "score": chance,
        },
    ).with_columns(pl.lit(None, pl.Float64).alias("nothing"))


@dataclass(frozen=True)
class History:
    """Days as they were, under the layout of the first sixty."""

    frames: Mapping[date, pl.DataFrame]
    layout: Layout
    profiles: DailyProfiles
    outcomes: Mapping[date, tuple[DayStatistics, ...]]

    def changed(self, changes: Mapping[date, Change | None]) -> DailyProfiles:
        """The profiles with these days changed, or gone."""
        frames = {
            day: frame if day not in changes else change(frame)
            for day, frame in self.frames.items()
            if (change := changes.get(day, _same)) is not None
        }
        return profiles_of(frames, self.layout)


def _same(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def profiles_of(frames: Mapping[date, pl.DataFrame], layout: Layout) -> DailyProfiles:
    """Of the days, with carriers and airports in pairs."""
    wide = {day: crossed(frame, [PAIR]) for day, frame in frames.items()}
    return daily({day: profile(frame, layout) for day, frame in wide.items()}, layout)


def outcomes_of(day: date, frame: pl.DataFrame) -> tuple[DayStatistics, ...]:
    """Labels and scores of a day."""
    labels, scores = frame["label"].to_numpy(), frame["score"].to_numpy()
    return realized_days([day] * frame.height, labels, scores, versions=1, roles="champion")


@pytest.fixture(scope="module")
def history() -> History:
    """A hundred days."""
    frames = {FIRST + timedelta(days=n): day_of(n) for n in range(DAYS)}
    training = pl.concat([crossed(frames[FIRST + timedelta(days=n)], [PAIR]) for n in range(60)])
    layout = layout_of(training, TYPES)
    outcomes = {day: outcomes_of(day, frame) for day, frame in frames.items()}
    return History(frames, layout, profiles_of(frames, layout), outcomes)


def last_day(history: History, change: Change | None) -> dict[str, Alarm]:
    """The alarms when the last day is changed, by kind."""
    found = alarms(LAST, history.changed({LAST: change}))
    assert all(alarm.day == LAST for alarm in found)
    return {alarm.kind: alarm for alarm in found}


def one(history: History, change: Change | None) -> Alarm:
    """The only alarm when the last day is changed."""
    found = last_day(history, change)
    assert len(found) == 1, found
    return next(iter(found.values()))


def test_quiet_weeks_of_a_changing_season_raise_nothing(history: History) -> None:
    """It gets warmer by a third of a degree a day, and nobody is called; outcomes are in order."""
    for n in range(70, DAYS):
        day = FIRST + timedelta(days=n)
        known = [item for other, items in history.outcomes.items() if other < day for item in items]
        assert alarms(day, history.profiles, outcomes=known) == ()


def test_days_that_are_all_the_same_raise_nothing(history: History) -> None:
    """Where each day repeats the one before, one more is no news."""
    frames = dict.fromkeys(history.frames, history.frames[FIRST])
    assert alarms(LAST, profiles_of(frames, history.layout)) == ()


def test_later_days_change_nothing(history: History) -> None:
    """A day that is judged again, after others came, is judged as it was the first time."""
    day = LAST - timedelta(days=5)
    broken = {day: lambda frame: frame.with_columns(pl.col("temp") * 1.8)}
    later = {LAST: lambda frame: frame.with_columns(pl.col("dewp") * 10)}
    first = alarms(day, history.changed(broken).between(FIRST, day + timedelta(days=1)))
    assert first
    assert alarms(day, history.changed({**broken, **later})) == first


@pytest.mark.parametrize("days", [0, 1, 2, 15, 22])
def test_a_short_history_is_no_reason_for_an_alarm(history: History, days: int) -> None:
    """Nothing is known to compare with, so nothing is said."""
    short = history.profiles.between(LAST - timedelta(days=days), LAST + timedelta(days=1))
    outcomes = [item for items in history.outcomes.values() for item in items]
    assert alarms(LAST, short, outcomes=outcomes) == ()


def test_a_day_that_did_not_come_is_missing(history: History) -> None:
    """Whether the profiles lack it or have it without rows."""
    for change in (None, lambda frame: frame.clear()):
        alarm = one(history, change)
        assert (alarm.kind, alarm.severity, ALERTS[alarm.kind]) == (
            "missing_day",
            "critical",
            "freshness",
        )
        assert alarm.cells == ((LAST, ALL_COLUMNS),)


@pytest.mark.parametrize(
    "change", [lambda frame: frame.head(180), lambda frame: pl.concat([frame, frame])]
)
def test_half_a_day_and_a_doubled_one_are_told_by_their_volume(
    history: History, change: Change
) -> None:
    """And by it alone: what the missing rows were like is not judged."""
    alarm = one(history, change)
    assert (alarm.kind, ALERTS[alarm.kind]) == ("volume", "volume")


@pytest.mark.parametrize("days", [1, 7])
def test_a_copy_of_an_earlier_day_is_told_with_the_day(history: History, days: int) -> None:
    """Its calendar may be its own."""
    earlier = LAST - timedelta(days=days)
    alarm = one(
        history,
        lambda frame: history.frames[earlier].with_columns(
            pl.lit(frame["weekday"][0]).alias("weekday")
        ),
    )
    assert alarm.kind == "repeated_day"
    assert str(earlier) in alarm.cause


@pytest.mark.parametrize("factor", [1.8, 10.0])
def test_a_scaled_number_is_named_and_not_those_that_it_tells(
    history: History, factor: float
) -> None:
    """Dew point is told by temperature, and looks wrong too until temperature is blamed."""
    alarm = one(history, lambda frame: frame.with_columns(pl.col("temp") * factor))
    assert alarm.kind in {"shift", "new_values"}
    assert alarm.columns[0] == "temp"
    assert alarm.cells[0] == (LAST, "temp")


def test_numbers_between_those_that_there_were_are_new_values(history: History) -> None:
    """Distances have four values; others inside their range are no distances."""
    alarm = one(history, lambda frame: frame.with_columns(pl.col("distance") * 0.99))
    assert (alarm.kind, alarm.columns) == ("new_values", ("distance",))


def test_a_sensor_that_stands_still_is_stuck(history: History) -> None:
    """At one value on the first day."""
    found = last_day(history, lambda frame: frame.with_columns(pl.lit(33.3).alias("temp")))
    assert found["stuck"].columns == ("temp",)
    assert "varies by 0" in found["stuck"].cause


def test_a_feed_that_sends_the_day_before_again_is_stuck(history: History) -> None:
    """Both of its columns, in one alarm."""
    before = history.frames[LAST - timedelta(days=1)]
    alarm = one(
        history,
        lambda frame: frame.with_columns(before["temp"].shuffle(3), before["dewp"].shuffle(3)),
    )
    assert alarm.kind == "stuck"
    assert set(alarm.columns) == {"temp", "dewp"}
    assert "as on the day before" in alarm.cause


def test_a_new_category_is_told_and_so_is_a_renamed_one(history: History) -> None:
    """One name changes in a quarter of the rows, or in one row of fifty."""
    rename = pl.col("carrier").replace({"AA": "A1"})
    assert one(history, lambda f: f.with_columns(rename)).columns[0] == "carrier"
    rare = pl.when(pl.int_range(pl.len()) % 50 == 0).then(pl.lit("ZZ")).otherwise("carrier")
    alarm = one(history, lambda f: f.with_columns(rare.alias("carrier")))
    assert (alarm.kind, alarm.columns[0]) == ("categories", "carrier")
    assert "new values in 2.0%" in alarm.cause


def test_swapped_categories_of_equal_shares_are_seen_in_pairs(history: History) -> None:
    """Shares stay as they were, airports do not fit any more: the alarm names one of the two."""
    swap = pl.col("carrier").replace({"B6": "UA", "UA": "B6"})
    alarm = one(history, lambda frame: frame.with_columns(swap))
    assert alarm.kind == "categories"
    assert alarm.columns[0] in PAIR
    assert "as carrier & origin" in alarm.cause


def test_values_that_stay_away_are_told(history: History) -> None:
    """A few more nulls are no news, a column of nulls is."""
    assert last_day(history, lambda f: f.with_columns(_without("gust", 0.05))) == {}
    for share in (0.5, 1.0):
        alarm = one(history, lambda f, s=share: f.with_columns(_without("gust", s)))
        assert (alarm.kind, alarm.columns) == ("missing_values", ("gust",))


def _without(column: str, share: float) -> pl.Expr:
    gone = pl.int_range(pl.len()) < share * pl.len()
    return pl.when(gone).then(None).otherwise(column).alias(column)


def test_a_slow_drift_is_told_by_what_goes_with_the_number(history: History) -> None:
    """Dew point grows by half a degree a week for five weeks, less than the season's warmth."""
    changes = {
        LAST - timedelta(days=35 - n): (
            lambda frame, n=n: frame.with_columns(pl.col("dewp") + 0.5 * n / 7)
        )
        for n in range(36)
    }
    profiles = history.changed(changes)
    found = [alarm for n in range(36) for alarm in alarms(LAST - timedelta(days=35 - n), profiles)]
    assert found
    assert {alarm.kind for alarm in found} <= {"slow_drift", "shift"}
    assert all(set(alarm.columns) & {"dewp", "temp"} for alarm in found)


def test_flipped_labels_are_told_when_they_come(history: History) -> None:
    """A day later; all of them, or a random half."""
    day = LAST - timedelta(days=1)
    frame = history.frames[day]
    known = {each: items for each, items in history.outcomes.items() if each < day}
    half = np.random.default_rng(1).uniform(size=frame.height) < 0.5
    for chosen in (np.ones(frame.height, dtype=bool), half):
        label = np.where(chosen, 1 - frame["label"].to_numpy(), frame["label"].to_numpy())
        flipped = outcomes_of(day, frame.with_columns(pl.Series("label", label)))
        outcomes = [item for items in (*known.values(), flipped) for item in items]
        (alarm,) = alarms(LAST, history.profiles, outcomes=outcomes)
        assert (alarm.kind, alarm.day, ALERTS[alarm.kind]) == ("labels", day, "performance_loss")
        assert alarm.cells == ((day, LABELS),)
        assert alarms(LAST, history.profiles, outcomes=outcomes, set_aside=alarm.cells) == ()


def test_outcomes_that_are_late_or_few_are_not_judged(history: History) -> None:
    """Three days behind nobody is called any more, and ten rows say nothing."""
    frame = history.frames[LAST - timedelta(days=3)]
    flipped = frame.with_columns(1 - pl.col("label"))
    old = [
        item
        for day, items in history.outcomes.items()
        if day < LAST - timedelta(days=3)
        for item in items
    ]
    late = outcomes_of(LAST - timedelta(days=3), flipped)
    assert alarms(LAST, history.profiles, outcomes=[*old, *late]) == ()
    few = outcomes_of(LAST - timedelta(days=1), flipped.head(20))
    assert alarms(LAST, history.profiles, outcomes=[*old, *few]) == ()


def test_what_is_set_aside_spoils_no_later_day(history: History) -> None:
    """A number that stays broken is told each day, as long as its broken days are set aside."""
    first = LAST - timedelta(days=9)
    changes = {
        first + timedelta(days=n): (lambda frame: frame.with_columns(pl.col("temp") * 1.8))
        for n in range(10)
    }
    profiles = history.changed(changes)
    told: list[Alarm] = []
    for day in changes:
        found = alarms(day, profiles, set_aside=[cell for each in told for cell in each.cells])
        assert [alarm.columns[0] for alarm in found] == ["temp"]
        told += found
    mended = {day: change for day, change in changes.items() if day < LAST}
    cells = [cell for each in told for cell in each.cells if each.day < LAST]
    assert alarms(LAST, history.changed(mended), set_aside=cells) == ()


def test_two_broken_columns_are_both_named(history: History) -> None:
    """One in another unit and one of nulls, the more severe first."""
    found = alarms(
        LAST,
        history.changed(
            {LAST: lambda f: f.with_columns(pl.col("temp") * 1.8, _without("gust", 1.0))}
        ),
    )
    assert [(alarm.kind, alarm.columns[0]) for alarm in found] == [
        ("missing_values", "gust"),
        ("shift", "temp"),
    ]


def test_each_kind_of_alarm_is_a_kind_of_alert() -> None:
    """The table names alerts that exist."""
    assert set(ALERTS.values()) <= set(KINDS)


def test_pairs_with_too_many_combinations_are_not_watched() -> None:
    """Of 30 and 30 values there may be 900 combinations, each too rare to have a share."""
    rng = np.random.default_rng(2)
    codes = {name: rng.integers(0, 30, 20_000).astype(str) for name in ("a", "b")}
    frame = pl.DataFrame(codes | {"c": rng.integers(0, 3, 20_000).astype(str)})
    assert crossings(frame, ["a", "b", "c"]) == (("a", "c"), ("b", "c"))
    with_null = frame.head(2).with_columns(a=pl.Series([None, "1"]), c=pl.lit("2"))
    assert crossed(with_null, [("a", "c")])[crossing_name("a", "c")].to_list() == [None, "1 & 2"]
