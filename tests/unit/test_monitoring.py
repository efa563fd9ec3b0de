"""Records of drift and performance: what sensors and people are told, from what was found."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.drift import ColumnDrift, Drift
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.monitoring import audited, drift_record, loss_record, performance_record
from mlops_assets.core.performance import compare, performance
from mlops_assets.core.performance_days import (
    DayStatistics,
    Reference,
    estimated_days,
    realized_days,
    reference_of,
)

START = date(2013, 3, 1)


def _rows(seed: int, days: int, odds: float = 0.0) -> tuple[list[date], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logit = random.normal(-1, 1, 150 * days)
    chance = 1 / (1 + np.exp(-(logit + odds)))
    labels = (random.uniform(size=len(logit)) < chance).astype(int)
    of = [START + timedelta(days=n) for n in range(days) for _ in range(150)]
    return of, labels, 1 / (1 + np.exp(-logit))


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Version 4 on three weeks that it was not fitted to."""
    return reference_of(*_rows(1, 21), version=4)


def _realized(seed: int, days: int, odds: float = 0.0, version: int = 4) -> list[DayStatistics]:
    return list(realized_days(*_rows(seed, days, odds), versions=version, roles="champion"))


def _estimated(reference: Reference, seed: int, days: int) -> list[DayStatistics]:
    of, _, scores = _rows(seed, days)
    return list(estimated_days(reference.calibration, of, scores, version=4, roles="champion"))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(2, 10_000), days=st.integers(5, 12), kind=st.sampled_from("re"))
def test_a_loss_has_the_interval_of_the_windows_performance(
    reference: Reference, seed: int, days: int, kind: str
) -> None:
    """Computed without score bins, it is the same to the last bits."""
    window = _realized(seed, days) if kind == "r" else _estimated(reference, seed, days)
    found, whole = loss_record(window, reference), performance(window, reference=reference)
    assert [found.loss, found.low, found.high] == pytest.approx(
        [whole.log_loss.value, whole.log_loss.low, whole.log_loss.high]
    )
    effect = compare(window, reference)
    assert (found.verdict, found.reason) == (effect.verdict, effect.reason)
    assert found.reference == effect.reference
    assert (found.rows, found.days) == (150 * days, days)


def test_fewer_than_five_days_have_no_interval(reference: Reference) -> None:
    """Neither labels nor an estimate of four days say what the next ones will be."""
    for window in (_realized(2, 4), _estimated(reference, 2, 4)):
        found = loss_record(window, reference)
        assert (found.low, found.high, found.verdict) == (None, None, "inconclusive")


def test_a_loss_beyond_tolerance_fell(reference: Reference) -> None:
    """The same window is held with a tolerance that covers it."""
    window = _realized(3, 10, odds=2.0)
    assert loss_record(window, reference).verdict == "fell"
    assert loss_record(window, reference, tolerance=1.0).verdict == "held"


def test_a_record_without_labels_or_reference_has_no_losses(reference: Reference) -> None:
    """None stands for what is not known; nothing is made up."""
    common = {"labelled_until": None, "outcomes_known": 0.0}
    without_labels = performance_record(
        "u", START, 4, realized=[], estimated=_estimated(reference, 2, 6), reference=reference,
        **common,
    )  # fmt: skip
    assert without_labels.realized is None
    assert without_labels.estimated is not None
    assert without_labels.audit_error is None
    without_reference = performance_record(
        "u", START, 4, realized=_realized(2, 6), estimated=[], reference=None, **common
    )
    assert without_reference.realized is None
    assert without_reference.estimated is None


def test_a_record_tells_the_newest_audited_day(reference: Reference) -> None:
    """Error of that day, bias and coverage of all of them."""
    estimated, realized = _estimated(reference, 5, 12), _realized(5, 9)
    audits = audited(estimated, realized, reference)
    assert [each.day for each in audits] == [START + timedelta(days=n) for n in range(9)]
    record = performance_record(
        "u", START, 4, realized=realized, estimated=estimated, reference=reference,
        labelled_until=START + timedelta(days=9), outcomes_known=0.5, audited_days=audits,
    )  # fmt: skip
    last = estimated[8].log_loss / 150 - realized[8].log_loss / 150
    assert record.audit_error == pytest.approx(last)
    assert record.audit_bias == pytest.approx(np.mean([each.error for each in audits]))
    assert record.audit_coverage == pytest.approx(np.mean([each.inside for each in audits]))
    assert audited(estimated[:2], realized[5:], reference) == ()


def test_statistics_of_another_version_are_refused(reference: Reference) -> None:
    """A version is compared with its own holdout."""
    with pytest.raises(PermanentError, match="of version 5, the reference of version 4"):
        loss_record(_realized(2, 6, version=5), reference)
    with pytest.raises(PermanentError, match="of version 5"):
        audited(_estimated(reference, 2, 6), _realized(2, 6, version=5), reference)


def _column(name: str, verdict: str, importance: float) -> ColumnDrift:
    return ColumnDrift(
        column=name, type="float", verdict=verdict, reason=f"{name} moved",
        importance=importance, effect=0.3,
    )  # fmt: skip


def test_a_drift_record_names_columns_by_importance() -> None:
    """The sentence for people has the first three and counts the others."""
    columns = [
        _column("hour", "drift", 0.1),
        _column("temp", "drift", 0.4),
        _column("dewp", "stable", 0.2),
        _column("label", "drift", 0.0),
        _column("wind", "drift", 0.2),
        _column("rain", "unclear", 0.1),
    ]
    found = Drift(
        drift=0.21, verdict="drift", reference_days=59, reference_rows=50_000, current_days=7,
        current_rows=6500, columns=tuple(columns),
    )  # fmt: skip
    record = drift_record("u", START, 4, found)
    assert record.drifted == ("temp", "wind", "hour", "label")
    assert record.unclear == ("rain",)
    assert (record.verdict, record.drift, record.rows, record.days) == ("drift", 0.21, 6500, 7)
    assert "4 of 6 columns drifted; temp (40% of the model): temp moved;" in record.cause
    assert record.cause.endswith("1 more; 1 unclear.")
