"""The bins in which a server counts latencies and scores: fixed, so that the counts of all workers,
replicas and models add up, and mean the same wherever they are read.
"""

from bisect import bisect_left

LATENCY_EDGES_S = tuple(0.0001 * 2 ** (n / 2) for n in range(35))
"""Upper edges in seconds, from 0.1 ms to 13.1 s; a quantile is known to within a factor of 1.41.
One more bin lies above the last edge."""

SCORE_EDGES = (
    *(0.001, 0.002, 0.005, 0.01, 0.02),
    *(n / 20 for n in range(1, 20)),
    *(0.98, 0.99, 0.995, 0.998, 0.999),
)
"""Upper edges of a probability's bins: twentieths, and finer where rare events and near certainties
lie. One more bin lies above the last edge."""


def latency_bin(seconds: float) -> int:
    """The bin of ``seconds``: the edge of the same index is the first that is not below it."""
    return bisect_left(LATENCY_EDGES_S, seconds)


def score_bin(score: float) -> int:
    """The bin of ``score``, likewise."""
    return bisect_left(SCORE_EDGES, score)
