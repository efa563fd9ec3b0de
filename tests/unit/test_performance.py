"""Performance of windows: realized, estimated without labels, compared and audited."""

from datetime import date, timedelta
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from mlops_assets.core.calibration import IsotonicCalibration, fit_platt
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.metrics import metrics
from mlops_assets.core.performance import Performance, compare, performance
from mlops_assets.core.performance_days import (
    DayStatistics,
    Reference,
    estimated_days,
    realized_days,
    reference_of,
)

START = date(2013, 3, 1)
IDENTITY = IsotonicCalibration(scores=(0.0, 1.0), probabilities=(0.0, 1.0))


class _World:
    """Days of scores that are calibrated within each day, but for its ``mood`` (log-odds)."""

    def __init__(
        self, seed: int, days: int, rows: int = 200, mood: float = 0.3, shift: float = 0.0
    ) -> None:
        random = np.random.default_rng(seed)
        day = np.repeat(np.arange(days), rows)
        logit = random.normal(-1, 1, len(day))
        odds = logit + shift + random.normal(0, mood, days)[day]
        self.days = np.datetime64(START) + day
        self.scores = 1 / (1 + np.exp(-logit))
        self.labels = (random.uniform(size=len(day)) < 1 / (1 + np.exp(-odds))).astype(int)

    def realized(self) -> tuple[DayStatistics, ...]:
        return realized_days(self.days, self.labels, self.scores, versions=1, roles="champion")

    def estimated(self, calibration=IDENTITY) -> tuple[DayStatistics, ...]:
        return estimated_days(calibration, self.days, self.scores, version=1, roles="champion")

    def reference(self) -> Reference:
        return reference_of(self.days, self.labels, self.scores, version=1)


@cache
def _reference(seed: int = 1000, days: int = 30) -> Reference:
    return _World(seed, days).reference()


def _values(found: Performance) -> list[float | None]:
    assert found.roc_auc is not None
    intervals = [found.log_loss, found.brier, found.roc_auc, found.confusion.true_positive]
    return [end for interval in intervals for end in (interval.value, interval.low, interval.high)]


@pytest.mark.parametrize("digits", [1, 7])
def test_realized_performance_is_that_of_the_rows(digits: int) -> None:
    """Sums of days give the metrics of all rows; bins of scores cost less than a thousandth."""
    world = _World(1, 9)
    world.scores = np.round(world.scores, digits)
    found, exact = performance(world.realized()), metrics(world.labels, world.scores)
    assert found.roc_auc is not None
    assert found.ece is not None
    assert found.rows == exact.rows
    assert found.log_loss.value == pytest.approx(exact.log_loss)
    assert found.brier.value == pytest.approx(exact.brier)
    assert found.roc_auc.value == pytest.approx(exact.roc_auc, abs=1e-3)
    assert found.ece.value == pytest.approx(exact.ece, abs=5e-3)


def test_confusion_is_that_of_the_rows() -> None:
    """At one half exactly, elsewhere at the edge that is reported."""
    world = _World(2, 6)
    world.scores[:50] = 0.5
    for threshold in (0.5, 0.2):
        found = performance(world.realized(), threshold=threshold).confusion
        assert found.threshold == pytest.approx(threshold, rel=0.02)
        shares = confusion_matrix(world.labels, world.scores >= found.threshold, normalize="all")
        ours = [
            [found.true_negative.value, found.false_positive.value],
            [found.false_negative.value, found.true_positive.value],
        ]
        assert np.array(ours) == pytest.approx(shares)
    assert performance(world.realized()).confusion.threshold == 0.5


def test_expected_roc_auc_counts_pairs_of_different_rows() -> None:
    """As the sum over all pairs of rows has it."""
    world = _World(3, 2, rows=40)
    p = world.scores
    pairs = np.outer(p, 1 - p)
    np.fill_diagonal(pairs, 0)
    order = (p[:, None] > p[None, :]) + 0.5 * (p[:, None] == p[None, :])
    found = performance(world.estimated()).roc_auc
    assert found is not None
    assert found.value == pytest.approx((pairs * order).sum() / pairs.sum(), abs=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
def test_estimates_of_calibrated_scores_agree_with_the_labels(seed: int) -> None:
    """Four standard errors of the labels' luck, and no further, when days have no mood."""
    world = _World(seed, 20, mood=0)
    found, truth = performance(world.estimated()), metrics(world.labels, world.scores)
    p = world.scores
    noise = np.sqrt((p * (1 - p) * np.log(p / (1 - p)) ** 2).sum()) / len(p)
    assert abs(found.log_loss.value - truth.log_loss) < 4 * noise
    assert found.roc_auc is not None
    assert abs(found.roc_auc.value - truth.roc_auc) < 0.04


def test_estimates_of_calibrated_scores_are_unbiased_and_their_intervals_cover() -> None:
    """Over windows of days with moods, of one day and of seven; without labels, 90 % is 90 %."""
    for days in (1, 7):
        errors: list[float] = []
        inside = {"log_loss": 0, "brier": 0, "roc_auc": 0}
        for seed in range(80):
            world = _World(seed, days)
            reference = _reference(1000 + seed % 10)
            estimate = performance(
                world.estimated(reference.calibration),
                reference=reference,
                confidence=0.9,
                samples=200,
            )
            truth = metrics(world.labels, world.scores)
            errors.append(estimate.log_loss.value - truth.log_loss)
            for name in inside:
                interval = getattr(estimate, name)
                inside[name] += interval.low <= getattr(truth, name) <= interval.high
        assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors)) + 0.005
        for name, count in inside.items():
            assert 0.8 <= count / 80 <= 0.99, (name, days)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_and_days_does_not_matter(random) -> None:
    """Rows may come in any order, and so may days."""
    world = _World(4, 6, rows=30)
    order = list(range(len(world.days)))
    random.shuffle(order)
    before = [world.realized(), world.estimated()]
    for name in ("days", "labels", "scores"):
        setattr(world, name, getattr(world, name)[order])
    after = [list(world.realized()), list(world.estimated())]
    for one, other in zip(before, after, strict=True):
        random.shuffle(other)
        found = [
            performance(part, reference=_reference(), samples=200) for part in (one, tuple(other))
        ]
        assert _values(found[0]) == pytest.approx(_values(found[1]))


def test_equal_windows_have_equal_estimates() -> None:
    """Another window of the same scores, on other days, is estimated the same to the last digit."""
    world = _World(5, 7)
    first = performance(world.estimated(), reference=_reference())
    again = performance(world.estimated(), reference=_reference())
    world.days = world.days + 30
    later = performance(world.estimated(), reference=_reference())
    assert first == again
    assert _values(first) == _values(later)
    assert later.first == first.first + timedelta(days=30)


@pytest.mark.parametrize("kind", ["realized", "estimated"])
def test_more_days_narrow_the_interval(kind: str) -> None:
    """Sixteen times the days, less than half the width, where the reference is long."""
    reference = _reference(1000, 160)
    widths: list[float] = []
    for days in (6, 96):
        world = _World(6, days)
        found = performance(getattr(world, kind)(), reference=reference).log_loss
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_a_day_of_few_rows_has_a_wider_interval() -> None:
    """A hundredth of the rows, the luck of single rows counts."""
    widths: list[float] = []
    for rows in (200, 2):
        found = performance(_World(7, 1, rows=rows).estimated(), reference=_reference()).log_loss
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[1] > 3 * widths[0]


def test_versions_and_roles_are_kept_apart_and_add_up() -> None:
    """Each has its own statistics; a window over all of them is that of all rows."""
    world = _World(8, 6)
    versions = np.where(np.arange(len(world.days)) % 3 == 0, 2, 1)
    roles = np.where(versions == 2, "challenger", "champion")
    parts = realized_days(
        world.days, world.labels, world.scores, versions=versions, roles=roles.tolist()
    )
    keys = [(part.day, part.version, part.role) for part in parts]
    assert keys == sorted(keys)
    assert len(keys) == 12
    together, whole = performance(parts), performance(world.realized())
    assert together.versions == (1, 2)
    assert together.roles == ("challenger", "champion")
    assert _values(together) == pytest.approx(_values(whole))
    mine = performance([part for part in parts if part.version == 2])
    rows = versions == 2
    assert mine.log_loss.value == pytest.approx(
        metrics(world.labels[rows], world.scores[rows]).log_loss
    )


def test_the_order_of_versions_does_not_show_in_the_last_digit() -> None:
    """A day's parts may be read back in any order."""
    world = _World(18, 8)
    parts = realized_days(
        world.days,
        world.labels,
        world.scores,
        versions=np.arange(len(world.days)) % 5,
        roles="champion",
    )
    assert performance(parts[::-1]) == performance(parts)


def test_statistics_and_references_survive_json() -> None:
    """To the last digit: what is read back gives the same figures."""
    reference = _reference()
    assert Reference.model_validate_json(reference.model_dump_json()) == reference
    found = performance(_World(9, 5).estimated(), reference=reference)
    assert Performance.model_validate_json(found.model_dump_json()) == found


def test_few_days_have_no_interval() -> None:
    """Four days realized, or a reference of four days: no ends rather than wrong ones."""
    world = _World(10, 4)
    assert performance(world.realized()).log_loss.low is None
    assert performance(world.estimated()).log_loss.low is None
    assert performance(world.estimated(), reference=world.reference()).log_loss.high is None
    assert performance(world.estimated(), reference=_reference()).log_loss.high is not None


def test_one_class_has_no_roc_auc_and_a_log_loss() -> None:
    """A quiet day is judged by what it has."""
    found = performance(
        realized_days([START] * 3, [0, 0, 0], [0.1, 0.2, 0.0], versions=1, roles="champion")
    )
    assert found.roc_auc is None
    assert found.log_loss.value == pytest.approx(-np.log([0.9, 0.8, 1.0]).mean())


def test_scores_of_nought_and_one_are_counted() -> None:
    """They stand in the outermost bins, in order with all others."""
    found = performance(
        realized_days(
            [START] * 4, [0, 0, 1, 1], [0.0, 1e-9, 1 - 1e-9, 1.0], versions=1, roles="champion"
        )
    )
    assert found.roc_auc is not None
    assert found.roc_auc.value == 1
    assert found.confusion.true_positive.value == 0.5


@pytest.mark.parametrize("kind", ["realized", "estimated"])
def test_a_fall_is_found_where_there_is_one(kind: str) -> None:
    """Scores that became less sure fall for both kinds; the reference's own like holds."""
    reference = _reference()
    same, worse = _World(11, 30), _World(11, 30, shift=1.5)
    # Without labels a fall shows in the scores only: they move to one half.
    worse.scores = 0.25 + worse.scores / 2
    fell = compare(getattr(worse, kind)(), reference, tolerance=0.02)
    held = compare(getattr(same, kind)(), reference, tolerance=0.1)
    assert (fell.verdict, held.verdict) == ("fell", "held")
    assert fell.effect == pytest.approx(fell.current - fell.reference)
    assert "tolerated" in fell.reason


def test_a_lower_roc_auc_is_a_fall() -> None:
    """The sign is turned: positive is worse for every metric."""
    worse = _World(12, 30)
    worse.scores = worse.scores[np.random.default_rng(0).permutation(len(worse.scores))]
    found = compare(worse.realized(), _reference(), "roc_auc", tolerance=0.05)
    assert found.verdict == "fell"
    assert found.effect > 0.1


def test_an_interval_on_both_sides_of_what_is_tolerated_decides_nothing() -> None:
    """And so do too few days, whatever they show."""
    reference = _reference()
    same = _World(13, 10).realized()
    effect = compare(same, reference)
    assert effect.low is not None
    assert effect.high is not None
    middle = max((effect.low + effect.high) / 2, 0.0)
    assert compare(same, reference, tolerance=middle).verdict == "inconclusive"
    few = compare(_World(13, 4, shift=3).realized(), reference)
    assert (few.verdict, few.low) == ("inconclusive", None)
    assert "4 days say too little" in few.reason


def test_false_falls_are_as_rare_as_the_interval_says() -> None:
    """Windows like the reference fall in one of twenty at 90 %: half of what is left out."""
    fell = {"realized": 0, "estimated": 0}
    for seed in range(120):
        reference = _reference(1000 + seed % 10)
        world = _World(seed, 14)
        windows = (world.realized(), world.estimated(reference.calibration))
        for kind, days in zip(fell, windows, strict=True):
            found = compare(days, reference, confidence=0.9, samples=200)
            fell[kind] += found.verdict == "fell"
    assert max(fell.values()) / 120 <= 0.12


def test_an_estimated_effect_is_less_certain_than_its_reference_alone() -> None:
    """Days of the very same scores still err each in its own way."""
    world = _World(17, 10)
    world.scores = np.tile(world.scores[:200], 10)
    reference = _reference()
    effect = compare(world.estimated(), reference)
    alone = performance(reference.realized).log_loss
    assert effect.low is not None
    assert effect.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert effect.high - effect.low > 1.5 * (alone.high - alone.low)


def test_a_reference_can_have_a_logistic_calibration() -> None:
    """For short holdouts; the estimate is close to the isotonic one."""
    world = _World(14, 10)
    logistic = reference_of(world.days, world.labels, world.scores, version=1, fit=fit_platt)
    assert logistic.calibration.method == "platt"
    fresh = _World(15, 10)
    one = performance(fresh.estimated(logistic.calibration), reference=logistic)
    other = performance(fresh.estimated(world.reference().calibration))
    assert one.log_loss.value == pytest.approx(other.log_loss.value, abs=0.02)


ROWS = {"days": ["2013-03-01"] * 2, "labels": [0, 1], "scores": [0.2, 0.7]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": [], "scores": [], "days": []}, "no rows"),
        ({"labels": [0, None]}, "label of row 1"),
        ({"scores": [0.2, 1.01]}, "score of row 1 is 1.01"),
        ({"scores": [np.nan, 0.5]}, "score of row 0 is nan"),
        ({"days": ["2013-03-01"]}, "1 days and 2 rows"),
        ({"days": ["2013-03-01", "soon"]}, "no date"),
        ({"days": [np.datetime64("2013-03-01"), np.datetime64("NaT")]}, "row 1 has no day"),
        ({"versions": [1, 2, 3]}, "3 versions and 2 rows"),
    ],
)
def test_outcomes_that_cannot_be_are_refused(change: dict[str, object], words: str) -> None:
    """With the row at fault."""
    with pytest.raises(PermanentError, match=words):
        realized_days(**{"versions": 1, "roles": "champion", **ROWS, **change})


def test_windows_that_cannot_be_are_refused() -> None:
    """Nothing, both kinds, a day twice, another version, a wrong threshold or confidence."""
    world = _World(16, 5, rows=20)
    realized, estimated = world.realized(), world.estimated()
    with pytest.raises(PermanentError, match="no days"):
        performance([])
    with pytest.raises(PermanentError, match="mixes"):
        performance([*realized, *estimated])
    with pytest.raises(PermanentError, match="2013-03-02 comes twice for version 1 as champion"):
        performance([*realized, realized[1]])
    other = reference_of(world.days, world.labels, world.scores, version=2)
    with pytest.raises(PermanentError, match="version 1, the reference of version 2"):
        performance(estimated, reference=other)
    with pytest.raises(PermanentError, match="version 1, the reference of version 2"):
        compare(realized, other)
    with pytest.raises(PermanentError, match="ece cannot be estimated"):
        compare(estimated, world.reference(), "ece")
    with pytest.raises(PermanentError, match="threshold"):
        performance(realized, threshold=1)
    with pytest.raises(PermanentError, match="confidence"):
        performance(realized, confidence=95)
    with pytest.raises(PermanentError, match="tolerance"):
        compare(realized, world.reference(), tolerance=-1)
    world.labels[:] = 0
    with pytest.raises(PermanentError, match="one class"):
        compare(world.realized(), _reference(), "roc_auc")
    with pytest.raises(PermanentError, match="both outcomes"):
        world.reference()
