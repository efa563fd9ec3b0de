"""A step's compute profile holds, however its run is launched: by each of Dagster's own ways."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from compute_support import Runs, executing, run_worker
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.asset_daemon import AssetDaemon
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster_graphql.client.query import LAUNCH_PIPELINE_EXECUTION_MUTATION
from dagster_graphql.test.utils import execute_dagster_graphql
from fake_kubernetes import FakeCluster

LOGGER = logging.getLogger("dagster.daemon")

LAUNCH_BACKFILL = """
mutation($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message stack }
  }
}
"""


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Runs, WorkspaceProcessContext]]:
    """A code server with the tests' location, and an instance whose launcher has a cluster."""
    folder = tmp_path_factory.mktemp("routes")
    cluster = FakeCluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPUTE_TEST_IO", str(folder / "io"))
        patch.setenv("DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS", "0.02")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"))
        target = ModuleTarget("compute_location", None, None, "tests")
        with (
            run_worker(folder, cluster) as runs,
            create_test_daemon_workspace_context(target, runs.instance) as workspace,
        ):
            yield runs, workspace


def graphql(workspace: WorkspaceProcessContext, query: str, variables: dict[str, Any]) -> None:
    """What the UI sends."""
    answer = execute_dagster_graphql(workspace.create_request_context(), query, variables)
    assert answer.data is not None
    [(_, found)] = answer.data.items()
    assert found["__typename"].endswith("Success"), found


def materialized_in_the_ui(runs: Runs, workspace: WorkspaceProcessContext) -> None:
    """The button of the asset graph."""
    _launch(workspace, "__ASSET_JOB", [{"path": ["training_set"]}, {"path": ["model"]}])


def job_launched(runs: Runs, workspace: WorkspaceProcessContext) -> None:
    """The launchpad of a job."""
    _launch(workspace, "train", None)


def _launch(
    workspace: WorkspaceProcessContext, job: str, assets: list[dict[str, Any]] | None
) -> None:
    selector = {
        "repositoryLocationName": "tests",
        "repositoryName": "__repository__",
        "jobName": job,
        "assetSelection": assets,
    }
    variables = {"executionParams": {"selector": selector, "mode": "default"}}
    graphql(workspace, LAUNCH_PIPELINE_EXECUTION_MUTATION, variables)


def sensor_ticked(runs: Runs, workspace: WorkspaceProcessContext) -> None:
    """As the daemon ticks it."""
    with ThreadPoolExecutor(1) as threads:
        futures: dict[str, Any] = {}
        list(execute_sensor_iteration(workspace, LOGGER, threads, None, futures))
        for future in futures.values():
            future.result()


def schedule_ticked(runs: Runs, workspace: WorkspaceProcessContext) -> None:
    """As the daemon ticks it: it starts to count at its first look, and runs a minute later."""
    now = datetime.now(UTC)
    times: dict[str, Any] = {}
    for at in (now, now + timedelta(minutes=1)):
        list(launch_scheduled_runs(workspace, LOGGER, at, times))


def backfilled(runs: Runs, workspace: WorkspaceProcessContext) -> None:
    """Both partitions, in one run."""
    params = {"assetSelection": [{"path": ["model_by_part"]}], "partitionNames": ["a", "b"]}
    graphql(workspace, LAUNCH_BACKFILL, {"backfillParams": params})
    list(execute_backfill_iteration(workspace, LOGGER))


def condition_held(runs: Runs, workspace: WorkspaceProcessContext) -> None:
    """The automation condition of an asset that is missing."""
    daemon = AssetDaemon(
        settings=runs.instance.get_auto_materialize_settings(), pre_sensor_interval_seconds=30
    )
    daemon._run_iteration_impl(workspace, None, {}, {})


@pytest.mark.parametrize(
    "route",
    [
        *(materialized_in_the_ui, job_launched, sensor_ticked),
        *(schedule_ticked, backfilled, condition_held),
    ],
)
def test_the_model_gets_the_pod_of_its_profile(
    deployed: tuple[Runs, WorkspaceProcessContext], route: Any
) -> None:
    """The run worker's Job is made by the run launcher, and the step's by the run worker."""
    runs, workspace = deployed
    runs.cluster.clear()
    runs.cluster.add_node("gpu-1")
    runs.cluster.on_job = executing(runs.instance)
    before = {run.run_id for run in runs.instance.get_runs()}
    route(runs, workspace)
    new = [run for run in runs.instance.get_runs() if run.run_id not in before]
    assert new, "no run was launched"
    for run in new:
        runs.instance.launch_run(run.run_id, workspace.create_request_context()) if (
            run.status == dg.DagsterRunStatus.NOT_STARTED
        ) else None
        done = runs.execute(run)
        assert done.is_success, runs.told(run)
    pods = [job["spec"]["template"]["spec"] for job in runs.step_jobs()]
    assert len(pods) == len(new)
    for pod in pods:
        assert pod["nodeSelector"]["karpenter.sh/capacity-type"] == "spot"
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert pod["serviceAccountName"] == "mlops-step"
        assert {"name": "MLOPS_COMPUTE_PROFILE", "value": "gpu_spot"} in pod["containers"][0]["env"]
