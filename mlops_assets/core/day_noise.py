"""Whether two windows differ by more than days differ anyway.

Rows of one day share weather, strikes and holidays: a million rows of 28 days are no million
independent draws, and a test that takes them for such finds drift everywhere. The day is therefore
the unit, in blocks of consecutive days, since days resemble the next.

For a column, with the shares p and q of its cells (bins, or missing and not) in the two windows and
m = (p + q) / 2, the statistic is T = sum of (p - q)² / m, which for small shifts is 8 ln 2 times
the Jensen-Shannon divergence in bits. Without drift the days of both windows, each taken relative
to its own window's shares, are draws of the same noise. The block bootstrap (Künsch 1989) draws
blocks of them to see how T spreads by days alone; T being a quadratic form of means, the first two
moments that it would arrive at have a closed form, so that nothing is drawn: the result has no
seed, and p-values that are not bounded by a number of samples. The tail is Satterthwaite's (1946),
a scaled chi-square of the same mean and variance, as Rao and Scott (1981) take for clustered
samples; that the moments come from few days makes it Fisher's F (normal approximation of Paulson,
1942).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

MINIMUM_DAYS = 5
"""Days that noise is learned from; from fewer it cannot be told."""

# A block that is as long as its window has no noise, one of a third keeps two thirds of it, and
# the rest is made up for.
_BLOCKS = 3
_JENSEN_SHANNON = 8 * math.log(2)
# Standard normal quantile of 0.95.
_Z = 1.6448536269514722


@dataclass(frozen=True)
class Shift:
    """How two windows differ in one column, compared with days."""

    p_value: float
    """Probability of a difference like this, or more, by days alone."""
    noise: float
    """Jensen-Shannon distance that days alone exceed in 1 of 20 cases."""
    design_effect: float
    """Rows that say as much as one independent row, at least 1."""


@dataclass(frozen=True)
class _Noise:
    """What days do by themselves."""

    covariance: Matrix
    """(cells, cells): of the mean of a window, times its days."""
    rows_a_day: float
    blocks: float
    """Independent blocks that it was learned from."""


def shift(reference: Matrix, current: Matrix, block_days: int) -> Shift | None:
    """The difference of two windows, from counts of shape (days, cells), both with some rows.

    ``block_days``: days that may depend on each other. None where days have no say: all rows of
    both windows are in the same cell, or there are fewer than MINIMUM_DAYS to learn noise from.
    """
    sums = reference.sum(axis=0), current.sum(axis=0)
    rows = [float(each.sum()) for each in sums]
    p, q = (each / n for each, n in zip(sums, rows, strict=True))
    used = p + q > 0
    freedom = int(np.count_nonzero(used)) - 1
    if not freedom:
        return None
    middle = ((p + q) / 2)[used]
    # Divided by the root of the share that it has by chance, each cell's noise weighs alike.
    scaled = [
        _residuals(window[:, used], shares[used], n) / np.sqrt(middle)
        for window, shares, n in ((reference, p, rows[0]), (current, q, rows[1]))
    ]
    covariance = np.zeros((len(middle), len(middle)))
    lacking, blocks = 0.0, math.inf
    lengths = [_block_length(scaled, min(block_days, len(window))) for window in scaled]
    noises = {length: _noise(scaled, rows, length) for length in set(lengths)}
    for window, n, length in zip(scaled, rows, lengths, strict=True):
        noise = noises[length]
        if noise is None:
            return None
        covariance += noise.covariance / len(window)
        blocks = min(blocks, noise.blocks)
        # Days of fewer rows have more sampling noise than those that noise was learned from.
        lacking += max(0.0, 1 / n - 1 / (len(window) * noise.rows_a_day))
    mean, variance = float(np.trace(covariance)), 2 * float((covariance**2).sum())
    # Rows say at most as much as independent ones.
    independent = freedom * sum(1 / n for n in rows)
    extra = max(lacking, (independent - mean) / freedom)
    variance += 4 * extra * mean + 2 * freedom * extra**2
    mean += freedom * extra
    degrees = 2 * mean**2 / variance
    statistic = float((((p - q)[used] ** 2) / middle).sum())
    return Shift(
        p_value=_f_tail(statistic / mean, degrees, degrees * max(1.0, blocks - 1)),
        noise=min(1.0, math.sqrt(mean * _chi_square_95(degrees) / _JENSEN_SHANNON)),
        design_effect=mean / independent,
    )


def _residuals(window: Matrix, shares: Vector, rows: float) -> Matrix:
    """What each day has more than the window's shares, in shares of a mean day."""
    return (window - np.outer(window.sum(axis=1), shares)) * (len(window) / rows)


def _block_length(scaled: list[Matrix], wanted: int) -> int:
    return max(1, min(wanted, max(map(len, scaled)) // _BLOCKS))


def _noise(scaled: list[Matrix], rows: list[float], block: int) -> _Noise | None:
    """The moments of blocks of ``block`` days, wrapped around each window's ends."""
    chosen = [
        (window, n)
        for window, n in zip(scaled, rows, strict=True)
        if len(window) >= max(2, _BLOCKS * block if block > 1 else 2)
    ]
    days = sum(len(window) for window, _ in chosen)
    if days < MINIMUM_DAYS:
        return None
    covariance = np.zeros((scaled[0].shape[1],) * 2)
    for window, _ in chosen:
        sums = np.cumsum(np.concatenate([window, window[:block]]), axis=0)
        sums = sums[block:] - sums[:-block]
        # Residuals of a window sum to zero, which takes noise from long blocks of few.
        covariance += sums.T @ sums / (block * (1 - block / len(window)))
    return _Noise(covariance / days, sum(n for _, n in chosen) / days, days / block)


def _f_tail(ratio: float, above: float, below: float) -> float:
    """Probability that Fisher's F with ``above`` and ``below`` degrees of freedom is larger."""
    root = ratio ** (1 / 3)
    a, b = 2 / (9 * above), 2 / (9 * below)
    z = ((1 - b) * root - (1 - a)) / math.sqrt(b * root**2 + a)
    return math.erfc(z / math.sqrt(2)) / 2


def _chi_square_95(degrees: float) -> float:
    """The 0.95 quantile of chi-square over its degrees of freedom (Wilson and Hilferty 1931)."""
    a = 2 / (9 * degrees)
    return (1 - a + _Z * math.sqrt(a)) ** 3
