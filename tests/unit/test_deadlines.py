"""Deadlines of days, in the use case's time zone."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.deadlines import deadline, gaps, late_days
from mlops_assets.core.errors import PermanentError

START = date(2013, 3, 1)
ZONE = "America/New_York"
dates = st.dates(START, START + timedelta(days=60))


def test_a_day_is_late_once_its_hours_have_passed() -> None:
    """To the second, in the use case's own days."""
    due = datetime(2013, 3, 6, 16, 59, 59, tzinfo=UTC)  # 12 hours after midnight of New York
    present = [date(2013, 3, n) for n in (1, 2, 4)]
    assert late_days(present, START, None, due, ZONE, 12) == [date(2013, 3, 3)]
    due += timedelta(seconds=1)
    assert late_days(present, START, None, due, ZONE, 12) == [date(2013, 3, 3), date(2013, 3, 5)]


def test_a_day_on_which_clocks_change_ends_at_its_own_midnight() -> None:
    """March 10th of 2013 has 23 hours in New York."""
    end = deadline(date(2013, 3, 10), ZONE, 1)
    assert end == datetime(2013, 3, 11, 5, tzinfo=UTC)
    assert end - deadline(date(2013, 3, 9), ZONE, 1) == timedelta(hours=23)


def test_nothing_is_due_before_the_first_or_after_the_last_day() -> None:
    """The end is the first day that is not included."""
    now = datetime(2014, 1, 1, tzinfo=UTC)
    end = START + timedelta(days=2)
    assert late_days([], START, end, now, ZONE, 12) == [START, START + timedelta(days=1)]
    before = datetime(2013, 2, 1, tzinfo=UTC)
    assert late_days([], START, None, before, ZONE, 12) == []


def test_a_time_without_a_zone_is_refused() -> None:
    """It could not be compared with a deadline."""
    with pytest.raises(PermanentError, match="no time zone"):
        late_days([], START, None, datetime(2013, 3, 2), ZONE, 12)  # noqa: DTZ001 - what is refused


@given(st.sets(dates), st.integers(0, 60 * 24), st.floats(0.5, 400))
def test_late_days_are_due_missing_and_in_order(present: set[date], hour: int, due: float) -> None:
    """Each one by its own deadline, none left out."""
    now = datetime(2013, 3, 1, tzinfo=UTC) + timedelta(hours=hour)
    found = late_days(present, START, None, now, ZONE, due)
    every = [START + timedelta(days=n) for n in range(61)]
    assert found == [d for d in every if d not in present and deadline(d, ZONE, due) <= now]


@given(st.sets(dates))
def test_gaps_are_the_days_again(days: set[date]) -> None:
    """Their runs give back each day, and no two runs touch."""
    runs = gaps(sorted(days))
    again = [
        first + timedelta(days=n) for first, last in runs for n in range((last - first).days + 1)
    ]
    assert again == sorted(days)
    assert all(b[0] - a[1] > timedelta(days=1) for a, b in pairwise(runs))
