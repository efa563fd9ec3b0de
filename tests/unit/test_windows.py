"""Days are days of a calendar in a place, whatever its clocks do."""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.windows import Window, day_start, window_of

ZONES = (
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # clocks change by half an hour
    "America/Sao_Paulo",  # until 2018 clocks went forward at midnight, which such a day lacks
    "America/Havana",  # clocks go back to midnight, which such a day has twice
    "Pacific/Apia",  # 30 December 2011 never was
)

days = st.dates(date(1990, 1, 1), date(2037, 12, 1))
zones = st.sampled_from(ZONES)


def hours(day: date, timezone: str) -> float:
    """How long a day is."""
    window = Window(day, day + timedelta(days=1), timezone)
    return (window.end_time - window.start_time) / timedelta(hours=1)


@given(days, st.integers(1, 400), zones, st.randoms(use_true_random=False))
def test_the_window_of_its_own_partitions_is_the_window(
    first: date, length: int, timezone: str, order: random.Random
) -> None:
    """In whatever order the partitions come, and however often."""
    window = Window(first, first + timedelta(days=length), timezone)
    partitions = window.partitions + window.partitions[:1]
    order.shuffle(partitions)
    assert window_of(partitions, timezone) == window
    assert window.partitions == sorted(window.partitions)
    assert len(window.days) == length


@given(days, zones)
def test_days_follow_each_other_without_gap_or_overlap(day: date, timezone: str) -> None:
    """The end of a day is the start of the next, and no day is longer than 25 hours."""
    today = Window(day, day + timedelta(days=1), timezone)
    tomorrow = Window(day + timedelta(days=1), day + timedelta(days=2), timezone)
    assert today.end_time == tomorrow.start_time
    assert timedelta(0) <= today.end_time - today.start_time <= timedelta(hours=25)


@given(days, zones)
def test_every_instant_of_a_day_has_its_date(day: date, timezone: str) -> None:
    """The first and the last instant are of that day on the local calendar."""
    window = Window(day, day + timedelta(days=1), timezone)
    if window.start_time == window.end_time:
        return  # a day that was left out
    for instant in (window.start_time, window.end_time - timedelta(microseconds=1)):
        assert instant.astimezone(ZoneInfo(timezone)).date() == day


@pytest.mark.parametrize(
    ("day", "timezone", "length"),
    [
        (date(2013, 3, 10), "America/New_York", 23),
        (date(2013, 11, 3), "America/New_York", 25),
        (date(2024, 3, 31), "Europe/Berlin", 23),
        (date(2024, 10, 27), "Europe/Berlin", 25),
        (date(2024, 10, 27), "UTC", 24),
        (date(2024, 4, 7), "Australia/Lord_Howe", 24.5),
        (date(2018, 11, 4), "America/Sao_Paulo", 23),
        (date(2024, 11, 3), "America/Havana", 25),
        (date(2011, 12, 30), "Pacific/Apia", 0),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(day: date, timezone: str, length: float) -> None:
    """On each day around it there are 24 hours."""
    assert hours(day, timezone) == length
    assert hours(day - timedelta(days=1), timezone) == 24
    assert hours(day + timedelta(days=1), timezone) == 24


def test_a_day_begins_at_midnight_of_the_place() -> None:
    """As an instant in UTC."""
    assert day_start(date(2013, 1, 1), "America/New_York") == datetime(2013, 1, 1, 5, tzinfo=UTC)
    assert day_start(date(2013, 7, 1), "America/New_York") == datetime(2013, 7, 1, 4, tzinfo=UTC)


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York", "Australia/Lord_Howe"])
def test_partitions_cover_the_instants_that_dagster_says(timezone: str) -> None:
    """The lake's partitions and those in the UI are the same days."""
    definition = dg.DailyPartitionsDefinition("2013-01-01", "2014-01-01", timezone=timezone)
    for partition in definition.get_partition_keys():
        dagster = definition.time_window_for_partition_key(partition)
        window = window_of([partition], timezone)
        assert (window.start_time, window.end_time) == (dagster.start, dagster.end)


def test_a_lookback_begins_days_earlier_by_the_calendar() -> None:
    """Also over a change of clocks: the window begins at midnight again."""
    window = Window(date(2013, 3, 11), date(2013, 3, 12), "America/New_York").with_lookback(2)
    assert window.partitions == ["2013-03-09", "2013-03-10", "2013-03-11"]
    assert window.start_time == datetime(2013, 3, 9, 5, tzinfo=UTC)


@pytest.mark.parametrize("end", [date(2024, 1, 1), date(2023, 12, 31)])
def test_reversed_dates_are_refused(end: date) -> None:
    """A window without days is a mistake, not an empty result."""
    with pytest.raises(PermanentError, match=r"2024-01-01.*give dates in order"):
        Window(date(2024, 1, 1), end, "UTC")


def test_a_gap_is_refused_by_the_first_missing_day() -> None:
    """What lies in a gap would be read as if it had been asked for."""
    with pytest.raises(PermanentError, match="2024-02-29 is missing"):
        window_of(["2024-03-01", "2024-02-28", "2024-03-04"], "UTC")


def test_no_partitions_are_refused() -> None:
    """There is no window without days."""
    with pytest.raises(PermanentError, match="at least one day"):
        window_of([], "UTC")
