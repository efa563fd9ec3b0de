"""Calibration: isotonic and logistic, against scikit-learn and by law."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sklearn.isotonic import IsotonicRegression, isotonic_regression
from sklearn.linear_model import LogisticRegression

from mlops_assets.core.calibration import (
    Calibration,
    IsotonicCalibration,
    PlattCalibration,
    calibrated,
    cross_fitted,
    fit_isotonic,
    fit_platt,
    pool_adjacent_violators,
)
from mlops_assets.core.errors import PermanentError

VALUES = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 100)), min_size=1, max_size=60)


def _rows(seed: int, n: int, slope: float = 1.0, intercept: float = 0.0):
    """Labels whose log-odds are ``slope * logit(score) + intercept``."""
    random = np.random.default_rng(seed)
    logit = random.normal(-1, 1.2, n)
    chance = 1 / (1 + np.exp(-(slope * logit + intercept)))
    return (random.uniform(size=n) < chance).astype(int), 1 / (1 + np.exp(-logit)), chance


@given(VALUES)
def test_pooling_equals_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    """The same least squares solution, for any values and weights."""
    values, weights = np.array(pairs).T
    ours = pool_adjacent_violators(values, weights)
    theirs = isotonic_regression(values, sample_weight=weights)
    assert ours == pytest.approx(theirs, abs=1e-7)


@given(VALUES)
def test_pooling_is_monotone_and_idempotent_and_keeps_the_mean(
    pairs: list[tuple[float, float]],
) -> None:
    """Exactly in order, so that a second time changes nothing, not even the last digit."""
    values, weights = np.array(pairs).T
    once = pool_adjacent_violators(values, weights)
    assert (np.diff(once) >= 0).all()
    assert np.array_equal(pool_adjacent_violators(once, weights), once)
    assert np.average(once, weights=weights) == pytest.approx(
        np.average(values, weights=weights), abs=1e-9
    )


@pytest.mark.parametrize(
    ("values", "weights", "words"),
    [
        ([1.0, np.nan], None, "row 1"),
        ([1.0, 2.0], [1.0, 0.0], "row 1"),
        ([1.0, 2.0], [1.0], "one for one"),
    ],
)
def test_pooling_refuses_what_has_no_order(values, weights, words: str) -> None:
    """With the row at fault."""
    with pytest.raises(PermanentError, match=words):
        pool_adjacent_violators(values, weights)


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_isotonic_calibration_equals_scikit_learn(digits: int) -> None:
    """With many ties and with none, at the knots, between them and outside."""
    labels, scores, _ = _rows(1, 800)
    scores = np.round(scores, digits)
    ours = fit_isotonic(labels, scores)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    asked = np.concatenate([scores, np.linspace(0, 1, 501)])
    assert calibrated(ours, asked) == pytest.approx(theirs.predict(asked), abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_an_isotonic_calibration_is_monotone_idempotent_and_keeps_the_base_rate(
    seed: int, digits: int
) -> None:
    """What is calibrated stays as it is when it is calibrated again on the same labels."""
    labels, scores, _ = _rows(seed, 200)
    labels[:2] = (0, 1)
    scores = np.round(scores, digits)
    once = calibrated(fit_isotonic(labels, scores), scores)
    again = calibrated(fit_isotonic(labels, once), once)
    assert again == pytest.approx(once, abs=1e-9)
    assert (np.diff(once[np.argsort(scores)]) >= -1e-12).all()
    assert once.mean() == pytest.approx(labels.mean())


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, 1.0), (2.0, -0.5)])
def test_a_logistic_calibration_equals_scikit_learn(slope: float, intercept: float) -> None:
    """A logistic regression on weighted copies of each row has the same softened labels."""
    labels, scores, _ = _rows(2, 3000, slope, intercept)
    found = fit_platt(labels, scores)
    positives = labels.sum()
    target = np.where(
        labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2)
    )
    logit = np.log(scores / (1 - scores))[:, np.newaxis]
    peer = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(
        np.concatenate([logit, logit]),
        np.repeat([1, 0], len(labels)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    assert found.slope == pytest.approx(peer.coef_[0, 0], abs=1e-4)
    assert found.intercept == pytest.approx(peer.intercept_[0], abs=1e-4)
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept), abs=0.25)


@pytest.mark.parametrize("fit", [fit_isotonic, fit_platt])
def test_a_calibration_brings_scores_to_the_chances_they_stand_for(fit) -> None:
    """Scores that are far too sure come back to the truth, on rows that were not seen."""
    labels, scores, _ = _rows(3, 30_000, 0.5, 0.4)
    _, fresh, chance = _rows(4, 5000, 0.5, 0.4)
    repaired = calibrated(fit(labels, scores), fresh)
    assert np.abs(repaired - chance).mean() < 0.02
    assert np.abs(fresh - chance).mean() > 0.1


@pytest.mark.parametrize("fit", [fit_isotonic, fit_platt])
@pytest.mark.parametrize(
    "scores", [[0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.3, 0.3], [0.1, 0.2, 0.8, 0.9]]
)
def test_extreme_scores_have_finite_calibrations(fit, scores: list[float]) -> None:
    """Certainty, a constant score, and a perfect separation."""
    found = calibrated(fit([0, 0, 1, 1], scores), [0.0, *scores, 1.0])
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= 1).all()


@pytest.mark.parametrize("fit", [fit_isotonic, fit_platt])
def test_a_calibration_survives_json(fit) -> None:
    """To the last digit, and as the kind that it was."""
    labels, scores, _ = _rows(5, 300)
    found = fit(labels, scores)
    adapter: TypeAdapter[IsotonicCalibration | PlattCalibration] = TypeAdapter(Calibration)
    assert adapter.validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("fit", [fit_isotonic, fit_platt])
@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([], [], "no rows"),
        ([1, 1], [0.2, 0.3], "both outcomes"),
        ([0, 1], [0.2, 1.3], "score of row 1 is 1.3"),
        ([0, 1], [0.2, np.nan], "score of row 1 is nan"),
        ([0, np.nan], [0.2, 0.3], "label of row 1"),
    ],
)
def test_a_calibration_refuses_what_it_cannot_be_fitted_to(fit, labels, scores, words) -> None:
    """No rows, one class, and what is no label or no probability, with its row."""
    with pytest.raises(PermanentError, match=words):
        fit(labels, scores)


def test_a_row_is_not_calibrated_by_its_own_day() -> None:
    """Other labels on a day change nothing for the rows of that day, and something elsewhere."""
    labels, scores, _ = _rows(6, 600)
    days = np.arange(600) % 6
    before = cross_fitted(labels, scores, days)
    after = cross_fitted(np.where(days == 2, 1 - labels, labels), scores, days)
    assert np.array_equal(before[days == 2], after[days == 2])
    assert not np.array_equal(before[days != 2], after[days != 2])


def test_days_are_dealt_out_over_no_more_parts_than_asked() -> None:
    """With two parts, a day shares its calibration with every other day of its part."""
    labels, scores, _ = _rows(7, 400)
    days = np.arange(400) % 4
    found = cross_fitted(labels, scores, days, folds=2)
    even = days % 2 == 0
    other = fit_isotonic(labels[~even], scores[~even])
    assert np.array_equal(found[even], calibrated(other, scores[even]))


def test_one_day_cannot_be_calibrated_without_itself() -> None:
    """There is no other day to learn from."""
    with pytest.raises(PermanentError, match="at least two"):
        cross_fitted([0, 1], [0.1, 0.9], np.zeros(2, dtype=np.intp))
