"""Metrics: equal to scikit-learn's, and what holds for every input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.metrics import (
    base_rate_scores,
    metrics,
    reliability,
    slices,
)

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    min_size=2,
    max_size=60,
).filter(lambda rows: len({label for label, _ in rows}) == 2)


def _drawn(seed: int, rows: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated scores, tied when rounded to few decimals."""
    random = np.random.default_rng(seed)
    scores = np.round(random.beta(2, 5, rows), decimals)
    return (random.uniform(size=rows) < scores).astype(int), scores


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 3, 15])
def test_metrics_equal_those_of_scikit_learn(seed: int, decimals: int) -> None:
    """With many ties, with few, and without any."""
    labels, scores = _drawn(seed, 500, decimals)
    found = metrics(labels, scores)
    assert found.log_loss == pytest.approx(log_loss(labels, scores), rel=1e-12)
    assert found.roc_auc == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
    assert found.brier == pytest.approx(brier_score_loss(labels, scores), rel=1e-12)
    assert found.base_rate == labels.mean()
    assert found.rows == 500


def test_calibration_error_is_the_mean_gap_over_bins_of_equal_mass() -> None:
    """Ten bins of ten rows, each scored 0.05 too high."""
    shares = np.arange(10) / 10
    labels = np.concatenate([np.arange(10) < 10 * share for share in shares]).astype(int)
    assert metrics(labels, np.repeat(shares, 10) + 0.05).ece == pytest.approx(0.05)
    assert metrics(labels, np.repeat(shares, 10)).ece == pytest.approx(0)


def test_calibration_error_keeps_equal_scores_together() -> None:
    """A constant has one bin, and is as wrong as it misses the base rate."""
    labels = np.arange(100) < 30
    assert metrics(labels, np.full(100, 0.2)).ece == pytest.approx(0.1)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, float]], random) -> None:
    """A shuffled table has the same metrics."""
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = metrics(*zip(*rows, strict=True)), metrics(*zip(*shuffled, strict=True))
    for name in ("log_loss", "roc_auc", "brier", "ece"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-12)


@given(ROWS)
def test_metrics_keep_their_bounds(rows: list[tuple[int, float]]) -> None:
    """Also for scores of exactly 0 and 1 that are wrong."""
    found = metrics(*zip(*rows, strict=True))
    assert 0 <= found.log_loss <= 36.05
    assert 0 <= found.roc_auc <= 1
    assert 0 <= found.brier <= 1
    assert 0 <= found.ece <= 1


@given(st.lists(st.integers(0, 1), min_size=2).filter(lambda labels: len(set(labels)) == 2))
def test_a_perfect_model_has_no_loss(labels: list[int]) -> None:
    """Exactly none, and it ranks every pair rightly."""
    found = metrics(labels, labels)
    assert (found.log_loss, found.brier, found.ece, found.roc_auc) == (0, 0, 0, 1)


@given(ROWS)
def test_reversed_scores_reverse_the_ranking(rows: list[tuple[int, float]]) -> None:
    """The area under the curve of 1 - score is 1 less the area of score, with ties too."""
    labels = [label for label, _ in rows]
    scores = np.round([score for _, score in rows], 6)
    mirrored = np.round(1 - scores, 6)
    assert metrics(labels, mirrored).roc_auc == pytest.approx(1 - metrics(labels, scores).roc_auc)


@given(ROWS)
def test_reliability_covers_every_row_once(rows: list[tuple[int, float]]) -> None:
    """Bins hold all rows, rise, and their intervals hold what was observed."""
    labels, scores = zip(*rows, strict=True)
    bins = reliability(labels, scores, 5)
    assert sum(part.rows for part in bins) == len(rows)
    assert sum(part.rows * part.observed for part in bins) == pytest.approx(sum(labels))
    assert sum(part.rows * part.mean_score for part in bins) == pytest.approx(sum(scores))
    assert [part.mean_score for part in bins] == sorted(part.mean_score for part in bins)
    assert all(0 <= part.low <= part.observed <= part.high <= 1 for part in bins)
    assert len(bins) <= 5


def test_reliability_intervals_are_wilsons() -> None:
    """Against the value that Brown, Cai and DasGupta's formula gives for 3 of 20 at 95 %."""
    labels = np.arange(20) < 3
    (part,) = reliability(labels, np.full(20, 0.2))
    assert part.low == pytest.approx(0.05237, abs=1e-5)
    assert part.high == pytest.approx(0.36042, abs=1e-5)


def test_bins_of_equal_mass_have_equal_rows_without_ties() -> None:
    """A thousand different scores fill ten bins of a hundred."""
    labels, _ = _drawn(1, 1000)
    bins = reliability(labels, (np.random.default_rng(0).permutation(1000) + 0.5) / 1000)
    assert [part.rows for part in bins] == [100] * 10


def test_slices_equal_metrics_of_their_rows() -> None:
    """Each value's numbers are those of a table with that value alone."""
    labels, scores = _drawn(2, 900)
    values = np.random.default_rng(3).choice(["EWR", "JFK", "LGA"], 900, p=[0.7, 0.2, 0.1])
    found = slices(labels, scores, list(values))
    assert [part.value for part in found] == ["EWR", "JFK", "LGA"]
    for part in found:
        own = values == part.value
        alone = metrics(labels[own], scores[own])
        constant = metrics(labels[own], np.full(own.sum(), alone.base_rate))
        assert part.rows == own.sum()
        assert part.small == (own.sum() < 200)
        assert part.roc_auc == pytest.approx(alone.roc_auc)
        assert part.base_rate == pytest.approx(alone.base_rate)
        assert part.log_loss == pytest.approx(alone.log_loss)
        assert part.gain == pytest.approx(constant.log_loss - alone.log_loss)


def test_slices_tolerate_one_class_and_missing_values() -> None:
    """A slice without positives has no area under the curve; None and NaN are one slice."""
    found = slices([0, 0, 1, 0], [0.1, 0.2, 0.5, 0.5], [6.0, 6.0, None, math.nan])
    assert [(part.value, part.rows, part.roc_auc) for part in found] == [
        ("6", 2, None),
        (None, 2, 0.5),
    ]
    assert found[0].gain < 0


def test_base_rate_scores_are_the_share_of_positives_in_training() -> None:
    """One constant for each row to judge."""
    assert base_rate_scores([0, 0, 0, 1], 3).tolist() == [0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.5], "one score for each label"),
        ([], [], "no rows"),
        ([0, 2], [0.5, 0.5], "label of row 1 is 2"),
        ([0, math.nan], [0.5, 0.5], "label of row 1 is nan"),
        ([0, 1], [math.nan, 0.5], "score of row 0 is nan"),
        ([0, 1], [0.5, math.inf], "score of row 1 is inf"),
        ([0, 1], [0.5, 1.1], "score of row 1 is 1.1"),
        ([1, 1], [0.5, 0.6], "all 2 labels are 1"),
    ],
)
def test_bad_input_is_refused_with_its_row(
    labels: list[float], scores: list[float], message: str
) -> None:
    """A metric of nonsense would be worse than none."""
    with pytest.raises(PermanentError, match=message):
        metrics(labels, scores)


def test_slices_and_base_rates_refuse_what_they_cannot_use() -> None:
    """Values of another length, and training labels of one class."""
    with pytest.raises(PermanentError, match="1 values to slice by and 2 labels"):
        slices([0, 1], [0.5, 0.5], ["a"])
    with pytest.raises(PermanentError, match="nothing to learn"):
        base_rate_scores([1, 1], 4)
