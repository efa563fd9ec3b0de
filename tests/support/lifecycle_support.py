"""The tests' use case, materialized for real in a folder of the test."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import dagster as dg
import polars as pl
import yaml

from mlops_assets.adapters.chain import Ledgers
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.platform import Places, resources_at
from mlops_assets.lifecycle.use_case import use_case_definitions

FOLDER = Path(__file__).parent / "visits"


def spec_of_visits(port: int = 8931) -> UseCaseSpec:
    """The tests' use case on a port of the test."""
    attributes = yaml.safe_load((FOLDER / "defs.yaml").read_text())["attributes"]
    attributes["endpoint"] = {"port": port}
    return UseCaseSpec.model_validate(attributes)


@dataclass
class Project:
    """A use case with its own lake, registry and instance."""

    spec: UseCaseSpec
    places: Places
    instance: dg.DagsterInstance
    faults_file: Path
    functions: Functions = field(default_factory=lambda: Functions("visits", FOLDER))

    def __post_init__(self) -> None:
        self.definitions = dg.Definitions.merge(
            use_case_definitions(self.spec, self.functions),
            dg.Definitions(resources=resources_at(self.places)),
        )

    @property
    def lake(self) -> Lake:
        """The project's tables."""
        return Lake(self.places.lake)

    @property
    def ledgers(self) -> Ledgers:
        """The project's ledgers."""
        return ledgers_of(self.places)

    def faults(self, by_day: Mapping[str, str]) -> None:
        """What the source does wrong from now on."""
        self.faults_file.write_text(json.dumps(dict(by_day)))

    def run(
        self,
        assets: Sequence[str],
        days: tuple[str, str] | None = None,
        config: Mapping[str, object] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize ``assets`` in one run, for the days from first to last."""
        tags = {}
        if days is not None:
            tags["dagster/asset_partition_range_start"] = days[0]
            tags["dagster/asset_partition_range_end"] = days[1]
        return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[self.key(name) for name in assets],
            tags=tags,
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                **(config or {}),
            },
            raise_on_error=False,
        )

    def key(self, name: str) -> dg.AssetKey:
        """The key of an asset."""
        return dg.AssetKey([self.spec.name, name])

    def table(self, name: str, partitions: Sequence[str] | None = None) -> pl.DataFrame:
        """A table's rows."""
        frame = pl.from_arrow(self.lake.read(f"{self.spec.name}/{name}", partitions=partitions))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def materialized(self, name: str) -> set[str]:
        """The partitions that Dagster has as materialized."""
        return set(self.instance.get_materialized_partitions(self.key(name)))


def places_under(folder: Path) -> Places:
    """Everything in one folder, with the ledgers elsewhere than the lake, as in production."""
    return replace(Places.under(folder), ledgers=str(folder / "ledgers"))


def ledgers_of(places: Places) -> Ledgers:
    """The ledgers of ``places``."""
    return Ledgers(places.ledgers or places.lake)


def make_project(folder: Path, instance: dg.DagsterInstance, port: int) -> Project:
    """A project with nothing in it."""
    return Project(spec_of_visits(port), places_under(folder), instance, folder / "faults.json")
