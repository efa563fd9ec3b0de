"""The Deployment of an endpoint on Kubernetes, as a plain document.

What the pods serve stands in a release that they follow in the store: a change of models changes
nothing here. Image, address and limits do, and roll the pods.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import cast

from mlops_assets.core.spec import EndpointSpec

APPLIED_ANNOTATION = "mlops/applied"
"""On the Deployment: the Deployment as it was applied, to go back to."""

VERSION_ANNOTATION = "mlops/version"
"""On the pods: the package's version. A new one rolls them, whatever the image is called."""

USER = 10001

_LOG_FOLDER = "/var/lib/mlops/predictions"
_LOG_SIZE = "2Gi"
"""Twice what the server keeps while the store is away: at this limit the pod would be evicted."""

_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")

Document = dict[str, object]


def object_name(use_case: str) -> str:
    """The name of a use case's objects: its own with hyphens, where that is one of Kubernetes'."""
    name = use_case.replace("_", "-")
    if _LABEL.fullmatch(name):
        return name
    digest = hashlib.sha256(use_case.encode()).hexdigest()[:8]
    return f"{name[:54].rstrip('-')}-{digest}"


@dataclass(frozen=True)
class Server:
    """What the pods of one endpoint run."""

    use_case: str
    image: str
    version: str
    """Of the package."""
    release_url: str
    """The release that they follow."""
    log_url: str
    """Where they ship their prediction log to."""


def selector(use_case: str) -> dict[str, str]:
    """The labels that find the use case's pods."""
    return {
        "app.kubernetes.io/name": "mlops-endpoint",
        "app.kubernetes.io/instance": object_name(use_case),
    }


def replicas(spec: EndpointSpec, running: int) -> int:
    """How many pods a deployment asks for: as many as run, within the bounds.

    Of a Deployment that has none, as many as a new one begins with: a deployment is over when a
    server has answered, also where none is kept.
    """
    least = max(1, spec.replicas.min)
    return min(max(running, least), spec.replicas.max)


def labels(use_case: str) -> dict[str, str]:
    """The labels of each object and pod of the use case."""
    return selector(use_case) | {"app.kubernetes.io/managed-by": "mlops"}


def metadata(use_case: str, namespace: str) -> Document:
    """Name and labels, the same for each object of the use case."""
    return {"name": object_name(use_case), "namespace": namespace, "labels": labels(use_case)}


def deployment(server: Server, spec: EndpointSpec, namespace: str, pods: int) -> Document:
    """The Deployment whose ``pods`` run ``server``."""
    document: Document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(server.use_case, namespace),
        "spec": {
            "replicas": pods,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector(server.use_case)},
            # A pod goes only when its successor answers.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {
                    "labels": labels(server.use_case),
                    "annotations": {VERSION_ANNOTATION: server.version},
                },
                "spec": pod_spec(server, spec),
            },
        },
    }
    return _remembered(document)


def from_applied(applied: str) -> Document:
    """The Deployment that :data:`APPLIED_ANNOTATION` holds, as it was applied."""
    return _remembered(json.loads(applied))


def without_pods(document: Document) -> Document:
    """The Deployment ``document`` with no pods."""
    plain: Document = json.loads(json.dumps(document))
    cast("Document", plain["metadata"]).pop("annotations")
    cast("Document", plain["spec"])["replicas"] = 0
    return _remembered(plain)


def applied_text(document: Document) -> str:
    """What the annotation of ``document``, one of :func:`deployment`, holds."""
    metadata = cast("Document", document["metadata"])
    return cast("dict[str, str]", metadata["annotations"])[APPLIED_ANNOTATION]


def _remembered(document: Document) -> Document:
    """``document`` with an annotation that holds it."""
    metadata = cast("Document", document["metadata"])
    applied = {APPLIED_ANNOTATION: json.dumps(document, sort_keys=True)}
    return document | {"metadata": metadata | {"annotations": applied}}


def pod_spec(server: Server, spec: EndpointSpec) -> Document:
    """The pods that run ``server``: on-demand, spread, without a right or a writable root."""
    return {
        "serviceAccountName": "mlops-endpoint",
        "automountServiceAccountToken": False,
        "priorityClassName": "mlops-serving",
        # Answers do not wait for a spot node's return.
        "nodeSelector": {"karpenter.sh/capacity-type": "on-demand"},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(server.use_case)},
            }
        ],
        # Five seconds of grace for routes to go, 30 for requests in flight, 20 for the log.
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(server, spec)],
        "volumes": [
            {"name": "predictions", "emptyDir": {"sizeLimit": _LOG_SIZE}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _container(server: Server, spec: EndpointSpec) -> Document:
    options = {
        "--release": server.release_url,
        "--log-dir": _LOG_FOLDER,
        "--ship-to": server.log_url,
        # Every address of the pod: its node's kubelet asks for its health.
        "--host": "0.0.0.0",  # noqa: S104
        "--port": str(spec.port),
        "--max-body-mb": str(spec.max_body_mb),
        "--max-rows": str(spec.max_rows),
        "--instance": "$(POD_NAME)",
    }
    return {
        "name": "server",
        "image": server.image,
        "command": ["python", "-m", "mlops_assets.serving"],
        "args": [word for option in options.items() for word in option],
        "ports": [{"name": "http", "containerPort": spec.port, "protocol": "TCP"}],
        # Where the store is, and who asks: another namespace's run could not hand that on.
        "envFrom": [
            {"configMapRef": {"name": "mlops-environment", "optional": True}},
            {"secretRef": {"name": "mlops-secrets", "optional": True}},
        ],
        "env": [
            {
                "name": "POD_NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
            },
            {"name": "OMP_WAIT_POLICY", "value": "PASSIVE"},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
        ],
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        },
        # Two minutes to import and to begin to listen, on a node that starts many pods.
        "startupProbe": _probe("/v2/health/live", 2, 60),
        "readinessProbe": _probe("/v2/health/ready", 2, 2),
        "livenessProbe": _probe("/v2/health/live", 10, 6),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "predictions", "mountPath": _LOG_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        ],
    }


def _probe(path: str, period_s: int, failures: int) -> Document:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
