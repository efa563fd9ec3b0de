"""What a retraining policy is told: about the champion, about one day, and nothing made up."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retraining_support import drift_record, performance_record

from mlops_assets.core.monitoring_records import LossRecord
from mlops_assets.core.retraining_records import Signals
from mlops_assets.core.signals import MOST_LAG, signals_of

DAY = date(2024, 4, 11)
TRAINED = date(2024, 4, 1)


def _signals(drift: Any, performance: Any, version: int = 1) -> Signals | None:
    return signals_of("visits", drift, performance, version, TRAINED)


def test_nothing_is_known_before_a_record_is_about_the_champion() -> None:
    """Neither without records, nor while they speak of its predecessor."""
    old_drift, old_performance = drift_record(DAY, 1, 0.9), performance_record(DAY, 1, DAY, 0.9)
    assert _signals(None, None) is None
    assert _signals(old_drift, old_performance, version=2) is None


def test_one_record_is_enough() -> None:
    """The other's numbers are unknown, not zero."""
    by_drift = _signals(drift_record(DAY, 1, 0.3), None)
    assert by_drift is not None
    assert (by_drift.realized, by_drift.estimated, by_drift.labelled_until) == (None, None, None)
    assert by_drift.drift is not None
    assert (by_drift.drift.weighted, by_drift.drift.drifted) == (0.3, ("minutes",))
    by_performance = _signals(None, performance_record(DAY, 1, DAY, 0.6))
    assert by_performance is not None
    assert by_performance.drift is None
    assert by_performance.realized is not None
    assert (by_performance.realized.loss, by_performance.realized.reference) == (0.6, 0.5)


def test_drift_of_another_version_says_nothing_but_labels_still_count() -> None:
    """How far labels have come is the same for every model."""
    found = _signals(drift_record(DAY, 2, 0.1), performance_record(DAY, 1, DAY, 0.6), version=2)
    assert found is not None
    assert found.realized is None
    assert found.labelled_until == DAY
    assert found.champion_version == 2


def test_a_loss_without_an_interval_is_not_known() -> None:
    """A number that nobody can tell from noise asks for nothing."""
    record = performance_record(DAY, 1, DAY, 0.6)
    assert record.realized is not None
    bare = record.realized.model_copy(update={"low": None, "high": None})
    found = _signals(None, record.model_copy(update={"realized": bare}))
    assert found is not None
    assert found.realized is None
    assert found.estimated is not None


@given(low=st.floats(0, 1), loss=st.floats(0, 1), high=st.floats(0, 1))
def test_an_interval_always_holds_its_loss(low: float, loss: float, high: float) -> None:
    """Whatever resampling gave."""
    record = performance_record(DAY, 1, DAY, 0.6)
    assert isinstance(record.realized, LossRecord)
    odd = record.realized.model_copy(update={"low": low, "loss": loss, "high": high})
    found = _signals(None, record.model_copy(update={"realized": odd}))
    assert found is not None
    assert found.realized is not None
    assert found.realized.low <= found.realized.loss == loss <= found.realized.high


@pytest.mark.parametrize("behind", ["drift", "performance"])
@pytest.mark.parametrize("lag", range(MOST_LAG.days + 2))
def test_the_day_is_the_newest_that_both_speak_about(behind: str, lag: int) -> None:
    """Until one of them has stopped: it does not hold the other's day back for ever."""
    earlier = DAY - timedelta(days=lag)
    drift = drift_record(earlier if behind == "drift" else DAY, 1, 0.3)
    performance = performance_record(earlier if behind == "performance" else DAY, 1, DAY, 0.6)
    found = _signals(drift, performance)
    assert found is not None
    if lag <= MOST_LAG.days:
        assert found.day == earlier
        assert found.drift is not None
        assert found.realized is not None
    else:
        assert found.day == DAY
        assert (found.drift is None) == (behind == "drift")
        assert (found.realized is None) == (behind == "performance")
