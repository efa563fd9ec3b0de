"""What a backtest keeps of each model that it has trained: immutable documents, stored as JSON."""

from collections.abc import Callable, Iterable
from datetime import date

from mlops_assets.core.performance_days import DayStatistics, Reference
from mlops_assets.core.records import Record

VERSION = 1
"""The version of every model of a backtest: a replay numbers champions by itself."""


class FittedModel(Record):
    """A model of a backtest, as a live training on its window would have made it."""

    first: date
    end: date
    """First day after the window."""
    sha256: str
    """Of the model file."""
    rows: int
    rounds: int
    seconds: float
    """That the training took."""
    importances: dict[str, float]
    reference: Reference
    """Without score bins, which losses do without."""


class ScoredDays(Record):
    """A model on the days after its window, as sums, without score bins.

    A night is told by its distance from the one that ends the event's day, which is 0.
    """

    realized: tuple[tuple[DayStatistics, ...], ...]
    """Item n has the rows whose label became known in night n."""
    estimated: tuple[tuple[DayStatistics, ...], ...]
    """Item 0 has the rows that have a label or may still get one, item n those of which night n
    told that they get none, as a cancelled flight: until then they are expected to."""


def without_bins(statistics: Iterable[DayStatistics]) -> tuple[DayStatistics, ...]:
    """``statistics`` with what losses need alone, a hundredth of the size."""
    none = {"bins": (), "bin_rows": (), "bin_positives": (), "bin_scores": ()}
    return tuple(each.model_copy(update=none) for each in statistics)


def known_by(
    scored: ScoredDays, night_after: date, first: date, end: date
) -> dict[date, DayStatistics]:
    """The realized sums of each day from ``first`` to before ``end``, as known in the night that
    ends the day ``night_after``.
    """
    return _summed(scored.realized, first, end, lambda n, day: (night_after - day).days >= n)


def expected_by(
    scored: ScoredDays, night_after: date, first: date, end: date
) -> dict[date, DayStatistics]:
    """The estimated sums of each day, as they were made in the night that ends ``night_after``."""
    return _summed(
        scored.estimated, first, end, lambda n, day: n == 0 or (night_after - day).days < n
    )


def _summed(
    by_night: tuple[tuple[DayStatistics, ...], ...],
    first: date,
    end: date,
    counts: Callable[[int, date], bool],
) -> dict[date, DayStatistics]:
    found: dict[date, DayStatistics] = {}
    for night, statistics in enumerate(by_night):
        for each in statistics:
            if first <= each.day < end and counts(night, each.day):
                before = found.get(each.day)
                found[each.day] = each if before is None else _added(before, each)
    return {day: found[day] for day in sorted(found)}


def _added(one: DayStatistics, other: DayStatistics) -> DayStatistics:
    return one.model_copy(
        update={
            name: getattr(one, name) + getattr(other, name)
            for name in ("rows", "log_loss", "brier", "own_pairs")
        }
    )
