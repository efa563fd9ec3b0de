"""Lateness of labels: how long outcomes take to become known, and how complete a day is."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import cast

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.performance_days import Days, as_days
from mlops_assets.core.records import Record

AFTER_HOURS = (1.0, 6.0, 12.0, 24.0, 48.0, 168.0)

Times = npt.NDArray[np.generic] | Sequence[datetime | None]
"""Instants of shape (rows,): datetime64 in UTC, or datetimes with a time zone; None or NaT for
not yet."""


class LabelledAfter(Record):
    """How many rows had their label within some hours after they were asked."""

    hours: float
    rows: int
    """Rows that were asked at least so many hours ago: younger ones cannot tell yet."""
    labelled: int
    """Those of them whose label was known in time."""

    @property
    def share(self) -> float | None:
        """None before any row is old enough."""
        return self.labelled / self.rows if self.rows else None


class DayLabels(Record):
    """The labels of a day's predictions, as known at one instant."""

    day: date
    rows: int
    labelled: int
    after: tuple[LabelledAfter, ...]

    @property
    def complete(self) -> float:
        """Share of rows whose label is known."""
        return self.labelled / self.rows


def label_lateness(
    days: Days,
    asked_at: Times,
    known_at: Times,
    now: datetime,
    after_hours: Sequence[float] = AFTER_HOURS,
) -> tuple[DayLabels, ...]:
    """Each day's labels, days rising; all inputs of shape (rows,).

    ``known_at`` is when the row's label became known; a label known after ``now`` is not there
    yet. Rows that never get a label (a cancelled event) keep a day from becoming complete: leave
    them out where they are known as such.

    Raises PermanentError for no rows, unequal lengths, a row that was not asked, and a time
    without time zone.
    """
    asked, known = _instants(asked_at, "asked_at"), _instants(known_at, "known_at")
    if not len(asked) or asked.shape != known.shape:
        raise PermanentError(
            f"there are {len(asked)} rows and {len(known)} times of labels: give one for each row"
        )
    if np.isnat(asked).any():
        row = int(np.isnat(asked).argmax())
        raise PermanentError(f"row {row} has no time at which it was asked: leave it out")
    found, code = np.unique(as_days(days, len(asked)), return_inverse=True)
    instant = _instants([now], "now")[0]
    # Comparisons with NaT are false: not labelled.
    there = known <= instant

    def count(rows: npt.NDArray[np.bool_]) -> list[int]:
        return np.bincount(code[rows], minlength=len(found)).tolist()

    rows, labelled = count(np.ones(len(code), dtype=np.bool_)), count(there)
    after: list[tuple[float, list[int], list[int]]] = []
    for hours in sorted(after_hours):
        wait = np.timedelta64(round(hours * 3_600_000_000), "us")
        old = asked + wait <= instant
        after.append((float(hours), count(old), count(old & (known <= asked + wait))))
    return tuple(
        DayLabels(
            day=cast("date", day),
            rows=rows[n],
            labelled=labelled[n],
            after=tuple(
                LabelledAfter(hours=hours, rows=old[n], labelled=in_time[n])
                for hours, old, in_time in after
            ),
        )
        for n, day in enumerate(found.tolist())
    )


def over_days(days: Sequence[DayLabels]) -> tuple[LabelledAfter, ...]:
    """Labels within some hours over all of ``days``, which are about the same hours.

    Raises PermanentError for no days and for days about different hours.
    """
    if not days or len({tuple(part.hours for part in day.after) for day in days}) > 1:
        raise PermanentError("give at least one day, and days that are about the same hours")
    return tuple(
        LabelledAfter(
            hours=parts[0].hours,
            rows=sum(part.rows for part in parts),
            labelled=sum(part.labelled for part in parts),
        )
        for parts in zip(*(day.after for day in days), strict=True)
    )


def _instants(times: Times, what: str) -> npt.NDArray[np.datetime64]:
    if isinstance(times, np.ndarray) and times.dtype.kind == "M":
        return times.astype("datetime64[us]")
    naive: list[datetime | None] = []
    for row, time in enumerate(cast("Sequence[datetime | None]", times)):
        if time is not None and time.tzinfo is None:
            raise PermanentError(f"{what} of row {row} is {time}, without a time zone: add it")
        naive.append(None if time is None else time.astimezone(UTC).replace(tzinfo=None))
    return np.array(naive, dtype="datetime64[us]")
