"""A code location of a few small assets, placed as the platform places a use case's."""

import os
from pathlib import Path

import dagster as dg
import yaml

from mlops_assets.compute.executor import mlops_executor
from mlops_assets.core.errors import InterruptedTrainingError, PermanentError, TransientError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import placed

_VISITS = yaml.safe_load((Path(__file__).parent / "visits" / "defs.yaml").read_text())
SPEC = UseCaseSpec.model_validate(_VISITS["attributes"] | {"compute": {"model": "gpu_spot"}})
SAYS = "COMPUTE_TEST_SAYS"
"""Environment variable with a file: what each execution of the model does, one word a line."""

_ERRORS = {
    "transient": TransientError("the database was busy"),
    "permanent": PermanentError("the label is not there"),
    "interrupted": InterruptedTrainingError("told to end after round 40"),
    "bug": ZeroDivisionError("division by zero"),
}


@dg.asset(**placed(SPEC, "training_set"))
def training_set() -> int:
    """Small, and inside the run worker."""
    return 3


@dg.asset(**placed(SPEC, "model"))
def model(context: dg.AssetExecutionContext, training_set: int) -> int:
    """Does what the test's file says next."""
    path = os.environ.get(SAYS)
    if path:
        first, *rest = [*Path(path).read_text().split(), "done"]
        Path(path).write_text("\n".join(rest[:-1]))
        if first in _ERRORS:
            raise _ERRORS[first]
    return training_set


@dg.asset(**placed(SPEC, "evaluation"))
def evaluation(model: int) -> int:
    """After the model, inside the run worker."""
    return model


train = dg.define_asset_job("train", dg.AssetSelection.assets(training_set, model))


@dg.sensor(job=train, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def retrain() -> dg.RunRequest:
    """Asks for one run."""
    return dg.RunRequest(run_key="once")


@dg.schedule(cron_schedule="* * * * *", job=train, default_status=dg.DefaultScheduleStatus.RUNNING)
def nightly() -> dg.RunRequest:
    """Asks for one run a minute."""
    return dg.RunRequest()


defs = dg.Definitions(
    assets=[training_set, model, evaluation],
    jobs=[train],
    sensors=[
        retrain,
        dg.AutomationConditionSensorDefinition(
            "automation",
            target=dg.AssetSelection.all(),
            default_status=dg.DefaultSensorStatus.RUNNING,
        ),
    ],
    schedules=[nightly],
    executor=mlops_executor.configured({"health_seconds": 0}, name="mlops"),
    resources={"io_manager": dg.FilesystemIOManager(base_dir=dg.EnvVar("COMPUTE_TEST_IO"))},
)
