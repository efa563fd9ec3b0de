"""Compute profiles: where a step runs, with what, and for how long; and the pod that follows."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec_part import Spec

GPU = "nvidia.com/gpu"

PROFILE_TAG = "mlops/compute_profile"
"""Op tag: the profile that the asset names."""
PLACE_TAG = "mlops/place"
"""Op tag of steps inside the run worker, with the value ``worker``: one runs at a time."""
POD_TAG = "dagster-k8s/config"
"""Op tag: the pod that dagster-k8s makes of a step."""

PROFILE_VARIABLE = "MLOPS_COMPUTE_PROFILE"
"""Environment variable of a step's own pod, and only of that: the profile that it runs with."""
DEVICE_VARIABLE = "MLOPS_DEVICE"

_DEVICES = {"none": "cpu", "preferred": "auto", "required": "cuda"}

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_FACTORS = {
    **{None: 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
    **{"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40},
}

Quantity = Annotated[str, StringConstraints(pattern=rf"^{_QUANTITY.pattern}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][\w.-]{0,61})?[A-Za-z0-9]$")]
"""A Kubernetes label's value: at most 63 characters."""
ProfileName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Toleration(Spec):
    """A taint that the step's pod may run beside."""

    key: str = Field(description="The taint's key.")
    operator: Literal["Exists", "Equal"] = Field(
        default="Equal", description="Whether the value has to be equal. Default: Equal."
    )
    value: str | None = Field(default=None, description="The taint's value. Default: none.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        description="The taint's effect."
    )


class ComputeProfile(Spec):
    """Where a step runs, with what, and for how long."""

    description: str = Field(description="What it is for.")
    pod: Literal["own", "worker"] = Field(
        default="own",
        description="`own`: the step runs in a pod of its own; `worker`: inside the run worker. "
        "Default: own.",
    )
    capacity: Literal["on_demand", "spot"] = Field(
        description="Whether the nodes may be taken away."
    )
    fallback: ProfileName | None = Field(
        default=None,
        description="On-demand profile that a spot profile's last attempt runs with. Default: "
        "none, spot to the end.",
    )
    attempts: int = Field(
        default=4,
        ge=1,
        le=20,
        description="Upper bound of attempts when they are interrupted, the first one included. "
        "With a fallback the last one runs there. Default: 4.",
    )
    error_retries: int = Field(
        default=2,
        ge=0,
        le=20,
        description="Upper bound of attempts after transient errors, beside `attempts`. A "
        "permanent error is never tried again. Default: 2.",
    )
    gpu: Literal["none", "preferred", "required"] = Field(
        default="none",
        description="`required`: a training without a GPU fails; `preferred`: it takes the CPU, "
        "with a warning. Default: none.",
    )
    image_variable: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = Field(
        default=None,
        description="Environment variable of the run worker that names the pod's image. Default: "
        "none, the run's own image; so too when it is not set.",
    )
    pool: str | None = Field(
        default=None,
        description="Dagster's concurrency pool that the step needs a slot of. Default: none.",
    )
    price: str = Field(description="Price class: an entry of prices.yaml.")
    requests: dict[str, Quantity] = Field(
        default={}, description="Resources that the node has to have free. Default: none."
    )
    limits: dict[str, Quantity] = Field(
        default={}, description="Resources that the pod may not exceed. Default: none."
    )
    node_selector: dict[str, LabelValue] = Field(
        default={}, description="Labels that the node has to have. Default: none."
    )
    tolerations: list[Toleration] = Field(
        default=[], description="Taints that the pod may run beside. Default: none."
    )
    priority_class: str | None = Field(
        default=None, description="PriorityClass of the pod. Default: the cluster's default."
    )
    grace_seconds: int = Field(
        default=30,
        ge=1,
        le=3600,
        description="Time from SIGTERM to SIGKILL, in seconds: what saving a checkpoint needs. "
        "Default: 30.",
    )
    runtime_seconds: int = Field(
        default=14_400,
        ge=10,
        le=604_800,
        description="Longest run of one attempt, in seconds. Default: 14400.",
    )
    schedule_seconds: int = Field(
        default=900,
        ge=1,
        le=86_400,
        description="Longest wait of a pod for a node, in seconds. Default: 900.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "ComputeProfile":
        for problem in _contradictions(self):
            raise ValueError(problem)
        return self


def parse_profiles(document: object, place: str) -> dict[str, ComputeProfile]:
    """The profiles of a YAML ``document``, by name; ``place`` is what messages call it.

    Raises PermanentError with each wrong field.
    """

    class File(Spec):
        profiles: dict[ProfileName, ComputeProfile]

    try:
        return File.model_validate(document).profiles
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
            for found in error.errors()
        ]
        raise PermanentError(
            f"{place}: a compute profile is wrong; correct it there:\n  " + "\n  ".join(lines)
        ) from error


def check_fallbacks(profiles: Mapping[str, ComputeProfile], place: str) -> None:
    """Raises PermanentError for a profile whose fallback is none."""
    for name, profile in profiles.items():
        if profile.fallback is None:
            continue
        fallback = profiles.get(profile.fallback)
        if fallback is None:
            raise PermanentError(
                f"{place}: profiles.{name}.fallback: there is no profile {profile.fallback!r}; "
                f"known: {', '.join(profiles)}"
            )
        if fallback.capacity != "on_demand" or fallback.pod != "own":
            raise PermanentError(
                f"{place}: profiles.{name}.fallback: {profile.fallback!r} is "
                f"{fallback.capacity}, pod: {fallback.pod}; choose one that is on_demand, with a "
                "pod of its own"
            )


def op_tags(name: str, profile: ComputeProfile) -> dict[str, object]:
    """What the asset's op is tagged with: its profile, and the pod where it has one of its own."""
    if profile.pod == "worker":
        return {PROFILE_TAG: name, PLACE_TAG: profile.pod}
    return {PROFILE_TAG: name, POD_TAG: pod_config(profile)}


def pod_config(profile: ComputeProfile) -> dict[str, object]:
    """The value of the op tag ``dagster-k8s/config`` for a step with the profile.

    Each key replaces what the run launcher says for the run worker, whole: with a deep merge a
    run worker's node label or CPU limit would stay on the training's pod.
    """
    pod_spec: dict[str, object] = {
        "node_selector": dict(profile.node_selector),
        "tolerations": [t.model_dump(exclude_none=True) for t in profile.tolerations],
        "termination_grace_period_seconds": profile.grace_seconds,
        # The pod's own limit counts from its scheduling; a Job's would count the wait for a node.
        "active_deadline_seconds": profile.runtime_seconds,
        # A step asks nothing of Kubernetes, and its account may do nothing; but the launcher is
        # part of Dagster's instance, and there is no instance without a token.
        "automount_service_account_token": True,
        "restart_policy": "Never",
    }
    if profile.priority_class is not None:
        pod_spec["priority_class_name"] = profile.priority_class
    return {
        "merge_behavior": "SHALLOW",
        "container_config": {
            "resources": {"requests": dict(profile.requests), "limits": dict(profile.limits)}
        },
        "pod_spec_config": pod_spec,
        "job_spec_config": {"backoff_limit": 0},
    }


def pod_additions(name: str, profile: ComputeProfile) -> dict[str, object]:
    """What a step's pod has beside what the run launcher gives each pod: environment, labels."""
    labels = {"mlops/profile": name, "mlops/capacity": profile.capacity}
    environment = {PROFILE_VARIABLE: name, DEVICE_VARIABLE: _DEVICES[profile.gpu]}
    return {
        "container_config": {
            "env": [{"name": key, "value": value} for key, value in environment.items()]
        },
        "pod_template_spec_metadata": {
            "labels": labels,
            # No autoscaler takes its node away to save money meanwhile.
            "annotations": {
                "karpenter.sh/do-not-disrupt": "true",
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            },
        },
        "job_metadata": {"labels": labels},
    }


def amount(quantity: str) -> float:
    """A Kubernetes quantity as a number: cores, bytes or pieces. ValueError when it is none."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity; write one like 500m, 2 or 8Gi")
    return float(found[1]) * _FACTORS[found[2]]


def _contradictions(profile: ComputeProfile) -> Iterator[str]:
    resources = {"requests": profile.requests, "limits": profile.limits}
    for part, quantities in resources.items():
        for resource, quantity in quantities.items():
            if amount(quantity) == 0:
                yield f"{part}.{resource} is 0: remove it, or say how much"
            if resource == GPU and amount(quantity) % 1:
                yield f"{part}.{resource} is {quantity}: a GPU is not divided; give a whole number"
            if resource == "memory" and amount(quantity) < 2**20:
                yield f"{part}.memory is {quantity}, less than 1 MiB; is the unit missing (Gi, Mi)?"
    for resource in sorted(set(profile.requests) & set(profile.limits)):
        if amount(profile.requests[resource]) > amount(profile.limits[resource]):
            yield (
                f"requests.{resource} {profile.requests[resource]} is above the limit "
                f"{profile.limits[resource]}; swap them"
            )
    has_gpu = GPU in profile.limits
    if has_gpu != (profile.gpu != "none"):
        yield f"gpu is {profile.gpu!r}, and limits {'have' if has_gpu else 'lack'} {GPU}: say both"
    if has_gpu and profile.requests.get(GPU, profile.limits[GPU]) != profile.limits[GPU]:
        yield f"requests.{GPU} differs from its limit; Kubernetes wants them equal"
    if profile.fallback is not None and profile.capacity != "spot":
        yield "fallback: only a spot profile has one; remove it"
    if profile.pod == "worker" and (
        profile.capacity == "spot" or profile.requests or profile.limits or profile.node_selector
    ):
        yield (
            "pod: worker runs inside the run worker, which is on-demand and has its own resources; "
            "remove capacity: spot, requests, limits and node_selector, or choose pod: own"
        )
