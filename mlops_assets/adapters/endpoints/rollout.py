"""What a Deployment and its pods say about a rollout: ready, hopeless, or what it waits for."""

from collections.abc import Collection
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mlops_assets.core.errors import PermanentError, TransientError

MODEL_AWAY = 75
"""The server's exit code where its model cannot be read now."""

_NEVER = {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}
"""Why a container waits for something that does not come by itself."""


class _Seen(BaseModel):
    """The part of an API object that matters here."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class Condition(_Seen):
    """One condition of a pod or Deployment."""

    type: str
    status: str
    message: str = ""


class Waiting(_Seen):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Ended(_Seen):
    """How a container ended."""

    exit_code: int
    reason: str = ""


class State(_Seen):
    """A container's state."""

    waiting: Waiting | None = None
    terminated: Ended | None = None


class Container(_Seen):
    """A container of a pod."""

    image: str
    restart_count: int = 0
    state: State = State()
    last_state: State = State()

    @property
    def crashed(self) -> Ended | None:
        """How its program ended, where that happened again after a new start."""
        ended = self.last_state.terminated or self.state.terminated
        return ended if self.restart_count >= 1 else None


class PodStatus(_Seen):
    """How a pod is."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[Container, ...] = ()


class Metadata(_Seen):
    """Who an object is."""

    name: str = ""
    uid: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = Field(default_factory=dict)


class Pod(_Seen):
    """A pod."""

    metadata: Metadata
    status: PodStatus = PodStatus()


class Pods(_Seen):
    """A list of pods."""

    items: tuple[Pod, ...] = ()


class Template(_Seen):
    """What a Deployment makes pods from."""

    metadata: Metadata = Metadata()


class DeploymentSpec(_Seen):
    """What a Deployment has to be."""

    replicas: int = 1
    template: Template = Template()


class DeploymentStatus(_Seen):
    """What a Deployment is."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(_Seen):
    """A Deployment."""

    metadata: Metadata
    spec: DeploymentSpec
    status: DeploymentStatus = DeploymentStatus()


@dataclass(frozen=True)
class Hopeless:
    """A rollout that will not become ready by waiting, and the pod whose log says why."""

    error: type[PermanentError | TransientError]
    reason: str
    crashed: str | None = None


def is_rolled_out(found: Deployment) -> bool:
    """Whether all pods are of the newest template and answer, and the older ones are gone."""
    status, wanted = found.status, found.spec.replicas
    return (
        status.observed_generation >= found.metadata.generation
        and status.updated_replicas == wanted
        and status.replicas == wanted
        and status.available_replicas == wanted
    )


def hopeless(found: Deployment, pods: tuple[Pod, ...]) -> Hopeless | None:
    """What will not become better by waiting, if anything."""
    for condition in found.status.conditions:
        if condition.type == "ReplicaFailure" and condition.status == "True":
            return Hopeless(
                PermanentError,
                f"the pods of {found.metadata.name} cannot be made: {condition.message}; correct "
                "the quota, the service account or the priority class that it names",
            )
    for pod in pods:
        for container in pod.status.container_statuses:
            waiting, crashed = container.state.waiting, container.crashed
            if waiting is not None and waiting.reason in _NEVER:
                reason = f"{waiting.reason}: {waiting.message}"
                return Hopeless(PermanentError, f"pod {pod.metadata.name}: {reason}")
            if waiting is not None and waiting.reason == "ImagePullBackOff":
                return Hopeless(
                    TransientError,
                    f"pod {pod.metadata.name}: the image {container.image} cannot be pulled: "
                    f"{waiting.message}; push it, or correct MLOPS_SERVER_IMAGE",
                )
            if crashed is not None:
                kind = TransientError if crashed.exit_code == MODEL_AWAY else PermanentError
                return Hopeless(
                    kind, f"pod {pod.metadata.name}: {_how(crashed)}", pod.metadata.name
                )
    return None


def _how(ended: Ended) -> str:
    if ended.reason == "OOMKilled":
        return "the server used more memory than its limit"
    return f"the server ends with exit code {ended.exit_code}"


def waiting_for(pods: tuple[Pod, ...], behind: Collection[str] = ()) -> str:
    """What the pods that are not ready wait for, in words; those in ``behind`` are, and do not say
    that they serve what they should.
    """
    found: list[str] = []
    for pod in pods:
        conditions = {condition.type: condition for condition in pod.status.conditions}
        ready, scheduled = conditions.get("Ready"), conditions.get("PodScheduled")
        if ready is not None and ready.status == "True":
            if pod.metadata.name in behind:
                found.append(f"pod {pod.metadata.name} has not reported the release")
            continue
        if scheduled is not None and scheduled.status != "True":
            found.append(f"pod {pod.metadata.name} finds no node: {scheduled.message}")
            continue
        waits = [c.state.waiting.reason for c in pod.status.container_statuses if c.state.waiting]
        reason = ", ".join(waits) or (ready.message if ready is not None else pod.status.phase)
        found.append(f"pod {pod.metadata.name} is not ready: {reason}")
    return "; ".join(found) or "no pod was made"
