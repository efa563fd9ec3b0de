"""Trainings that are interrupted end by themselves, with the bytes of one that was not."""

import time

import pytest
from cluster import RUNS, SPOT, Cluster, kubectl, names, objects, script, until
from cluster_images import LONG_ROUNDS, SMALL
from cluster_runs import interrupt, launch, wait_for_rounds

WAYS: dict[str, tuple[str, ...]] = {
    "notice": (),
    "terminate": ("--terminate",),
    "hard": ("--hard",),
}
EARLY, LATE = 60, LONG_ROUNDS * 2 // 3


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_training_ends_with_the_same_bytes(
    cluster: Cluster, small_model: str, way: str
) -> None:
    """Interrupted early and late: continued on spot each time, and nothing of it is left over."""
    run = launch(cluster, SMALL, ["model"])
    for rounds in (EARLY, LATE):
        wait_for_rounds(run, SMALL, rounds)
        interrupt(SPOT, *WAYS[way])
    run.succeeded(600)
    assert run.sha256() == small_model
    assert run.ends() == [("spot", "interrupted")] * 2 + [("spot", "succeeded")]
    run.leaves_nothing()


@pytest.mark.kubernetes_quick
def test_a_node_that_goes_without_a_word_costs_no_round_but_the_last(
    cluster: Cluster, small_model: str
) -> None:
    """Interrupted in the middle, hard."""
    run = launch(cluster, SMALL, ["model"])
    wait_for_rounds(run, SMALL, LONG_ROUNDS // 2)
    interrupt(SPOT, "--hard")
    run.succeeded(600)
    assert run.sha256() == small_model
    assert run.ends() == [("spot", "interrupted"), ("spot", "succeeded")]
    assert float(run.tags["mlops/wasted_spot_seconds"]) > 0
    run.leaves_nothing()


def test_the_last_attempt_runs_on_demand(cluster: Cluster, small_model: str) -> None:
    """When the attempts on spot are used up by interruptions."""
    run = launch(cluster, SMALL, ["model"])
    for share in (1, 2, 3):
        wait_for_rounds(run, SMALL, LONG_ROUNDS * share // 5)
        interrupt(SPOT)
    run.succeeded(600)
    assert run.sha256() == small_model
    assert run.ends() == [("spot", "interrupted")] * 3 + [("on_demand", "succeeded")]
    run.leaves_nothing()


def test_a_daemon_that_is_killed_meanwhile_changes_nothing(
    cluster: Cluster, small_model: str
) -> None:
    """Killed before the run is taken from the queue, and again while its node goes."""
    kill = ["delete", "pod", "--namespace", "dagster", "--selector", "component=dagster-daemon"]
    kill += ["--grace-period=0", "--force"]
    run = launch(cluster, SMALL, ["model"])
    kubectl(*kill)
    wait_for_rounds(run, SMALL, EARLY)
    script("interrupt", SPOT, "--terminate")
    kubectl(*kill)
    script("restore", SPOT)
    run.succeeded(600)
    assert run.sha256() == small_model
    run.leaves_nothing()


def test_a_run_worker_that_is_killed_is_replaced(cluster: Cluster, small_model: str) -> None:
    """Run monitoring resumes the run; its training goes on meanwhile."""
    run = launch(cluster, SMALL, ["model"])
    wait_for_rounds(run, SMALL, EARLY)
    (worker,) = names(
        objects("pod", RUNS, f"dagster/run-id={run.id},app.kubernetes.io/component=run_worker")
    )
    kubectl("delete", "pod", worker, "--namespace", RUNS, "--grace-period=0", "--force")
    run.succeeded(600)
    assert run.sha256() == small_model
    run.leaves_nothing()


def test_a_step_pod_that_somebody_deletes_is_replaced(cluster: Cluster, small_model: str) -> None:
    """With its checkpoint, like after an interruption."""
    run = launch(cluster, SMALL, ["model"])
    wait_for_rounds(run, SMALL, EARLY)
    selector = f"dagster/run-id={run.id},app.kubernetes.io/component=step_worker"
    (pod,) = names(objects("pod", RUNS, selector))
    kubectl("delete", "pod", pod, "--namespace", RUNS)
    run.succeeded(600)
    assert run.sha256() == small_model
    run.leaves_nothing()


def test_a_run_that_is_canceled_leaves_nothing(cluster: Cluster, small_model: str) -> None:
    """Neither its own pod nor its step's."""
    run = launch(cluster, SMALL, ["model"])
    wait_for_rounds(run, SMALL, EARLY)
    query = """mutation($id: String!) { terminateRun(runId: $id) { __typename } }"""
    answer = cluster.graphql(query, id=run.id)["terminateRun"]
    assert answer["__typename"] == "TerminateRunSuccess"
    assert run.wait(240) == "CANCELED"
    run.leaves_nothing()


def test_a_training_without_a_node_waits_and_says_why(cluster: Cluster, small_model: str) -> None:
    """With no spot node there is nobody to train; it goes on when one comes."""
    script("interrupt", SPOT)
    try:
        run = launch(cluster, SMALL, ["model"])
        until(lambda: "nodes are available" in run.said(20), 240, "the reason for the wait")
        time.sleep(5)
        assert run.status == "STARTED"
    finally:
        script("restore", SPOT)
    run.succeeded(600)
    assert run.sha256() == small_model
    run.leaves_nothing()
