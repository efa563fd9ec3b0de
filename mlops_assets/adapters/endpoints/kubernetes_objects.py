"""The objects of an endpoint on Kubernetes, as plain documents: a Deployment and a Service.

The release is an annotation of the pod template that the server reads as a file: it changes and is
rolled back together with the pods, never without them.
"""

import hashlib
import json
import re
from typing import cast

from mlops_assets.core.records import Release
from mlops_assets.core.spec import EndpointSpec

RELEASE_ANNOTATION = "mlops/release"
APPLIED_ANNOTATION = "mlops/applied"
"""On the Deployment: the Deployment as it was applied, to go back to."""

RELEASE_LABEL = "mlops/release"
"""On the pods: which release they serve, for those who look for them."""

USER = 10001
REPLICAS = 2
"""One goes on answering while the other's node goes."""

_RELEASE_FOLDER = "/etc/mlops/release"
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


def release_id(release: Release) -> str:
    """A short name of ``release`` that no other release of its use case has."""
    return f"{release.version}-{release.sha256[:12]}"


def selector(use_case: str) -> dict[str, str]:
    """The labels that find the use case's pods."""
    return {
        "app.kubernetes.io/name": "mlops-endpoint",
        "app.kubernetes.io/instance": object_name(use_case),
    }


def service(use_case: str, spec: EndpointSpec, namespace: str) -> Document:
    """The Service that sends requests to the ready pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(use_case, namespace),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(use_case),
            "ports": [{"name": "http", "port": spec.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def deployment(
    release: Release, spec: EndpointSpec, namespace: str, image: str, log_url: str
) -> Document:
    """The Deployment whose pods serve ``release`` and ship their prediction log to ``log_url``."""
    labels = _labels(release.use_case)
    document: Document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(release.use_case, namespace),
        "spec": {
            "replicas": REPLICAS,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector(release.use_case)},
            # A pod goes only when its successor answers.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {
                    "labels": labels | {RELEASE_LABEL: release_id(release)},
                    "annotations": {RELEASE_ANNOTATION: release.model_dump_json()},
                },
                "spec": _pod(release, spec, image, log_url),
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


def _remembered(document: Document) -> Document:
    """``document`` with an annotation that holds it."""
    metadata = cast("Document", document["metadata"])
    applied = {APPLIED_ANNOTATION: json.dumps(document, sort_keys=True)}
    return document | {"metadata": metadata | {"annotations": applied}}


def _labels(use_case: str) -> dict[str, str]:
    return selector(use_case) | {"app.kubernetes.io/managed-by": "mlops"}


def _metadata(use_case: str, namespace: str) -> Document:
    return {"name": object_name(use_case), "namespace": namespace, "labels": _labels(use_case)}


def _pod(release: Release, spec: EndpointSpec, image: str, log_url: str) -> Document:
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
                "labelSelector": {"matchLabels": selector(release.use_case)},
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
        "containers": [_container(spec, image, log_url)],
        "volumes": [
            {
                "name": "release",
                "downwardAPI": {
                    "items": [
                        {
                            "path": "release.json",
                            "fieldRef": {
                                "apiVersion": "v1",
                                "fieldPath": f"metadata.annotations['{RELEASE_ANNOTATION}']",
                            },
                        }
                    ]
                },
            },
            {"name": "predictions", "emptyDir": {"sizeLimit": _LOG_SIZE}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _container(spec: EndpointSpec, image: str, log_url: str) -> Document:
    options = {
        "--release": f"{_RELEASE_FOLDER}/release.json",
        "--log-dir": _LOG_FOLDER,
        "--ship-to": log_url,
        # Every address of the pod: its node's kubelet asks for its health.
        "--host": "0.0.0.0",  # noqa: S104
        "--port": str(spec.port),
        "--max-body-mb": str(spec.max_body_mb),
        "--max-rows": str(spec.max_rows),
        "--instance": "$(POD_NAME)",
    }
    return {
        "name": "server",
        "image": image,
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
            {"name": "release", "mountPath": _RELEASE_FOLDER, "readOnly": True},
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
