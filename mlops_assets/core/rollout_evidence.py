"""From scores, labels and latencies to the sums that a rollout is decided on.

Probabilities are kept within ``CLIP`` and 1 - ``CLIP``, so that one row's log-loss, and the
difference of two, is at most 13.8 nats: a sure mistake is dear, and does not outweigh all else.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.metrics import Numbers, Vector, checked
from mlops_assets.core.rollout_records import PairedBlock
from mlops_assets.core.rollout_spec import Unit
from mlops_assets.core.windows import day_start

CLIP = 1e-6

_SLOW_REQUESTS = 5
"""Requests above a quantile before it is known well enough to be a threshold."""


def block_of(unit: Unit, at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of the block that the aware time ``at`` lies in.

    ``day`` is a calendar day in ``zone``; ``hour`` and ``request`` are an hour of UTC.
    """
    if unit == "day":
        day = at.astimezone(zone).date()
        return day_start(day, zone.key), day_start(day + timedelta(days=1), zone.key)
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour, hour + timedelta(hours=1)


def quality_rows(labels: Numbers, champion: Numbers, challenger: Numbers) -> tuple[Vector, Vector]:
    """Each labelled row's difference of log-loss, challenger less champion, and the champion's
    log-loss, in nats; all of shape (rows,).

    Raises PermanentError for no rows, labels that are neither 0 nor 1, and scores that are no
    probabilities.
    """
    y, p = checked(labels, champion)
    _, q = checked(labels, challenger)
    loss = _log_loss(y, p)
    return _log_loss(y, q) - loss, loss


def score_rows(champion: Numbers, challenger: Numbers) -> tuple[Vector, Vector]:
    """For each pair of rows that the champion tells apart, whether the models disagree, and 1; both
    of shape (pairs,). Pairs are the first and second row, the third and fourth, and so on.

    A pair counts 1 where the challenger ranks it the other way round, one half where it does not
    tell it apart (Kendall 1938), and 1 where its scores are beyond comparison: they diverge
    (Kullback and Leibler 1951) by more than all of the champion's entropy. So it is 0 for equal
    scores, about one half for a challenger that knows nothing, whatever the share of positives, and
    near 1 for one that is upside down. Raises PermanentError for no rows and scores that are no
    probabilities.
    """
    _, p = checked(np.zeros(np.shape(champion)), champion)
    _, q = checked(np.zeros(np.shape(challenger)), challenger)
    if p.shape != q.shape:
        raise PermanentError(
            f"the champion has {len(p)} scores and the challenger {len(q)}: give both of each row"
        )
    last = len(p) - len(p) % 2
    ours, theirs = np.sign(p[0:last:2] - p[1:last:2]), np.sign(q[0:last:2] - q[1:last:2])
    p, q = _clipped(p), _clipped(q)
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    divergence = -(p * np.log(q) + (1 - p) * np.log1p(-q)) - entropy
    beyond = np.add.reduceat(divergence[:last] - entropy[:last], np.arange(0, last, 2)) > 0
    d = np.where(beyond, 1.0, (1 - ours * theirs) / 2)[ours != 0]
    return d, np.ones(len(d))


def paired_block(
    start: datetime, end: datetime, requests: int, rows: tuple[Vector, Vector] | None
) -> PairedBlock:
    """The sums over ``rows``, of :func:`quality_rows` or :func:`score_rows` on the rows that were
    asked for in [start, end), in the order of asking.

    ``requests`` is how many rows both models scored; ``rows`` is None where none has a label.
    """
    if rows is None:
        return PairedBlock(start=start, end=end, requests=requests, rows=0)
    d, b = rows
    return PairedBlock(
        start=start,
        end=end,
        requests=requests,
        rows=len(d),
        d=float(d.sum()),
        b=float(b.sum()),
        dd=float((d * d).sum()),
        db=float((d * b).sum()),
        bb=float((b * b).sum()),
    )


def slow_edge(edges: Sequence[float], counts: Sequence[int], quantile: float) -> float | None:
    """The threshold of slow requests: the least of ``edges`` that at most a share of
    1 - ``quantile`` of the champion's requests exceeds.

    ``counts[n]`` requests lie in (edges[n-1], edges[n]], the last of ``counts`` above all edges.
    None where there are too few requests to tell, or where more than that share exceed all edges.
    Fix it once per rollout, from requests that are no evidence of it. Raises PermanentError for
    lengths that do not fit.
    """
    if len(counts) != len(edges) + 1:
        raise PermanentError(
            f"{len(edges)} edges and {len(counts)} counts: give one count per edge, and one above"
        )
    total = sum(counts)
    slow = total * (1 - quantile)
    if slow < _SLOW_REQUESTS:
        return None
    for edge, until in zip(edges, accumulate(counts), strict=False):
        if total - until <= slow:
            return edge
    return None


def slower(edges: Sequence[float], counts: Sequence[int], edge: float) -> int:
    """How many of ``counts`` lie above ``edge``, one of ``edges``."""
    return sum(counts[list(edges).index(edge) + 1 :])


def _clipped(scores: Vector) -> Vector:
    return np.clip(scores, CLIP, 1 - CLIP)


def _log_loss(labels: Vector, scores: Vector) -> Vector:
    given: npt.NDArray[np.float64] = np.where(labels == 1, scores, 1 - scores)
    return -np.log(_clipped(given))
