"""A code location of a few small assets, placed as the platform places a use case's."""

import time
from pathlib import Path

import dagster as dg
import yaml

from mlops_assets.compute.executor import mlops_executor
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import placed

_VISITS = yaml.safe_load((Path(__file__).parent / "visits" / "defs.yaml").read_text())
SPEC = UseCaseSpec.model_validate(_VISITS["attributes"] | {"compute": {"model": "gpu_spot"}})
SLOW = "it takes long"
"""What the model's process prints when it has begun."""


@dg.asset(**placed(SPEC, "training_set"))
def training_set() -> int:
    """Small, and inside the run worker."""
    return 3


@dg.asset(**placed(SPEC, "model"), deps=[training_set])
def model() -> None:
    """Takes long."""
    print(SLOW, flush=True)
    time.sleep(60)


@dg.asset(**placed(SPEC, "evaluation"), deps=[model])
def evaluation() -> None:
    """After the model, inside the run worker."""


@dg.asset(
    **placed(SPEC, "model"),
    partitions_def=dg.StaticPartitionsDefinition(["a", "b"]),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def model_by_part() -> None:
    """A model for a backfill."""


@dg.asset(
    **placed(SPEC, "model"),
    automation_condition=dg.AutomationCondition.missing() & ~dg.AutomationCondition.in_progress(),
)
def followed() -> None:
    """A model that the automation condition asks for."""


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
    assets=[training_set, model, evaluation, model_by_part, followed],
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
