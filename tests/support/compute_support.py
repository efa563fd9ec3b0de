"""Runs of the tests' code location, executed as a run worker does, beside a fake cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData, StepSuccessData
from dagster._core.execution.plan.outputs import StepOutputData, StepOutputHandle
from dagster_shared.error import SerializableErrorInfo
from fake_kubernetes import FakeCluster, serving

from mlops_assets.core.errors import TransientError

LAUNCHER = {
    "module": "dagster_k8s.launcher",
    "class": "K8sRunLauncher",
    "config": {
        "service_account_name": "mlops-run",
        "instance_config_map": "dagster-instance",
        "dagster_home": "/opt/dagster/home",
        "job_image": "registry.example/mlops-code-location:1",
        "job_namespace": "mlops-runs",
        "load_incluster_config": False,
        "env_config_maps": ["mlops-environment"],
        "env_secrets": ["mlops-secrets"],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "volume_mounts": [{"name": "tmp", "mountPath": "/tmp"}],
        # What fits the run worker alone, and may not show on a step's pod.
        "run_k8s_config": {
            "pod_spec_config": {
                "nodeSelector": {"karpenter.sh/nodepool": "cpu-on-demand"},
                "priorityClassName": "mlops-run",
                "tolerations": [{"key": "runs", "operator": "Exists"}],
            },
            "container_config": {
                "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m"}}
            },
        },
    },
}


@dataclass
class Runs:
    """An instance, and the fake cluster that its run launcher leads to."""

    instance: dg.DagsterInstance
    cluster: FakeCluster

    def create(
        self, assets: Sequence[str] = ("training_set", "model", "evaluation")
    ) -> dg.DagsterRun:
        """A run of the location's assets."""
        keys = frozenset(dg.AssetKey(name) for name in assets)
        job = _job()
        return self.instance.create_run_for_job(
            job_def=job.get_subset(asset_selection=keys).get_definition(),
            asset_selection=keys,
            job_code_origin=job.get_python_origin(),
        )

    def execute(self, run: dg.DagsterRun, *, resume: bool = False) -> dg.DagsterRun:
        """Execute the run, as a run worker does, to its end; gives the run as it is then."""
        self.start(run)
        for _ in self.events(run, resume=resume):
            pass
        return self.again(run)

    def start(self, run: dg.DagsterRun) -> None:
        """The run is with its run worker."""
        if self.again(run).status != dg.DagsterRunStatus.STARTED:
            self.instance.report_dagster_event(
                dg.DagsterEvent(
                    event_type_value=dg.DagsterEventType.RUN_STARTING.value,
                    job_name=run.job_name,
                ),
                run.run_id,
            )

    def events(self, run: dg.DagsterRun, *, resume: bool = False) -> Iterator[dg.DagsterEvent]:
        """The events that the run worker sees; closed before its end, the run worker is gone."""
        job = _job(run.job_name)
        if run.asset_selection:
            job = job.get_subset(asset_selection=run.asset_selection)
        return execute_run_iterator(job, self.again(run), self.instance, resume_from_failure=resume)

    def again(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """The run as it is now."""
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found

    def told(self, run: dg.DagsterRun) -> str:
        """All messages of the run's log."""
        lines: list[str] = []
        for entry in self.instance.all_logs(run.run_id):
            event = entry.dagster_event
            lines.append(entry.user_message)
            if event and event.message:
                lines.append(event.message)
            if event and event.event_type == dg.DagsterEventType.STEP_FAILURE:
                error = event.step_failure_data.error
                lines.append(f"FAILED {error.message if error else ''}")
        return "\n".join(lines)

    def step_jobs(self) -> list[dict]:
        """The Jobs of steps that were made, in order."""
        return [
            job for job in self.cluster.made if job["metadata"]["name"].startswith("dagster-st")
        ]


@contextmanager
def run_worker(folder: Path, cluster: FakeCluster) -> Iterator[Runs]:
    """An instance in ``folder`` whose run launcher talks to ``cluster``."""
    with serving(cluster, folder) as kubeconfig:
        config = {**LAUNCHER["config"], "kubeconfig_file": str(kubeconfig)}
        overrides = {
            "run_launcher": {**LAUNCHER, "config": config},
            "run_monitoring": {"enabled": True, "max_resume_run_attempts": 3},
            "compute_logs": {
                "module": "dagster._core.storage.noop_compute_log_manager",
                "class": "NoOpComputeLogManager",
            },
            "telemetry": {"enabled": False},
        }
        with dg.instance_for_test(overrides, temp_dir=str(folder)) as instance:
            yield Runs(instance, cluster)


def executing(
    instance: dg.DagsterInstance, node: str = "gpu-1", error: BaseException | None = None
) -> Callable[[FakeCluster, str], None]:
    """A kubelet on ``node`` whose pods say that their step succeeded, or how it did not."""

    def on_job(cluster: FakeCluster, name: str) -> None:
        pod = cluster.add_pod(name, phase="Running", node=node)
        execute_pod(instance, cluster, name, error)
        cluster.end_pod(pod, 0, why="Completed")

    return on_job


def execute_pod(
    instance: dg.DagsterInstance,
    cluster: FakeCluster,
    name: str,
    error: BaseException | None = None,
) -> None:
    """What the process in the pod of the Job ``name`` writes into the event log.

    To execute the step itself, in this process, would configure Python's logging in two threads.
    """
    labels = cluster.jobs[name]["metadata"]["labels"]
    run_id, step = labels["dagster/run-id"], labels["dagster/op"]

    def say(kind: dg.DagsterEventType, data: object = None) -> None:
        event = dg.DagsterEvent(
            event_type_value=kind.value,
            job_name=labels["dagster/job"],
            step_key=step,
            event_specific_data=data,  # type: ignore[arg-type]
        )
        instance.report_dagster_event(event, run_id)

    # Dagster's names of Jobs end with the attempt's number, from the second one on.
    again = len(name.split("-")) > 3
    say(dg.DagsterEventType.STEP_RESTARTED if again else dg.DagsterEventType.STEP_START)
    if error is None:
        output = StepOutputData(step_output_handle=StepOutputHandle(step, "result"))
        say(dg.DagsterEventType.STEP_OUTPUT, output)
        say(dg.DagsterEventType.STEP_SUCCESS, StepSuccessData(duration_ms=1.0))
        return
    said = SerializableErrorInfo(str(error), [], type(error).__name__)
    if isinstance(error, TransientError):
        say(dg.DagsterEventType.STEP_UP_FOR_RETRY, StepRetryData(error=said))
    else:
        failure = StepFailureData(error=said, user_failure_data=None)
        say(dg.DagsterEventType.STEP_FAILURE, failure)


def _job(name: str = "__ASSET_JOB"):
    return ReconstructableRepository.for_module(
        "compute_location", "defs", working_directory=str(Path(__file__).parent)
    ).get_reconstructable_job(name)
