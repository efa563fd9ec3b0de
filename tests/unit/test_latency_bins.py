"""Latency and score bins: edges that are the same everywhere."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.latency import LATENCY_EDGES_S, SCORE_EDGES, latency_bin, score_bin


def test_the_edges_grow_and_cover_what_a_server_sees() -> None:
    """From a tenth of a millisecond to more than ten seconds, and all of a probability."""
    for edges in (LATENCY_EDGES_S, SCORE_EDGES):
        assert all(low < high for low, high in pairwise(edges))
    assert LATENCY_EDGES_S[0] == 0.0001
    assert LATENCY_EDGES_S[-1] > 10
    assert 0 < SCORE_EDGES[0] < SCORE_EDGES[-1] < 1


@given(st.floats(0, 20))
def test_a_value_lies_at_or_below_the_edge_of_its_bin(value: float) -> None:
    """An edge belongs to the bin that it closes, as Prometheus counts it."""
    for edges, place in ((LATENCY_EDGES_S, latency_bin(value)), (SCORE_EDGES, score_bin(value))):
        assert place == len(edges) or value <= edges[place]
        assert place == 0 or value > edges[place - 1]
