"""What an endpoint has beside its Deployment on Kubernetes, as plain documents.

Each object belongs to the Deployment: who deletes that deletes them all.
"""

from dataclasses import dataclass

from mlops_assets.adapters.endpoints.kubernetes_objects import (
    Document,
    metadata,
    object_name,
    selector,
)
from mlops_assets.core.spec import EndpointSpec

SCALE_AT_CPU = "700m"
"""Processor time per server and second above which another one is started: a server has one process
that reads requests, and a new one takes half a minute to be ready."""

BUSY_REQUESTS = "1000"
"""Requests per server and second above which KEDA starts another one: a bound of the queue in
front; SCALE_AT_CPU is usually reached before."""

COOLDOWN_S = 300
"""Seconds without a request after which the last server goes."""

CALLERS_LABEL = "mlops/may-reach"
"""Of a namespace: ``endpoints`` may call all of them, an endpoint's name that one."""

_CALLING_NAMESPACES = ("mlops-runs", "dagster")
"""Runs compare models by asking; the control plane watches."""


@dataclass(frozen=True)
class Owner:
    """The endpoint's Deployment, as the cluster knows it."""

    use_case: str
    namespace: str
    uid: str


@dataclass(frozen=True)
class Requests:
    """Where KEDA sees requests while there is no server: a Prometheus that watches what is in
    front of the endpoints.
    """

    prometheus_url: str
    query: str
    """Requests a second; ``{service}`` stands for the Service's name."""


def service(owner: Owner, spec: EndpointSpec) -> Document:
    """The Service that sends requests to the ready pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _owned(owner),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(owner.use_case),
            "ports": [{"name": "http", "port": spec.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def disruption_budget(owner: Owner, version: str) -> Document:
    """Nodes are drained one server at a time. ``version`` is the cluster's of the group policy."""
    return {
        "apiVersion": f"policy/{version}",
        "kind": "PodDisruptionBudget",
        "metadata": _owned(owner),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(owner.use_case)}},
    }


def network_policy(owner: Owner, spec: EndpointSpec) -> Document:
    """Who may call the servers, on their one port. Where they may go is the namespace's matter."""
    peers = [{CALLERS_LABEL: value} for value in ("endpoints", object_name(owner.use_case))]
    peers += [{"kubernetes.io/metadata.name": name} for name in _CALLING_NAMESPACES]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _owned(owner),
        "spec": {
            "podSelector": {"matchLabels": selector(owner.use_case)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"namespaceSelector": {"matchLabels": labels}} for labels in peers],
                    "ports": [{"protocol": "TCP", "port": spec.port}],
                }
            ],
        },
    }


def autoscaler(owner: Owner, spec: EndpointSpec, version: str) -> Document:
    """Between ``replicas.min``, at least one, and ``replicas.max`` servers, by processor time.

    ``version`` is the cluster's of the group autoscaling.
    """
    return {
        "apiVersion": f"autoscaling/{version}",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _owned(owner),
        "spec": {
            "scaleTargetRef": _target(owner),
            "minReplicas": max(1, spec.replicas.min),
            "maxReplicas": spec.replicas.max,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "AverageValue", "averageValue": SCALE_AT_CPU},
                    },
                }
            ],
        },
    }


def scaled_object(owner: Owner, spec: EndpointSpec, requests: Requests) -> Document:
    """KEDA's autoscaler, which takes the last server away when no request comes, and starts one for
    the next.
    """
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _owned(owner),
        "spec": {
            "scaleTargetRef": _target(owner),
            "minReplicaCount": spec.replicas.min,
            "maxReplicaCount": spec.replicas.max,
            "cooldownPeriod": COOLDOWN_S,
            "triggers": [
                {
                    "type": "prometheus",
                    "metadata": {
                        "serverAddress": requests.prometheus_url,
                        "query": requests.query.replace("{service}", object_name(owner.use_case)),
                        "threshold": BUSY_REQUESTS,
                        "activationThreshold": "0",
                    },
                },
                {
                    "type": "cpu",
                    "metricType": "AverageValue",
                    "metadata": {"value": SCALE_AT_CPU},
                },
            ],
        },
    }


def _owned(owner: Owner) -> Document:
    return metadata(owner.use_case, owner.namespace) | {
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": object_name(owner.use_case),
                "uid": owner.uid,
            }
        ]
    }


def _target(owner: Owner) -> Document:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": object_name(owner.use_case)}
