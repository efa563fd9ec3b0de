"""Steps in pods of their own, and everything that ends a pod: the run goes on, or says why not."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
from compute_location import SLOW
from compute_support import Runs, execute_pod, executing, run_worker
from dagster._core.execution.plan.objects import StepRetryData
from dagster._utils.interrupts import capture_interrupts
from dagster_shared.error import SerializableErrorInfo
from fake_kubernetes import FakeCluster, condition

from mlops_assets.adapters.compute_profiles import OWN_FILE_VARIABLE
from mlops_assets.compute import accounts
from mlops_assets.core import compute_pods
from mlops_assets.core.errors import InterruptedTrainingError, PermanentError, TransientError

PROFILES = """\
profiles:
  gpu_spot:
    description: The platform's, with little patience.
    capacity: spot
    fallback: gpu_on_demand
    attempts: 3
    error_retries: 1
    gpu: preferred
    price: gpu_spot
    limits: {nvidia.com/gpu: "1", memory: 2Gi}
    node_selector: {karpenter.sh/capacity-type: spot}
    grace_seconds: 1
    schedule_seconds: 1
  gpu_on_demand:
    description: Its fallback.
    capacity: on_demand
    gpu: preferred
    price: gpu_on_demand
    limits: {nvidia.com/gpu: "1", memory: 2Gi}
    node_selector: {karpenter.sh/capacity-type: on-demand}
    schedule_seconds: 1
"""

Ending = Callable[[FakeCluster, str, str], None]
"""What becomes of a pod: takes the cluster, the Job's and the pod's name."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """One instance for all tests: to make one takes longer than a run does."""
    with run_worker(tmp_path_factory.mktemp("instance"), FakeCluster()) as found:
        yield found


@pytest.fixture
def runs(worker: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The instance beside a cluster with one spot node and nothing else."""
    (tmp_path / "profiles.yaml").write_text(PROFILES)
    monkeypatch.setenv(OWN_FILE_VARIABLE, str(tmp_path / "profiles.yaml"))
    monkeypatch.setenv("COMPUTE_TEST_IO", str(tmp_path / "io"))
    monkeypatch.setenv("DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS", "0.02")
    for patience in ("IMAGE", "START", "NOT_READY", "SILENT", "LAST_WORD"):
        monkeypatch.setattr(compute_pods, f"{patience}_PATIENCE_SECONDS", 0.2)
    worker.cluster.clear()
    worker.cluster.add_node("spot-1")
    return worker


def first_then(runs: Runs, *endings: Ending, begun: bool = True) -> None:
    """The first pods end as ``endings`` say, the step having begun or not; the next one works."""
    left = list(endings)
    works = executing(runs.instance, "spot-1")

    def on_job(cluster: FakeCluster, job: str) -> None:
        if not left:
            cluster.add_node("spot-1")
            works(cluster, job)
            return
        pod = cluster.add_pod(job, phase="Running", node="spot-1")
        if begun:
            begin(runs, cluster, job)
        left.pop(0)(cluster, job, pod)

    runs.cluster.on_job = on_job


def begin(runs: Runs, cluster: FakeCluster, job: str) -> None:
    """The step has started, and goes on for as long as nobody ends its pod."""
    labels = cluster.jobs[job]["metadata"]["labels"]
    again = len(job.split("-")) > 3
    kind = dg.DagsterEventType.STEP_RESTARTED if again else dg.DagsterEventType.STEP_START
    event = dg.DagsterEvent(
        event_type_value=kind.value, job_name="__ASSET_JOB", step_key=labels["dagster/op"]
    )
    runs.instance.report_dagster_event(event, labels["dagster/run-id"])


def evicted(cluster: FakeCluster, job: str, pod: str) -> None:
    """Drained: the pod is deleted, and the Job's controller makes another that finds no node."""
    with cluster.lock:
        del cluster.pods[pod]
        name = cluster.add_pod(job)
        cluster.pods[name]["status"]["conditions"] = [
            condition("PodScheduled", "False", message="0/2 nodes: 1 was unschedulable")
        ]


def marked_evicted(cluster: FakeCluster, job: str, pod: str) -> None:
    """Newer clusters keep the pod, with the condition that says so."""
    cluster.end_pod(
        pod, 143, conditions=[condition("DisruptionTarget", reason="EvictionByEvictionAPI")]
    )


def node_gone(cluster: FakeCluster, job: str, pod: str) -> None:
    """The machine went, and its Node with it."""
    del cluster.nodes["spot-1"]


def node_silent(cluster: FakeCluster, job: str, pod: str) -> None:
    """The machine went without a word."""
    cluster.add_node("spot-1", ready="Unknown")


def pod_deleted(cluster: FakeCluster, job: str, pod: str) -> None:
    """By hand; its replacement finds the step started, and leaves without a word."""
    with cluster.lock:
        del cluster.pods[pod]
        cluster.end_pod(cluster.add_pod(job, node="spot-1"), 0, why="Completed")


def job_deleted(cluster: FakeCluster, job: str, pod: str) -> None:
    """By hand."""
    with cluster.lock:
        del cluster.jobs[job]
        del cluster.pods[pod]


def killed_on_leaving_node(cluster: FakeCluster, job: str, pod: str) -> None:
    """Past its grace, on a node that is drained."""
    cluster.add_node("spot-1", taints=("karpenter.sh/disrupted",))
    cluster.end_pod(pod, 137)


def crashed(cluster: FakeCluster, job: str, pod: str) -> None:
    """The process ended by itself."""
    cluster.end_pod(pod, 1)


def profiles_of(runs: Runs) -> list[str]:
    """The profile of each step's Job that was made, in order."""
    return [job["metadata"]["labels"]["mlops/profile"] for job in runs.step_jobs()]


def test_a_step_with_a_pod_of_its_own_runs_there_and_the_others_inside_the_run_worker(
    runs: Runs,
) -> None:
    """One Job for three steps; what it took is told in tags of the run."""
    first_then(runs)
    run = runs.execute(runs.create())
    assert run.is_success, runs.told(run)
    assert profiles_of(runs) == ["gpu_spot"]
    assert run.tags["mlops/attempts"] == "1"
    assert float(run.tags["mlops/spot_seconds"]) > 0
    assert float(run.tags["mlops/wasted_spot_seconds"]) == 0
    assert runs.cluster.deleted == []


@pytest.mark.parametrize(
    "ending",
    [
        *(evicted, marked_evicted, node_gone, node_silent),
        *(pod_deleted, job_deleted, killed_on_leaving_node),
    ],
)
def test_a_pod_that_is_taken_away_costs_an_attempt_and_no_run(runs: Runs, ending: Ending) -> None:
    """Its Job goes first, so that nothing of it holds the GPU; then the step runs again."""
    first_then(runs, ending)
    run = runs.execute(runs.create())
    assert run.is_success, runs.told(run)
    first, second = runs.cluster.names()
    assert second == f"{first}-1"
    assert profiles_of(runs) == ["gpu_spot", "gpu_spot"]
    assert first not in runs.cluster.jobs
    assert run.tags["mlops/interruptions"] == "1"
    assert float(run.tags["mlops/wasted_spot_seconds"]) > 0
    assert "attempt 1 of model interrupted" in runs.told(run)


def test_a_word_that_comes_after_the_pod_went_is_not_said_a_second_time(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow database: the step's own request for a retry turns up while its loss is recorded."""
    tag_run, late = accounts.tag_run, [True]

    def slow(instance: dg.DagsterInstance, run_id: str) -> None:
        tag_run(instance, run_id)
        if late and late.pop():
            error = SerializableErrorInfo("told to end", [], "InterruptedTrainingError")
            event = dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.STEP_UP_FOR_RETRY.value,
                job_name="__ASSET_JOB",
                step_key="model",
                event_specific_data=StepRetryData(error),
            )
            instance.report_dagster_event(event, run_id)

    monkeypatch.setattr(accounts, "tag_run", slow)
    first_then(runs, evicted)
    run = runs.execute(runs.create())
    assert run.is_success, runs.told(run)
    assert run.tags["mlops/interruptions"] == "1"
    kinds = {dg.DagsterEventType.STEP_UP_FOR_RETRY}
    assert len(runs.instance.get_records_for_run(run.run_id, of_type=kinds).records) == 1


def test_the_last_attempt_runs_on_on_demand(runs: Runs) -> None:
    """After all the others were taken away on spot."""
    first_then(runs, evicted, evicted)
    run = runs.execute(runs.create())
    assert run.is_success, runs.told(run)
    assert profiles_of(runs) == ["gpu_spot", "gpu_spot", "gpu_on_demand"]
    assert [job["spec"]["template"]["spec"]["nodeSelector"] for job in runs.step_jobs()][-1] == {
        "karpenter.sh/capacity-type": "on-demand"
    }
    assert float(run.tags["mlops/on_demand_seconds"]) > 0
    assert float(run.tags["mlops/wasted_spot_cost"]) > 0


def test_a_step_that_is_always_taken_away_fails_with_the_count(runs: Runs) -> None:
    """And leaves nothing in the cluster."""
    first_then(runs, evicted, evicted, evicted)
    run = runs.execute(runs.create())
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert "FAILED model: interrupted 3 times" in runs.told(run)
    assert runs.cluster.jobs == {}


def test_a_process_that_crashes_is_tried_again_as_often_as_errors_are(runs: Runs) -> None:
    """Interruptions have a budget of their own; the failure has the pod's last lines."""
    first_then(runs, crashed, evicted, crashed)
    run = runs.execute(runs.create())
    assert run.status == dg.DagsterRunStatus.FAILURE
    told = runs.told(run)
    assert "FAILED model: 2 attempts ended with errors" in told
    assert "the last line" in told
    assert len(runs.step_jobs()) == 3


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"reason": "OOMKilled"}, "more memory than its limit (2Gi)"),
        ({"reason": "DeadlineExceeded"}, "longer than its profile allows"),
    ],
)
def test_what_would_end_the_same_again_is_not_tried_again(
    runs: Runs, status: dict[str, str], says: str
) -> None:
    """Memory and time: the failure says which limit."""
    first_then(runs, lambda cluster, job, pod: cluster.end_pod(pod, 137, **status))
    run = runs.execute(runs.create())
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert says in runs.told(run)
    assert len(runs.step_jobs()) == 1


def waiting(reason: str, message: str) -> Ending:
    """The pod has a node, and its container does not start."""

    def ending(cluster: FakeCluster, job: str, pod: str) -> None:
        status = cluster.pods[pod]["status"]
        status["phase"] = "Pending"
        status["containerStatuses"] = [
            {"state": {"waiting": {"reason": reason, "message": message}}}
        ]

    return ending


@pytest.mark.parametrize(
    ("reason", "message", "says"),
    [
        ("ImagePullBackOff", "back-off", "image registry.example/mlops-code-location:1 cannot be"),
        ("InvalidImageName", "no such form", "image registry.example/mlops-code-location:1"),
        ("CreateContainerConfigError", 'secret "mlops-secrets" not found', "mlops-secrets"),
    ],
)
def test_a_container_that_cannot_start_fails_the_step_soon(
    runs: Runs, reason: str, message: str, says: str
) -> None:
    """With the image, or the Secret that is missing, by name."""
    first_then(runs, waiting(reason, message), begun=False)
    run = runs.execute(runs.create())
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert says in runs.told(run)
    assert runs.cluster.jobs == {}


def unschedulable(cluster: FakeCluster, job: str, pod: str) -> None:
    """The scheduler finds no node."""
    found = cluster.pods[pod]
    found["spec"].pop("nodeName")
    found["status"] = {
        "phase": "Pending",
        "conditions": [
            condition("PodScheduled", "False", message="0/2 nodes: 2 Insufficient nvidia.com/gpu")
        ],
    }


def test_a_pod_that_no_node_takes_says_so_and_then_goes_to_on_demand(runs: Runs) -> None:
    """Spot capacity may be gone for hours."""
    first_then(runs, unschedulable, begun=False)
    run = runs.execute(runs.create())
    assert run.is_success, runs.told(run)
    assert profiles_of(runs) == ["gpu_spot", "gpu_on_demand"]
    assert "model waits: no node takes pod" in runs.told(run)


def test_a_pod_that_no_node_ever_takes_fails_with_the_schedulers_words(runs: Runs) -> None:
    """After the time that its profile gives it."""
    first_then(runs, unschedulable, unschedulable, begun=False)
    run = runs.execute(runs.create())
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert "2 Insufficient nvidia.com/gpu" in runs.told(run)
    assert "add nodes that fit the profile 'gpu_on_demand'" in runs.told(run)


def test_a_job_without_a_pod_says_why_its_controller_makes_none(runs: Runs) -> None:
    """A quota, as its events say."""
    runs.cluster.on_job = lambda cluster, job: None
    runs.cluster.events.append({"type": "Warning", "message": "exceeded quota: mlops-runs"})
    run = runs.execute(runs.create())
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert "exceeded quota: mlops-runs" in runs.told(run)


def test_a_job_that_the_cluster_refuses_fails_the_step_with_its_words(runs: Runs) -> None:
    """And no other step with it."""
    runs.cluster.refuse = (403, "jobs.batch is forbidden: exceeded quota")
    run = runs.execute(runs.create())
    assert run.status == dg.DagsterRunStatus.FAILURE
    told = runs.told(run)
    assert "the cluster refuses the Job of profile 'gpu_spot'" in told
    assert "exceeded quota" in told


@pytest.mark.parametrize(
    ("errors", "succeeds", "jobs"),
    [
        ([TransientError("busy")], True, 2),
        ([InterruptedTrainingError("told to end after round 40")], True, 2),
        ([InterruptedTrainingError("told"), TransientError("busy")], True, 3),
        ([TransientError("busy"), TransientError("busy again")], False, 2),
        ([PermanentError("the label is not there")], False, 1),
    ],
)
def test_what_the_step_itself_says_decides_whether_it_is_tried_again(
    runs: Runs, errors: list[Exception], succeeds: bool, jobs: int
) -> None:
    """Transient errors within their budget, interruptions within theirs; nothing else."""
    left = list(errors)

    def on_job(cluster: FakeCluster, job: str) -> None:
        error = left.pop(0) if left else None
        executing(runs.instance, "spot-1", error)(cluster, job)

    runs.cluster.on_job = on_job
    run = runs.execute(runs.create())
    assert run.is_success == succeeds, runs.told(run)
    assert len(runs.step_jobs()) == jobs
    told = sum(isinstance(error, InterruptedTrainingError) for error in errors)
    assert run.tags["mlops/interruptions"] == str(told)


def test_a_process_that_is_told_to_end_says_that_it_is_up_for_retry(
    runs: Runs,
) -> None:
    """A real one, in the middle of the asset's code: it records no failure of the step."""
    codes: list[int] = []
    gone = threading.Event()

    def drained(cluster: FakeCluster, job: str, pod: str) -> None:
        container = cluster.jobs[job]["spec"]["template"]["spec"]["containers"][0]
        own = {pair["name"]: pair["value"] for pair in container["env"] if "value" in pair}
        del own["DAGSTER_HOME"]
        support = str(Path(__file__).parents[1] / "support")
        with subprocess.Popen(
            [sys.executable, "-m", "dagster", "api", "execute_step"],
            env={**os.environ, **own, "PYTHONPATH": support},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == SLOW:
                    process.send_signal(signal.SIGTERM)
            codes.append(process.wait(60))
        gone.set()
        cluster.end_pod(pod, codes[-1])

    first_then(runs, drained, begun=False)
    run = runs.execute(runs.create())
    assert run.is_success, runs.told(run)
    assert gone.wait(60)
    assert codes == [0]
    assert run.tags["mlops/interruptions"] == "1"
    assert "FAILED" not in runs.told(run)


def test_a_new_run_worker_takes_over_the_pod_that_runs(runs: Runs) -> None:
    """The step is executed once."""
    may_end = threading.Event()

    def on_job(cluster: FakeCluster, job: str) -> None:
        pod = cluster.add_pod(job, phase="Running", node="spot-1")
        may_end.wait(30)
        execute_pod(runs.instance, cluster, job)
        cluster.end_pod(pod, 0, why="Completed")

    runs.cluster.on_job = on_job
    run = runs.create()
    lose_run_worker(runs, run)
    may_end.set()
    run = runs.execute(run, resume=True)
    assert run.is_success, runs.told(run)
    assert len(runs.step_jobs()) == 1


@pytest.mark.parametrize("ending", [evicted, node_gone, job_deleted])
def test_a_new_run_worker_goes_on_from_a_pod_that_was_lost_meanwhile(
    runs: Runs, ending: Ending
) -> None:
    """It counts as an interruption, as if somebody had watched."""
    lost = threading.Event()

    def ends(cluster: FakeCluster, job: str, pod: str) -> None:
        lost.wait(30)
        ending(cluster, job, pod)

    first_then(runs, ends)
    run = runs.create()
    lose_run_worker(runs, run)
    lost.set()
    time.sleep(0.1)
    run = runs.execute(run, resume=True)
    assert run.is_success, runs.told(run)
    assert len(runs.step_jobs()) == 2
    assert run.tags["mlops/interruptions"] == "1"


def test_a_run_that_is_canceled_takes_its_jobs_with_it(runs: Runs) -> None:
    """Although Dagster would resume its run worker."""
    first_then(runs, lambda cluster, job, pod: None)
    run = runs.create()
    lose_run_worker(
        runs, run, before=lambda: runs.instance.report_run_canceling(runs.again(run)) and None
    )
    assert runs.again(run).status == dg.DagsterRunStatus.CANCELED
    assert runs.cluster.jobs == {}


def lose_run_worker(
    runs: Runs, run: dg.DagsterRun, before: Callable[[], None] = lambda: None
) -> None:
    """The run worker is told to end once the model's pod is there."""

    def tell() -> None:
        for _ in range(600):
            made = [job["metadata"]["labels"]["dagster/run-id"] for job in runs.step_jobs()]
            if run.run_id in made and runs.cluster.pods:
                before()
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.05)

    teller = threading.Thread(target=tell, daemon=True)
    with capture_interrupts():
        teller.start()
        with suppress(dg.DagsterExecutionInterruptedError):
            runs.execute(run)
        teller.join()
