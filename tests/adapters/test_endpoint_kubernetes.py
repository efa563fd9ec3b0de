"""The endpoint's objects on Kubernetes, and what is read out of a rollout's state."""

import json

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.config import kube_config

from mlops_assets.adapters.endpoints import kubernetes, targets
from mlops_assets.adapters.endpoints.kubernetes_objects import (
    APPLIED_ANNOTATION,
    Server,
    deployment,
    from_applied,
    object_name,
    selector,
    without_pods,
)
from mlops_assets.adapters.endpoints.rollout import (
    Deployment,
    Pods,
    hopeless,
    is_rolled_out,
    waiting_for,
)
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.rollout_state import ServedModel
from mlops_assets.core.spec import EndpointSpec

LOG = "s3://documents/prediction-log/flight_delays"
PLACE = "s3://documents/endpoints/flight_delays"
CHAMPION = ServedModel(
    version=3, sha256="ab" * 32, artifact="s3://artifacts/flight_delays/abab.ubj"
)
WANTED = kubernetes.Wanted(
    "flight_delays", CHAMPION, EndpointSpec(), "endpoints", PLACE, LOG, "promoted"
)


def rendered(image: str = "server:1", version: str = "1.0") -> dict[str, object]:
    """The Deployment of an endpoint."""
    server = Server("flight_delays", image, version, f"{PLACE}/release.json", LOG)
    return deployment(server, EndpointSpec(port=8901), "mlops-endpoints", 2)


def seen(**status: object) -> Deployment:
    """A Deployment of two pods in its second generation."""
    return Deployment.model_validate(
        {
            "metadata": {"name": "flight-delays", "uid": "u", "generation": 2},
            "spec": {"replicas": 2, "template": {"metadata": {"annotations": {}}}},
            "status": status,
        }
    )


def pods(container: dict[str, object], **status: object) -> tuple[object, ...]:
    """One pod with one container."""
    item = {"metadata": {"name": "p-1"}, "status": {"containerStatuses": [container], **status}}
    return Pods.model_validate({"items": [item]}).items


@pytest.mark.parametrize("version", ["1.27", "1.33"])
def test_the_deployment_is_what_the_api_takes(version: str) -> None:
    """Every field is known, in an old and in a new Kubernetes."""
    kubernetes_validate.validate(rendered(), version, strict=True)


def test_the_server_follows_the_release_in_the_store() -> None:
    """And ships its log there; it reports under its pod's name."""
    template = json.loads(json.dumps(rendered()))["spec"]["template"]
    (container,) = template["spec"]["containers"]
    options = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert options["--release"] == f"{PLACE}/release.json"
    assert options["--ship-to"] == LOG
    assert options["--instance"] == "$(POD_NAME)"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert options["--log-dir"] == mounts["predictions"]
    assert selector("flight_delays").items() <= template["metadata"]["labels"].items()


def test_the_pods_can_do_nothing_but_serve() -> None:
    """No root, no writable root, no token, no capability."""
    pod = json.loads(json.dumps(rendered()))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_only_image_spec_and_package_change_the_document() -> None:
    """So that a new model rolls no pod."""
    assert rendered() == rendered()
    assert rendered() != rendered(image="server:2")
    assert rendered() != rendered(version="1.1")


def test_a_deployment_remembers_how_it_was_applied() -> None:
    """What comes back is what was applied, its memory included; with no pods too."""
    document = rendered()
    applied = document["metadata"]["annotations"][APPLIED_ANNOTATION]  # type: ignore[index]
    assert from_applied(applied) == document
    none = without_pods(document)
    assert none["spec"] == {**document["spec"], "replicas": 0}  # type: ignore[dict-item]
    assert from_applied(none["metadata"]["annotations"][APPLIED_ANNOTATION]) == none  # type: ignore[index]


@given(st.from_regex(r"\A[a-z][a-z0-9_]{0,62}\Z"))
def test_every_use_case_has_a_name_that_kubernetes_takes(use_case: str) -> None:
    """At most 63 characters that begin with a letter and end with a letter or digit."""
    name = object_name(use_case)
    assert len(name) <= 63
    assert name[0].isalpha()
    assert name[-1].isalnum()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@given(st.lists(st.from_regex(r"\A[a-z][a-z0-9_]{0,62}\Z"), min_size=2, max_size=2, unique=True))
def test_no_two_use_cases_share_a_name(use_cases: list[str]) -> None:
    """Names that differ by what Kubernetes refuses are told apart."""
    first, second = use_cases
    assert object_name(first) != object_name(second)


def test_a_rollout_is_over_when_all_pods_are_new_and_answer() -> None:
    """Not before the controller has looked, nor while an older pod is left."""
    done = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert is_rolled_out(seen(**done))
    for change in (
        {"observedGeneration": 1},
        {"replicas": 3},
        {"updatedReplicas": 1},
        {"availableReplicas": 1},
    ):
        assert not is_rolled_out(seen(**{**done, **change}))


CRASHED = {
    "image": "server:1",
    "restartCount": 1,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
}


@pytest.mark.parametrize(
    ("container", "kind", "words"),
    [
        (CRASHED, PermanentError, "ends with exit code 3"),
        (
            {**CRASHED, "lastState": {"terminated": {"exitCode": 75}}},
            TransientError,
            "ends with exit code 75",
        ),
        (
            {**CRASHED, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
            PermanentError,
            "more memory than its limit",
        ),
        (
            {
                "image": "server:gone",
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
            },
            TransientError,
            "server:gone cannot be pulled: not found; push it, or correct MLOPS_SERVER_IMAGE",
        ),
        (
            {"image": "Bad:", "state": {"waiting": {"reason": "InvalidImageName"}}},
            PermanentError,
            "InvalidImageName",
        ),
    ],
)
def test_what_waiting_does_not_cure_is_told_at_once(
    container: dict[str, object], kind: type[Exception], words: str
) -> None:
    """With its cause, and whether another attempt may help."""
    found = hopeless(seen(), pods(container))  # type: ignore[arg-type]
    assert found is not None
    assert found.error is kind
    assert words in found.reason
    assert found.crashed == ("p-1" if "restartCount" in container else None)


def test_pods_that_cannot_be_made_are_told_at_once() -> None:
    """A quota, for one."""
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: mlops"}
    found = hopeless(seen(conditions=[condition]), ())
    assert found is not None
    assert "exceeded quota: mlops" in found.reason


def test_a_server_that_starts_is_waited_for() -> None:
    """Its first start may be slow, and its first image pull may fail."""
    for waiting in ("ContainerCreating", "ErrImagePull"):
        container = {"image": "server:1", "state": {"waiting": {"reason": waiting}}}
        assert hopeless(seen(), pods(container)) is None  # type: ignore[arg-type]


def test_what_a_rollout_waits_for_is_said_in_words() -> None:
    """A node, a container, or nothing that is known."""
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
    container = {"image": "server:1", "state": {"waiting": {"reason": "ErrImagePull"}}}
    said = waiting_for(pods(container, conditions=[unscheduled]))  # type: ignore[arg-type]
    assert said == "pod p-1 finds no node: 0/2 nodes are available"
    assert waiting_for(pods(container)) == "pod p-1 is not ready: ErrImagePull"  # type: ignore[arg-type]
    assert waiting_for(()) == "no pod was made"
    ready = {"type": "Ready", "status": "True"}
    serving = pods(container, conditions=[ready])
    assert waiting_for(serving) == "no pod was made"  # type: ignore[arg-type]
    said = waiting_for(serving, ["p-1"])  # type: ignore[arg-type]
    assert said == "pod p-1 has not reported the release"


def test_a_place_names_its_target() -> None:
    """The log of a server on Kubernetes is shipped; a process's lies in its folder."""
    cluster, folder = "kubernetes://mlops-endpoints", "/var/endpoints"
    assert targets.namespace_of(cluster) == "mlops-endpoints"
    assert targets.namespace_of(folder) is None
    assert targets.prediction_log_of("flight_delays", cluster, "s3://documents") == LOG
    assert targets.place_of("flight_delays", cluster, "s3://documents") == PLACE
    assert targets.place_of("flight_delays", folder, "s3://documents") == f"{folder}/flight_delays"
    local = targets.prediction_log_of("flight_delays", folder, "s3://documents")
    assert local == "/var/endpoints/flight_delays/predictions"
    for wrong in ("kubernetes://", "kubernetes://a/b", "ftp://endpoints"):
        with pytest.raises(PermanentError, match="names no place for endpoints"):
            targets.prediction_log_of("flight_delays", wrong, "s3://documents")


def test_a_cluster_that_cannot_be_found_is_named(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an image, too, nothing is begun."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    # The environment was looked at when the module was imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", f"{tmp_path}/none")
    monkeypatch.delenv(kubernetes.IMAGE_VARIABLE, raising=False)
    with pytest.raises(PermanentError, match="MLOPS_SERVER_IMAGE is not set"):
        kubernetes.deploy(WANTED, 1)
    monkeypatch.setenv(kubernetes.IMAGE_VARIABLE, "server:1")
    with pytest.raises(PermanentError, match="kubernetes://endpoints cannot be found"):
        kubernetes.deploy(WANTED, 1)
