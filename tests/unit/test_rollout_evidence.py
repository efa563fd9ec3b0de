"""From scores, labels and latencies to sums."""

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.rollout_evidence import (
    block_of,
    paired_block,
    quality_rows,
    score_rows,
    slow_edge,
    slower,
)

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=50)


def test_quality_is_the_difference_of_log_losses() -> None:
    """In nats, challenger less champion, with the champion's loss as the base."""
    d, b = quality_rows([1, 0], [0.5, 0.5], [0.8, 0.8])
    assert b == pytest.approx([math.log(2)] * 2)
    assert d == pytest.approx([math.log(0.5 / 0.8), math.log(0.5 / 0.2)])


def test_one_sure_mistake_is_bounded() -> None:
    """A loss is at most that of a probability of one in a million."""
    d, b = quality_rows([1], [1.0], [0.0])
    assert d[0] + b[0] == pytest.approx(math.log(1e6))
    assert d[0] == pytest.approx(math.log(1e6), abs=1e-5)


def test_disagreement_is_the_share_of_pairs_that_are_ranked_otherwise() -> None:
    """One pair the same way, one the other way, one not told apart; an odd row is left out."""
    champion = [0.2, 0.3, 0.2, 0.3, 0.2, 0.3, 0.9]
    challenger = [0.25, 0.26, 0.26, 0.25, 0.25, 0.25, 0.1]
    d, b = score_rows(champion, challenger)
    assert d.tolist() == [0, 1, 0.5]
    assert b.tolist() == [1, 1, 1]


def test_pairs_that_the_champion_does_not_tell_apart_say_nothing() -> None:
    """There is no order to agree with."""
    d, b = score_rows([0.2, 0.2, 0.1, 0.3], [0.1, 0.9, 0.1, 0.3])
    assert (d.tolist(), b.tolist()) == ([0], [1])
    assert score_rows([0.2], [0.3])[0].tolist() == []


def test_scores_beyond_comparison_disagree_in_whatever_order() -> None:
    """Probabilities of another scale keep the order, and are wrong."""
    d, _ = score_rows([0.2, 0.3], [0.0002, 0.0003])
    assert d.tolist() == [1]


@given(SCORES)
def test_disagreement_is_between_none_and_all(rows: list[tuple[float, float]]) -> None:
    """None with itself, and the same when both are turned round."""
    p, q = ([side[n] for side in rows] for n in (0, 1))
    d, _ = score_rows(p, q)
    assert set(d.tolist()) <= {0, 0.5, 1}
    assert not score_rows(p, p)[0].any()


def test_scores_that_are_none_are_refused() -> None:
    """Before they become a sum that nobody can read."""
    with pytest.raises(PermanentError, match="score of row 1"):
        score_rows([0.1, 1.5], [0.1, 0.5])
    with pytest.raises(PermanentError, match="champion has 2 scores and the challenger 1"):
        score_rows([0.1, 0.5], [0.1])


def test_a_block_holds_sums_over_its_rows() -> None:
    """Of differences, bases, squares and products."""
    start = datetime(2013, 3, 1, 5, tzinfo=UTC)
    end = start + timedelta(hours=1)
    block = paired_block(start, end, 5, (np.array([1.0, -2.0]), np.array([3.0, 4.0])))
    assert (block.requests, block.rows) == (5, 2)
    assert (block.d, block.b, block.dd, block.db, block.bb) == (-1, 7, 5, -5, 25)
    empty = paired_block(start, end, 5, None)
    assert (empty.requests, empty.rows, empty.d, empty.bb) == (5, 0, 0, 0)


def test_days_are_those_of_the_zone() -> None:
    """New York's day of 25 hours is one block; hours are those of UTC."""
    zone = ZoneInfo("America/New_York")
    at = datetime(2013, 11, 3, 4, 30, tzinfo=UTC)
    start, end = block_of("day", at, zone)
    assert (start, end - start) == (datetime(2013, 11, 3, 4, tzinfo=UTC), timedelta(hours=25))
    for unit in ("hour", "request"):
        assert block_of(unit, at, zone)[0] == datetime(2013, 11, 3, 4, tzinfo=UTC)


def test_slow_is_what_few_of_the_champions_requests_are() -> None:
    """The least edge that at most one in a hundred exceeds."""
    edges = (0.001, 0.002, 0.004)
    assert slow_edge(edges, (900, 85, 10, 5), 0.99) == 0.004
    assert slow_edge(edges, (900, 92, 5, 3), 0.99) == 0.002
    assert slower(edges, (900, 92, 5, 3), 0.002) == 8


def test_a_quantile_of_few_requests_is_no_threshold() -> None:
    """Nor is one above all edges."""
    assert slow_edge((0.001, 0.002), (490, 9, 0), 0.99) is None
    assert slow_edge((0.001, 0.002), (500, 400, 100), 0.99) is None
    with pytest.raises(PermanentError, match="2 edges and 2 counts"):
        slow_edge((0.001, 0.002), (1, 2), 0.99)
