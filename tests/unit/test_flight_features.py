"""The flight features, on real days: laws for every view, and values worked out by hand."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

import mlops_assets
from mlops_assets.core.spec import problems
from mlops_assets.core.windows import Window
from mlops_assets.defs.flight_delays import features, sources
from mlops_assets.testing import (
    ViewFunction,
    assert_matches_spec,
    assert_no_future,
    assert_partition_equals_whole,
    compute_view,
    load_spec,
)

FOLDER = Path(mlops_assets.__file__).parent / "defs" / "flight_delays"
SPEC = load_spec(FOLDER / "defs.yaml")
VIEWS = list(SPEC.feature_views)
DAILY = [name for name, view in SPEC.feature_views.items() if view.partitioned]

# The first days of the data, both changes of clocks, and the end of the year.
WEEKS = [
    Window(date(2013, 1, 1), date(2013, 1, 5), SPEC.timezone),
    Window(date(2013, 3, 8), date(2013, 3, 13), SPEC.timezone),
    Window(date(2013, 11, 1), date(2013, 11, 6), SPEC.timezone),
    Window(date(2013, 12, 29), date(2014, 1, 1), SPEC.timezone),
]

# The schedule is known long before; what a departure tells is known then, the rest on arrival.
KNOWN = {
    "flights": {
        "departed_at": "departed_at",
        "dep_delay": "departed_at",
        "arrived_at": "known_at",
        "arr_delay": "known_at",
        "air_time": "known_at",
        "cancelled": "known_at",
        "diverted": "known_at",
        "known_at": "known_at",
    },
    "weather": "known_at",
}


def function(view: str) -> ViewFunction:
    """The function that defs.yaml names for ``view``."""
    module, _, name = SPEC.feature_views[view].function.partition(":")
    assert module == "features"
    return getattr(features, name)


@pytest.fixture(scope="module")
def tables() -> Mapping[str, pl.DataFrame]:
    """The datasets, whole."""
    year = Window(date(2013, 1, 1), date(2014, 1, 1), SPEC.timezone)
    return {
        "flights": sources.flights(year),
        "weather": sources.weather(year),
        "planes": sources.planes(),
    }


def test_the_description_holds_together() -> None:
    """defs.yaml is valid, has no contradictions, and names functions that exist."""
    assert list(problems(SPEC)) == []
    for view in VIEWS:
        assert callable(function(view))


def test_features_and_keys_have_different_names() -> None:
    """Both are columns of the training set."""
    keys = {column for view in SPEC.feature_views.values() for column in view.entity}
    assert keys.isdisjoint(SPEC.feature_types)


@pytest.mark.parametrize("window", WEEKS, ids=lambda window: str(window.first))
@pytest.mark.parametrize("view", DAILY)
def test_a_day_alone_equals_the_day_among_others(
    view: str, window: Window, tables: Mapping[str, pl.DataFrame]
) -> None:
    """Rows do not depend on which days are computed together."""
    if view == "weather_hourly":
        window = Window(window.first, min(window.end, date(2013, 12, 31)), window.timezone)
    assert_partition_equals_whole(SPEC, view, function(view), window, tables)


@pytest.mark.parametrize("view", DAILY)
def test_no_view_sees_the_future(view: str, tables: Mapping[str, pl.DataFrame]) -> None:
    """In a storm's afternoon, what happens later has no part in what is known then."""
    window = Window(date(2013, 3, 7), date(2013, 3, 10), SPEC.timezone)
    around = {
        name: rows.filter(
            pl.col("event_time").is_between(
                window.with_lookback(12).start_time, window.end_time, closed="left"
            )
        )
        for name, rows in tables.items()
        if name != "planes"
    }
    used = {
        name: rows for name, rows in around.items() if name in SPEC.feature_views[view].datasets
    }
    for instant in (
        datetime(2013, 3, 8, 5, tzinfo=UTC),
        datetime(2013, 3, 8, 20, 30, tzinfo=UTC),
    ):
        assert_no_future(SPEC, view, function(view), window, used, known=KNOWN, instant=instant)


@pytest.mark.parametrize("view", DAILY)
def test_every_day_has_rows(view: str, tables: Mapping[str, pl.DataFrame]) -> None:
    """The first day too, when nothing is known yet: its features are null."""
    window = Window(date(2013, 1, 1), date(2013, 1, 3), SPEC.timezone)
    rows = compute_view(SPEC, view, function(view), window, tables)
    local = rows["event_time"].dt.convert_time_zone(SPEC.timezone).dt.date()
    assert sorted(local.unique()) == window.days


def test_aircraft_are_as_registered(tables: Mapping[str, pl.DataFrame]) -> None:
    """Each aircraft has a row from the start of the year; few makers have names of their own."""
    window = Window(SPEC.start, date(2014, 1, 1), SPEC.timezone)
    rows = compute_view(SPEC, "aircraft", features.aircraft, window, tables)
    assert_matches_spec(SPEC, "aircraft", rows, window)
    assert rows["event_time"].unique().to_list() == [window.start_time]
    embraer = rows.row(by_predicate=pl.col("tailnum") == "N10156", named=True)
    assert (embraer["aircraft_age"], embraer["aircraft_seats"]) == (9, 55)
    assert set(rows["aircraft_maker"]) == {
        "airbus",
        "boeing",
        "bombardier",
        "embraer",
        "mcdonnell_douglas",
        "other",
    }


def test_the_carriers_day_before_is_counted_by_hand(tables: Mapping[str, pl.DataFrame]) -> None:
    """Outcomes that became known on 8 March, flights of the 7th that landed after midnight too."""
    zone = ZoneInfo(SPEC.timezone)
    known = [
        row
        for row in tables["flights"].filter(pl.col("carrier") == "DL").iter_rows(named=True)
        if row["known_at"].astimezone(zone).date() == date(2013, 3, 8)
    ]
    assert {row["event_time"].astimezone(zone).day for row in known} == {7, 8}
    arrivals = [row["arr_delay"] for row in known if row["arr_delay"] is not None]
    departures = [row["dep_delay"] for row in known if row["dep_delay"] is not None]
    window = Window(date(2013, 3, 9), date(2013, 3, 10), SPEC.timezone)
    rows = compute_view(SPEC, "carrier_delays", features.carrier_delays, window, tables)
    row = rows.row(by_predicate=pl.col("airline") == "DL", named=True)
    assert row["carrier_late_1d"] == pytest.approx(sum(d > 15 for d in arrivals) / len(arrivals))
    assert row["carrier_dep_delay_1d"] == pytest.approx(sum(departures) / len(departures))
    assert row["carrier_cancelled_1d"] == pytest.approx(
        sum(row["cancelled"] for row in known) / len(known)
    )


def test_a_week_is_seven_days(tables: Mapping[str, pl.DataFrame]) -> None:
    """A route's share over seven days counts the known days 2 to 8 March for the 9th."""
    local = pl.col("known_at").dt.convert_time_zone(SPEC.timezone).dt.date()
    week = tables["flights"].filter(
        pl.col("origin") == "LGA",
        pl.col("dest") == "ORD",
        local.is_between(date(2013, 3, 2), date(2013, 3, 8)),
        pl.col("arr_delay").is_not_null(),
    )
    window = Window(date(2013, 3, 9), date(2013, 3, 10), SPEC.timezone)
    rows = compute_view(SPEC, "route_delays", features.route_delays, window, tables)
    row = rows.row(
        by_predicate=(pl.col("airport") == "LGA") & (pl.col("destination") == "ORD"), named=True
    )
    assert row["route_late_7d"] == pytest.approx((week["arr_delay"] > 15).mean())


def test_the_last_three_hours_are_counted_by_hand(tables: Mapping[str, pl.DataFrame]) -> None:
    """At 15:00 on 8 March: who left since noon, and who should have left and has not."""
    hour = datetime(2013, 3, 8, 20, tzinfo=UTC)
    since = hour - timedelta(hours=3)
    flights = tables["flights"].filter(pl.col("origin") == "LGA").to_dicts()
    left = [
        row["dep_delay"]
        for row in flights
        if row["departed_at"] and since < row["departed_at"] <= hour
    ]
    due = [
        row["departed_at"] is None or row["departed_at"] > hour
        for row in flights
        if since <= row["event_time"] <= hour - timedelta(minutes=15)
    ]
    window = Window(date(2013, 3, 8), date(2013, 3, 9), SPEC.timezone)
    rows = compute_view(SPEC, "origin_recent", features.origin_recent, window, tables)
    row = rows.row(
        by_predicate=(pl.col("airport") == "LGA") & (pl.col("event_time") == hour), named=True
    )
    assert row["origin_dep_delay_3h"] == pytest.approx(sum(left) / len(left), rel=1e-6)
    assert row["origin_late_3h"] == pytest.approx(sum(d > 15 for d in left) / len(left))
    assert row["origin_waiting_3h"] == pytest.approx(sum(due) / len(due))
    assert sum(due) > 0


def test_congestion_counts_scheduled_departures(tables: Mapping[str, pl.DataFrame]) -> None:
    """The hour's own departures, and those of the two hours before with them."""
    hour = datetime(2013, 7, 1, 12, tzinfo=UTC)  # 08:00 in New York
    flights = tables["flights"].filter(pl.col("origin") == "EWR")["event_time"]
    window = Window(date(2013, 7, 1), date(2013, 7, 2), SPEC.timezone)
    rows = compute_view(SPEC, "congestion", features.congestion, window, tables)
    row = rows.row(
        by_predicate=(pl.col("airport") == "EWR") & (pl.col("event_time") == hour), named=True
    )
    end = hour + timedelta(hours=1)
    assert row["departures_1h"] == ((flights >= hour) & (flights < end)).sum()
    assert row["departures_3h"] == ((flights >= hour - timedelta(hours=2)) & (flights < end)).sum()
    assert row["known_at"] == datetime(2013, 6, 30, 4, tzinfo=UTC)


def test_the_schedule_is_in_local_time(tables: Mapping[str, pl.DataFrame]) -> None:
    """05:15 is hour 5 in winter and in summer; it is known from midnight a day before."""
    for month, midnight in ((1, 5), (7, 4)):
        window = Window(date(2013, month, 2), date(2013, month, 3), SPEC.timezone)
        rows = compute_view(SPEC, "schedule", features.schedule, window, tables)
        early = rows.filter(pl.col("hour") == 5)
        assert early.height > 0
        local = early["event_time"].dt.convert_time_zone(SPEC.timezone)
        assert local.dt.hour().unique().to_list() == [5]
        before = datetime(2013, month, 1, midnight, tzinfo=UTC)
        assert rows["known_at"].unique().to_list() == [before]


def test_holidays_follow_their_rules() -> None:
    """The federal holidays of 2013 and the moving ones of another year."""
    assert features.holidays_of(2013) == [
        date(2013, 1, 1),
        date(2013, 1, 21),
        date(2013, 2, 18),
        date(2013, 5, 27),
        date(2013, 7, 4),
        date(2013, 9, 2),
        date(2013, 10, 14),
        date(2013, 11, 11),
        date(2013, 11, 28),
        date(2013, 12, 25),
    ]
    assert date(2021, 5, 31) in features.holidays_of(2021)
    assert date(2021, 11, 25) in features.holidays_of(2021)


def test_days_to_holidays_count_across_the_year(tables: Mapping[str, pl.DataFrame]) -> None:
    """New Year's Eve is a day before and six days after a holiday, a far day ten from both."""
    for day, to, since in (
        (date(2013, 12, 31), 1, 6),
        (date(2013, 1, 1), 0, 0),
        (date(2013, 3, 20), 10, 10),
    ):
        window = Window(day, day + timedelta(days=1), SPEC.timezone)
        rows = compute_view(SPEC, "schedule", features.schedule, window, tables)
        assert rows["days_to_holiday"].unique().to_list() == [to]
        assert rows["days_since_holiday"].unique().to_list() == [since]


def test_flights_around_midnight_change_no_other_day(
    tables: Mapping[str, pl.DataFrame],
) -> None:
    """One leaves before midnight that is scheduled after it, another is scheduled just before."""
    window = Window(date(2013, 7, 1), date(2013, 7, 4), SPEC.timezone)
    midnight = datetime(2013, 7, 3, 4, tzinfo=UTC)
    scheduled = [midnight + timedelta(minutes=10), midnight - timedelta(minutes=30)]
    around = (
        tables["flights"]
        .filter(pl.col("dep_delay") == 0)
        .head(2)
        .with_columns(
            event_id=pl.Series(["after", "before"]),
            event_time=pl.Series(scheduled, dtype=pl.Datetime("us", "UTC")),
            dep_delay=pl.lit(-70, dtype=pl.Int32),
        )
        .with_columns(
            departed_at=pl.col("event_time") - pl.duration(minutes=70),
            known_at=pl.col("event_time") - pl.duration(minutes=20),
        )
    )
    with_them = {**tables, "flights": pl.concat([tables["flights"], around])}
    for view in ("origin_recent", "carrier_delays", "congestion"):
        assert_partition_equals_whole(SPEC, view, function(view), window, with_them)
