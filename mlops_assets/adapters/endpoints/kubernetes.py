"""The endpoint target on Kubernetes: a Deployment and a Service, applied and waited for.

Server-side apply: what is applied already is left alone, so nothing rolls without a change. While
a new release comes up, the pods of the one before go on answering.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mlops_assets.adapters.endpoints import kubernetes_objects as objects
from mlops_assets.adapters.endpoints.rollout import (
    Deployment,
    Pod,
    Pods,
    hopeless,
    is_rolled_out,
    waiting_for,
)
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError
from mlops_assets.core.records import EndpointRecord, Release
from mlops_assets.core.spec import EndpointSpec

if TYPE_CHECKING:
    from kubernetes.client import AppsV1Api, CoreV1Api
    from urllib3 import BaseHTTPResponse

IMAGE_VARIABLE = "MLOPS_SERVER_IMAGE"
POLL_S = 1.0
REQUEST_TIMEOUT_S = 30
LOG_LINES = 15

_MANAGER = "mlops"


@dataclass(frozen=True)
class _Cluster:
    """Whom to ask about the objects of one endpoint."""

    apps: "AppsV1Api"
    core: "CoreV1Api"
    namespace: str
    name: str


def deploy(
    release: Release, spec: EndpointSpec, namespace: str, log_url: str, timeout_s: float
) -> EndpointRecord:
    """Apply the endpoint of ``release`` and return once all its pods answer with it.

    After a failure the Deployment is what it was before; a first one has no pods.

    Raises PermanentError when trying again cannot help (a server that crashes, a right that is
    missing), TransientError when it may (no node, no image, a rollout later than ``timeout_s``).
    """
    image = os.environ.get(IMAGE_VARIABLE)
    if not image:
        raise PermanentError(
            f"the environment variable {IMAGE_VARIABLE} is not set: it names the model server's "
            "image; set it where runs are executed"
        )
    cluster = _connect(namespace, objects.object_name(release.use_case))
    wanted = objects.deployment(release, spec, namespace, image, log_url)
    before = _applied_before(cluster)
    _apply(
        cluster.core.patch_namespaced_service,
        cluster,
        objects.service(release.use_case, spec, namespace),
    )
    _apply(cluster.apps.patch_namespaced_deployment, cluster, wanted)
    try:
        found = _ready(cluster, release, timeout_s)
    except PlatformError:
        # The failure that led here is what the caller has to hear about.
        with contextlib.suppress(PlatformError):
            # A release that was given up must not begin to serve later.
            back = before or objects.without_pods(wanted)
            _apply(cluster.apps.patch_namespaced_deployment, cluster, back)
        raise
    return EndpointRecord(
        use_case=release.use_case,
        url=f"http://{cluster.name}.{namespace}.svc:{spec.port}",
        instance=found.metadata.uid,
        release=release,
        prediction_log=log_url,
    )


def _connect(namespace: str, name: str) -> _Cluster:
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    settings = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(settings)
        else:
            config.load_kube_config(client_configuration=settings)
    except ConfigException as error:
        raise PermanentError(
            f"the cluster of kubernetes://{namespace} cannot be found: {error}; run in a pod with "
            "a service account, or set KUBECONFIG"
        ) from error
    api = client.ApiClient(settings)
    return _Cluster(client.AppsV1Api(api), client.CoreV1Api(api), namespace, name)


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    """The API server's failures as ours."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        status = error.status or 0
        try:
            reason = str(json.loads(error.body or "")["message"])
        except (ValueError, KeyError, TypeError):
            reason = str(error.reason)
        if status in (408, 409, 429) or status >= 500 or status == 0:
            raise TransientError(f"cannot {what}: {reason}") from error
        raise PermanentError(
            f"cannot {what}: {reason}; the run's service account needs that right, and the "
            "namespace has to exist (deployments/kubernetes)"
        ) from error
    except (HTTPError, OSError) as error:
        raise TransientError(f"cannot {what}: {error}") from error


def _apply(patch: Callable[..., object], cluster: _Cluster, document: objects.Document) -> None:
    with _asking(f"apply the {document['kind']} {cluster.namespace}/{cluster.name}"):
        patch(
            cluster.name,
            cluster.namespace,
            document,
            field_manager=_MANAGER,
            force=True,
            _content_type="application/apply-patch+yaml",
            _request_timeout=REQUEST_TIMEOUT_S,
        )


def _content(answer: object) -> bytes:
    """The body of an answer that was asked for as it is: only the part that matters is parsed."""
    return cast("BaseHTTPResponse", answer).data


def _read(cluster: _Cluster) -> Deployment:
    with _asking(f"read the Deployment {cluster.namespace}/{cluster.name}"):
        answer = cluster.apps.read_namespaced_deployment(
            cluster.name,
            cluster.namespace,
            _preload_content=False,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
    return Deployment.model_validate_json(_content(answer))


def _applied_before(cluster: _Cluster) -> objects.Document | None:
    """The Deployment as it was applied last; none for a first one."""
    from kubernetes.client import ApiException

    try:
        found = _read(cluster)
    except PermanentError as error:
        if isinstance(error.__cause__, ApiException) and error.__cause__.status == 404:
            return None
        raise
    applied = found.metadata.annotations.get(objects.APPLIED_ANNOTATION)
    if applied is None:
        raise PermanentError(
            f"the Deployment {cluster.namespace}/{cluster.name} was not made by this platform: "
            "remove it, or give the use case another name"
        )
    return objects.from_applied(applied)


def _ready(cluster: _Cluster, release: Release, timeout_s: float) -> Deployment:
    deadline = time.monotonic() + timeout_s
    while True:
        found = _read(cluster)
        if _release_of(found) != release:
            raise TransientError(
                f"another deployment of {release.use_case} came after this one: look at what is "
                "served, and deploy again if it is not what it should be"
            )
        if is_rolled_out(found):
            return found
        pods = _pods(cluster, release)
        problem = hopeless(found, pods)
        if problem is not None:
            words = "" if problem.crashed is None else _last_words(cluster, problem.crashed)
            raise problem.error(problem.reason + words)
        if time.monotonic() > deadline:
            raise TransientError(
                f"the endpoint of {release.use_case} was not ready within {timeout_s:g} s: "
                f"{waiting_for(pods)}"
            )
        time.sleep(POLL_S)


def _release_of(found: Deployment) -> Release | None:
    text = found.spec.template.metadata.annotations.get(objects.RELEASE_ANNOTATION)
    return None if text is None else Release.model_validate_json(text)


def _pods(cluster: _Cluster, release: Release) -> tuple[Pod, ...]:
    labels = objects.selector(release.use_case) | {
        objects.RELEASE_LABEL: objects.release_id(release)
    }
    with _asking(f"list the pods of {cluster.namespace}/{cluster.name}"):
        answer = cluster.core.list_namespaced_pod(
            cluster.namespace,
            label_selector=",".join(f"{name}={value}" for name, value in labels.items()),
            _preload_content=False,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
    listed = Pods.model_validate_json(_content(answer)).items
    # Those that end are of a deployment before.
    return tuple(pod for pod in listed if pod.metadata.deletion_timestamp is None)


def _last_words(cluster: _Cluster, pod: str) -> str:
    try:
        with _asking(f"read the log of {pod}"):
            answer = cluster.core.read_namespaced_pod_log(
                pod,
                cluster.namespace,
                previous=True,
                tail_lines=LOG_LINES,
                _preload_content=False,
                _request_timeout=REQUEST_TIMEOUT_S,
            )
    except PlatformError as error:
        return f" ({error})"
    return f". It said:\n{_content(answer).decode(errors='replace').strip()}"
