"""Audit of estimates: each day's estimated loss beside the one that its labels showed.

Works on any loss that is a mean over rows: log-loss or Brier score of a classifier
(:func:`losses_of`), or the absolute error of a regression, where a second model has learned how
large the first one's error is (:func:`day_losses` of its predictions; direct loss estimation).
"""

from collections.abc import Sequence
from datetime import date
from typing import Literal, cast

import numpy as np

from mlops_assets.core.day_bootstrap import (
    CONFIDENCE,
    SAMPLES,
    Errors,
    Interval,
    Matrix,
    errors_of,
    interval_of,
    with_errors,
)
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.gate import MINIMUM_DAYS
from mlops_assets.core.metrics import Numbers, Vector
from mlops_assets.core.performance_days import Days, DayStatistics, as_days
from mlops_assets.core.records import Record

RUNNING_DAYS = 28
"""Audited days that the running figures are about: four of each weekday."""


class DayLoss(Record):
    """A day's sum of a loss, expected or realized."""

    day: date
    rows: int
    loss: float


class LossReference(Record):
    """Days whose labels are there, with the losses that were expected without them.

    The loss model has not seen these days, so that their difference is how far it can be off.
    """

    realized: tuple[DayLoss, ...]
    estimated: tuple[DayLoss, ...]


class AuditDay(Record):
    """An estimate and what came of it. Running figures are about the last 28 audited days, this
    one included, each day of equal weight.
    """

    day: date
    estimated_rows: int
    labelled_rows: int
    estimated: Interval
    """Mean over rows."""
    realized: float
    """Mean over labelled rows."""
    error: float
    """Estimated less realized: positive when the model was better than estimated."""
    inside: bool | None
    """Whether the realized mean is inside the estimate's interval; None where it has no ends."""
    running_bias: float
    """Mean error."""
    running_error: float
    """Mean size of the error."""
    running_coverage: float | None
    """Share of days inside, of those with an interval."""


def day_losses(days: Days, losses: Numbers) -> tuple[DayLoss, ...]:
    """Losses per row, expected or realized, as a sum for each day; both of shape (rows,).

    Raises PermanentError for no rows, unequal lengths, a day that is no date, and a loss that is
    negative or not finite; it names the first such row.
    """
    loss = np.asarray(losses, dtype=np.float64)
    if loss.ndim != 1 or not len(loss):
        raise PermanentError(f"losses have shape {loss.shape}: give one number for each row")
    wrong = ~(np.isfinite(loss) & (loss >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise PermanentError(f"the loss of row {row} is {loss[row]}: losses are at least 0, finite")
    found, code = np.unique(as_days(days, len(loss)), return_inverse=True)
    rows = np.bincount(code)
    total = np.bincount(code, weights=loss)
    return tuple(
        DayLoss(day=cast("date", day), rows=int(rows[n]), loss=float(total[n]))
        for n, day in enumerate(found.tolist())
    )


def losses_of(
    statistics: Sequence[DayStatistics], metric: Literal["log_loss", "brier"]
) -> tuple[DayLoss, ...]:
    """The loss of each day of ``statistics``, versions and roles added up, days rising."""
    sums: dict[date, tuple[int, float]] = {}
    for item in sorted(statistics, key=lambda item: (item.day, item.version, item.role)):
        rows, loss = sums.get(item.day, (0, 0.0))
        added = item.log_loss if metric == "log_loss" else item.brier
        sums[item.day] = (rows + item.rows, loss + added)
    return tuple(DayLoss(day=day, rows=rows, loss=loss) for day, (rows, loss) in sums.items())


def estimated_loss(
    days: Sequence[DayLoss],
    reference: LossReference,
    *,
    confidence: float = CONFIDENCE,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean loss over ``days`` of expected losses, and where their labels will put it.

    The interval comes from the errors of whole days of the reference
    (:func:`mlops_assets.core.day_bootstrap.with_errors`); there is none from fewer than 5 of them.
    The same arguments give the same result, in any order of days.

    Raises PermanentError for no days, and for a reference whose two sides differ in days or rows.
    """
    random = np.random.default_rng(seed)
    return _estimate(_table(days), _errors(reference), random, confidence, samples)


def audit(
    estimated: Sequence[DayLoss],
    realized: Sequence[DayLoss],
    reference: LossReference,
    *,
    confidence: float = CONFIDENCE,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[AuditDay, ...]:
    """Each day that is both estimated and realized, days rising.

    A day's interval depends on that day alone: audited again with more days it is the same.
    Raises PermanentError as :func:`estimated_loss` does, for a day that comes twice, and when no
    day is in both.
    """
    expected, found = _by_day(estimated), _by_day(realized)
    both = sorted(expected.keys() & found.keys())
    if not both:
        raise PermanentError(
            "no day is both estimated and realized: audit days whose labels have come"
        )
    errors = _errors(reference)
    result: list[AuditDay] = []
    for day in both:
        random = np.random.default_rng((seed, day.toordinal()))
        table = _table([expected[day]])
        estimate = _estimate(table, errors, random, confidence, samples)
        actual = found[day].loss / found[day].rows
        error = estimate.value - actual
        inside = None
        if estimate.low is not None and estimate.high is not None:
            inside = estimate.low <= actual <= estimate.high
        last = result[-RUNNING_DAYS + 1 :]
        latest = [*(item.error for item in last), error]
        known = [i for i in (*(item.inside for item in last), inside) if i is not None]
        result.append(
            AuditDay(
                day=day,
                estimated_rows=expected[day].rows,
                labelled_rows=found[day].rows,
                estimated=estimate,
                realized=actual,
                error=error,
                inside=inside,
                running_bias=float(np.mean(latest)),
                running_error=float(np.mean(np.abs(latest))),
                running_coverage=float(np.mean(known)) if known else None,
            )
        )
    return tuple(result)


def _by_day(days: Sequence[DayLoss]) -> dict[date, DayLoss]:
    if not days:
        raise PermanentError("there are no days: choose a window that has predictions")
    result = {item.day: item for item in days}
    if len(result) < len(days):
        seen = [item.day for item in days]
        twice = min(day for day in result if seen.count(day) > 1)
        raise PermanentError(f"{twice} comes twice: its rows would count double; give it once")
    return result


def _table(days: Sequence[DayLoss]) -> Matrix:
    """Rows and losses, of shape (days, 2), days rising."""
    by_day = _by_day(days)
    return np.array([[by_day[day].rows, by_day[day].loss] for day in sorted(by_day)], np.float64)


def _errors(reference: LossReference) -> Errors:
    if {item.day for item in reference.realized} != {item.day for item in reference.estimated}:
        raise PermanentError(
            "realized and estimated days of the reference differ: estimate the same days"
        )
    return errors_of(_table(reference.realized), _table(reference.estimated))


def _estimate(
    table: Matrix, errors: Errors, random: np.random.Generator, confidence: float, samples: int
) -> Interval:
    sums = table.sum(axis=0, keepdims=True)
    draws: Vector | None = None
    if len(errors.rows) >= MINIMUM_DAYS:
        rows = np.broadcast_to(table[:, 0], (samples, len(table)))
        moved = with_errors(sums, rows, errors, random)
        # No loss is negative, however far a drawn error goes.
        draws = np.maximum(moved[:, 1] / moved[:, 0], 0)
    return interval_of(float(sums[0, 1] / sums[0, 0]), draws, confidence)
