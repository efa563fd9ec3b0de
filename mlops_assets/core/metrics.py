"""Quality of probabilities against outcomes.

Labels are 0 or 1, scores are probabilities of a 1. Everything is computed in 64 bits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import Metrics

Vector = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.number] | npt.NDArray[np.bool_] | Sequence[float] | Sequence[int]
"""Labels or scores of shape (rows,), of any numeric type."""

CALIBRATION_BINS = 10
SMALL_SLICE_ROWS = 200
"""Below it a log-loss moves by some hundredths from luck alone: the slice is flagged."""

# The log of 0 is infinite, and one sure mistake would outweigh every other row. The probability of
# what happened counts as at least the spacing of 64-bit floats at 1: a loss of at most 36.04.
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows with similar scores: what was promised, what happened."""

    mean_score: float
    observed: float
    """Share of positives."""
    rows: int
    low: float
    """Lower end of the 95 % Wilson interval of ``observed``."""
    high: float


@dataclass(frozen=True)
class Slice:
    """The rows that share one value of a feature."""

    value: str | None
    """The value as text; None for missing."""
    rows: int
    base_rate: float
    log_loss: float
    gain: float
    """Log-loss of a constant that knows this slice's own base rate, less the model's, in nats:
    positive when the model tells rows within the slice apart."""
    roc_auc: float | None
    """None where the slice has one class only."""
    small: bool
    """Fewer than 200 rows: the numbers are mostly luck."""


def checked(labels: Numbers, scores: Numbers) -> tuple[Vector, Vector]:
    """``labels`` and ``scores`` as vectors of 64 bits.

    Raises PermanentError when there are no rows, lengths differ, a label is neither 0 nor 1, or a
    score is no probability; it names the first such row.
    """
    y = np.asarray(labels, dtype=np.float64)
    p = np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise PermanentError(
            f"labels have shape {y.shape} and scores {p.shape}: give one score for each label"
        )
    if not len(y):
        raise PermanentError("there are no rows to judge: choose a window that has labels")
    wrong = (y != 0) & (y != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise PermanentError(
            f"the label of row {row} is {y[row]}: labels are 0 or 1, leave out rows without one"
        )
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise PermanentError(
            f"the score of row {row} is {p[row]}: scores are probabilities between 0 and 1"
        )
    return y, p


def metrics(labels: Numbers, scores: Numbers) -> Metrics:
    """Each metric of ``scores``; both of shape (rows,).

    - ``log_loss``: mean of ``-ln(probability given to what happened)``, in nats (Good 1952); that
      probability counts as at least 2⁻⁵².
    - ``roc_auc``: probability that a positive scores above a negative, ties count one half
      (Mann and Whitney 1947; Hanley and McNeil 1982).
    - ``brier``: mean of ``(score - label)²`` (Brier 1950).
    - ``ece``: expected calibration error over 10 bins of equal mass: the mean over rows
      of ``|mean score - share of positives|`` of the row's bin (Naeini et al. 2015; equal mass as
      in Nguyen and O'Connor 2015). Equal scores share a bin.
    - ``base_rate``: share of positives.

    Raises PermanentError for one class only, where roc_auc is undefined, and for the inputs that
    :func:`checked` refuses.
    """
    y, p = checked(labels, scores)
    auc = _roc_auc_by_group(y, p, np.zeros(len(y), dtype=np.intp), 1)[0]
    if np.isnan(auc):
        raise PermanentError(
            f"all {len(y)} labels are {int(y[0])}: roc_auc needs both outcomes; "
            "judge a longer window or check how the label is computed"
        )
    return Metrics(
        rows=len(y),
        log_loss=float(log_losses(y, p).mean()),
        roc_auc=float(auc),
        brier=float(squared_errors(y, p).mean()),
        ece=_ece(y, p),
        base_rate=float(y.mean()),
    )


def log_losses(labels: Vector, scores: Vector) -> Vector:
    """Each row's log-loss, in nats."""
    given = np.where(labels == 1, scores, 1 - scores)
    # The added 0 turns -0 into 0.
    return -np.log(np.maximum(given, _SMALLEST_PROBABILITY)) + 0.0


def squared_errors(labels: Vector, scores: Vector) -> Vector:
    """Each row's term of the Brier score."""
    return (scores - labels) ** 2


def bins_of_equal_mass(scores: Vector, bins: int = CALIBRATION_BINS) -> npt.NDArray[np.intp]:
    """Each row's bin, from 0; at most ``bins`` of them, fewer where scores are tied.

    Edges are the scores at the ranks that split the rows evenly, so that equal scores share a bin
    and the order of rows does not matter.
    """
    ranks = np.arange(1, bins) * len(scores) // bins
    edges = np.unique(np.sort(scores)[ranks])
    return np.searchsorted(edges, scores, side="right")


def _ece(labels: Vector, scores: Vector) -> float:
    gaps = np.bincount(bins_of_equal_mass(scores), weights=scores - labels)
    return float(np.abs(gaps).sum() / len(labels))


def reliability(
    labels: Numbers, scores: Numbers, bins: int = CALIBRATION_BINS
) -> list[ReliabilityBin]:
    """The reliability curve over bins of equal mass, by rising score; empty bins are left out.

    Intervals are Wilson's at 95 % (Wilson 1927; Brown, Cai and DasGupta 2001).
    """
    y, p = checked(labels, scores)
    at = bins_of_equal_mass(p, bins)
    rows = np.bincount(at).astype(np.float64)
    filled = rows > 0
    n = rows[filled]
    observed = np.bincount(at, weights=y)[filled] / n
    mean_score = np.bincount(at, weights=p)[filled] / n
    centre = (observed + _Z_95**2 / (2 * n)) / (1 + _Z_95**2 / n)
    half = _Z_95 * np.sqrt(observed * (1 - observed) / n + _Z_95**2 / (4 * n**2))
    half /= 1 + _Z_95**2 / n
    # Rounding can put an end of the interval an ulp inside a share of exactly 0 or 1.
    low = np.clip(np.minimum(centre - half, observed), 0, 1)
    high = np.clip(np.maximum(centre + half, observed), 0, 1)
    return [
        ReliabilityBin(
            float(mean_score[b]), float(observed[b]), int(n[b]), float(low[b]), float(high[b])
        )
        for b in range(len(n))
    ]


def slices(labels: Numbers, scores: Numbers, values: Sequence[object]) -> list[Slice]:
    """Metrics for each of ``values`` (a feature of the same rows), most rows first.

    None and NaN are one slice, of missing values. One class only is no error here: roc_auc is None.
    Raises PermanentError as :func:`checked` does, and when ``values`` has another length.
    """
    y, p = checked(labels, scores)
    if len(values) != len(y):
        raise PermanentError(
            f"there are {len(values)} values to slice by and {len(y)} labels: give one for each row"
        )
    found: dict[str | None, int] = {}
    codes = np.array([found.setdefault(_as_text(v), len(found)) for v in values], dtype=np.intp)
    rows = np.bincount(codes)
    base_rate = np.bincount(codes, weights=y) / rows
    loss = np.bincount(codes, weights=log_losses(y, p)) / rows
    constant = np.bincount(codes, weights=log_losses(y, base_rate[codes])) / rows
    auc = _roc_auc_by_group(y, p, codes, len(found))
    result = [
        Slice(
            value=value,
            rows=int(rows[code]),
            base_rate=float(base_rate[code]),
            log_loss=float(loss[code]),
            gain=float(constant[code] - loss[code]),
            roc_auc=None if np.isnan(auc[code]) else float(auc[code]),
            small=bool(rows[code] < SMALL_SLICE_ROWS),
        )
        for value, code in found.items()
    ]
    return sorted(result, key=lambda part: (-part.rows, part.value is None, part.value or ""))


def _as_text(value: object) -> str | None:
    if isinstance(value, np.generic):
        value = cast("object", value.item())
    if isinstance(value, float):
        return None if math.isnan(value) else f"{value:g}"
    return None if value is None else str(value)


def base_rate_scores(train_labels: Numbers, n: int) -> Vector:
    """What a model that knows only the share of positives in training says about ``n`` rows.

    Raises PermanentError when the training labels have one class only: such a constant is sure,
    and its loss without bound.
    """
    y = np.asarray(train_labels, dtype=np.float64)
    y, _ = checked(y, np.zeros(len(y)))
    share = float(y.mean())
    if share in (0, 1):
        raise PermanentError(
            f"all {len(y)} training labels are {int(share)}: there is nothing to learn; "
            "train on a longer window or check how the label is computed"
        )
    return np.full(n, share)


def _roc_auc_by_group(
    labels: Vector, scores: Vector, groups: npt.NDArray[np.intp], count: int
) -> Vector:
    """Area under the ROC curve within each group, of shape (count,); NaN for one class only."""
    order = np.lexsort((scores, groups))
    y, group = labels[order], groups[order]
    starts = starts_of_runs(scores[order]) | starts_of_runs(group)
    run = np.cumsum(starts) - 1
    positive = np.bincount(run, weights=y)
    negative = np.bincount(run, weights=1 - y)
    group_of_run = group[starts]
    positives = np.bincount(group_of_run, weights=positive, minlength=count)
    negatives = np.bincount(group_of_run, weights=negative, minlength=count)
    before_group = np.cumsum(negatives) - negatives
    below = np.cumsum(negative) - negative - before_group[group_of_run]
    wins = np.bincount(group_of_run, weights=positive * (below + negative / 2), minlength=count)
    pairs = positives * negatives
    return np.divide(wins, pairs, out=np.full(count, np.nan), where=pairs > 0)


def starts_of_runs(ordered: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where an element of ``ordered`` differs from the one before; the first element does."""
    starts = np.ones(len(ordered), dtype=np.bool_)
    starts[1:] = ordered[1:] != ordered[:-1]
    return starts
