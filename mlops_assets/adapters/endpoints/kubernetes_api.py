"""What is asked of a cluster's API about the objects of one endpoint, and its failures as ours."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mlops_assets.adapters.endpoints.kubernetes_objects import Document, object_name, selector
from mlops_assets.adapters.endpoints.rollout import Deployment, Pod, Pods
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from urllib3 import BaseHTTPResponse

REQUEST_TIMEOUT_S = 30
LOG_LINES = 15

_MANAGER = "mlops"
_APPLY = "application/apply-patch+yaml"
_ENDED = ("Succeeded", "Failed")

_PLURALS = {
    "Deployment": "deployments",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "NetworkPolicy": "networkpolicies",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "ScaledObject": "scaledobjects",
}


@dataclass(frozen=True)
class Cluster:
    """Whom to ask about the objects of one endpoint."""

    api: "ApiClient"
    use_case: str
    namespace: str

    @property
    def name(self) -> str:
        """Of each object."""
        return object_name(self.use_case)


def connect(use_case: str, namespace: str) -> Cluster:
    """The cluster that this process runs in, or that KUBECONFIG names.

    Raises PermanentError where there is none.
    """
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    settings = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(settings)
        else:
            # Its own default is what the variable was when it was imported.
            config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
    except ConfigException as error:
        raise PermanentError(
            f"the cluster of kubernetes://{namespace} cannot be found: {error}; run in a pod with "
            "a service account, or set KUBECONFIG"
        ) from error
    return Cluster(client.ApiClient(settings), use_case, namespace)


def apply(cluster: Cluster, document: Document) -> str:
    """Make the object what ``document`` says, by server-side apply; gives its uid.

    Raises PermanentError and TransientError with what the API server says.
    """
    from kubernetes import client

    kind, (group, version) = str(document["kind"]), _group_and_version(document)
    options = {"field_manager": _MANAGER, "force": True, "_content_type": _APPLY}
    options |= {"_request_timeout": REQUEST_TIMEOUT_S, "_preload_content": False}
    with _asking(f"apply the {kind} {cluster.namespace}/{cluster.name}"):
        if group:
            answer = client.CustomObjectsApi(cluster.api).patch_namespaced_custom_object(
                group,
                version,
                cluster.namespace,
                _PLURALS[kind],
                cluster.name,
                document,
                **options,
            )
        else:
            answer = client.CoreV1Api(cluster.api).patch_namespaced_service(
                cluster.name, cluster.namespace, document, **options
            )
    return str(json.loads(_content(answer))["metadata"]["uid"])


def annotate(
    cluster: Cluster, kind: str, group: str, version: str, annotations: Mapping[str, str | None]
) -> bool:
    """Set annotations of the endpoint's object of this kind, those with None go; False where there
    is no such object. Raises as :func:`apply`.
    """
    from kubernetes import client

    what = f"annotate the {kind} {cluster.namespace}/{cluster.name}"
    with _asking(what, may_be_absent=True):
        client.CustomObjectsApi(cluster.api).patch_namespaced_custom_object(
            group,
            version,
            cluster.namespace,
            _PLURALS[kind],
            cluster.name,
            {"metadata": {"annotations": dict(annotations)}},
            _content_type="application/merge-patch+json",
            _request_timeout=REQUEST_TIMEOUT_S,
        )
        return True
    return False


def remove(cluster: Cluster, kind: str, group: str, version: str) -> None:
    """Take the endpoint's object of this kind away, if there is one. Raises as :func:`apply`."""
    from kubernetes import client

    with _asking(f"remove the {kind} {cluster.namespace}/{cluster.name}", may_be_absent=True):
        client.CustomObjectsApi(cluster.api).delete_namespaced_custom_object(
            group,
            version,
            cluster.namespace,
            _PLURALS[kind],
            cluster.name,
            _request_timeout=REQUEST_TIMEOUT_S,
        )


def served(cluster: Cluster, group: str, versions: Sequence[str]) -> str | None:
    """The first of ``versions`` in which the cluster has the API ``group``; None without any."""
    from kubernetes import client

    with _asking(f"read which APIs the cluster of kubernetes://{cluster.namespace} has"):
        answer = client.ApisApi(cluster.api).get_api_versions(
            _preload_content=False, _request_timeout=REQUEST_TIMEOUT_S
        )
    found = {
        version["version"]
        for each in json.loads(_content(answer))["groups"]
        if each["name"] == group
        for version in each["versions"]
    }
    return next((version for version in versions if version in found), None)


def read_deployment(cluster: Cluster) -> Deployment | None:
    """The endpoint's Deployment; None before the first. Raises as :func:`apply`."""
    from kubernetes import client

    with _asking(f"read the Deployment {cluster.namespace}/{cluster.name}", may_be_absent=True):
        answer = client.AppsV1Api(cluster.api).read_namespaced_deployment(
            cluster.name,
            cluster.namespace,
            _preload_content=False,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
        return Deployment.model_validate_json(_content(answer))
    return None


def list_pods(cluster: Cluster) -> tuple[Pod, ...]:
    """The endpoint's pods, but for those that end: these are of a deployment before, or move to
    another node. Raises as :func:`apply`.
    """
    from kubernetes import client

    labels = selector(cluster.use_case)
    with _asking(f"list the pods of {cluster.namespace}/{cluster.name}"):
        answer = client.CoreV1Api(cluster.api).list_namespaced_pod(
            cluster.namespace,
            label_selector=",".join(f"{name}={value}" for name, value in labels.items()),
            _preload_content=False,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
    return tuple(
        pod
        for pod in Pods.model_validate_json(_content(answer)).items
        if pod.metadata.deletion_timestamp is None and pod.status.phase not in _ENDED
    )


def last_words(cluster: Cluster, pod: str) -> str:
    """What the server of ``pod`` said before it ended, for a message."""
    from kubernetes import client

    try:
        with _asking(f"read the log of {pod}"):
            answer = client.CoreV1Api(cluster.api).read_namespaced_pod_log(
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


def _group_and_version(document: Document) -> tuple[str, str]:
    group, _, version = str(document["apiVersion"]).rpartition("/")
    return group, version


def _content(answer: object) -> bytes:
    """The body of an answer that was asked for as it is: only the part that matters is parsed."""
    return cast("BaseHTTPResponse", answer).data


@contextlib.contextmanager
def _asking(what: str, *, may_be_absent: bool = False) -> Iterator[None]:
    """The API server's failures as ours. An object that ``may_be_absent`` and is ends the block."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        status = error.status or 0
        if status == 404 and may_be_absent:
            return
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
