"""One process of the definitions benchmark: load a number of use cases, print the CPU seconds."""

import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import dagster as dg

from mlops_assets.components.loading import load_use_cases
from mlops_assets.lifecycle.platform import Places, Platform, resources_at

DAY = dg.DailyPartitionsDefinition(
    start_date="2013-01-01", end_date="2013-12-31", timezone="America/New_York"
)
SINGLE = dg.BackfillPolicy.single_run()
DATASETS = {"flights": True, "weather": True, "planes": False, "airlines": False, "airports": False}
VIEWS = {
    "schedule": "flights",
    "carrier_delays": "flights",
    "origin_delays": "flights",
    "route_delays": "flights",
    "aircraft_delays": "flights",
    "origin_recent": "flights",
    "weather_hourly": "weather",
    "congestion": "flights",
    "aircraft": "planes",
}
STAGES = {
    "training_set": ["flights", *VIEWS],
    "model": ["training_set"],
    "evaluation": ["model"],
    "promotion": ["evaluation"],
    "endpoint": ["promotion"],
    "backtest": ["flights", *VIEWS],
}
WATCHING = {
    "predictions": ["flights", "endpoint", *VIEWS],
    "prediction_log": ["endpoint"],
    "outcomes": ["flights", "prediction_log", *VIEWS],
    "drift": ["outcomes", "prediction_log"],
    "performance": ["outcomes"],
}
SENSORS = ("new_data", "retraining", "alerts")


def main() -> None:
    """``KIND COUNT FOLDER``: KIND is ours or by_hand."""
    kind, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(folder))
    resources = dg.Definitions(resources=resources_at(Places.under(folder)))
    begun = time.process_time()
    if kind == "ours":
        loaded = load_use_cases(folder / "copies" / "defs", "copies.defs")
    else:
        names = [f"case_{n}" for n in range(count)]
        loaded = dg.Definitions(
            assets=[asset for name in names for asset in _by_hand(name)],
            sensors=[_sensor(f"{name}_{sensor}", name) for name in names for sensor in SENSORS],
        )
    definitions = dg.Definitions.merge(loaded, resources)
    repository = definitions.get_repository_def()
    assets = len(repository.asset_graph.get_all_asset_keys())
    repository.get_implicit_global_asset_job_def()
    print(json.dumps({"seconds": time.process_time() - begun, "assets": assets}))


def _by_hand(name: str) -> Iterator[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of one use case as somebody would write them without the platform."""
    for dataset, partitioned in DATASETS.items():
        yield _asset(name, dataset, [], partitioned=partitioned, checked=True)
    for view, source in VIEWS.items():
        yield _asset(name, view, [source], partitioned=DATASETS[source], checked=True)
    for stage, parents in STAGES.items():
        yield _asset(name, stage, parents, partitioned=False, checked=False)
    for stage, parents in WATCHING.items():
        yield _asset(name, stage, parents, partitioned=True, checked=False)
    yield dg.AssetSpec(
        dg.AssetKey([name, "retraining"]),
        group_name=name,
        owners=["team:flights"],
        description="decisions",
        kinds={"python"},
        deps=[dg.AssetKey([name, parent]) for parent in ("drift", "performance", "promotion")],
    )


def _sensor(name: str, group: str) -> dg.SensorDefinition:
    @dg.sensor(name=name, asset_selection=dg.AssetSelection.groups(group))
    def _ticked(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
        return dg.SkipReason("nothing")

    return _ticked


def _asset(
    name: str,
    asset: str,
    parents: Iterable[str],
    *,
    partitioned: bool,
    checked: bool,
) -> dg.AssetsDefinition:
    key = dg.AssetKey([name, asset])

    @dg.asset(
        key=key,
        group_name=name,
        owners=["team:flights"],
        description=f"{asset} of {name} on {date(2013, 1, 1)}",
        kinds={"polars", "deltalake"},
        partitions_def=DAY if partitioned else None,
        backfill_policy=SINGLE if partitioned else None,
        automation_condition=dg.AutomationCondition.eager() if partitioned else None,
        deps=[dg.AssetKey([name, parent]) for parent in parents],
        metadata={"table": f"{name}/{asset}"},
        check_specs=[
            dg.AssetCheckSpec("expectations", asset=key, blocking=True, description="critical"),
            dg.AssetCheckSpec("warnings", asset=key, description="warnings"),
        ]
        if checked
        else None,
    )
    def _written(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        # The resource as Dagster's own documentation has it: a parameter with its type.
        return dg.MaterializeResult()

    return _written


if __name__ == "__main__":
    main()
