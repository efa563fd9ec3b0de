"""What trainings cost: the price of their compute profile, and durations from the ledger."""

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from mlops_assets.adapters.compute_profiles import profile_named
from mlops_assets.core.compute_stages import profile_name
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import Record
from mlops_assets.core.retraining_records import Costs

if TYPE_CHECKING:
    from mlops_assets.core.retraining_records import History
    from mlops_assets.core.spec import UseCaseSpec

TABLE = Path(__file__).parents[1] / "prices.yaml"


class _Class(Record):
    instance: str
    on_demand_per_hour: float = Field(gt=0)
    spot: bool = False


class _Table(Record):
    """``expected_seconds`` is how long a use case's first training is taken to be, and
    ``spot_discount`` the share that spot takes off; both are assumptions.
    """

    currency: str
    region: str
    source: str
    date: date
    spot_discount: float = Field(ge=0, lt=1)
    expected_seconds: float = Field(gt=0)
    classes: dict[str, _Class]


class Price(Record):
    """What an hour of a compute profile costs, in ``currency``, and where the number is from."""

    profile: str
    instance: str
    per_hour: float
    currency: str
    basis: str


def price_of(profile: str) -> Price:
    """The price of the compute profile.

    Raises PermanentError for a profile that there is not, and for a price class without a price.
    """
    table, name = _table(), profile_named(profile).price
    found = table.classes.get(name)
    if found is None:
        raise PermanentError(
            f"compute profile {profile!r} has the price class {name!r}, which has no price; known: "
            f"{', '.join(table.classes)}. Name one of them as its `price`, or add {name!r} to "
            f"{TABLE.name}"
        )
    basis = f"on demand in {table.region}, {table.date} ({table.source})"
    if found.spot:
        basis += f", less an assumed spot discount of {table.spot_discount:.0%}"
    return Price(
        profile=profile,
        instance=found.instance,
        per_hour=found.on_demand_per_hour * (1 - table.spot_discount if found.spot else 1),
        currency=table.currency,
        basis=basis,
    )


def training_cost(seconds: float, profile: str) -> float:
    """What ``seconds`` of the compute profile cost, in the table's currency."""
    return seconds / 3600 * price_of(profile).per_hour


def costs_of(spec: "UseCaseSpec", history: "History") -> Costs:
    """What the use case's next training is expected to cost, and what a month may.

    It is expected to take as long as the last one that succeeded.
    """
    profile = profile_name(spec, "model")
    known = [
        training.seconds
        for training in history.trainings
        if training.outcome == "succeeded" and training.seconds is not None
    ]
    seconds = known[-1] if known else _table().expected_seconds
    return Costs(
        price_per_training=training_cost(seconds, profile),
        currency=price_of(profile).currency,
        budget_per_month=spec.retraining.budget_per_month,
    )


@lru_cache(maxsize=1)
def _table() -> _Table:
    import yaml

    return _Table.model_validate(yaml.safe_load(TABLE.read_text()))
