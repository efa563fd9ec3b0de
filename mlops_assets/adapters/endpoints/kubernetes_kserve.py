"""The endpoint as an InferenceService, for clusters where KServe runs the servers.

The pods are those of our own Deployment, and follow the same release: rollouts, the prediction log
and the reports are the same. KServe makes Deployment, Service, route and autoscaler of it.
"""

from typing import cast

from mlops_assets.adapters.endpoints.kubernetes_objects import (
    Document,
    Server,
    metadata,
    pod_spec,
)
from mlops_assets.core.spec import EndpointSpec

SCALE_AT_PERCENT = 70
"""Of the processor that a server requests; KServe's autoscaler knows no absolute number."""

CPU_REQUEST = "1"
"""A server uses one processor at most: the percentage is of that."""


def inference_service(server: Server, spec: EndpointSpec, namespace: str) -> Document:
    """The InferenceService whose pods run ``server``.

    In KServe's standard mode one server at least is kept: scaling to zero there is Knative's, which
    allows a pod neither of our volumes nor its own ``preStop``.
    """
    pod = pod_spec(server, spec)
    (container,) = cast("list[Document]", pod["containers"])
    resources = cast("dict[str, dict[str, str]]", container["resources"])
    requests = {**resources["requests"], "cpu": CPU_REQUEST}
    # The name by which KServe tells the server from what it puts beside it.
    renamed = {"name": "kserve-container", "resources": {**resources, "requests": requests}}
    described = metadata(server.use_case, namespace)
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "hpa",
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {**described, "annotations": annotations},
        "spec": {
            "predictor": {
                **pod,
                "labels": described["labels"],
                "minReplicas": max(1, spec.replicas.min),
                "maxReplicas": spec.replicas.max,
                "scaleMetric": "cpu",
                "scaleTarget": SCALE_AT_PERCENT,
                "deploymentStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
                },
                "containers": [{**container, **renamed}],
            }
        },
    }
