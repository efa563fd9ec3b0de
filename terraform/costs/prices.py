"""The price table and the working pattern, as terraform/*.yaml say them."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec_part import Spec

FOLDER = Path(__file__).parents[1]
PRICES = FOLDER / "prices.yaml"
PATTERN = FOLDER / "working-pattern.yaml"

Part = TypeVar("Part", bound=Spec)


class Source(Spec):
    """Where a price is from, and of when."""

    what: str
    date: str
    licence: str


class Instances(Spec):
    """On-demand prices of EC2 instance types."""

    source: str
    per_hour: dict[str, float]


class Price(Spec):
    """A price in the table's currency; ``test`` is the file of the source."""

    price: float = Field(gt=0)
    source: str
    unit: str = "hour"
    test: str | None = None


class MultiAz(Spec):
    """How many times a database in two zones costs what one in a single zone does."""

    factor: float = Field(ge=1)
    source: str


class Prices(Spec):
    """The price table; a price names its source."""

    currency: str
    region: str
    hours_per_month: float = Field(gt=0)
    sources: dict[str, Source]
    instances: Instances
    databases: dict[str, Price]
    multi_az: MultiAz
    services: dict[str, Price]
    not_priced: list[str]

    @model_validator(mode="after")
    def _sourced(self) -> "Prices":
        priced = {**self.databases, **self.services}
        named = {name: price.source for name, price in priced.items()}
        named |= {"instances": self.instances.source, "multi_az": self.multi_az.source}
        for name, source in named.items():
            if source not in self.sources:
                raise ValueError(f"{name} names the source {source!r}, which is not in `sources`")
        return self

    def instance_hour(self, instance: str) -> float:
        """An on-demand hour of the EC2 type. Raises PermanentError for one without a price."""
        found = self.instances.per_hour.get(instance)
        if found is None:
            raise PermanentError(
                f"{PRICES.name} has no price for the instance type {instance}: add it to "
                "`instances`, from the source named there"
            )
        return found

    def service(self, name: str) -> float:
        """The price of the service ``name``."""
        return self.services[name].price


class Amounts(Spec):
    """An amount of a month, idle and working."""

    idle: float = Field(ge=0)
    working: float = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "Amounts":
        if self.idle > self.working:
            raise ValueError(f"idle is {self.idle:g}, above working {self.working:g}")
        return self


class UseCasePattern(Spec):
    """What a use case does in an environment; amounts are of a month."""

    trainings_per_day: float = Field(ge=0)
    tunings: float = Field(ge=0)
    runs_at_once: int = Field(ge=0)
    run_hours_per_day: float = Field(ge=0, le=24)
    lake_gb: float = Field(ge=0)
    artifacts_gb: float = Field(ge=0)
    storage_writes: float = Field(ge=0)
    storage_reads: float = Field(ge=0)


class EnvironmentPattern(Spec):
    """What an environment does in a month."""

    nat_gb: Amounts
    endpoint_gb: Amounts
    log_gb: Amounts
    audit_events: Amounts
    images_gb: float = Field(ge=0)
    use_cases: dict[str, UseCasePattern]


class Pattern(Spec):
    """The working pattern; ``room`` is the share of a node that pods get."""

    node_start_seconds: float = Field(ge=0)
    room: float = Field(gt=0, le=1)
    environments: dict[str, EnvironmentPattern]


def read_prices(path: Path = PRICES) -> Prices:
    """The price table. Raises PermanentError that names the field of a wrong one."""
    return _read(path, Prices)


def read_pattern(path: Path = PATTERN) -> Pattern:
    """The working pattern. Raises PermanentError that names the field of a wrong one."""
    return _read(path, Pattern)


def _read(path: Path, model: type[Part]) -> Part:
    try:
        return model.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
            for each in error.errors()
        )
        raise PermanentError(f"{path.name}: {problems}") from error
