"""Days and windows of days in a use case's time zone, as UTC instants.

A day is a calendar day in the use case's time zone: 23 or 25 hours long when clocks change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from mlops_assets.core.errors import PermanentError


@dataclass(frozen=True)
class Window:
    """The half-open window of days [first, end) in ``timezone``."""

    first: date
    end: date
    timezone: str

    def __post_init__(self) -> None:
        if self.end <= self.first:
            raise PermanentError(
                f"the window's end {self.end} is not after its first day {self.first}: "
                "give dates in order, the end is the first day that is not included"
            )

    @property
    def start_time(self) -> datetime:
        """The first instant inside, in UTC."""
        return day_start(self.first, self.timezone)

    @property
    def end_time(self) -> datetime:
        """The first instant after, in UTC."""
        return day_start(self.end, self.timezone)

    @property
    def days(self) -> list[date]:
        """Each day inside, in order."""
        return [self.first + timedelta(days=n) for n in range((self.end - self.first).days)]

    @property
    def partitions(self) -> list[str]:
        """Each day's partition key, e.g. ``2013-03-10``."""
        return [day.isoformat() for day in self.days]

    def with_lookback(self, days: int) -> "Window":
        """The same window begun ``days`` days earlier."""
        return Window(self.first - timedelta(days=days), self.end, self.timezone)


def day_start(day: date, timezone: str) -> datetime:
    """Midnight at the start of ``day`` in ``timezone``, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def window_of(partitions: Sequence[str], timezone: str) -> Window:
    """The window that covers ``partitions`` (ISO days, contiguous, in any order).

    Raises PermanentError for no partitions or a gap between them.
    """
    if not partitions:
        raise PermanentError("no partitions were given: choose at least one day")
    days = sorted(date.fromisoformat(partition) for partition in partitions)
    window = Window(days[0], days[-1] + timedelta(days=1), timezone)
    if len(set(days)) != len(window.days):
        missing = sorted(set(window.days) - set(days))
        raise PermanentError(
            f"the partitions have a gap: {missing[0]} is missing; choose days without gaps"
        )
    return window
