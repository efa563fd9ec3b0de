"""What a number should be, from those that move with it.

A day's mean temperature may be anything, given the weeks before; given dew point and humidity of
the same day it hardly can. So a number is judged by the few others that told it best on the days
before: seasons, storms and holidays move them together, a defect moves one alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

MINIMUM_DAYS = 21
"""Three weeks: with fewer days, whatever is chosen from many others fits by chance."""

_MOST = 3
"""Companions of a number at most: a fourth hardly told more, and costs as much as one."""

_LEAST_GAIN = 0.1
"""Share of the error that one more companion has to take away."""

_KNOWN = 0.8
"""Share of days on which a companion has to be known; else the mean stands in for it."""

_BEND = 0.05
"""Of how far out a day is, what a straight line may be off by: on the day of a blizzard numbers
that always went together do so a little less.
"""

_ALONE = 1e-5  # of a column's spread: what is left of one that others tell entirely


@dataclass(frozen=True)
class Told:
    """What a number should be on some days, each of shape (days,); NaN for an unknown companion."""

    value: Vector
    widening: Vector
    """By how much the error is larger than that of days like those that were learned from."""
    unsure: Vector
    """What is added to the error for days that are far out, where the relation may bend."""


@dataclass(frozen=True)
class Fit:
    """How a number was told by its companions on the days of a window."""

    companions: tuple[int, ...]
    """Places among the candidates, the best first."""
    residuals: Vector
    """(days,): of each day told without itself; NaN where the number is unknown."""
    before: float
    """Root mean square of the residuals without companions, likewise without itself."""
    error: float
    """Root mean square of the residuals."""
    worst: float
    """Largest of the residuals."""
    centre: float
    means: Vector
    """(companions,), like ``sizes`` and ``weights``."""
    sizes: Vector
    """Lengths of the companions' departures from their means, over the days of the window."""
    weights: Vector
    """Of departures in these lengths."""
    inverse: Matrix
    """(1 + companions, 1 + companions): covariance of centre and weights, per squared error."""

    def told(self, candidates: Matrix) -> Told:
        """What the number should be, for candidates of shape (days, candidates)."""
        rows = self.rows(candidates)
        moved = rows[:, 1:] @ self.weights
        spread = np.einsum("ij,jk,ik->i", rows, self.inverse, rows)
        return Told(self.centre + moved, np.sqrt(1 + spread), _BEND * np.abs(moved))

    def rows(self, candidates: Matrix) -> Matrix:
        """One, and the companions' departures in their lengths: (days, 1 + companions)."""
        chosen = (candidates[:, list(self.companions)] - self.means) / self.sizes
        return np.concatenate([np.ones((len(candidates), 1)), chosen], axis=1)


def fit(number: Vector, candidates: Matrix, today: Vector, floor: float) -> Fit | None:
    """The companions of ``number``, of shape (days,), among ``candidates`` (days, candidates).

    They are added one by one, each the one that leaves the least error on days that are told
    without themselves (PRESS, Allen 1974), until the next would take away less than a tenth of it,
    or it is below ``floor``. Only candidates that are known in ``today`` (candidates,) are chosen.

    None when the number is known on fewer than 21 days.
    """
    known = np.isfinite(number)
    n = int(known.sum())
    if n < MINIMUM_DAYS:
        return None
    y = number[known]
    places, columns = _usable(candidates[known], today)
    means = columns.mean(axis=0)
    centred = columns - means
    norms = np.sqrt((centred**2).sum(axis=0))
    rest = y - y.mean()
    leverage = np.full(n, 1 / n)
    residuals = rest / (1 - leverage)
    before = error = float(np.sqrt((residuals**2).mean()))
    chosen: list[int] = []
    # What is left of each candidate beside those chosen; for the chosen it is nothing.
    left = centred.copy()
    while len(chosen) < _MOST and error > floor and len(places):
        sizes = np.sqrt((left**2).sum(axis=0))
        unit = left / np.where(sizes > _ALONE * norms, sizes, np.inf)
        remaining = rest[:, None] - unit * (unit.T @ rest)
        levers = np.minimum(leverage[:, None] + unit**2, 0.99)
        errors = np.sqrt(((remaining / (1 - levers)) ** 2).mean(axis=0))
        best = int(errors.argmin())
        if errors[best] > (1 - _LEAST_GAIN) * error:
            break
        chosen.append(best)
        error, rest, leverage = float(errors[best]), remaining[:, best], levers[:, best]
        residuals = rest / (1 - leverage)
        left = left - np.outer(unit[:, best], unit[:, best] @ left)
    sizes = norms[chosen]
    design = np.concatenate([np.ones((n, 1)), centred[:, chosen] / sizes], axis=1)
    # None of the companions is told entirely by the others: the inverse exists.
    inverse: Matrix = np.linalg.inv(design.T @ design).astype(np.float64)
    weights = inverse @ design.T @ y
    all_residuals = np.full(len(number), np.nan)
    all_residuals[known] = residuals
    return Fit(
        companions=tuple(places[each] for each in chosen),
        residuals=all_residuals,
        before=before,
        error=error,
        worst=float(np.abs(residuals).max()),
        centre=float(weights[0]),
        means=means[chosen],
        sizes=sizes,
        weights=weights[1:],
        inverse=inverse,
    )


def _usable(candidates: Matrix, today: Vector) -> tuple[list[int], Matrix]:
    """The places of the candidates that are known well enough and vary, and their columns."""
    known = np.isfinite(candidates)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, candidates, 0).sum(axis=0) / known.sum(axis=0)
    filled = np.where(known, candidates, mean)
    usable = (known.mean(axis=0) >= _KNOWN) & np.isfinite(today)
    spread = np.ptp(filled[:, usable], axis=0) if usable.any() else np.empty(0)
    # A constant that is stored as a float may differ in its last digits.
    varies = spread > 1e-9 * np.abs(filled[:, usable]).max(axis=0, initial=0)
    places = np.flatnonzero(usable)[varies]
    return places.tolist(), filled[:, places]
