"""Which days should be there by now and are not."""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.windows import day_start


def late_days(
    present: Collection[date],
    start: date,
    end: date | None,
    now: datetime,
    timezone: str,
    due_hours: float,
) -> list[date]:
    """Days from ``start`` until before ``end`` that are due and not ``present``, in order.

    A day is due ``due_hours`` after its end, which is the next midnight in ``timezone``. ``now``
    has a time zone; PermanentError for one without.
    """
    if now.tzinfo is None:
        raise PermanentError(f"the time {now} has no time zone: give one")
    # A day too many at first: the loop below leaves out what is not due, in the calendar's hours.
    past = (now - timedelta(hours=due_hours)).astimezone(ZoneInfo(timezone)).date()
    last = past if end is None else min(past, end - timedelta(days=1))
    found = set(present)
    candidates = (start + timedelta(days=n) for n in range((last - start).days + 1))
    return [
        day for day in candidates if day not in found and deadline(day, timezone, due_hours) <= now
    ]


def deadline(day: date, timezone: str, due_hours: float) -> datetime:
    """When ``day`` has to be there, in UTC."""
    return day_start(day + timedelta(days=1), timezone) + timedelta(hours=due_hours)


def gaps(days: Sequence[date]) -> list[tuple[date, date]]:
    """Ordered ``days`` as (first, last) of each run of days that follow each other."""
    runs: list[tuple[date, date]] = []
    for day in days:
        if runs and day - runs[-1][1] == timedelta(days=1):
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs
