"""The endpoint target on SageMaker: a release in the store, a model, a configuration, an endpoint.

The containers are those of Kubernetes and follow the same release, so that rollouts, the prediction
log and the reports are the same, and a change of models changes nothing at SageMaker. Image and
options do: they make another model and configuration, to which SageMaker moves the endpoint while
the containers before go on answering. How many containers there are is changed in place.
"""

import contextlib
import hashlib
import json
import os
import shlex
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mlops_assets import clock
from mlops_assets.adapters.endpoints import release_store
from mlops_assets.adapters.endpoints.kubernetes_objects import object_name
from mlops_assets.adapters.endpoints.sagemaker_api import asking, connect, described
from mlops_assets.adapters.storage import join
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError
from mlops_assets.core.replica_reports import is_stale, not_applied, refusals
from mlops_assets.core.rollout_state import EndpointRecord, Release, ServedModel, deployed
from mlops_assets.core.spec import EndpointSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE_VARIABLE = "MLOPS_SERVER_IMAGE"
INSTANCE_VARIABLE = "MLOPS_SAGEMAKER_INSTANCE"
INSTANCE = "ml.c5.large"
"""Two processors; a server uses one and leaves one to the rest."""

ARGUMENTS_VARIABLE = "MLOPS_SERVER_ARGUMENTS"
"""Of the container, which SageMaker starts with the one argument ``serve``."""

PORT = 8080
"""SageMaker's."""

VARIANT = "servers"
POLL_S = 10.0


@dataclass(frozen=True)
class Wanted:
    """What is to be served, and where."""

    use_case: str
    champion: ServedModel
    spec: EndpointSpec
    role: str
    """ARN of the role that the containers have."""
    place: str
    """The ``s3://`` URL below which the release and the containers' reports are."""
    log_url: str
    reason: str


def deploy(wanted: Wanted, timeout_s: float) -> EndpointRecord:
    """Write the release, bring the endpoint to its configuration, and return once all containers
    say that they serve it.

    A champion that serves already changes no release, and containers that are those wanted are left
    alone. After a failure the release is what it was; SageMaker itself goes back to the former
    configuration.

    Raises PermanentError when trying again cannot help (a model that is refused, a container that
    does not start, a right or a quota that is missing), TransientError when it may.
    """
    image = os.environ.get(IMAGE_VARIABLE)
    if not image:
        raise PermanentError(
            f"the environment variable {IMAGE_VARIABLE} is not set: it names the model server's "
            "image in ECR; set it where runs are executed"
        )
    if not wanted.place.startswith("s3://"):
        raise PermanentError(
            f"containers cannot follow a release at {wanted.place}: set MLOPS_DOCUMENTS_URL to "
            "s3://bucket/prefix"
        )
    client = connect()
    former, release = release_store.change(
        wanted.place,
        lambda found: deployed(found, wanted.use_case, wanted.champion, clock.now(), wanted.reason),
    )
    try:
        before = _endpoint(client, object_name(wanted.use_case))
        configuration = _configure(client, wanted, image)
        _move(client, wanted, before, configuration)
        found = _ready(client, wanted, release, configuration, timeout_s)
    except PlatformError:
        # The failure that led here is what the caller has to hear about.
        with contextlib.suppress(PlatformError):
            release_store.restore(wanted.place, release, former, clock.now())
        raise
    if before is not None and before["EndpointConfigName"] != configuration:
        _forget(client, before["EndpointConfigName"])
    release_store.prune(wanted.place, clock.now())
    name, region = object_name(wanted.use_case), client.meta.region_name
    return EndpointRecord(
        use_case=wanted.use_case,
        url=f"https://runtime.sagemaker.{region}.amazonaws.com/endpoints/{name}",
        instance=found["EndpointArn"],
        release=release,
        prediction_log=wanted.log_url,
    )


def instances(use_case: str, place: str) -> tuple[str, ...]:
    """The containers that run; each reports under its name. SageMaker gives only their number:
    those that have not reported are named so.
    """
    endpoint = _endpoint(connect(), object_name(use_case))
    return () if endpoint is None else _running(endpoint, place)


def _running(endpoint: "Mapping[str, Any]", place: str) -> tuple[str, ...]:
    count = int(endpoint["ProductionVariants"][0].get("CurrentInstanceCount", 0))
    reports = release_store.read_reports(place)
    known = sorted({r.instance for r in reports if not is_stale(r, clock.now())})
    silent = range(len(known) + 1, count + 1)
    return (*known, *(f"container {number} of {count}" for number in silent))


def _count(spec: EndpointSpec) -> int:
    """SageMaker's endpoints keep one container at least."""
    return max(1, spec.replicas.min)


def _configure(client: Any, wanted: Wanted, image: str) -> str:
    """Make the model and its configuration, unless they are there; the name that both have."""
    container = {"Image": image, "Environment": _environment(wanted)}
    instance = os.environ.get(INSTANCE_VARIABLE) or INSTANCE
    content = json.dumps([container, wanted.role, instance], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    # SageMaker's names have at most 63 characters.
    name = f"{object_name(wanted.use_case)[:50].rstrip('-')}-{digest}"
    with asking(f"make the model {name}"):
        if described(client.describe_model, ModelName=name) is None:
            client.create_model(
                ModelName=name,
                PrimaryContainer=container,
                ExecutionRoleArn=wanted.role,
                Tags=_tags(wanted),
            )
    with asking(f"make the endpoint configuration {name}"):
        if described(client.describe_endpoint_config, EndpointConfigName=name) is None:
            variant = {
                "VariantName": VARIANT,
                "ModelName": name,
                "InstanceType": instance,
                "InitialInstanceCount": _count(wanted.spec),
                # All requests: the servers themselves split them between models.
                "InitialVariantWeight": 1.0,
            }
            client.create_endpoint_config(
                EndpointConfigName=name, ProductionVariants=[variant], Tags=_tags(wanted)
            )
    return name


def _tags(wanted: Wanted) -> list[dict[str, str]]:
    """Of all that is made: the platform's rights are to what has this tag, and bills show it."""
    return [{"Key": "mlops/use_case", "Value": wanted.use_case}]


def _environment(wanted: Wanted) -> dict[str, str]:
    spec = wanted.spec
    options = {
        "--release": join(wanted.place, release_store.RELEASE),
        "--log-dir": "/tmp/predictions",  # noqa: S108 - the container's own
        "--ship-to": wanted.log_url,
        "--host": "0.0.0.0",  # noqa: S104 - SageMaker asks from outside of the container
        "--port": str(PORT),
        "--max-body-mb": str(spec.max_body_mb),
        "--max-rows": str(spec.max_rows),
    }
    arguments = shlex.join(word for option in options.items() for word in option)
    return {ARGUMENTS_VARIABLE: arguments, "MLOPS_VERSION": version("mlops-assets")}


def _move(
    client: Any, wanted: Wanted, before: "Mapping[str, Any] | None", configuration: str
) -> None:
    """Bring the endpoint to ``configuration`` and its number of containers, whatever it has."""
    name, count = object_name(wanted.use_case), _count(wanted.spec)
    with asking(f"change the endpoint {name}"):
        if before is None:
            client.create_endpoint(
                EndpointName=name, EndpointConfigName=configuration, Tags=_tags(wanted)
            )
        elif before["EndpointConfigName"] != configuration:
            # One batch of new containers beside the old ones, which go when the new ones answer.
            client.update_endpoint(
                EndpointName=name,
                EndpointConfigName=configuration,
                DeploymentConfig={
                    "BlueGreenUpdatePolicy": {
                        "TrafficRoutingConfiguration": {
                            "Type": "ALL_AT_ONCE",
                            "WaitIntervalInSeconds": 0,
                        }
                    }
                },
            )
        elif before["ProductionVariants"][0].get("DesiredInstanceCount") != count:
            client.update_endpoint_weights_and_capacities(
                EndpointName=name,
                DesiredWeightsAndCapacities=[
                    {"VariantName": VARIANT, "DesiredWeight": 1.0, "DesiredInstanceCount": count}
                ],
            )


def _ready(
    client: Any, wanted: Wanted, release: Release, configuration: str, timeout_s: float
) -> "Mapping[str, Any]":
    """The endpoint, once all its containers are of ``configuration`` and serve ``release``."""
    name, deadline = object_name(wanted.use_case), time.monotonic() + timeout_s
    while True:
        found = _endpoint(client, name)
        if found is None:
            raise TransientError(f"the endpoint {name} was deleted meanwhile: deploy again")
        status, reason = found["EndpointStatus"], found.get("FailureReason", "no reason given")
        missing: tuple[str, ...] = ()
        if status in ("Failed", "UpdateRollbackFailed", "OutOfService"):
            raise PermanentError(f"the endpoint {name} is {status}: {reason}")
        if status == "InService":
            if found["EndpointConfigName"] != configuration:
                raise PermanentError(f"SageMaker went back to what {name} was: {reason}")
            running = _running(found, wanted.place)
            reports = release_store.read_reports(wanted.place)
            if said := refusals(reports, running, release.revision):
                raise PermanentError(
                    f"the endpoint of {wanted.use_case} refuses the release: {'; '.join(said)}"
                )
            missing = not_applied(reports, running, release.revision)
            if not missing:
                return found
        if time.monotonic() > deadline:
            waits = ", ".join(missing) or status
            raise TransientError(
                f"the endpoint {name} was not ready within {timeout_s:g} s: {waits}"
            )
        time.sleep(POLL_S)


def _forget(client: Any, name: str) -> None:
    """Remove a configuration and a model that no endpoint has any more."""
    with asking(f"remove the endpoint configuration {name}"):
        if described(client.describe_endpoint_config, EndpointConfigName=name) is not None:
            client.delete_endpoint_config(EndpointConfigName=name)
        if described(client.describe_model, ModelName=name) is not None:
            client.delete_model(ModelName=name)


def _endpoint(client: Any, name: str) -> "Mapping[str, Any] | None":
    with asking(f"read the endpoint {name}"):
        return described(client.describe_endpoint, EndpointName=name)
