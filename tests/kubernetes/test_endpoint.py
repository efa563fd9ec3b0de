"""An endpoint that changes while it is asked: no request fails.

What the `endpoint` asset does is done here with the rights of a run: with the token of its service
account.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import (
    ENDPOINTS,
    ENVIRONMENT,
    ON_DEMAND,
    RUNS,
    SERVER,
    SPOT,
    Cluster,
    kubectl,
    names,
    objects,
    script,
    until,
)
from cluster_images import SMALL
from cluster_load import Load, load
from cluster_runs import Line
from services import CREDENTIALS

from mlops_assets import clock
from mlops_assets.adapters.endpoints import targets
from mlops_assets.adapters.endpoints.kubernetes_objects import object_name, selector
from mlops_assets.adapters.storage import join, read_bytes, write_bytes
from mlops_assets.core.errors import TransientError
from mlops_assets.core.inference import dump_model, load_model
from mlops_assets.core.rollout_state import Release, ServedModel, serve_only
from mlops_assets.core.spec import EndpointSpec

NAME = object_name(SMALL)
PORT = 8931
SELECTOR = ",".join(f"{key}={value}" for key, value in selector(SMALL).items())

REQUEST = {
    "inputs": [
        {"name": "minutes", "shape": [1], "datatype": "FP64", "data": [5.0]},
        {"name": "shop_name", "shape": [1], "datatype": "BYTES", "data": ["north"]},
        {"name": "shop_return_share", "shape": [1], "datatype": "FP64", "data": [0.4]},
        {"name": "shop_size", "shape": [1], "datatype": "FP64", "data": [3.0]},
    ]
}

AsRun = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture
def as_run(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsRun:
    """In its block the cluster is asked as a run worker asks: with the account's own token."""
    from kubernetes import client, config

    settings = client.Configuration()
    config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=settings)
    request = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)
    )
    core = client.CoreV1Api(client.ApiClient(settings))
    answer: Any = core.create_namespaced_service_account_token("mlops-run", RUNS, request)
    document = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for user in document["users"]:
        user["user"] = {"token": answer.status.token}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": cluster.s3}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("MLOPS_SERVER_IMAGE", ENVIRONMENT["MLOPS_SERVER_IMAGE"])

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        with monkeypatch.context() as inside:
            inside.setenv("KUBECONFIG", str(file))
            yield

    return block


def spec_of(least: int = 2, most: int = 2, **changes: Any) -> EndpointSpec:
    """The small use case's endpoint, with changes."""
    replicas = {"min": least, "max": most}
    return EndpointSpec.model_validate({"port": PORT, "replicas": replicas, **changes})


def release() -> Release:
    """What the endpoint is told to serve."""
    found = targets.read_release(
        SMALL, ENVIRONMENT["MLOPS_ENDPOINTS"], ENVIRONMENT["MLOPS_DOCUMENTS_URL"]
    )
    assert found is not None
    return found


def deploy(as_run: AsRun, spec: EndpointSpec) -> None:
    """Bring the champion to the endpoint again, as the asset does."""
    with as_run():
        targets.deploy(
            SMALL,
            release().champion,
            spec,
            ENVIRONMENT["MLOPS_ENDPOINTS"],
            ENVIRONMENT["MLOPS_DOCUMENTS_URL"],
            "tried",
        )


def serve(as_run: AsRun, model: ServedModel) -> float:
    """Serve another model; seconds until all pods said that they do."""
    began = time.monotonic()
    with as_run():
        targets.change(
            SMALL,
            lambda found: serve_only(found, model, clock.now(), "tried"),
            ENVIRONMENT["MLOPS_ENDPOINTS"],
            ENVIRONMENT["MLOPS_DOCUMENTS_URL"],
        )
    return time.monotonic() - began


def pods() -> list[dict[str, Any]]:
    """The endpoint's pods that do not end."""
    found = objects("pod", ENDPOINTS, SELECTOR)
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def ready(number: int) -> bool:
    """Whether so many pods, and no more, answer."""
    conditions = [
        {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
        for pod in objects("pod", ENDPOINTS, SELECTOR)
    ]
    return len(conditions) == number and all(each.get("Ready") == "True" for each in conditions)


@contextlib.contextmanager
def asked() -> Iterator[Load]:
    """The endpoint is asked all the time, and each request is answered."""
    with load(NAME, PORT, f"/v2/models/{SMALL}/infer", REQUEST) as requests:
        yield requests
        requests.goes_on()
        found = requests.end()
    print(json.dumps(found))  # for the report of what was seen
    assert found["failed"] == 0, found["failures"]


def test_the_asset_has_applied_all_that_belongs_to_an_endpoint(
    cluster: Cluster, line: Line
) -> None:
    """With the rights of a run; the rest belongs to the Deployment."""
    uid = json.loads(
        kubectl("get", "deployment", NAME, "--namespace", ENDPOINTS, "--output", "json")
    )["metadata"]["uid"]
    for kind in ("service", "poddisruptionbudget", "networkpolicy"):
        (found,) = (each for each in objects(kind, ENDPOINTS) if each["metadata"]["name"] == NAME)
        assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [uid]
    assert names(objects("horizontalpodautoscaler", ENDPOINTS)) == []


def test_another_model_is_served_without_a_new_pod(
    cluster: Cluster, line: Line, as_run: AsRun
) -> None:
    """And back again; every answer names one of the two versions."""
    champion = release().champion
    model = load_model(read_bytes(champion.artifact) or b"", champion.sha256)
    data = dump_model(model.booster[:300], model.signature)
    artifact = join(ENVIRONMENT["MLOPS_ARTIFACTS_URL"], "tried.ubj")
    write_bytes(artifact, data)
    other = ServedModel(
        version=champion.version + 1, sha256=hashlib.sha256(data).hexdigest(), artifact=artifact
    )
    before = {(pod["metadata"]["name"], restarts(pod)) for pod in pods()}
    with asked() as requests:
        seconds = [serve(as_run, model) for model in (other, champion)]
        answered = requests.answered()
    print(f"applied after {seconds} s")
    assert set(answered) == {str(champion.version), str(other.version)}
    assert {(pod["metadata"]["name"], restarts(pod)) for pod in pods()} == before


def restarts(pod: dict[str, Any]) -> int:
    """How often its server was started again."""
    return sum(status["restartCount"] for status in pod["status"]["containerStatuses"])


def test_a_new_image_and_a_new_spec_roll_the_pods(
    cluster: Cluster, line: Line, as_run: AsRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other; a pod goes when its successor answers."""
    script("load-image", f"docker.io/library/{SERVER}:test", f"{SERVER}:rolled")
    before = set(names(pods()))
    with asked():
        monkeypatch.setenv("MLOPS_SERVER_IMAGE", f"{SERVER}:rolled")
        deploy(as_run, spec_of())
        rolled = set(names(pods()))
        deploy(as_run, spec_of(max_rows=5000))
    assert not rolled & before
    assert not set(names(pods())) & rolled
    images = {container["image"] for pod in pods() for container in pod["spec"]["containers"]}
    assert images == {f"{SERVER}:rolled"}


def test_a_server_that_cannot_start_changes_nothing_for_callers(
    cluster: Cluster, line: Line, as_run: AsRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its image is not there: the deployment fails, and the pods before go on."""
    before = names(pods())
    with asked():
        monkeypatch.setenv("MLOPS_SERVER_IMAGE", f"{SERVER}:gone")
        with pytest.raises(TransientError, match=f"{SERVER}:gone cannot be pulled"):
            deploy(as_run, spec_of())
        until(lambda: ready(2), 120, "the pods before")
    assert sorted(names(pods())) == sorted(before)


def test_servers_come_and_go_with_the_bounds(cluster: Cluster, line: Line, as_run: AsRun) -> None:
    """Up by the autoscaler's least number, which needs no metrics, and down when it is taken away.

    The cluster has no metrics server: that load moves the number was not tried.
    """
    deploy(as_run, spec_of(2, 2))
    with asked():
        deploy(as_run, spec_of(2, 4))
        assert names(objects("horizontalpodautoscaler", ENDPOINTS)) == [NAME]
        deploy(as_run, spec_of(3, 4))
        until(lambda: ready(3), 180, "three servers")
        deploy(as_run, spec_of(2, 2))
        until(lambda: ready(2), 180, "two servers")
        assert names(objects("horizontalpodautoscaler", ENDPOINTS)) == []


def test_a_pod_that_is_deleted_takes_no_request_along(cluster: Cluster, line: Line) -> None:
    """It answers what it has, and others answer the rest."""
    until(lambda: ready(2), 180, "two servers")
    gone = pods()[0]["metadata"]["name"]
    with asked():
        kubectl("delete", "pod", gone, "--namespace", ENDPOINTS)
        until(lambda: ready(2), 180, "its successor")
    assert gone not in names(pods())


def test_a_pod_that_is_killed_takes_at_most_what_it_was_asked_along(
    cluster: Cluster, line: Line
) -> None:
    """Nobody can answer for it: one request a connection."""
    gone = pods()[0]["metadata"]["name"]
    with load(NAME, PORT, f"/v2/models/{SMALL}/infer", REQUEST) as requests:
        command = ["delete", "pod", gone, "--namespace", ENDPOINTS, "--grace-period=0", "--force"]
        kubectl(*command)
        until(lambda: ready(2), 180, "its successor")
        requests.goes_on()
        found = requests.end()
    print(json.dumps(found))
    assert found["failed"] <= 2 * 4, found["failures"]  # on a connection, and before its route goes


def test_a_node_is_drained_one_server_at_a_time(
    cluster: Cluster, line: Line, as_run: AsRun
) -> None:
    """Both servers are on it: the budget lets one go when the other's successor answers."""
    label = "karpenter.sh/capacity-type"
    kubectl("label", "node", SPOT, "--overwrite", f"{label}=on-demand")
    kubectl("taint", "node", SPOT, "nvidia.com/gpu-")
    try:
        kubectl("cordon", ON_DEMAND)
        try:
            deploy(as_run, spec_of(max_rows=4000))
        finally:
            kubectl("uncordon", ON_DEMAND)
        assert {pod["spec"]["nodeName"] for pod in pods()} == {SPOT}
        with asked():
            script("interrupt", SPOT)
            until(lambda: ready(2), 180, "their successors")
    finally:
        script("restore", SPOT)
    assert {pod["spec"]["nodeName"] for pod in pods()} == {ON_DEMAND}


def test_who_deletes_the_deployment_deletes_all(
    cluster: Cluster, line: Line, as_run: AsRun
) -> None:
    """The use case was removed or renamed; and it is there again after the next deployment."""
    deploy(as_run, spec_of(2, 3))
    kinds = "service,poddisruptionbudget,networkpolicy,horizontalpodautoscaler,pod"
    kubectl("delete", "deployment", NAME, "--namespace", ENDPOINTS)

    def left() -> list[str]:
        labelled = f"app.kubernetes.io/instance={NAME}"
        found = kubectl("get", kinds, "-n", ENDPOINTS, "--selector", labelled, "--output", "name")
        return found.split()

    until(lambda: not left(), 180, f"the end of {left()}")
    deploy(as_run, spec_of())
    assert ready(2)
