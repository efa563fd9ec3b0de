"""How many servers an endpoint has on Kubernetes: a number, or what an autoscaler finds."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Literal

from mlops_assets.adapters.endpoints.kubernetes_api import (
    Cluster,
    annotate,
    apply,
    remove,
    served,
)
from mlops_assets.adapters.endpoints.kubernetes_companions import (
    Owner,
    Requests,
    autoscaler,
    scaled_object,
)
from mlops_assets.core.errors import PlatformError
from mlops_assets.core.spec import EndpointSpec

PROMETHEUS_VARIABLE = "MLOPS_PROMETHEUS_URL"
REQUESTS_VARIABLE = "MLOPS_REQUESTS_QUERY"

# Each has the fields that are used here in all of its versions.
HPA_VERSIONS = ("v2", "v2beta2")
KEDA_VERSIONS = ("v1alpha1",)

PAUSED = "autoscaling.keda.sh/paused"
"""Annotation of a ScaledObject that leaves the Deployment alone."""

Scaler = Literal["KEDA", "HPA"]

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def held(cluster: Cluster) -> Iterator[None]:
    """KEDA takes no server away meanwhile: a new one has to be tried, also where nobody asks."""
    keda = served(cluster, "keda.sh", KEDA_VERSIONS)
    if keda is None or not annotate(cluster, "ScaledObject", "keda.sh", keda, {PAUSED: "true"}):
        yield
        return
    try:
        yield
    except PlatformError:
        with contextlib.suppress(PlatformError):
            annotate(cluster, "ScaledObject", "keda.sh", keda, {PAUSED: None})
        raise
    annotate(cluster, "ScaledObject", "keda.sh", keda, {PAUSED: None})


def follow_load(cluster: Cluster, owner: Owner, spec: EndpointSpec) -> bool:
    """Give the endpoint the autoscaler that ``spec`` asks for, and take another one away; returns
    whether it has one.

    A cluster without KEDA, or whose runs are not told where requests are counted, keeps one server
    at least; a warning says so. Raises PermanentError and TransientError with what the API server
    says.
    """
    chosen, requests = _scaler(cluster, spec), _requests()
    hpa = served(cluster, "autoscaling", HPA_VERSIONS)
    keda = served(cluster, "keda.sh", KEDA_VERSIONS)
    # First the one that goes: two would pull at the number of pods.
    if chosen != "HPA" and hpa is not None:
        remove(cluster, "HorizontalPodAutoscaler", "autoscaling", hpa)
    if chosen != "KEDA" and keda is not None:
        remove(cluster, "ScaledObject", "keda.sh", keda)
    if chosen == "HPA" and hpa is not None:
        apply(cluster, autoscaler(owner, spec, hpa))
    if chosen == "KEDA" and requests is not None:
        apply(cluster, scaled_object(owner, spec, requests))
    return chosen is not None


def _scaler(cluster: Cluster, spec: EndpointSpec) -> Scaler | None:
    bounds = spec.replicas
    if bounds.min == 0:
        missing = []
        if served(cluster, "keda.sh", KEDA_VERSIONS) is None:
            missing.append("the cluster has no KEDA (keda.sh/v1alpha1)")
        if _requests() is None:
            missing.append(f"{PROMETHEUS_VARIABLE} and {REQUESTS_VARIABLE} are not set for runs")
        if not missing:
            return "KEDA"
        logger.warning(
            "the endpoint of %s keeps one server at least, though replicas.min is 0: %s",
            cluster.use_case,
            "; ".join(missing),
        )
    return "HPA" if max(1, bounds.min) < bounds.max else None


def _requests() -> Requests | None:
    url, query = (os.environ.get(name) for name in (PROMETHEUS_VARIABLE, REQUESTS_VARIABLE))
    return Requests(url, query) if url and query else None
