"""Thousands of simulated rollouts at a time: what the guards over failed and slow requests would
say at the end of each hour.
"""

import numpy as np
import numpy.typing as npt

from bench._rollout_paired import NEVER, Z_95, Outcomes
from mlops_assets.core.rollout_guards import error_shares, since_weights
from mlops_assets.core.rollout_spec import ErrorGuardSpec, LatencyGuardSpec, RolloutSpec
from mlops_assets.core.sequential import excess_evidence

Counts = npt.NDArray[np.int64]
"""Of shape (simulations, hours): hits of one model."""


def hits(
    share: float, requests: int, simulations: int, hours: int, seed: int, since: int = 0
) -> Counts:
    """Hits among so many requests each hour, of which each is one with the chance ``share``; none
    before the hour ``since``.
    """
    found = np.random.default_rng(seed).binomial(requests, share, size=(simulations, hours))
    found[:, :since] = 0
    return found


def guarded(
    challenger: Counts,
    champion: Counts,
    requests: int,
    spec: RolloutSpec,
    guard: ErrorGuardSpec | LatencyGuardSpec,
) -> Outcomes:
    """What ``guard`` says at the end of each hour."""
    passing, aborting = error_shares(spec)
    simulations, hours = challenger.shape
    aborted = np.full(simulations, NEVER)
    passed = np.full(simulations, NEVER)
    for end in range(hours):
        n = requests * np.arange(end + 1, 0, -1)
        ours = np.cumsum(challenger[:, end::-1], axis=1)[:, ::-1]
        theirs = np.cumsum(champion[:, end::-1], axis=1)[:, ::-1]
        levels = -np.log(aborting * since_weights(end + 1))
        against = _evidence(ours, theirs, np.broadcast_to(n, ours.shape), guard.abort_above)
        sure = (against >= levels).any(axis=1)
        aborted[sure & (aborted == NEVER)] = end
        below = excess_evidence(theirs[:, 0], n[0], ours[:, 0], n[0], -guard.promote_below)
        good = (below >= -np.log(passing)) & (n[0] >= guard.min_requests) & ~sure
        passed[good & (passed == NEVER)] = end
    rows = np.broadcast_to(requests * np.arange(1, hours + 1), challenger.shape)
    return Outcomes(aborted, passed, rows.astype(np.int64))


def z_test(
    challenger: Counts, champion: Counts, requests: int, guard: ErrorGuardSpec | LatencyGuardSpec
) -> Outcomes:
    """A z test of two shares at 5 %, one-sided, looked at each hour."""
    rows = np.broadcast_to(requests * np.arange(1, challenger.shape[1] + 1), challenger.shape)
    p, q = np.cumsum(challenger, axis=1) / rows, np.cumsum(champion, axis=1) / rows
    error = np.sqrt(np.maximum(p * (1 - p) + q * (1 - q), 1e-12) / rows)
    worse = (p - q - guard.abort_above) / error > Z_95
    good = ((p - q - guard.promote_below) / error < -Z_95) & (rows >= guard.min_requests) & ~worse
    return Outcomes(_first(worse), _first(good), rows.astype(np.int64))


def _evidence(ours: Counts, theirs: Counts, n: Counts, margin: float) -> npt.NDArray[np.float64]:
    """Where the shares seen do not differ by more than the margin there is none: not looked for."""
    found = np.full(ours.shape, -np.inf)
    at = (ours - theirs) / n > margin
    found[at] = excess_evidence(ours[at], n[at], theirs[at], n[at], margin)
    return found


def _first(at: npt.NDArray[np.bool_]) -> Counts:
    return np.where(at.any(axis=1), at.argmax(axis=1), NEVER)
