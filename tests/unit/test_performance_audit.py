"""Audit of estimated losses against those that labels showed, of classifiers and regressions."""

from datetime import date, timedelta

import numpy as np
import pytest

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.performance import performance
from mlops_assets.core.performance_audit import (
    AuditDay,
    DayLoss,
    LossReference,
    audit,
    day_losses,
    estimated_loss,
    losses_of,
)
from mlops_assets.core.performance_days import estimated_days, realized_days, reference_of

START = np.datetime64("2013-03-01")


def _regression(seed: int, days: int, rows: int = 100, worse: float = 1.0):
    """Days of expected and of realized absolute errors, which a day's mood scales."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rows)
    expected = random.uniform(5, 15, len(day))
    mood = np.exp(random.normal(-0.02, 0.2, days))[day] * worse
    realized = expected * mood * random.exponential(size=len(day))
    return day_losses(START + day, expected), day_losses(START + day, realized)


def _reference(seed: int = 0, days: int = 40) -> LossReference:
    expected, realized = _regression(seed, days)
    return LossReference(realized=realized, estimated=expected)


def _mean(days: tuple[DayLoss, ...]) -> float:
    return sum(day.loss for day in days) / sum(day.rows for day in days)


@pytest.mark.parametrize("days", [1, 10])
def test_intervals_of_expected_losses_cover_the_realized_ones(days: int) -> None:
    """About as often as they say, for one day and for ten."""
    inside = 0
    for seed in range(200):
        expected, realized = _regression(1000 + seed, days)
        found = estimated_loss(expected, _reference(seed % 20), confidence=0.9, samples=300)
        assert found.low is not None
        assert found.high is not None
        assert found.value == pytest.approx(_mean(expected))
        inside += found.low <= _mean(realized) <= found.high
    assert 0.82 <= inside / 200 <= 0.97


def test_an_audit_tells_a_good_estimate_from_a_broken_one() -> None:
    """Where the world changes without a trace in the features, bias grows and coverage falls."""
    fine = audit(*_regression(1, 40), _reference())
    broken = audit(*_regression(1, 40, worse=2.5), _reference())
    assert len(fine) == 40
    last_fine, last_broken = fine[-1].running_coverage, broken[-1].running_coverage
    assert last_fine is not None
    assert last_broken is not None
    assert last_fine > 0.8
    assert last_broken < 0.3
    assert abs(fine[-1].running_bias) < 1.5
    assert broken[-1].running_bias < -10
    assert all(
        day.error == pytest.approx(day.estimated.value - day.realized) for day in (*fine, *broken)
    )


def test_running_figures_are_about_the_last_four_weeks() -> None:
    """What was long ago does not hide what is now."""
    found = audit(*_regression(2, 40), _reference())
    latest = [day.error for day in found[12:]]
    assert found[-1].running_bias == pytest.approx(np.mean(latest))
    assert found[-1].running_error == pytest.approx(np.mean(np.abs(latest)))
    assert found[-1].running_coverage == pytest.approx(np.mean([day.inside for day in found[12:]]))
    assert found[0].running_bias == found[0].error


def test_a_days_audit_does_not_depend_on_the_days_around_it() -> None:
    """So that a day written down stays true when others follow or come late."""
    expected, realized = _regression(3, 12)
    whole = audit(expected, realized, _reference())
    part = audit(expected[7:][::-1], realized[4:], _reference())
    for one, other in zip(whole[7:], part, strict=True):
        assert (one.day, one.estimated, one.inside) == (other.day, other.estimated, other.inside)
    assert AuditDay.model_validate_json(whole[3].model_dump_json()) == whole[3]


def test_days_without_labels_wait() -> None:
    """They are audited when labels have come, with how many rows have one."""
    expected, realized = _regression(4, 6)
    half = realized[2].model_copy(update={"rows": 50, "loss": realized[2].loss / 2})
    found = audit(expected, [realized[0], half], _reference())
    assert [day.day for day in found] == [date(2013, 3, 1), date(2013, 3, 3)]
    assert (found[1].estimated_rows, found[1].labelled_rows) == (100, 50)
    with pytest.raises(PermanentError, match="no day is both"):
        audit(expected[:2], realized[3:], _reference())


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_classifiers_losses_are_those_of_its_days(metric) -> None:
    """The audit of one week's mean is that of its performance, value and ends."""
    random = np.random.default_rng(5)
    days = START + np.repeat(np.arange(20), 100)
    scores = random.uniform(0.05, 0.6, len(days))
    labels = (random.uniform(size=len(days)) < scores).astype(int)
    reference = reference_of(days, labels, scores, version=3)
    estimated = estimated_days(
        reference.calibration, days, scores, version=3, roles=["a", "b"] * 1000
    )
    losses = LossReference(
        realized=losses_of(reference.realized, metric),
        estimated=losses_of(reference.estimated, metric),
    )
    whole = getattr(performance(estimated, reference=reference), metric)
    found_loss = estimated_loss(losses_of(estimated, metric), losses)
    assert found_loss.model_dump() == pytest.approx(whole.model_dump())
    realized = realized_days(days, labels, scores, versions=3, roles="a")
    found = audit(losses_of(estimated, metric), losses_of(realized, metric), losses)
    assert np.mean([day.inside for day in found]) > 0.8
    assert sum(day.labelled_rows for day in found) == 2000


def test_few_days_of_reference_give_no_interval() -> None:
    """The error of each day is there, whether it is inside is not."""
    found = audit(*_regression(6, 8), _reference(0, 4))
    assert [day.inside for day in found] == [None] * 8
    assert found[-1].running_coverage is None
    assert found[-1].estimated.low is None


def test_losses_that_cannot_be_are_refused() -> None:
    """With the row, or the day, at fault."""
    with pytest.raises(PermanentError, match="one number for each row"):
        day_losses([], [])
    with pytest.raises(PermanentError, match="loss of row 1 is -1"):
        day_losses(["2013-03-01"] * 2, [1, -1])
    with pytest.raises(PermanentError, match="loss of row 0 is nan"):
        day_losses(["2013-03-01"], [np.nan])
    expected, realized = _regression(7, 6)
    with pytest.raises(PermanentError, match="no days"):
        estimated_loss([], _reference())
    with pytest.raises(PermanentError, match="2013-03-01 comes twice"):
        audit([*expected, expected[0]], realized, _reference())
    with pytest.raises(PermanentError, match="differ: estimate the same days"):
        estimated_loss(expected, LossReference(realized=realized[1:], estimated=expected))
    fewer = realized[0].model_copy(update={"rows": 99})
    with pytest.raises(PermanentError, match="differ in rows"):
        estimated_loss(expected, LossReference(realized=(fewer, *realized[1:]), estimated=expected))


def test_days_come_in_any_order() -> None:
    """Of the window and of the reference."""
    expected, _ = _regression(8, 9)
    reference = _reference()
    turned = LossReference(realized=reference.realized[::-1], estimated=reference.estimated)
    assert estimated_loss(expected, reference) == estimated_loss(expected[::-1], turned)
    assert expected[0].day + timedelta(days=8) == expected[-1].day
