"""Thousands of simulated rollouts at a time: what the paired guards would say at the end of each
day, and what tests with a fixed sample would.

Traffic is either whole days drawn from the held-out ones, with all that their flights share, or
single requests drawn from all of them. The bounds are those that live decisions use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench._rollout_scores import Pool, Vector
from mlops_assets.core.rollout_evidence import quality_rows, score_rows
from mlops_assets.core.rollout_guards import error_shares, since_weights
from mlops_assets.core.rollout_spec import QualityGuardSpec, RolloutSpec, ScoreGuardSpec, Unit
from mlops_assets.core.sequential import ratio_interval

Z_95 = 1.6448536269514722
NEVER = np.iinfo(np.int64).max

_COLUMNS = 6
"""Of a table of sums: rows, d, b, d², d·b, b²."""

_CHUNK = 4_000_000
"""Requests drawn at a time: bounds memory to some hundred megabytes."""


@dataclass(frozen=True)
class Outcomes:
    """When each simulated rollout would have been aborted and passed: the block at whose end, or
    NEVER; of shape (simulations,). Whichever comes first does not end the other.
    """

    aborted: npt.NDArray[np.int64]
    passed: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    """Rows until the end of each block, of shape (simulations, blocks)."""

    def decided(self) -> npt.NDArray[np.int64]:
        """Rows until the first of both, or NEVER."""
        first = np.minimum(self.aborted, self.passed)
        known = np.minimum(first, self.rows.shape[1] - 1)
        return np.where(first == NEVER, NEVER, self.rows[np.arange(len(first)), known])


def both(one: Outcomes, other: Outcomes) -> Outcomes:
    """Two guards with the same blocks: one aborts, both pass."""
    return Outcomes(
        np.minimum(one.aborted, other.aborted), np.maximum(one.passed, other.passed), one.rows
    )


def traffic(
    pool: Pool, names: Sequence[str], design: str, shape: tuple[int, int], seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Each challenger's sums over losses, of shape (simulations, days, 6), for as many simulations
    and days as ``shape`` says; ``design`` is days or requests.
    """
    random = np.random.default_rng(seed)
    columns = _losses(pool, names)
    if design == "days":
        table = np.zeros((pool.days, columns.shape[1]))
        np.add.at(table, pool.day, columns)
        sums = table[random.integers(pool.days, size=shape)]
    else:
        sums = _drawn(columns, random, shape, len(pool.day) // pool.days)
    return _by_name(sums, names)


def hours(
    pool: Pool, names: Sequence[str], days: int, simulations: int, seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Each challenger's sums over pairs of scores, of shape (simulations, hours, 6), of whole drawn
    days.
    """
    random = np.random.default_rng(seed)
    place = pool.day * 24 + pool.hour
    order = np.argsort(place, kind="stable")
    table = np.zeros((pool.days * 24, len(names) * _COLUMNS))
    for rows in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        for n, name in enumerate(names):
            d, b = score_rows(pool.champion[rows], pool.challengers[name][rows])
            table[place[rows[0]], n * _COLUMNS : (n + 1) * _COLUMNS] = _each(d, b).sum(axis=0)
    by_day = table.reshape(pool.days, 24, -1)
    sums = by_day[random.integers(pool.days, size=(simulations, days))]
    return _by_name(sums.reshape(simulations, days * 24, -1), names)


def guarded(
    sums: npt.NDArray[np.float64],
    spec: RolloutSpec,
    guard: QualityGuardSpec | ScoreGuardSpec,
    unit: Unit | None = None,
) -> Outcomes:
    """What ``guard`` says at the end of each block."""
    seen = _observations(sums, unit or guard.unit)
    passing, aborting = error_shares(spec, unit or guard.unit)
    rows = np.cumsum(sums[:, :, 0], axis=1)
    simulations, blocks = rows.shape
    aborted = np.full(simulations, NEVER)
    passed = np.full(simulations, NEVER)
    for end in range(blocks):
        suffix = np.cumsum(seen[:, end::-1], axis=1)[:, ::-1]
        rows_since = np.cumsum(sums[:, end::-1, 0], axis=1)[:, ::-1]
        lows, _ = ratio_interval(
            *np.moveaxis(suffix, 2, 0), alpha=aborting * since_weights(end + 1)
        )
        sure = ((lows > guard.abort_above) & (rows_since >= guard.min_rows)).any(axis=1)
        aborted[sure & (aborted == NEVER)] = end
        _, high = ratio_interval(*np.moveaxis(suffix[:, 0], 1, 0), alpha=passing)
        good = (high < guard.promote_below) & (rows[:, end] >= guard.min_rows) & ~sure
        passed[good & (passed == NEVER)] = end
    return Outcomes(aborted, passed, rows.astype(np.int64))


def z_test(
    sums: npt.NDArray[np.float64], guard: QualityGuardSpec, looks: Sequence[int]
) -> Outcomes:
    """A z test on single requests at 5 %, one-sided, looked at after each block of ``looks``.

    It passes when it is surely below ``promote_below``; with one look it also passes when it is
    not surely above ``abort_above``: a bake time ends in a promotion unless something was seen.
    """
    total = np.cumsum(sums, axis=1)
    aborted = np.full(len(sums), NEVER)
    passed = np.full(len(sums), NEVER)
    for end in looks:
        worse = _z(total[:, end], guard.abort_above) > Z_95
        better = _z(total[:, end], guard.promote_below) < -Z_95
        aborted[worse & (aborted == NEVER)] = end
        good = ~worse if len(looks) == 1 else better & ~worse
        passed[good & (passed == NEVER)] = end
    return Outcomes(aborted, passed, total[:, :, 0].astype(np.int64))


def _z(sums: npt.NDArray[np.float64], ratio: float) -> Vector:
    n, d, b, dd, db, bb = np.moveaxis(sums, 1, 0)
    mean = (d - ratio * b) / n
    variance = (dd - 2 * ratio * db + ratio**2 * bb) / n - mean**2
    return mean / np.sqrt(variance / n)


def _observations(sums: npt.NDArray[np.float64], unit: Unit) -> npt.NDArray[np.float64]:
    if unit == "request":
        return sums
    rows, d, b = sums[..., 0], sums[..., 1], sums[..., 2]
    return np.stack([(rows > 0).astype(np.float64), d, b, d * d, d * b, b * b], axis=-1)


def _losses(pool: Pool, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Of shape (rows, 6 · names): what each request adds to each challenger's sums."""
    return np.concatenate(
        [_each(*quality_rows(pool.label, pool.champion, pool.challengers[name])) for name in names],
        axis=1,
    )


def _each(d: Vector, b: Vector) -> npt.NDArray[np.float64]:
    return np.stack([np.ones(len(d)), d, b, d * d, d * b, b * b], axis=1)


def _drawn(
    columns: npt.NDArray[np.float64],
    random: np.random.Generator,
    shape: tuple[int, int],
    per_day: int,
) -> npt.NDArray[np.float64]:
    """Sums over ``per_day`` requests, drawn with replacement, for each simulation and day."""
    table = columns.astype(np.float32)
    cells = shape[0] * shape[1]
    at_once = max(1, _CHUNK // (per_day * columns.shape[1] // _COLUMNS))
    found = [
        table[random.integers(len(table), size=(min(at_once, cells - n), per_day))].sum(
            axis=1, dtype=np.float64
        )
        for n in range(0, cells, at_once)
    ]
    return np.concatenate(found).reshape(*shape, -1)


def _by_name(
    sums: npt.NDArray[np.float64], names: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    return {name: sums[..., n * _COLUMNS : (n + 1) * _COLUMNS] for n, name in enumerate(names)}
