"""The network policies, evaluated as Kubernetes defines them: what must pass does, nothing else."""

from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import pytest
from manifests import of_kind, part, values

from mlops_assets.adapters.endpoints.kubernetes_companions import Owner, network_policy
from mlops_assets.core.spec import EndpointSpec

Labels = dict[str, str]


class Pod(NamedTuple):
    """A pod, for a policy."""

    namespace: str
    labels: Labels
    namespace_labels: Labels | None = None


def selected(selector: dict[str, Any] | None, labels: Labels) -> bool:
    """Whether ``selector`` (matchLabels only, as ours are) takes ``labels``."""
    assert not set(selector or {}) - {"matchLabels"}, selector
    return (selector or {}).get("matchLabels", {}).items() <= labels.items()


def peer_matches(peer: dict[str, Any], policy_namespace: str, other: "Pod | str") -> bool:
    """Whether ``other``, a pod or an address, is the ``peer`` that a rule names."""
    if isinstance(other, str):
        block = peer.get("ipBlock")
        address = ip_address(other)
        return (
            block is not None
            and address in ip_network(block["cidr"])
            and not any(address in ip_network(each) for each in block.get("except", ()))
        )
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": other.namespace, **(other.namespace_labels or {})}
        if not selected(peer["namespaceSelector"], labels):
            return False
    elif other.namespace != policy_namespace:
        return False
    return selected(peer.get("podSelector"), other.labels)


def policies() -> list[dict[str, Any]]:
    """Those of the guards, and an endpoint's own."""
    owner = Owner("flight_delays", "mlops-endpoints", "uid")
    own: Any = network_policy(owner, EndpointSpec(port=8900))
    return [*of_kind(part("guards"), "NetworkPolicy"), own]


def direction_allows(pod: Pod, other: "Pod | str", port: int, egress: bool) -> bool:
    """Whether the policies of ``pod`` let it talk with ``other`` in one direction."""
    kind, peers = ("Egress", "to") if egress else ("Ingress", "from")
    found = [
        each
        for each in policies()
        if each["metadata"]["namespace"] == pod.namespace
        and selected(each["spec"]["podSelector"], pod.labels)
        and kind in each["spec"]["policyTypes"]
    ]
    return not found or any(
        (not rule.get(peers) or any(peer_matches(p, pod.namespace, other) for p in rule[peers]))
        and (not rule.get("ports") or any(p["port"] == port for p in rule["ports"]))
        for policy in found
        for rule in policy["spec"].get(kind.lower(), ())
    )


def passes(source: "Pod | str", target: "Pod | str", port: int) -> bool:
    """Whether a connection from ``source`` to ``target`` is made."""
    out = isinstance(source, str) or direction_allows(source, target, port, egress=True)
    into = isinstance(target, str) or direction_allows(target, source, port, egress=False)
    return out and into


WEB = Pod("dagster", {"component": "dagster-webserver"})
DAEMON = Pod("dagster", {"component": "dagster-daemon"})
CODE = Pod("dagster", {"component": "user-deployments"})
RUN = Pod("mlops-runs", {"app.kubernetes.io/component": "run_worker"})
STEP = Pod("mlops-runs", {"app.kubernetes.io/component": "step_worker"})
ENDPOINT, OTHER_ENDPOINT = (
    Pod(
        "mlops-endpoints",
        {"app.kubernetes.io/name": "mlops-endpoint", "app.kubernetes.io/instance": name},
    )
    for name in ("flight-delays", "other")
)
MLFLOW = Pod("mlflow", {"app.kubernetes.io/name": "mlflow"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
STRANGER = Pod("shop", {})
CALLER = Pod("shop", {}, {"mlops/may-reach": "endpoints"})
CALLER_OF_ONE = Pod("shop", {}, {"mlops/may-reach": "flight-delays"})
CALLER_OF_OTHER = Pod("shop", {}, {"mlops/may-reach": "other"})
INGRESS = Pod("ingress", {}, {"mlops/may-reach": "dagster"})
S3 = "52.216.1.1"
API = "10.0.1.5"
DATABASE = "10.0.40.7"
METADATA = "169.254.169.254"
IDENTITY = "169.254.170.23"
OURS = {
    "webserver": WEB,
    "daemon": DAEMON,
    "code": CODE,
    "run": RUN,
    "step": STEP,
    "endpoint": ENDPOINT,
    "mlflow": MLFLOW,
}

MUST_PASS = [
    (WEB, CODE, 4000),
    (DAEMON, CODE, 4000),
    (WEB, DATABASE, 5432),
    (DAEMON, DATABASE, 5432),
    (CODE, DATABASE, 5432),
    (RUN, DATABASE, 5432),
    (STEP, DATABASE, 5432),
    (MLFLOW, DATABASE, 5432),
    (DAEMON, API, 443),
    (CODE, API, 443),
    (RUN, API, 443),
    (RUN, S3, 443),
    (STEP, S3, 443),
    (ENDPOINT, S3, 443),
    (MLFLOW, S3, 443),
    (WEB, S3, 443),
    (RUN, MLFLOW, 5000),
    (STEP, MLFLOW, 5000),
    (CODE, MLFLOW, 5000),
    (RUN, ENDPOINT, 8900),
    (CODE, ENDPOINT, 8900),
    (CALLER, ENDPOINT, 8900),
    (CALLER_OF_ONE, ENDPOINT, 8900),
    (INGRESS, WEB, 3000),
    *((pod, DNS, 53) for pod in OURS.values()),
    *((pod, IDENTITY, 80) for pod in OURS.values()),
]

MUST_NOT_PASS = [
    *((pod, METADATA, 80) for pod in OURS.values()),
    *((STRANGER, pod, port) for pod in OURS.values() for port in (3000, 4000, 5000, 8900)),
    *((ENDPOINT, pod, port) for pod in OURS.values() for port in (3000, 4000, 5000, 8900)),
    (ENDPOINT, DATABASE, 5432),
    (CALLER, ENDPOINT, 8901),
    (CALLER_OF_OTHER, ENDPOINT, 8900),
    (RUN, OTHER_ENDPOINT, 8900),
    (OTHER_ENDPOINT, ENDPOINT, 8900),
    (CALLER, MLFLOW, 5000),
    (CALLER, WEB, 3000),
    (INGRESS, ENDPOINT, 8900),
    (RUN, STEP, 8900),
    (STEP, RUN, 4000),
    (RUN, CODE, 4000),
    (STEP, WEB, 3000),
    (MLFLOW, ENDPOINT, 8900),
    (MLFLOW, CODE, 4000),
    (RUN, S3, 80),
    (STEP, "10.0.0.9", 22),
]


@pytest.mark.parametrize(("source", "target", "port"), MUST_PASS)
def test_what_the_platform_needs_passes(source, target, port):
    """Each connection that the code makes."""
    assert passes(source, target, port)


@pytest.mark.parametrize(("source", "target", "port"), MUST_NOT_PASS)
def test_nothing_else_passes(source, target, port):
    """Strangers, a node's credentials, and ways between our own parts that none needs."""
    assert not passes(source, target, port)


def test_each_namespace_begins_with_nothing():
    """A pod that no other policy selects talks to nobody."""
    for namespace in of_kind(part("base"), "Namespace"):
        pod = Pod(namespace["metadata"]["name"], {"any": "pod"})
        assert not passes(STRANGER, pod, 80)
        assert not passes(pod, "10.0.0.9", 22)


def test_the_policies_select_the_charts_pods():
    """Labels and ports of Dagster's chart, and of our own values."""
    found = values("production")
    assert found["dagsterWebserver"]["service"]["port"] == 3000
    assert {each["port"] for each in found["dagster-user-deployments"]["deployments"]} == {4000}
    assert found["postgresql"]["service"]["port"] == 5432
