"""How a pod stands: each way it can end, or never start, told from each other."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.compute_pods import (
    IMAGE_PATIENCE_SECONDS,
    LAST_WORD_PATIENCE_SECONDS,
    NOT_READY_PATIENCE_SECONDS,
    SILENT_PATIENCE_SECONDS,
    START_PATIENCE_SECONDS,
    End,
    Job,
    Limits,
    NodeState,
    Pod,
    Standing,
    standing,
)

LIMITS = Limits(schedule_seconds=900, grace_seconds=90, memory="8Gi")

RUNNING = Pod("step-x", "Running", "training:1", node="spot-1")
PENDING = Pod("step-y", "Pending", "training:1")
FAILED = replace(RUNNING, phase="Failed", exit_code=1, ended="Error")
FULL = (
    'Usage of EmptyDir volume "tmp" exceeds the limit "20Gi".',
    "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
    'Container dagster exceeded its local ephemeral storage limit "1Gi".',
)
NO_NODE = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


def evicted(message: str) -> Pod:
    """A pod that the kubelet has ended."""
    return replace(RUNNING, phase="Failed", reason="Evicted", message=message)


def of(
    *pods: Pod,
    node: NodeState = "ready",
    begun: bool = True,
    waited: float = 60,
    **job: object,
) -> Standing:
    """The standing of a Job with these pods."""
    found = replace(Job("step", exists=True, pods=pods, node=node), **job)
    return standing(found, LIMITS, begun=begun, waited=waited)


@pytest.mark.parametrize(
    ("found", "state", "patience", "says"),
    [
        (of(RUNNING), "runs", 0, ""),
        (of(RUNNING, node="unknown"), "runs", 0, ""),
        # It was told, and it may be saving its work.
        (of(replace(RUNNING, deleting=True)), "interrupted", 90 + START_PATIENCE_SECONDS, "told"),
        (of(RUNNING, node="gone"), "interrupted", 0, "node spot-1 of pod step-x is gone"),
        (of(RUNNING, node="not_ready"), "interrupted", NOT_READY_PATIENCE_SECONDS, "answer"),
        (of(RUNNING, node="leaving"), "runs", 0, ""),
        # The Job's controller has replaced the pod.
        (of(PENDING), "interrupted", LAST_WORD_PATIENCE_SECONDS, "its pod is gone"),
        (of(PENDING, begun=False), "waits", 0, "waits for the scheduler"),
        (of(begun=True), "interrupted", LAST_WORD_PATIENCE_SECONDS, "its pod is gone"),
        (of(begun=False), "waits", 0, "has no pod"),
        (of(begun=False, warning="exceeded quota"), "waits", 0, "exceeded quota"),
        (of(begun=False, waited=901, warning="exceeded quota"), "unschedulable", 0, "quota"),
        (
            of(replace(RUNNING, phase="Failed", reason="Evicted")),
            "interrupted",
            LAST_WORD_PATIENCE_SECONDS,
            "Evicted",
        ),
        (
            of(replace(FAILED, disruption="PreemptionByScheduler")),
            "interrupted",
            LAST_WORD_PATIENCE_SECONDS,
            "Preemption",
        ),
        # Its node's disk is full: not its own doing.
        (
            of(evicted("The node was low on resource: ephemeral-storage.")),
            "interrupted",
            LAST_WORD_PATIENCE_SECONDS,
            "low",
        ),
        *(
            (of(evicted(message), *later), "disk", 0, message)
            for message in FULL
            # Old clusters replace the pod, and its replacement finds nothing to do.
            for later in ((), (PENDING,), (replace(FAILED, phase="Succeeded"),))
        ),
        (
            of(replace(FAILED, exit_code=143)),
            "interrupted",
            LAST_WORD_PATIENCE_SECONDS,
            "exit code 143",
        ),
        (
            of(replace(FAILED, exit_code=137), node="leaving"),
            "interrupted",
            LAST_WORD_PATIENCE_SECONDS,
            "is leaving",
        ),
        (
            of(replace(FAILED, exit_code=137), node="gone"),
            "interrupted",
            LAST_WORD_PATIENCE_SECONDS,
            "is gone",
        ),
        # A SIGKILL on a node that is well: nobody knows from whom.
        (of(replace(FAILED, exit_code=137)), "crashed", SILENT_PATIENCE_SECONDS, "137"),
        (of(replace(FAILED, exit_code=139)), "crashed", SILENT_PATIENCE_SECONDS, "139"),
        (of(FAILED, node="gone"), "crashed", SILENT_PATIENCE_SECONDS, "exit code 1"),
        (of(replace(FAILED, ended="OOMKilled", exit_code=137)), "memory", 0, "limit (8Gi)"),
        (of(replace(FAILED, reason="DeadlineExceeded")), "deadline", 0, "longer than"),
        (of(failed="DeadlineExceeded"), "deadline", 0, "longer than"),
        (of(replace(FAILED, phase="Succeeded")), "interrupted", SILENT_PATIENCE_SECONDS, "word"),
        (of(failed="BackoffLimitExceeded"), "crashed", SILENT_PATIENCE_SECONDS, "pod is gone"),
        (of(exists=False), "interrupted", 0, "deleted by somebody else"),
        (
            of(replace(PENDING, unschedulable=NO_NODE), begun=False),
            *("waits", 0, "2 Insufficient nvidia.com/gpu"),
        ),
        (
            of(replace(PENDING, unschedulable=NO_NODE), begun=False, waited=900),
            *("unschedulable", 0, "2 Insufficient nvidia.com/gpu. (after 900 s)"),
        ),
        (
            of(replace(PENDING, node="a", waiting="ErrImagePull"), begun=False),
            *("image", IMAGE_PATIENCE_SECONDS, "image training:1 cannot be pulled"),
        ),
        (
            of(replace(PENDING, node="a", waiting="InvalidImageName"), begun=False),
            *("image", 0, "image training:1 cannot be pulled"),
        ),
        (
            of(replace(PENDING, node="a", waiting="CreateContainerConfigError"), begun=False),
            *("configuration", START_PATIENCE_SECONDS, "make the Secret, ConfigMap"),
        ),
        (of(replace(PENDING, node="a", waiting="ContainerCreating"), begun=False), "runs", 0, ""),
    ],
)
def test_each_way_that_a_pod_can_stand_is_told_from_the_others(
    found: Standing, state: str, patience: float, says: str
) -> None:
    """With how long it has to stay so, and words for people."""
    assert (found.state, found.patience) == (state, patience)
    assert says in found.reason


PODS = st.builds(
    Pod,
    name=st.just("step-x"),
    phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    image=st.just("training:1"),
    node=st.sampled_from([None, "spot-1"]),
    deleting=st.booleans(),
    reason=st.sampled_from([None, "Evicted", "DeadlineExceeded", "OOMKilled", "Strange"]),
    disruption=st.sampled_from([None, "EvictionByEvictionAPI", "Strange"]),
    unschedulable=st.sampled_from([None, NO_NODE]),
    waiting=st.sampled_from([None, "ImagePullBackOff", "Strange"]),
    exit_code=st.sampled_from([None, 0, 1, 137, 139, 143]),
    ended=st.sampled_from([None, "Error", "OOMKilled"]),
)


@given(
    st.lists(PODS, max_size=3),
    st.sampled_from(get_args(NodeState)),
    st.booleans(),
    st.floats(0, 2000),
)
def test_whatever_a_cluster_says_there_is_an_answer_with_a_reason(
    pods: list[Pod], node: NodeState, begun: bool, waited: float
) -> None:
    """And none that a step alone can give: that it failed, or succeeded."""
    found = of(*pods, node=node, begun=begun, waited=waited)
    assert found.state in (*get_args(End), "runs", "waits")
    assert found.state not in ("error", "failed", "succeeded")
    assert found.state == "runs" or found.reason


@given(st.lists(PODS, min_size=1, max_size=3), st.sampled_from(get_args(NodeState)))
def test_a_bug_is_never_taken_for_an_interruption(pods: list[Pod], node: NodeState) -> None:
    """A process that ended by itself with its own exit code, and nobody took away, crashed."""
    own = replace(
        pods[-1],
        phase="Failed",
        exit_code=1,
        ended="Error",
        reason=None,
        disruption=None,
    )
    assert of(own, node=node).state == "crashed"
