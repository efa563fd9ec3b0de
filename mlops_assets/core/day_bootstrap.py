"""Resampled days: intervals of figures that days contribute to as sums.

Rows of one day are no independent draws, so that days are drawn, as in
:mod:`mlops_assets.core.gate` (Davison and Hinkley 1997, section 3.8; percentile intervals as in
Efron and Tibshirani 1993, chapter 13). Two questions have two intervals. What days like these
would show: draw the days (:func:`drawn_days`, :func:`resampled`). What the labels of these very
days will show, where the sums are an estimate: draw the errors that the estimate made on days
whose labels are there (:func:`errors_of`, :func:`with_errors`).

A table of days has shape (days, columns); its first column counts rows, all columns add up.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.metrics import Vector
from mlops_assets.core.records import Record

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

SAMPLES = 1000
CONFIDENCE = 0.95


class Interval(Record):
    """A value with the ends of its interval: None where there is too little to draw from."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Errors:
    """How far estimates of whole days were off."""

    rows: Vector
    """Rows of each day, of shape (days,)."""
    per_row: Matrix
    """Realized less estimated sums per row, centred, of shape (days, columns)."""


def drawn_days(random: np.random.Generator, days: int, samples: int) -> Codes:
    """As many days as there are, drawn with replacement: codes of shape (samples, days)."""
    return random.integers(days, size=(samples, days), dtype=np.intp)


def resampled(table: Matrix, drawn: Codes) -> Matrix:
    """The sums over the drawn days, of shape (samples, columns)."""
    return _counts(drawn, len(table)) @ table


def errors_of(realized: Matrix, estimated: Matrix) -> Errors:
    """The errors of ``estimated`` against ``realized``, tables of the same days and rows.

    They are centred: what the estimate was off on average is within its own uncertainty, which
    :func:`with_errors` draws too.
    """
    rows = realized[:, 0]
    if not np.array_equal(rows, estimated[:, 0]):
        raise PermanentError(
            "realized and estimated days of the reference differ in rows: estimate the same rows"
        )
    difference = realized - estimated
    mean = difference.sum(axis=0) / rows.sum()
    return Errors(rows, difference / rows[:, np.newaxis] - mean)


def with_errors(sums: Matrix, rows: Matrix, errors: Errors, random: np.random.Generator) -> Matrix:
    """Estimated ``sums`` moved to where labels may put them, of shape (samples, columns).

    ``sums`` has as many rows as there are samples, or one; ``rows`` has shape (samples, days) and
    counts the rows of each day inside. Each day gets the error per row of a day drawn from
    ``errors``. A day with fewer rows than the drawn one gets more of it, by the square root of
    their ratio, as if errors came from the luck of single rows; one with more rows does not get
    less, as if they came from the day. All days share one more error, the mean of as many drawn
    days as there are in ``errors``: that of the calibration, which those days made.
    """
    samples, count = len(rows), len(errors.rows)
    drawn = random.integers(count, size=rows.shape, dtype=np.intp)
    size = rows * np.sqrt(np.maximum(1.0, errors.rows[drawn] / rows))
    own = _counts(drawn, count, size)
    shared = _counts(drawn_days(random, count, samples), count) / count
    return sums + (own - shared * rows.sum(axis=1, keepdims=True)) @ errors.per_row


def interval_of(value: float, draws: Vector | None, confidence: float) -> Interval:
    """The percentile interval of ``draws``, widened to ``value`` where it leaves it out.

    It has no ends without draws, and where more of them are NaN than the interval leaves out.
    """
    if not 0 < confidence < 1:
        raise PermanentError(f"the confidence is {confidence}: give a number between 0 and 1")
    if draws is None or np.isnan(draws).mean() > 1 - confidence:
        return Interval(value=value, low=None, high=None)
    tail = (1 - confidence) / 2
    ends = np.nanquantile(draws, [tail, 1 - tail])
    low, high = cast("list[float]", ends.tolist())
    return Interval(value=value, low=min(low, value), high=max(high, value))


def _counts(drawn: Codes, days: int, weights: Matrix | None = None) -> Matrix:
    """How often each day is drawn, or its total weight, of shape (samples, days)."""
    samples = len(drawn)
    cell = (np.arange(samples)[:, np.newaxis] * days + drawn).ravel()
    flat = None if weights is None else weights.ravel()
    counts = np.bincount(cell, weights=flat, minlength=samples * days)
    return counts.astype(np.float64).reshape(samples, days)
