"""Distances between two distributions over the same bins.

Each takes two vectors of shares that sum to 1, of shape (bins,), is 0 for equal ones, positive else
and symmetric.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

SMALLEST_SHARE = 1e-4
"""What an empty bin counts as in PSI, where a logarithm needs one; Evidently's choice, too."""


@dataclass(frozen=True)
class Side:
    """A distribution over bins (-inf, edges[0]], ..., (edges[-1], inf)."""

    shares: Vector
    mean: float
    below: float
    """How far the mean of the values in the first bin is below the first edge, 0 without values."""
    above: float
    """How far the mean of the values in the last bin is above the last edge, 0 without values."""


def population_stability_index(p: Vector, q: Vector) -> float:
    """PSI: sum of ``(q - p) ln(q / p)``, in nats; shares below 1e-4 count as 1e-4.

    Also the symmetric Kullback-Leibler divergence (Jeffreys 1946; Siddiqi 2006 for the name).
    """
    p, q = np.maximum(p, SMALLEST_SHARE), np.maximum(q, SMALLEST_SHARE)
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon_distance(p: Vector, q: Vector) -> float:
    """Root of the Jensen-Shannon divergence with logarithms to base 2, from 0 to 1.

    (Lin 1991; Endres and Schindelin 2003: the root is a metric.)
    """
    middle = (p + q) / 2
    used = middle > 0
    halves = np.stack([p[used], q[used]])
    ratio = np.divide(halves, middle[used], out=np.ones_like(halves), where=halves > 0)
    # Rounding may leave a divergence of -1e-17.
    return float(np.sqrt(min(1.0, max(0.0, (halves * np.log2(ratio)).sum() / 2))))


def kolmogorov_smirnov(p: Vector, q: Vector) -> float:
    """Largest difference of the cumulative shares, from 0 to 1, seen at the bins' edges.

    The difference of the values themselves is at least this, and at most this plus the largest
    share of a bin.
    """
    return min(1.0, float(np.abs(np.cumsum(p - q)).max(initial=0.0)))


def wasserstein(p: Side, q: Side, edges: Vector) -> float:
    """The 1-Wasserstein distance, in the column's unit: area between the cumulative shares.

    Values are taken to be spread evenly in a bin, and in the first and the last to lie at their
    mean. That is exact for bins of one value, and for the open bins as long as one side has no
    values there. Never less than the difference of the means, which is exact.
    """
    shift = abs(p.mean - q.mean)
    if not len(edges):
        return shift
    outside = _outside((p.shares[0], p.below), (q.shares[0], q.below))
    outside += _outside((p.shares[-1], p.above), (q.shares[-1], q.above))
    gap = np.cumsum(p.shares - q.shares)[:-1]
    left, right = np.abs(gap[:-1]), np.abs(gap[1:])
    both = left + right
    crossed = (left**2 + right**2) / np.where(both > 0, both, 1)
    height = np.where(gap[:-1] * gap[1:] < 0, crossed, both) / 2
    return max(shift, outside + float(height @ np.diff(edges)))


def _outside(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Area beyond an edge, where each side has (share, distance of its mean from the edge)."""
    (_, near), (share, far) = sorted((a, b), key=lambda side: side[1])
    return abs(a[0] - b[0]) * near + share * (far - near)
