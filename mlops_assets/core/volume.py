"""How many rows a day should have, from the weeks before it.

A day is compared with the same weekday of the last weeks, moved by how the last week compares with
them: growth and seasons pass, a day that came in part or twice does not. Medians and absolute
deviations keep one odd day, a holiday or an earlier defect, from widening what is expected.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

WEEKS = 6
"""Weeks looked at: enough for a median of each weekday, few enough to follow a season."""

LEAST_WEEKS = 2
LEAST_DAYS = 14
"""With fewer days, or fewer of the same weekday, nothing is expected."""

_FEWEST = -math.log(0.62)
_MOST = math.log(1.45)
"""The narrowest that is expected. A holiday with two thirds of the usual rows lies inside, half a
day outside even when the whole one has 1.2 times the usual rows. More than usual is rarer than
less, and the limit closer, so that most holidays that came twice lie outside too."""

_SPREADS = 5.0  # of a normal distribution, one day in a million
_COUNTING = 3.0  # rows that come independently vary by the square root of their number
_MAD_TO_DEVIATION = 1.4826  # for a normal distribution
_MOST_MOVED = 1.5  # a level that moves more in a week is what the check is for


@dataclass(frozen=True)
class Expected:
    """Rows that a day should have: from ``low`` to ``high``, most likely ``rows``."""

    low: float
    high: float
    rows: float
    days: int
    """Days of history that it rests on."""

    def holds(self, rows: int) -> bool:
        """Whether a day of ``rows`` is as expected."""
        return self.low <= rows <= self.high


def expected_rows(history: Mapping[date, int], day: date) -> Expected | None:
    """What ``day`` should have, from the days before it in ``history`` (rows by day).

    Days later than ``day``, and ``day`` itself, are not looked at: a day that is taken in again is
    judged as it was the first time. None when there are too few days to tell.
    """
    known = {
        other: history[other]
        for other in (day - timedelta(days=n) for n in range(1, 7 * WEEKS + 1))
        if history.get(other, 0) > 0
    }
    alike = [rows for other, rows in known.items() if other.weekday() == day.weekday()]
    if len(known) < LEAST_DAYS or len(alike) < LEAST_WEEKS:
        return None
    usual = {
        weekday: median(rows for other, rows in known.items() if other.weekday() == weekday)
        for weekday in {other.weekday() for other in known}
    }
    ratios = {other: math.log(rows / usual[other.weekday()]) for other, rows in known.items()}
    week = [ratio for other, ratio in ratios.items() if other >= day - timedelta(days=7)]
    most = math.log(_MOST_MOVED)
    moved = max(-most, min(most, median(week))) if week else 0.0
    rows = usual[day.weekday()] * math.exp(moved)
    middle = median(ratios.values())
    deviation = _MAD_TO_DEVIATION * median(abs(ratio - middle) for ratio in ratios.values())
    width = max(_SPREADS * deviation, _COUNTING / math.sqrt(rows))
    return Expected(
        low=rows * math.exp(-max(_FEWEST, width)),
        high=rows * math.exp(max(_MOST, width)),
        rows=rows,
        days=len(known),
    )
