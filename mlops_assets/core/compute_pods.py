"""How a step's pod stands: whether it runs, waits or has ended, and what ended it."""

import re
from dataclasses import dataclass
from typing import Literal

End = Literal[
    "interrupted",  # taken away: its node went, it was evicted, preempted or deleted
    "error",  # the step said that a transient error ended it
    "crashed",  # its process ended without saying why
    "memory",
    "disk",
    "image",
    "configuration",
    "unschedulable",
    "deadline",
    "failed",  # the step said that it failed
    "succeeded",
]
"""How an attempt ended."""

NodeState = Literal["ready", "not_ready", "leaving", "gone", "unknown"]
"""A node as the cluster knows it; ``leaving`` is one that is drained, for whatever reason."""

_SIGKILL, _SIGTERM = 137, 143

_TAKEN_AWAY = (
    *("Evicted", "Preempting", "Preempted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated"),
    *("NodeAffinity", "UnexpectedAdmissionError", "TerminationByKubelet", "DeletionByTaintManager"),
    *("EvictionByEvictionAPI", "DeletionByPodGC", "PreemptionByScheduler"),
)
"""Reasons of pods and of their condition DisruptionTarget that say nothing about the step."""

# What the kubelet says of a pod that wrote more than its own limits. One that goes because its node
# is full is evicted too, and has done nothing wrong.
_DISK_FULL = re.compile(r"exceed(s the|s the total|ed its local ephemeral storage) limit")

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError")
_NEVER_AN_IMAGE = ("InvalidImageName", "ErrImageNeverPull")
_NO_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")

# A registry that hiccups is back within a minute. A Secret that is made together with the run
# follows within seconds.
IMAGE_PATIENCE_SECONDS = 60
START_PATIENCE_SECONDS = 30
# The node controller calls a node NotReady 40 s after its last heartbeat; a kubelet that restarts
# is back soon after.
NOT_READY_PATIENCE_SECONDS = 30
# The step's last event is in the database before its process ends; it is read within a second.
SILENT_PATIENCE_SECONDS = 10

LAST_WORD_PATIENCE_SECONDS = 5
"""What a process wrote before its pod went is there once the database has committed it."""

_GONE = "its pod is gone (evicted, or deleted by hand)"
_USUAL = ("ready", "unknown")


@dataclass(frozen=True)
class Pod:
    """What the cluster says about a pod."""

    name: str
    phase: str
    image: str
    node: str | None = None
    deleting: bool = False
    reason: str | None = None
    message: str | None = None
    disruption: str | None = None
    """Why the condition DisruptionTarget holds, where it does."""
    unschedulable: str | None = None
    """What the scheduler says, while it finds no node."""
    waiting: str | None = None
    """Why the container waits."""
    waiting_message: str | None = None
    exit_code: int | None = None
    ended: str | None = None
    """Why the container ended, e.g. OOMKilled."""


@dataclass(frozen=True)
class Job:
    """What the cluster says about the Job of an attempt, and about its pods, oldest first."""

    name: str
    exists: bool
    pods: tuple[Pod, ...] = ()
    node: NodeState = "unknown"
    """Of the pod that has one."""
    complete: bool = False
    failed: str | None = None
    """The reason of the condition Failed, where it holds."""
    warning: str | None = None
    """The last warning among the Job's events; read only while it has no pod."""


@dataclass(frozen=True)
class Standing:
    """``state`` counts once it has held for ``patience`` seconds; ``reason`` is for people."""

    state: Literal["runs", "waits"] | End
    reason: str = ""
    patience: float = 0


RUNS = Standing("runs")


@dataclass(frozen=True)
class Limits:
    """What a profile allows."""

    schedule_seconds: float
    grace_seconds: float
    memory: str = "none"
    """The memory limit, for messages."""


def standing(job: Job, limits: Limits, *, begun: bool, waited: float) -> Standing:
    """How the attempt stands whose Job is ``job``.

    ``begun`` says whether the step has started in this attempt, by its own word; ``waited`` are the
    seconds since its Job was made.
    """
    if not job.exists:
        return Standing("interrupted", f"Job {job.name} was deleted by somebody else")
    full = next((pod for pod in job.pods if _has_filled_its_disk(pod)), None)
    if full is not None:  # whether or not the Job's controller has replaced it
        return Standing(
            "disk",
            f"pod {full.name} wrote more than it may ({(full.message or '').strip()}); write less "
            "to /tmp, or choose a profile with more ephemeral-storage",
        )
    active = [pod for pod in job.pods if pod.phase in ("Pending", "Running", "Unknown")]
    ended = [pod for pod in job.pods if pod not in active]
    if active:
        pod = active[-1]
        if begun and pod.phase == "Pending":
            # The Job's controller has replaced the pod that the step ran in.
            lost = ended[-1] if ended else None
            found = _ended(lost, job.node, limits) if lost else None
            return found or Standing("interrupted", _GONE, LAST_WORD_PATIENCE_SECONDS)
        return _active(pod, job.node, limits, waited)
    if ended:
        return _ended(ended[-1], job.node, limits)
    return _no_pod(job, begun, waited, limits)


def _active(pod: Pod, node: NodeState, limits: Limits, waited: float) -> Standing:
    if node == "gone":
        return Standing("interrupted", f"node {pod.node} of pod {pod.name} is gone")
    if node == "not_ready":
        return Standing(
            "interrupted",
            f"node {pod.node} of pod {pod.name} does not answer any more",
            NOT_READY_PATIENCE_SECONDS,
        )
    if pod.deleting or pod.disruption is not None:
        # It may be saving its work: its end is waited for.
        return Standing(
            "interrupted",
            f"pod {pod.name} was told to end, and has not ended",
            limits.grace_seconds + START_PATIENCE_SECONDS,
        )
    return _pending(pod, limits, waited) if pod.phase == "Pending" else RUNS


def _pending(pod: Pod, limits: Limits, waited: float) -> Standing:
    waits = f"{pod.waiting}: {pod.waiting_message or 'no message'}"
    if pod.waiting in (*_NEVER_AN_IMAGE, *_NO_IMAGE):
        patience = IMAGE_PATIENCE_SECONDS if pod.waiting in _NO_IMAGE else 0
        return Standing("image", _image(pod, waits), patience)
    if pod.waiting in _NO_START:
        return Standing(
            "configuration",
            f"the container of pod {pod.name} cannot be made ({waits}); make the Secret, ConfigMap "
            "or volume that it names",
            START_PATIENCE_SECONDS,
        )
    if pod.unschedulable is not None:
        return _waits(f"no node takes pod {pod.name}: {pod.unschedulable}", waited, limits)
    if pod.node is None:
        return _waits(f"pod {pod.name} waits for the scheduler", waited, limits)
    return RUNS


def _ended(pod: Pod, node: NodeState, limits: Limits) -> Standing:
    said = ", ".join(
        part
        for part in (
            f"exit code {pod.exit_code}" if pod.exit_code is not None else None,
            pod.ended,
            pod.reason,
            pod.disruption,
            pod.message,
        )
        if part
    )
    where = f"pod {pod.name} ended ({said or pod.phase})"
    if pod.reason == "DeadlineExceeded":
        return Standing("deadline", f"{where}: it ran for longer than its profile allows")
    if pod.ended == "OOMKilled" or pod.reason == "OOMKilled":
        return Standing(
            "memory",
            f"{where}: it needed more memory than its limit ({limits.memory}); choose a profile "
            "with more",
        )
    if pod.phase == "Succeeded":
        # Only a replacement does: it finds that the step was started, and leaves it alone.
        return Standing(
            "interrupted",
            f"{where} without a word: the pod that the step ran in was replaced",
            SILENT_PATIENCE_SECONDS,
        )
    if _taken_away(pod, node):
        node_says = f"; its node {pod.node} is {node.replace('_', ' ')}"
        return Standing(
            "interrupted",
            where + (node_says if node not in _USUAL else ""),
            LAST_WORD_PATIENCE_SECONDS,
        )
    return Standing("crashed", where, SILENT_PATIENCE_SECONDS)


def _has_filled_its_disk(pod: Pod) -> bool:
    return pod.reason == "Evicted" and _DISK_FULL.search(pod.message or "") is not None


def _taken_away(pod: Pod, node: NodeState) -> bool:
    """Whether the pod was ended from outside: a SIGKILL alone could be the kernel's, or its own."""
    if pod.reason in _TAKEN_AWAY or pod.disruption in _TAKEN_AWAY or pod.exit_code == _SIGTERM:
        return True
    return pod.exit_code in (_SIGKILL, None) and (pod.deleting or node not in _USUAL)


def _no_pod(job: Job, begun: bool, waited: float, limits: Limits) -> Standing:
    if job.failed == "DeadlineExceeded":
        return Standing("deadline", f"Job {job.name} ran for longer than it may")
    if job.failed is not None or job.complete:
        return Standing(
            "crashed",
            f"Job {job.name} ended ({job.failed or 'Complete'}) and its pod is gone",
            SILENT_PATIENCE_SECONDS,
        )
    if begun:
        return Standing("interrupted", _GONE, LAST_WORD_PATIENCE_SECONDS)
    why = job.warning or "its controller has not made one yet"
    return _waits(f"Job {job.name} has no pod: {why}", waited, limits)


def _waits(reason: str, waited: float, limits: Limits) -> Standing:
    if waited >= limits.schedule_seconds:
        return Standing("unschedulable", f"{reason} (after {waited:.0f} s)")
    return Standing("waits", reason)


def _image(pod: Pod, waits: str) -> str:
    return (
        f"image {pod.image} cannot be pulled ({waits}); push it, or correct the name or the "
        "registry's credentials"
    )
