"""The Ray cluster's manifest: pods that Kubernetes takes, unprivileged, and reached by steps alone.

KubeRay's own schema is not among the stored ones: what is around the pods is held by facts.
"""

import re

import pytest
from manifests import ROOT, VERSIONS, compute_profiles, named, of_kind, part, restricted
from manifests import schema_problems as problems_of

TEMPLATES = ("head", "worker")


def _cluster():
    return named(part("ray"), "RayCluster", "mlops")["spec"]


def _template(which):
    cluster = _cluster()
    group = cluster["headGroupSpec"] if which == "head" else cluster["workerGroupSpecs"][0]
    return group["template"]


def _containers(which):
    return _template(which)["spec"]["containers"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", TEMPLATES)
def test_pods_hold_what_kubernetes_knows(which, version):
    """KubeRay copies the templates; a field that is none would get lost in silence."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": which, **_template(which)["metadata"]},
        "spec": _template(which)["spec"],
    }
    assert problems_of(pod, version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_policies_hold_what_kubernetes_knows(version):
    """By strict schemas."""
    policies = of_kind(part("ray"), "NetworkPolicy")
    assert len(policies) == 3
    assert [problem for each in policies for problem in problems_of(each, version)] == []


@pytest.mark.parametrize("which", TEMPLATES)
def test_pods_are_unprivileged_and_have_no_kubernetes_token(which):
    """Ray runs what a client sends: it gets no more rights than a step."""
    pod = _template(which)["spec"]
    assert restricted(pod) == []
    assert pod["serviceAccountName"] == "mlops-step"
    assert pod["automountServiceAccountToken"] is False


def test_whoever_connects_needs_a_token():
    """A policy alone would trust every pod of the namespace."""
    assert _cluster()["authOptions"] == {"mode": "token", "secretName": "mlops-ray"}


def test_the_version_is_the_one_that_is_locked():
    """Client, head and workers refuse each other otherwise."""
    lock = (ROOT / "requirements.lock").read_text()
    (version,) = re.findall(r"^ray(?:\[.*\])?==(\S+)", lock, re.MULTILINE)
    assert _cluster()["rayVersion"] == version


def test_workers_may_be_lost_and_the_head_may_not():
    """The head on on-demand capacity without workers of a training, workers on spot."""
    capacity = "karpenter.sh/capacity-type"
    assert _template("head")["spec"]["nodeSelector"] == {capacity: "on-demand"}
    spot = compute_profiles()["cpu_spot"]["node_selector"]
    assert _template("worker")["spec"]["nodeSelector"] == spot
    assert _cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    # Ray counts limits as what there is to give.
    (worker,) = _containers("worker")
    assert worker["resources"]["limits"] == worker["resources"]["requests"]


def test_probes_ask_for_ports_that_are_there():
    """KubeRay's own probes ask a dashboard, which the image does not have."""
    (head,), (worker,) = _containers("head"), _containers("worker")
    for container, port in ((head, 6379), (worker, 6380)):
        for probe in ("livenessProbe", "readinessProbe"):
            assert container[probe]["tcpSocket"] == {"port": port}
    assert 6379 in {each["containerPort"] for each in head["ports"]}
    (group,) = _cluster()["workerGroupSpecs"]
    assert group["rayStartParams"]["node-manager-port"] == "6380"


def test_policies_name_the_labels_of_the_pods():
    """A policy that selects nothing lets nothing pass."""
    label = {"app.kubernetes.io/name": "ray"}
    for which in TEMPLATES:
        assert label.items() <= _template(which)["metadata"]["labels"].items()
    steps = named(part("ray"), "NetworkPolicy", "steps-to-ray")["spec"]["egress"]
    assert steps == [
        {
            "to": [{"podSelector": {"matchLabels": label}}],
            "ports": [{"protocol": "TCP", "port": 10001}],
        }
    ]
