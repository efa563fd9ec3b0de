"""What is wrong around a training: its run says so in words, nothing is lost, nothing is left.

Each test spoils one thing, looks at what the run says, puts it right, and trains again to the bytes
of a training that nobody disturbed.
"""

import base64
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import ENVIRONMENT, PORTS, RUNS, SPOT, Cluster, kubectl, objects, script, until
from cluster_images import LONG_ROUNDS, SMALL
from cluster_runs import Run, interrupt, launch, rounds_saved, sensor, wait_for_rounds
from services import CREDENTIALS

from mlops_assets.adapters import alerts
from mlops_assets.adapters.lake import Lake

EARLY = 60
START_TIMEOUT_S = 300
"""Dagster's patience with a run worker (values.yaml, runMonitoring)."""
REAPED_S = 600
"""The reaper's patience with the Job of a run that ended is five minutes."""


def replace_in(kind: str, name: str, data: dict[str, str]) -> None:
    """Set keys of a ConfigMap or Secret of the runs' namespace; what runs keeps what it has."""
    patch = json.dumps({"data": data})
    kubectl("patch", kind, name, "--namespace", RUNS, "--type=merge", "--patch", patch)


def content(name: str) -> dict[str, str]:
    """A ConfigMap of the runs' namespace."""
    found = kubectl("get", "configmap", name, "--namespace", RUNS, "--output", "json")
    return json.loads(found)["data"]


@contextlib.contextmanager
def environment(**changed: str) -> Iterator[None]:
    """Other variables for the pods that start meanwhile."""
    before = content("mlops-environment")
    replace_in("configmap", "mlops-environment", changed)
    try:
        yield
    finally:
        removed = dict.fromkeys(set(changed) - set(before))
        replace_in("configmap", "mlops-environment", {**before, **removed})  # type: ignore[dict-item]


@contextlib.contextmanager
def profile(change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Another ``gpu_spot`` for the runs that start meanwhile."""
    before = content("mlops-compute-profiles")["profiles.yaml"]
    document = yaml.safe_load(before)
    change(document["profiles"]["gpu_spot"])
    replace_in("configmap", "mlops-compute-profiles", {"profiles.yaml": yaml.safe_dump(document)})
    try:
        yield
    finally:
        replace_in("configmap", "mlops-compute-profiles", {"profiles.yaml": before})


@contextlib.contextmanager
def without_secret(name: str) -> Iterator[None]:
    """A Secret of the runs' namespace is not there."""
    found = json.loads(kubectl("get", "secret", name, "--namespace", RUNS, "--output", "json"))
    kubectl("delete", "secret", name, "--namespace", RUNS)
    try:
        yield
    finally:
        data = {key: base64.b64decode(value).decode() for key, value in found["data"].items()}
        literals = [f"--from-literal={key}={value}" for key, value in data.items()]
        kubectl("create", "secret", "generic", name, "--namespace", RUNS, *literals)


@contextlib.contextmanager
def without_store() -> Iterator[None]:
    """No pod reaches S3: the way there is cut, with the connections that are open."""
    port = PORTS["s3"]
    # `expose` has made it, in a process group of its own.
    pid_file = Path(f"/run/kubernetes-from-debian/expose-outside-{port}.pid")
    os.killpg(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    try:
        yield
    finally:
        script("expose", str(port))


def failed(run: Run, seconds: float, until_gone: float = 90) -> str:
    """What a run says that failed within ``seconds``, and left nothing."""
    status = run.wait(seconds)
    said = run.said(40)
    assert status == "FAILURE", f"run {run.id} ended as {status}:\n{said}"
    run.leaves_nothing(until_gone)
    return said


def trained_again(cluster: Cluster) -> str:
    """The sha256 of the model of a run that nobody disturbs."""
    run = launch(cluster, SMALL, ["model"]).succeeded(600)
    run.leaves_nothing()
    return run.sha256()


def worker_runs(run: Run) -> None:
    """Return once the run worker's container runs: what changes now changes for the steps alone."""

    def runs() -> bool:
        return any(pod["status"]["phase"] == "Running" for pod in run.pods())

    until(runs, 240, f"the run worker of {run.id}", 0.2)


def test_an_image_that_is_not_there_is_named(cluster: Cluster, small_model: str) -> None:
    """The training's, which a variable of the environment names: the run fails after a minute."""
    with environment(MLOPS_TRAINING_IMAGE="mlops-training:gone"):
        said = failed(launch(cluster, SMALL, ["model"]), 420)
    assert "image mlops-training:gone cannot be pulled" in said
    assert "push it, or correct the name or the registry's credentials" in said
    assert trained_again(cluster) == small_model


@pytest.mark.timeout(1500)
def test_a_run_worker_that_cannot_start_says_why(cluster: Cluster, small_model: str) -> None:
    """Its image is not there, or a Secret that its environment names: the run fails when Dagster's
    patience ends, with what Kubernetes says about the pod, and the reaper takes that away.
    """
    wrong = {"container_config": {"image": "mlops-code-location:gone"}}
    with without_secret("mlops-secrets"), sensor(cluster, "reaper"):
        tags = {"dagster-k8s/config": json.dumps(wrong)}
        imageless = launch(cluster, SMALL, ["model"], tags=tags)
        secretless = launch(cluster, SMALL, ["model"])
        for run, why in (
            (imageless, 'pulling image "mlops-code-location:gone"'),
            (secretless, 'secret "mlops-secrets" not found'),
        ):
            said = failed(run, START_TIMEOUT_S + 240, REAPED_S)
            assert "longer than 300 seconds to start" in said
            assert why in said
    assert trained_again(cluster) == small_model


def test_a_secret_that_is_not_there_is_named(cluster: Cluster, small_model: str) -> None:
    """It goes while the run is under way: the step's pod cannot be made, and the run says so."""
    run = launch(cluster, SMALL, ["model"])
    worker_runs(run)
    with without_secret("mlops-secrets"):
        said = failed(run, 420)
    assert 'secret "mlops-secrets" not found' in said
    assert "make the Secret, ConfigMap or volume that it names" in said
    assert trained_again(cluster) == small_model


def test_a_gpu_that_no_node_has_is_waited_for_and_then_given_up(
    cluster: Cluster, small_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run says why it waits, in the scheduler's words, and at last what to do; its owners are
    told.
    """

    def two_gpus(profile: dict[str, Any]) -> None:
        del profile["fallback"]
        profile["schedule_seconds"] = 90
        for part in ("requests", "limits"):
            profile[part]["nvidia.com/gpu"] = "2"

    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": cluster.s3}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with sensor(cluster, f"{SMALL}_alerts"), profile(two_gpus):
        run = launch(cluster, SMALL, ["model"])
        until(lambda: "Insufficient nvidia.com/gpu" in run.said(20), 240, "the reason for the wait")
        assert run.status == "STARTED"
        said = failed(run, 300)
        lake = Lake(ENVIRONMENT["MLOPS_LAKE_URL"])
        until(lambda: run.id in str(alerts.entries(lake, SMALL)), 240, "the alert about the run", 5)
    assert "no node takes pod" in said
    assert "add nodes that fit the profile 'gpu_spot'" in said
    assert trained_again(cluster) == small_model


def test_a_store_that_is_away_costs_no_training(cluster: Cluster, small_model: str) -> None:
    """Checkpoints that cannot be saved meanwhile are told; the training goes on, and its model is
    stored when the store is back.
    """
    run = launch(cluster, SMALL, ["model"])
    wait_for_rounds(run, SMALL, EARLY)
    with without_store():
        time.sleep(25)
        assert run.status == "STARTED"
    run.succeeded(600)
    assert run.sha256() == small_model
    assert int(run.course()["checkpoint_failures"] or 0) > 0
    assert run.ends() == [("spot", "succeeded")]
    run.leaves_nothing()


def test_a_store_that_is_away_when_a_training_is_interrupted_costs_rounds_at_most(
    cluster: Cluster, small_model: str
) -> None:
    """The next attempt finds no store, is tried again later, and goes on from what was saved."""
    run = launch(cluster, SMALL, ["model"])
    wait_for_rounds(run, SMALL, EARLY)
    with without_store():
        interrupt(SPOT, "--hard")
        time.sleep(20)
    run.succeeded(900)
    assert run.sha256() == small_model
    run.leaves_nothing()


@pytest.mark.timeout(1500)
def test_two_runs_that_train_the_same_share_their_checkpoints(
    cluster: Cluster, small_model: str
) -> None:
    """At the same time, in the same folder: neither takes anything from the other."""

    def without_gpu(profile: dict[str, Any]) -> None:
        profile["gpu"] = "none"
        for part in ("requests", "limits"):
            del profile[part]["nvidia.com/gpu"]

    limit = (
        """mutation($limit: Int!) { setConcurrencyLimit(concurrencyKey: "gpu", limit: $limit) }"""
    )
    cluster.graphql(limit, limit=2)
    try:
        with profile(without_gpu):
            runs = [launch(cluster, SMALL, ["model"]) for _ in range(2)]
            together = until(lambda: steps_that_run() == 2, 300, "two trainings at a time", 0.5)
            assert together
            for run in runs:
                run.succeeded(900)
    finally:
        cluster.graphql(limit, limit=1)
    assert {run.sha256() for run in runs} == {small_model}
    assert rounds_saved(cluster, SMALL) == 0
    for run in runs:
        assert run.course()["checkpoint_failures"] == 0
        run.leaves_nothing()


def steps_that_run() -> int:
    """Pods of steps that are running."""
    pods = objects("pod", RUNS, "app.kubernetes.io/component=step_worker")
    return sum(pod["status"]["phase"] == "Running" for pod in pods)


def test_a_step_that_fills_its_disk_is_told_from_an_interruption(
    cluster: Cluster, small_model: str
) -> None:
    """The kubelet evicts it as it does when a node is full; again elsewhere would end the same."""

    def tiny_disk(profile: dict[str, Any]) -> None:
        profile["limits"]["ephemeral-storage"] = "16Ki"

    with profile(tiny_disk):
        run = launch(cluster, SMALL, ["model"])
        said = failed(run, 420)
    assert "wrote more than it may" in said
    assert "choose a profile with more ephemeral-storage" in said
    assert run.ends() == [("spot", "disk")]
    assert trained_again(cluster) == small_model


def test_nodes_with_other_clocks_train_the_same(cluster: Cluster, small_model: str) -> None:
    """The steps' clock is an hour ahead, and after an interruption an hour behind the run worker's:
    the platform's own, as a container cannot have another clock than its node's kernel.
    """
    name = "mlops-compute-profiles"
    with clock(name, 3600) as set_clock:
        run = launch(cluster, SMALL, ["model"])
        worker_runs(run)
        with environment(MLOPS_CLOCK="/etc/mlops/compute/clock.json"):
            wait_for_rounds(run, SMALL, LONG_ROUNDS // 3)
            set_clock(-3600)
            interrupt(SPOT)
            run.succeeded(600)
    assert run.sha256() == small_model
    assert run.ends() == [("spot", "interrupted"), ("spot", "succeeded")]
    assert 0 < float(run.tags["mlops/wasted_spot_seconds"]) < 600
    run.leaves_nothing()


@contextlib.contextmanager
def clock(name: str, ahead: float) -> Iterator[Callable[[float], None]]:
    """A clock document in the ConfigMap, so many seconds ahead; gives a function to set it."""

    def set_clock(seconds: float) -> None:
        machine = time.time()
        text = "%Y-%m-%dT%H:%M:%S+00:00"
        document = {
            "at": time.strftime(text, time.gmtime(machine + seconds)),
            "since": time.strftime(text, time.gmtime(machine)),
            "speed": 1.0,
            "until": None,
        }
        replace_in("configmap", name, {"clock.json": json.dumps(document)})

    set_clock(ahead)
    try:
        yield set_clock
    finally:
        patch = json.dumps({"data": {"clock.json": None}})
        kubectl("patch", "configmap", name, "--namespace", RUNS, "--type=merge", "--patch", patch)
