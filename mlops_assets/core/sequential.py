"""Sequential tests that hold at any time of looking.

An e-process is a statistic that is large only when its hypothesis is wrong: under it, the chance
that it *ever* reaches 1/alpha is at most alpha (Ville 1939). Who looks after each request and stops
when it suits errs no more often than who looks once. A confidence sequence is the set of values
that an e-process has not refused.

All functions take numbers or arrays that broadcast, and return arrays of 64 bits.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.number[Any]] | float | int

EFFECT_VARIANCE = 1.0
"""Variance of the effect, in standard deviations of one observation, that :func:`ratio_interval`
is tuned to; the interval is narrowest, for its level, where effects are about that large."""

_GRID, _ZOOMS = 33, 5

_lgamma = np.frompyfunc(math.lgamma, 1, 1)


def ratio_interval(
    n: Numbers, d: Numbers, b: Numbers, dd: Numbers, db: Numbers, bb: Numbers, alpha: Numbers
) -> tuple[Vector, Vector]:
    """Ends of the confidence sequence of E[d] / E[b], from sums over ``n`` observations of d, b,
    d², d·b and b².

    For a candidate ratio R the observations d - R·b have mean 0, so that R is judged by their t
    statistic (Fieller 1954). Their e-process is the Bayes factor of the t test with a normal prior
    of variance g on the effect and the right Haar prior on the scale, with f = n - 1,

        (1 + n·g)^(-1/2) · ((1 + t²/f) / (1 + t²/(f·(1 + n·g))))^(n/2).

    It is one for normal observations of any variance (Lai 1976; Pérez-Ortiz, Lardy, de Heide and
    Grünwald 2024; Wang and Ramdas 2025). For others it holds as the t test does: asymptotically,
    and well for sums of many rows. The ends are infinite while there are too few observations.

    Each end by itself is beyond the truth, ever, with a chance of at most ``alpha``. The half of
    the prior on one side has the e-process E, the other half, on the wrong side of what was seen,
    less than 1; the factor F is the mean of both, so that E > 2·F - 1, and E reaches 1/alpha where
    F reaches (1/alpha + 1)/2.
    """
    n = np.maximum(np.asarray(n, np.float64), 1)
    d, b, dd, db, bb = (np.asarray(sums, np.float64) for sums in (d, b, dd, db, bb))
    scale = 1 + n * EFFECT_VARIANCE
    with np.errstate(all="ignore"):
        threshold = (1 / np.asarray(alpha, np.float64) + 1) / 2
        log_factor = (2 / n) * (0.5 * np.log(scale) + np.log(threshold))
        log_factor = np.minimum(log_factor, 700)
        factor = np.exp(log_factor)
        limit = np.expm1(log_factor) / (1 - factor / scale)
        # Not refused: n·(mean of d - R·b)² < limit · (their sum of squares about that mean).
        mean_d, mean_b = d / n, b / n
        square = n * mean_b**2 - limit * np.maximum(bb - n * mean_b**2, 0)
        half = n * mean_d * mean_b - limit * (db - n * mean_d * mean_b)
        rest = n * mean_d**2 - limit * np.maximum(dd - n * mean_d**2, 0)
        root = np.sqrt(np.maximum(half**2 - square * rest, 0))
        bounded = (n >= 2) & (factor < scale) & (square > 0)
        low = np.where(bounded, (half - root) / square, -np.inf)
        high = np.where(bounded, (half + root) / square, np.inf)
    return low, high


def excess_evidence(
    hits: Numbers, requests: Numbers, other_hits: Numbers, other_requests: Numbers, margin: Numbers
) -> Vector:
    """Log of an e-process against "the share of hits is at most the other's plus ``margin``".

    For each candidate share p of a Bernoulli sequence, the Beta(1/2, 1/2) mixture of likelihood
    ratios B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) / (p^k·(1 - p)^(n - k)) is a martingale with mean 1
    (Robbins 1970; Krichevsky and Trofimov 1981; Howard, Ramdas, McAuliffe and Sekhon 2021). So is
    the product of both models', at their true shares; its least value over all pairs of shares that
    the hypothesis allows is below it (Wasserman, Ramdas and Balakrishnan 2020; Turner and Grünwald
    2023). Exact for any number of requests; only counts matter. ``margin`` is above -1 and below 1.
    """
    k1, n1, k0, n0, m = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (hits, requests, other_hits, other_requests, margin))
    )
    # Where the shares seen are allowed themselves, nothing speaks against the hypothesis. Else the
    # least value is where the shares differ by the margin.
    seen = (n1 > 0) & (n0 > 0) & (k1 * n0 - k0 * n1 > m * n1 * n0)
    with np.errstate(all="ignore"):
        other = _likeliest(k1, n1, k0, n0, m)
        evidence = _mixture(k1, n1, other + m) + _mixture(k0, n0, other)
    return np.where(seen, evidence, -np.inf)


def excess_interval(
    hits: int, requests: int, other_hits: int, other_requests: int, alpha: float
) -> tuple[float, float]:
    """Ends of the confidence sequence of the share's excess over the other's.

    The excesses that :func:`excess_evidence` refuses on neither side; each end by itself is beyond
    the truth, ever, with a chance of at most ``alpha``.
    """
    level = -math.log(alpha)

    def least(k1: int, n1: int, k0: int, n0: int) -> float:
        """The least margin that is not refused."""
        low, high = -1.0, 1.0
        for _ in range(_ZOOMS):
            margins = np.linspace(low, high, _GRID + 2)[1:-1]
            refused = excess_evidence(k1, n1, k0, n0, margins) >= level
            # Evidence falls with the margin: the refused ones come first.
            n = int(refused.sum())
            grid = [low, *margins.tolist(), high]
            low, high = grid[n], grid[n + 1]
        return low

    if not requests or not other_requests:
        return -1.0, 1.0
    return (
        least(hits, requests, other_hits, other_requests),
        -least(other_hits, other_requests, hits, requests),
    )


def _likeliest(k1: Vector, n1: Vector, k0: Vector, n0: Vector, m: Vector) -> Vector:
    """The second model's likeliest share, given that the first's is greater by ``m``.

    The root of a cubic in closed form (Miettinen and Nurminen 1985, appendix 1).
    """
    n, k = n1 + n0, k1 + k0
    square = ((n1 + 2 * n0) * m - n - k) / (3 * n)
    linear = ((n0 * m - n - 2 * k0) * m + k) / (3 * n)
    half = square**3 - 1.5 * square * linear + k0 * m * (1 - m) / (2 * n)
    radius = np.sqrt(np.maximum(square**2 - linear, 0)) * np.where(half < 0, -1.0, 1.0)
    ratio = np.where(radius == 0, 0, half / np.where(radius == 0, 1, radius) ** 3)
    angle = (math.pi + np.arccos(np.clip(ratio, -1, 1))) / 3
    share = 2 * radius * np.cos(angle) - square
    return np.clip(share, np.maximum(0, -m), np.minimum(1, 1 - m))


def _mixture(k: Vector, n: Vector, p: Vector) -> Vector:
    """Log of the mixture of likelihood ratios against the share ``p``."""
    likelihood = np.where(k > 0, k * np.log(p), 0) + np.where(n > k, (n - k) * np.log1p(-p), 0)
    beta = _lgamma(k + 0.5) + _lgamma(n - k + 0.5) - _lgamma(n + 1)
    return np.asarray(beta, np.float64) - math.log(math.pi) - likelihood
