"""Lateness of labels: shares known after some hours, by day and over days."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.label_lateness import DayLabels, label_lateness, over_days

START = datetime(2013, 3, 1, tzinfo=UTC)


def _lateness(waits: list[float | None], asked: list[float], now: float) -> tuple[DayLabels, ...]:
    """Rows asked and judged at hours after the start; waits in hours, None for never."""
    asked_at = [START + timedelta(hours=hour) for hour in asked]
    known_at = [
        None if wait is None else at + timedelta(hours=wait)
        for at, wait in zip(asked_at, waits, strict=True)
    ]
    days = [at.date() for at in asked_at]
    return label_lateness(days, asked_at, known_at, START + timedelta(hours=now), (2, 10))


def test_rows_are_counted_once_they_are_old_enough() -> None:
    """A row asked an hour ago says nothing about labels after two hours."""
    first, second = _lateness([1, 3, None, 1], [0, 0, 0, 29], now=30)
    assert (first.day, first.rows, first.labelled) == (date(2013, 3, 1), 3, 2)
    assert first.complete == pytest.approx(2 / 3)
    assert [(part.hours, part.rows, part.labelled) for part in first.after] == [
        (2, 3, 1),
        (10, 3, 2),
    ]
    assert (second.labelled, second.complete) == (1, 1)
    assert [part.share for part in second.after] == [None, None]
    assert [part.share for part in over_days([first, second])] == pytest.approx([1 / 3, 2 / 3])


def test_a_label_of_the_future_is_not_there_yet() -> None:
    """In a replay the source knows more than the moment does."""
    (day,) = _lateness([1, 5], [0, 0], now=3)
    assert (day.rows, day.labelled) == (2, 1)
    assert [(part.rows, part.labelled) for part in day.after] == [(2, 1), (0, 0)]


@given(
    st.lists(st.tuples(st.none() | st.floats(0, 50), st.floats(0, 70)), min_size=1, max_size=40),
    st.floats(70, 200),
)
def test_shares_rise_with_hours_for_rows_that_are_old(rows, now: float) -> None:
    """Labelled rows never exceed rows, nor does waiting longer lose a label."""
    days = _lateness([wait for wait, _ in rows], [asked for _, asked in rows], now)
    assert sum(day.rows for day in days) == len(rows)
    for day in days:
        early, late = day.after
        assert 0 <= early.labelled <= early.rows <= day.rows
        assert late.rows <= early.rows
        assert late.labelled <= day.labelled <= day.rows
        if late.rows == early.rows:
            assert early.labelled <= late.labelled


def test_arrays_of_instants_are_taken_as_utc() -> None:
    """As polars and numpy give them."""
    asked = np.array(["2013-03-01T00:00", "2013-03-01T01:00"], dtype="datetime64[s]")
    known = np.array(["2013-03-01T01:00", "NaT"], dtype="datetime64[us]")
    (day,) = label_lateness(["2013-03-01"] * 2, asked, known, START + timedelta(days=1), (1,))
    assert day.after[0].share == 0.5
    assert DayLabels.model_validate_json(day.model_dump_json()) == day


def test_times_that_cannot_be_are_refused() -> None:
    """No rows, unequal lengths, a row never asked, a time without zone, unlike days."""
    day = START.date()
    with pytest.raises(PermanentError, match="0 rows"):
        label_lateness([], [], [], START)
    with pytest.raises(PermanentError, match="1 rows and 2 times"):
        label_lateness([day], [START], [START, None], START)
    with pytest.raises(PermanentError, match="row 1 has no time"):
        label_lateness([day] * 2, [START, None], [START, None], START)
    with pytest.raises(PermanentError, match=r"known_at of row 0 .* time zone"):
        label_lateness([day], [START], [datetime(2013, 3, 1)], START)  # noqa: DTZ001
    one = label_lateness([day], [START], [START], START, (1,))
    other = label_lateness([day], [START], [START], START, (2,))
    with pytest.raises(PermanentError, match="same hours"):
        over_days([*one, *other])
    with pytest.raises(PermanentError, match="at least one day"):
        over_days([])
