"""What each guard of a rollout says about the evidence.

Two questions are asked of each number, each by a sequential test of its own: is it surely above
``abort_above``, is it surely below ``promote_below``? "Surely" allows for one error in twenty (at
confidence 0.95) over the whole life of the rollout.

- Abort: any guard may abort, so that they share the error equally. Each looks for a change since
  any block of its evidence, not only since the beginning: a challenger that was fine for a week
  must not have a week's credit. The test that begins at block j has the share 1/(j·(j+1)) of the
  guard's error; these add up to 1.
- Promote: all guards have to agree, so that a bad challenger needs the error of the guard that it
  is bad for: each has it in full. The test is over all evidence.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from mlops_assets.core.rollout_records import (
    CountBlock,
    Evidence,
    GuardName,
    GuardVerdict,
    PairedBlock,
)
from mlops_assets.core.rollout_spec import (
    ErrorGuardSpec,
    LatencyGuardSpec,
    QualityGuardSpec,
    RolloutSpec,
    ScoreGuardSpec,
    Unit,
)
from mlops_assets.core.sequential import (
    Vector,
    excess_evidence,
    excess_interval,
    ratio_interval,
)

_PairedSpec = QualityGuardSpec | ScoreGuardSpec
_CountSpec = ErrorGuardSpec | LatencyGuardSpec

_RESERVE = 5
"""Hours and days are few, and skewed: on most days a challenger is a little worse, on a rare one
much better, so that a t test that may begin at any of them aborts more often than it says. On the
flights it is 3 to 4 times as often (docs/rollouts.md); aborts over hours and days keep that much in
reserve."""

_WHAT: dict[GuardName, str] = {
    "quality": "log-loss is {} of the champion's above the champion's",
    "scores": "on {} of the pairs of requests both models disagree",
    "errors": "the share of failed requests is {} above the champion's",
    "latency": "the share of slow requests is {} above the champion's",
}


def verdicts(spec: RolloutSpec, evidence: Evidence, now: datetime) -> tuple[GuardVerdict, ...]:
    """What each guard that is on says, in the order of the spec's fields."""
    found: list[GuardVerdict] = []
    if spec.quality:
        blocks = _closed(evidence.quality, spec.quality, now)
        waiting = len(evidence.quality) - sum(known is not None for known in blocks)
        levels = error_shares(spec, spec.quality.unit)
        found.append(_paired("quality", spec.quality, blocks, *levels, waiting))
    if spec.scores:
        blocks = _closed(evidence.scores, spec.scores, now)
        levels = error_shares(spec, spec.scores.unit)
        found.append(_paired("scores", spec.scores, blocks, *levels))
    if spec.errors:
        found.append(_counted("errors", spec.errors, evidence.errors, *error_shares(spec)))
    if spec.latency:
        found.append(_counted("latency", spec.latency, evidence.latency, *error_shares(spec)))
    return tuple(found)


def error_shares(spec: RolloutSpec, unit: Unit = "request") -> tuple[float, float]:
    """The chance of a wrong pass, and of a wrong abort, that one guard may use.

    Which guards are on counts, not which have evidence: shares must not depend on the data.
    """
    on = [each for each in (spec.quality, spec.scores, spec.errors, spec.latency) if each]
    alpha = 1 - spec.confidence
    return alpha, alpha / max(1, len(on)) / (1 if unit == "request" else _RESERVE)


def since_weights(blocks: int) -> Vector:
    """The share of a guard's error that the test which begins at each block has."""
    begins = np.arange(1, blocks + 1, dtype=np.float64)
    return 1 / (begins * (begins + 1))


class PairedSums(NamedTuple):
    """Sums over observations, as :func:`~mlops_assets.core.sequential.ratio_interval` has them,
    one item per block, 0 for a block that does not count.
    """

    n: Vector
    d: Vector
    b: Vector
    dd: Vector
    db: Vector
    bb: Vector


def observations(blocks: Sequence[PairedBlock | None], unit: Unit) -> PairedSums:
    """Each block's sums over its observations: its rows, or itself as one."""
    rows = np.array([0 if block is None else block.rows for block in blocks], np.float64)
    d, b, dd, db, bb = (
        np.array([0 if block is None else getattr(block, name) for block in blocks], np.float64)
        for name in ("d", "b", "dd", "db", "bb")
    )
    if unit == "request":
        return PairedSums(rows, d, b, dd, db, bb)
    return PairedSums((rows > 0).astype(np.float64), d, b, d * d, d * b, b * b)


def _closed(
    blocks: Sequence[PairedBlock], spec: _PairedSpec, now: datetime
) -> list[PairedBlock | None]:
    """Each block that counts; None keeps the place of one that does not yet.

    A block as one observation has to be over. Labels come early for some outcomes and late for
    others, so that a block without nearly all of them is a biased one.
    """
    needed = spec.labelled if isinstance(spec, QualityGuardSpec) else 0.0
    return [
        block
        if block.rows >= needed * block.requests
        and (block.end <= now or (spec.unit == "request" and not needed))
        else None
        for block in blocks
    ]


def _paired(
    guard: GuardName,
    spec: _PairedSpec,
    blocks: Sequence[PairedBlock | None],
    alpha: float,
    shared: float,
    waiting: int = 0,
) -> GuardVerdict:
    sums = observations(blocks, spec.unit)
    rows = sum(block.rows for block in blocks if block is not None)
    units, base = float(sums.n.sum()), float(sums.b.sum())
    value = low = high = None
    since: datetime | None = None
    if units and base > 0:
        value = float(sums.d.sum()) / base
        ends = _interval(PairedSums(*(each.sum() for each in sums)), alpha)
        low, high = _finite(float(ends[0])), _finite(float(ends[1]))
    if rows >= spec.min_rows:
        suffix = PairedSums(*(np.cumsum(each[::-1])[::-1] for each in sums))
        lows, _ = _interval(suffix, shared * since_weights(len(blocks)))
        rows_since = np.cumsum([0 if b is None else b.rows for b in blocks][::-1])[::-1]
        surplus = np.where(rows_since >= spec.min_rows, lows - spec.abort_above, -np.inf)
        since = _start(blocks, surplus)
    passes = rows >= spec.min_rows and high is not None and high < spec.promote_below
    what = "pairs" if guard == "scores" else "rows"
    short = f"{rows} {what} of {spec.min_rows}" if rows < spec.min_rows else ""
    if waiting:
        short += f"{', ' if short else ''}{waiting} blocks wait for their end or for labels"
    return _verdict(
        guard, spec, value, low, high, rows, round(units), since, sure_of_pass=passes, short=short
    )


def _counted(
    guard: GuardName,
    spec: _CountSpec,
    blocks: Sequence[CountBlock],
    alpha: float,
    shared: float,
) -> GuardVerdict:
    counts = np.array(
        [
            (b.challenger_hits, b.challenger_requests, b.champion_hits, b.champion_requests)
            for b in blocks
        ],
        np.int64,
    ).reshape(-1, 4)
    hits, requests, other_hits, other_requests = (int(total) for total in counts.sum(axis=0))
    value = low = high = None
    if requests and other_requests:
        value = hits / requests - other_hits / other_requests
        low, high = excess_interval(hits, requests, other_hits, other_requests, alpha)
    suffix = np.cumsum(counts[::-1], axis=0)[::-1]
    against = excess_evidence(
        suffix[:, 0], suffix[:, 1], suffix[:, 2], suffix[:, 3], spec.abort_above
    )
    levels = -np.log(shared * since_weights(len(blocks)))
    since = _start(blocks, against - levels)
    # The other way round: the champion's share is not at most the challenger's less the margin.
    below = excess_evidence(other_hits, other_requests, hits, requests, -spec.promote_below)
    fewest = min(requests, other_requests)
    passes = fewest >= spec.min_requests and float(below) >= -math.log(alpha)
    short = f"{fewest} requests of {spec.min_requests}" if fewest < spec.min_requests else ""
    return _verdict(
        guard, spec, value, low, high, requests, requests, since, sure_of_pass=passes, short=short
    )


def _interval(sums: PairedSums, alpha: Vector | float) -> tuple[Vector, Vector]:
    return ratio_interval(sums.n, sums.d, sums.b, sums.dd, sums.db, sums.bb, alpha)


def _start(
    blocks: Sequence[PairedBlock | None] | Sequence[CountBlock], surplus: Vector
) -> datetime | None:
    """The start of the block since which it is surest; None where it is sure since none."""
    sure = [n for n, block in enumerate(blocks) if block is not None and surplus[n] > 0]
    found = blocks[max(sure, key=lambda n: surplus[n])] if sure else None
    return None if found is None else found.start


def _verdict(
    guard: GuardName,
    spec: _PairedSpec | _CountSpec,
    value: float | None,
    low: float | None,
    high: float | None,
    rows: int,
    units: int,
    since: datetime | None,
    *,
    sure_of_pass: bool,
    short: str,
) -> GuardVerdict:
    if value is None:
        reason = "there is no evidence yet"
    else:
        ends = f"{_percent(low)} to {_percent(high)}"
        reason = _WHAT[guard].format(f"{_percent(value)} ({ends})")
    if since is not None:
        reason += f": surely more than {_percent(spec.abort_above)} since {since.isoformat()}"
    elif sure_of_pass:
        reason += f": surely less than {_percent(spec.promote_below)}"
    else:
        reason += (
            f": neither surely more than {_percent(spec.abort_above)} nor surely less than "
            f"{_percent(spec.promote_below)}"
        )
        reason += f"; {short}" if short else ""
    return GuardVerdict(
        guard=guard,
        verdict="abort" if since is not None else "promote" if sure_of_pass else "insufficient",
        value=value,
        low=low,
        high=high,
        abort_above=spec.abort_above,
        promote_below=spec.promote_below,
        rows=rows,
        units=units,
        reason=f"{guard}: {reason}",
    )


def _finite(end: float) -> float | None:
    return end if math.isfinite(end) else None


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{share:.2%}"
