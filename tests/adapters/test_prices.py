"""The price table: every number with its source, and trainings priced by how long they took."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from retraining_support import retrained

from mlops_assets.adapters.compute_profiles import OWN_FILE_VARIABLE, profiles
from mlops_assets.adapters.prices import TABLE, costs_of, price_of, training_cost
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.retraining_records import History, Training

START = datetime(2024, 4, 1, tzinfo=UTC)


def _training(attempt: int, **fields: Any) -> Training:
    return Training(
        use_case="visits",
        signal_id="2024-03-31.v1",
        attempt=attempt,
        signal_day=date(2024, 3, 31),
        champion_version=1,
        started=START,
        **fields,
    )


@pytest.mark.parametrize("profile", list(profiles()))
def test_each_compute_profile_has_a_price_with_its_source(profile: str) -> None:
    """In USD an hour, with instance, region, date, and the assumption where there is one."""
    price = price_of(profile)
    assert price.currency == "USD"
    assert 0 < price.per_hour < 1
    assert "us-east-1, 2026-07-20" in price.basis
    assert ("assumed spot discount" in price.basis) == profile.endswith("_spot")


def test_spot_is_cheaper_than_the_same_instance_on_demand() -> None:
    """By the discount in the table."""
    spot, full = price_of("gpu_spot"), price_of("gpu_on_demand")
    assert spot.instance == full.instance
    said = yaml.safe_load(TABLE.read_text())
    assert spot.per_hour == pytest.approx(full.per_hour * (1 - said["spot_discount"]))


def test_a_profile_without_a_price_is_refused_with_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not priced at nothing."""
    own = {"description": "A team's.", "capacity": "on_demand", "price": "huge"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"profiles": {"tpu": own}}))
    monkeypatch.setenv(OWN_FILE_VARIABLE, str(tmp_path / "own.yaml"))
    with pytest.raises(PermanentError, match=r"'tpu' has the price class 'huge'.*known: cpu, "):
        price_of("tpu")
    spec = retrained().model_copy(update={"compute": {"model": "tpu"}})
    with pytest.raises(PermanentError, match="'huge'"):
        costs_of(spec, History())
    with pytest.raises(PermanentError, match="no compute profile 'gone'; known: cpu, "):
        price_of("gone")


def test_a_training_costs_its_time() -> None:
    """An hour is the price of an hour."""
    assert training_cost(3600, "cpu") == price_of("cpu").per_hour
    assert training_cost(0, "cpu") == 0


def test_the_next_training_is_expected_to_take_as_long_as_the_last_that_succeeded() -> None:
    """Failed ones say nothing about it; the first is an assumption of the table's."""
    spec = retrained(budget_per_month=3.5)
    assumed = yaml.safe_load(TABLE.read_text())["expected_seconds"]
    first = costs_of(spec, History())
    assert first.price_per_training == training_cost(assumed, "cpu")
    assert (first.budget_per_month, first.currency) == (3.5, "USD")
    done = _training(1, outcome="succeeded", seconds=1800.0, cost=9.0)
    broken = _training(2, outcome="failed", seconds=5.0, cost=0.1)
    later = costs_of(spec, History(trainings=(done, broken)))
    assert later.price_per_training == training_cost(1800, "cpu")
