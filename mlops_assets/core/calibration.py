"""Calibration: from a model's score to the share of positives among rows with that score.

A calibration is fitted on labelled rows that the model was not fitted to, is kept with the model
version as JSON, and says afterwards what to expect of rows whose labels have not come.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.metrics import Numbers, Vector, checked, starts_of_runs
from mlops_assets.core.records import Record

FOLDS = 10
"""Parts that :func:`cross_fitted` makes of the days, where there are as many."""

# A score of exactly 0 or 1 has no logit: it counts as the closest one of 32-bit floats below 1,
# which is what models answer with.
_NEAREST_TO_CERTAIN = float(np.finfo(np.float32).epsneg)
_NEWTON_STEPS = 50
_CONVERGED = 1e-10


class IsotonicCalibration(Record):
    """The non-decreasing line through the knots (``scores``, ``probabilities``), flat outside."""

    method: Literal["isotonic"] = "isotonic"
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]


class PlattCalibration(Record):
    """The logistic function of ``slope * logit(score) + intercept``."""

    method: Literal["platt"] = "platt"
    slope: float
    intercept: float


Calibration = Annotated[IsotonicCalibration | PlattCalibration, Field(discriminator="method")]
Fit = Callable[[Numbers, Numbers], IsotonicCalibration | PlattCalibration]
"""Fits a calibration to labels and scores."""


def pool_adjacent_violators(values: Numbers, weights: Numbers | None = None) -> Vector:
    """The non-decreasing vector that is closest to ``values``, of the same shape (n,).

    Closest in the sum of ``weights * difference²``; weights are positive, 1 by default. Computed
    by pooling neighbours in the wrong order into their mean until there are none (Ayer et al.
    1955; Barlow et al. 1972), in O(n). What is non-decreasing is returned as it is.

    Raises PermanentError for values that are not finite, weights that are not positive, and
    unequal lengths.
    """
    v = np.asarray(values, dtype=np.float64)
    w = np.ones_like(v) if weights is None else np.asarray(weights, dtype=np.float64)
    if v.ndim != 1 or v.shape != w.shape:
        raise PermanentError(f"values have shape {v.shape} and weights {w.shape}: give one for one")
    wrong = ~(np.isfinite(v) & np.isfinite(w) & (w > 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise PermanentError(
            f"row {row} has value {v[row]} and weight {w[row]}: values are finite, weights positive"
        )
    if not len(v):
        return v
    # A run that does not rise is pooled whole, whatever is around it: of 0 and 1 by rising score
    # that leaves a fraction for the loop.
    starts = np.flatnonzero(np.append(True, v[1:] > v[:-1]))
    sizes = np.diff(np.append(starts, len(v)))
    weight_of = np.add.reduceat(w, starts)
    mean_of = np.clip(np.add.reduceat(v * w, starts) / weight_of, v[starts + sizes - 1], v[starts])
    means: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    runs = zip(mean_of.tolist(), weight_of.tolist(), sizes.tolist(), strict=True)
    for run_mean, run_mass, run_length in runs:
        mean, mass, length = run_mean, run_mass, run_length
        while means and means[-1] > mean:
            before, before_mass = means.pop(), masses.pop()
            total = before_mass + mass
            # Written as a step from one mean to the other, a mean cannot leave their interval.
            mean = min(max(before + (mean - before) * (mass / total), mean), before)
            mass = total
            length += lengths.pop()
        means.append(mean)
        masses.append(mass)
        lengths.append(length)
    return np.repeat(np.array(means, dtype=np.float64), np.array(lengths, dtype=np.intp))


def fit_isotonic(labels: Numbers, scores: Numbers) -> IsotonicCalibration:
    """The non-decreasing calibration with the least squared error (Zadrozny and Elkan 2002).

    Rows of equal scores count as one, of their mean. Between two scores that occur the line is
    straight. The mean of the calibrated scores is the share of positives.

    Raises PermanentError as :func:`mlops_assets.core.metrics.checked` does, and for one class.
    """
    y, p = _with_both_classes(labels, scores)
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(starts_of_runs(p[order]))
    rows = np.diff(np.append(starts, len(p))).astype(np.float64)
    knots = p[order][starts]
    fitted = pool_adjacent_violators(np.add.reduceat(y[order], starts) / rows, rows)
    # Inside a flat part a knot changes nothing.
    kept = np.ones(len(fitted), dtype=np.bool_)
    kept[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return IsotonicCalibration(
        scores=tuple(knots[kept].tolist()), probabilities=tuple(fitted[kept].tolist())
    )


def fit_platt(labels: Numbers, scores: Numbers) -> PlattCalibration:
    """The logistic calibration with the greatest likelihood (Platt 1999), of logits of scores.

    Labels are drawn in towards one half as Platt does, by as much as one row more of each class
    would, so that a perfect separation has a finite answer. Solved by Newton's method with halved
    steps (Lin, Lin and Weng 2007).

    Raises PermanentError as :func:`mlops_assets.core.metrics.checked` does, and for one class.
    """
    y, p = _with_both_classes(labels, scores)
    positives = float(y.sum())
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    x = np.stack([_logit(p), np.ones(len(p))])

    def loss(at: Vector) -> float:
        z = at @ x
        return float((np.logaddexp(0, z) - target * z).sum())

    found = np.array([0.0, float(np.log(positives / (len(y) - positives)))])
    now = loss(found)
    for _ in range(_NEWTON_STEPS):
        chance = _logistic(found @ x)
        gradient = x @ (chance - target)
        # A little on the diagonal: of equal scores alone the slope is undetermined.
        curvature = (x * (chance * (1 - chance))) @ x.T + 1e-12 * len(y) * np.eye(2)
        step = np.asarray(np.linalg.solve(curvature, gradient), dtype=np.float64)
        while (then := loss(found - step)) > now and np.abs(step).max() > _CONVERGED:
            step /= 2
        if then > now:
            break
        found, gained, now = found - step, now - then, then
        if gained <= _CONVERGED * now:
            break
    return PlattCalibration(slope=float(found[0]), intercept=float(found[1]))


def calibrated(
    calibration: IsotonicCalibration | PlattCalibration, scores: Numbers
) -> npt.NDArray[np.float64]:
    """The probability of a positive for each of ``scores``; both of shape (rows,).

    Raises PermanentError for no rows and for a score that is no probability.
    """
    p = checked(np.zeros(len(scores)), scores)[1]
    if isinstance(calibration, PlattCalibration):
        return _logistic(calibration.slope * _logit(p) + calibration.intercept)
    return np.interp(p, calibration.scores, calibration.probabilities)


def cross_fitted(
    labels: Numbers,
    scores: Numbers,
    days: npt.NDArray[np.intp],
    fit: Fit = fit_isotonic,
    folds: int = FOLDS,
) -> Vector:
    """Each row's probability from a calibration that has not seen the row's day; shape (rows,).

    What a calibration errs by on the rows that it was fitted to says little about other days.
    ``days`` codes each row's day from 0. The days are dealt out over ``folds`` parts, at most one
    for each day; each part gets the calibration of all the others.

    Raises PermanentError for fewer than two days, and where ``fit`` does.
    """
    y, p = checked(labels, scores)
    if len(days) != len(y):
        raise PermanentError(
            f"there are {len(days)} days and {len(y)} labels: give the day of each row"
        )
    count = int(days.max()) + 1
    if count < 2:
        raise PermanentError(
            "all rows are of one day: how far a calibration carries shows on other days only, "
            "give at least two"
        )
    part = days % min(folds, count)
    result = np.empty(len(y))
    for number in range(min(folds, count)):
        inside = part == number
        if inside.any():
            result[inside] = calibrated(fit(y[~inside], p[~inside]), p[inside])
    return result


def _with_both_classes(labels: Numbers, scores: Numbers) -> tuple[Vector, Vector]:
    y, p = checked(labels, scores)
    if y.min() == y.max():
        raise PermanentError(
            f"all {len(y)} labels are {int(y[0])}: a calibration needs both outcomes; give more "
            "days or check how the label is computed"
        )
    return y, p


def _logit(scores: Vector) -> Vector:
    inside = np.clip(scores, _NEAREST_TO_CERTAIN, 1 - _NEAREST_TO_CERTAIN)
    return np.log(inside) - np.log1p(-inside)


def _logistic(z: Vector) -> Vector:
    # Either branch is exact where the other one overflows.
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, small) / (1 + small)
