"""The code location: loads defs/ and binds what the environment gives."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from mlops_assets.components.sensors import load_with_sensors, sensors_of
from mlops_assets.lifecycle.platform import Places, resources_at

STATE = Path(os.environ.get("MLOPS_STATE") or Path(__file__).parents[1] / ".mlops").resolve()
"""Where the local environment keeps everything."""

SENSORS = Path(__file__).parent / "sensors.yaml"
"""Which sensors run, by environment."""


def local_places() -> Places:
    """Where the local environment keeps things."""
    return Places.under(STATE)


def _remote_places() -> Places:
    # Read when a run starts, not here: neither an address nor a secret is needed to load.
    return Places(
        lake=dg.EnvVar("MLOPS_LAKE_URL"),
        tracking=dg.EnvVar("MLFLOW_TRACKING_URI"),
        artifacts=dg.EnvVar("MLOPS_ARTIFACTS_URL"),
        reports=dg.EnvVar("MLOPS_REPORTS_URL"),
        documents=dg.EnvVar("MLOPS_DOCUMENTS_URL"),
        endpoints=dg.EnvVar("MLOPS_ENDPOINTS"),
        alert_channels=dg.EnvVar("MLOPS_ALERT_CHANNELS"),
        dagster=dg.EnvVar("MLOPS_DAGSTER_URL"),
        runbooks=dg.EnvVar("MLOPS_RUNBOOKS_URL"),
        tuning=dg.EnvVar("MLOPS_TUNING_URL"),
        online=dg.EnvVar("MLOPS_ONLINE_URL"),
        ledgers=dg.EnvVar("MLOPS_LEDGER_URL"),
        events=dg.EnvVar("MLOPS_EVENTS_QUEUE"),
    )


def _one_process() -> dg.ExecutorDefinition:
    # A process per step costs more than most steps do.
    return dg.in_process_executor


def _step_pods() -> dg.ExecutorDefinition:
    # Small steps inside the run worker, those whose compute profile asks for it in their own pods.
    from mlops_assets.compute.executor import mlops_executor

    return mlops_executor


def _no_sensors() -> list[dg.SensorDefinition]:
    return []


def _cluster_sensors() -> list[dg.SensorDefinition]:
    from mlops_assets.compute.reaper import reaper_sensor
    from mlops_assets.lifecycle.arrivals.objects import new_objects_sensor

    return [reaper_sensor(), new_objects_sensor()]


@dataclass(frozen=True)
class Environment:
    """What an environment gives: where things are kept, and how steps run.

    Which sensors run is in sensors.yaml.
    """

    places: Callable[[], Places]
    executor: Callable[[], dg.ExecutorDefinition]
    sensors: Callable[[], list[dg.SensorDefinition]] = _no_sensors
    """Those that no use case has, and the environment needs."""


ENVIRONMENTS = {
    "local": Environment(local_places, _one_process),
    # The same, with the sensors running: time is the replay's.
    "replay": Environment(local_places, _one_process),
    "staging": Environment(_remote_places, _step_pods, _cluster_sensors),
    "production": Environment(_remote_places, _step_pods, _cluster_sensors),
}
"""By the value of MLOPS_ENV. Nothing else looks at it."""


def environment(name: str) -> Environment:
    """The environment ``name``; ValueError when there is none."""
    if name not in ENVIRONMENTS:
        raise ValueError(f"MLOPS_ENV is {name!r}; it has to be one of {', '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[name]


@dg.definitions
def defs() -> dg.Definitions:
    """All use cases of defs/, in the environment that MLOPS_ENV names (default: local)."""
    name = os.environ.get("MLOPS_ENV", "local")
    here = environment(name)
    return dg.Definitions.merge(
        load_with_sensors(
            Path(__file__).parent / "defs",
            "mlops_assets.defs",
            sensors_of(SENSORS, name),
            here.sensors,
        ),
        dg.Definitions(resources=resources_at(here.places()), executor=here.executor()),
    )
