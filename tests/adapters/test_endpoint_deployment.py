"""An endpoint is brought to a cluster: what is applied, in which order, and what a failure leaves.

The API server is a recording one; tests/kubernetes/test_endpoint.py asks a real one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_endpoints import FakeEndpoints
from fake_kubernetes import serving

from mlops_assets import clock
from mlops_assets.adapters.endpoints import kubernetes, release_store
from mlops_assets.adapters.endpoints.kubernetes_scaling import (
    PAUSED,
    PROMETHEUS_VARIABLE,
    REQUESTS_VARIABLE,
)
from mlops_assets.adapters.storage import join, write_bytes
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.replica_reports import ReplicaReport
from mlops_assets.core.rollout_state import EndpointRecord, ServedModel
from mlops_assets.core.spec import EndpointSpec

KEDA = {"keda.sh": ["v1alpha1"]}


def model(version: int) -> ServedModel:
    """A registered model."""
    return ServedModel(
        version=version, sha256=f"{version:064x}", artifact=f"s3://models/{version}.ubj"
    )


def spec_of(least: int, most: int) -> EndpointSpec:
    """An endpoint of so many servers."""
    return EndpointSpec.model_validate({"replicas": {"min": least, "max": most}})


@dataclass
class Target:
    """A cluster and a store, whose pods serve what they are told."""

    cluster: FakeEndpoints
    place: str

    def deploy(self, version: int, least: int = 2, most: int = 2) -> EndpointRecord:
        """Bring a model to the endpoint."""
        wanted = kubernetes.Wanted(
            use_case="flight_delays",
            champion=model(version),
            spec=spec_of(least, most),
            namespace="endpoints",
            place=self.place,
            log_url="s3://documents/prediction-log/flight_delays",
            reason="tried",
        )
        return kubernetes.deploy(wanted, 5)

    def report(self, cluster: FakeEndpoints) -> None:
        """What the servers in the pods do."""
        release = release_store.read(self.place)
        assert release is not None
        for pod in cluster.pod_names():
            report = ReplicaReport(
                replica=pod,
                instance=pod,
                workers=1,
                use_case=release.use_case,
                revision=release.revision,
                refused=None,
                champion=release.champion.version,
                challenger=None,
                ready=True,
                error=None,
                at=clock.now(),
                ended=False,
                lost_log_records=0,
                totals=(),
            )
            where = join(self.place, release_store.REPLICAS, f"{pod}.json")
            write_bytes(where, report.model_dump_json().encode())


@pytest.fixture
def target(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A cluster without KEDA and an empty store."""
    found = Target(FakeEndpoints(), f"{s3_bucket}/endpoints/flight_delays")
    found.cluster.on_deployment = found.report
    for name in ("KUBERNETES_SERVICE_HOST", PROMETHEUS_VARIABLE, REQUESTS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(kubernetes.IMAGE_VARIABLE, "server:1")
    monkeypatch.setattr(kubernetes, "POLL_S", 0.01)
    with serving(found.cluster, tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield found


def with_keda(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """KEDA is installed, and runs are told where requests are counted."""
    target.cluster.groups |= KEDA
    monkeypatch.setenv(PROMETHEUS_VARIABLE, "http://prometheus.monitoring.svc:9090")
    monkeypatch.setenv(REQUESTS_VARIABLE, 'sum(rate(requests{service="{service}"}[2m]))')


def test_an_endpoint_is_a_deployment_and_what_belongs_to_it(target: Target) -> None:
    """A fixed number of servers needs no autoscaler; who deletes the Deployment deletes all."""
    record = target.deploy(1)
    assert target.cluster.kinds() == {
        *("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")
    }
    deployment = target.cluster.of("Deployment")
    assert deployment["spec"]["replicas"] == 2
    assert record.instance == deployment["metadata"]["uid"]
    for kind in target.cluster.kinds() - {"Deployment"}:
        (owner,) = target.cluster.of(kind)["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Deployment", record.instance)


def test_a_champion_that_serves_already_changes_no_object(target: Target) -> None:
    """Applied again, all is as it was: neither release nor generation is a new one."""
    first = target.deploy(1)
    before = {key: dict(document) for key, document in target.cluster.found.items()}
    assert target.deploy(1) == first
    assert target.cluster.found == before


def test_another_model_rolls_no_pod(target: Target) -> None:
    """The release names it; the Deployment does not."""
    target.deploy(1)
    pods = target.cluster.pod_names()
    assert target.deploy(2).release.champion == model(2)
    assert target.cluster.pod_names() == pods
    assert target.cluster.of("Deployment")["metadata"]["generation"] == 1


def test_servers_follow_their_load_between_the_bounds(target: Target) -> None:
    """Their number is the autoscaler's to change, and a deployment keeps it."""
    target.deploy(1, 2, 5)
    scaler = target.cluster.of("HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    target.cluster.of("Deployment")["spec"]["replicas"] = 4
    target.deploy(2, 2, 5)
    assert target.cluster.of("Deployment")["spec"]["replicas"] == 4
    target.deploy(3, 2, 3)
    assert target.cluster.of("Deployment")["spec"]["replicas"] == 3


def test_an_autoscaler_that_nobody_asks_for_any_more_is_taken_away(target: Target) -> None:
    """And the number is the asked one, whatever it made of it last."""
    target.deploy(1, 2, 5)
    target.cluster.of("Deployment")["spec"]["replicas"] = 5
    target.deploy(1, 3, 3)
    assert "HorizontalPodAutoscaler" not in target.cluster.kinds()
    assert target.cluster.of("Deployment")["spec"]["replicas"] == 3


def test_with_keda_an_endpoint_scales_to_zero(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its autoscaler replaces the other one: two would pull at the same number."""
    with_keda(target, monkeypatch)
    target.deploy(1, 1, 3)
    assert "ScaledObject" not in target.cluster.kinds()
    target.deploy(1, 0, 3)
    assert "HorizontalPodAutoscaler" not in target.cluster.kinds()
    scaled = target.cluster.of("ScaledObject")
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (0, 3)
    prometheus = scaled["spec"]["triggers"][0]["metadata"]
    assert prometheus["query"] == 'sum(rate(requests{service="flight-delays"}[2m]))'
    target.deploy(1, 1, 3)
    assert "ScaledObject" not in target.cluster.kinds()


def test_a_model_is_tried_also_where_no_server_is_kept(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server is started for it, and KEDA leaves it alone until it has answered."""
    with_keda(target, monkeypatch)
    target.deploy(1, 0, 3)
    target.cluster.of("Deployment")["spec"]["replicas"] = 0
    paused: list[str | None] = []

    def look(cluster: FakeEndpoints) -> None:
        annotations = cluster.of("ScaledObject")["metadata"].get("annotations", {})
        paused.append(annotations.get(PAUSED))
        target.report(cluster)

    target.cluster.on_deployment = look
    target.deploy(2, 0, 3)
    assert paused == ["true"]
    assert target.cluster.of("Deployment")["spec"]["replicas"] == 1
    assert PAUSED not in target.cluster.of("ScaledObject")["metadata"].get("annotations", {})


@pytest.mark.parametrize("installed", [False, True])
def test_what_scaling_to_zero_lacks_is_told_and_one_server_kept(
    target: Target, installed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """KEDA itself, or where requests are counted while there is no server."""
    target.cluster.groups |= KEDA if installed else {}
    target.deploy(1, 0, 3)
    assert "ScaledObject" not in target.cluster.kinds()
    assert target.cluster.of("HorizontalPodAutoscaler")["spec"]["minReplicas"] == 1
    assert ("no KEDA" in caplog.text) is not installed
    assert f"{PROMETHEUS_VARIABLE} and {REQUESTS_VARIABLE} are not set" in caplog.text


def test_an_older_cluster_gets_the_version_that_it_knows(target: Target) -> None:
    """A field of a version that is not served would be an error."""
    target.cluster.groups |= {"policy": ["v1beta1"], "autoscaling": ["v1", "v2beta2"]}
    target.deploy(1, 2, 3)
    assert target.cluster.of("PodDisruptionBudget")["apiVersion"] == "policy/v1beta1"
    scaler = target.cluster.of("HorizontalPodAutoscaler")
    assert scaler["apiVersion"] == "autoscaling/v2beta2"


@pytest.mark.parametrize(
    "plural", ["services", "networkpolicies", "poddisruptionbudgets", "horizontalpodautoscalers"]
)
def test_a_right_that_is_missing_fails_the_deployment_and_leaves_no_pod(
    target: Target, plural: str
) -> None:
    """An endpoint without its guards would look like one that has them."""
    target.cluster.forbidden = {plural}
    with pytest.raises(PermanentError, match=f"cannot patch resource '{plural}'"):
        target.deploy(1, 2, 3)
    assert target.cluster.of("Deployment")["spec"]["replicas"] == 0
    assert release_store.read(target.place) is None


def test_after_a_failure_the_endpoint_is_as_it_was(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Release, pods and number; KEDA goes on too."""
    with_keda(target, monkeypatch)
    target.deploy(1, 0, 3)
    before = target.cluster.of("Deployment")["spec"]
    monkeypatch.setenv(kubernetes.IMAGE_VARIABLE, "server:broken")
    crashed = {
        "image": "server:broken",
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
    }
    target.cluster.container = crashed
    with pytest.raises(PermanentError, match=r"exit code 3\. It said:\nthe last line"):
        target.deploy(2, 0, 3)
    assert target.cluster.of("Deployment")["spec"] == before
    release = release_store.read(target.place)
    assert release is not None
    assert release.champion == model(1)
    assert PAUSED not in target.cluster.of("ScaledObject")["metadata"].get("annotations", {})
