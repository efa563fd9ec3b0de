"""From raw data to an endpoint that answers, on the cluster."""

import json
import urllib.request
from typing import Any

import pytest
from cluster import ENDPOINTS, ENVIRONMENT, ON_DEMAND, SPOT, Cluster, names, objects, until
from cluster_images import LONG_ROUNDS, SMALL
from cluster_runs import Line, interrupt, launch, rounds_saved, wait_for_rounds
from services import CREDENTIALS

from mlops_assets.adapters.endpoints.kubernetes_objects import object_name
from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.demo.deployment import spec_of
from mlops_assets.lifecycle.assets import tables_by_days
from mlops_assets.serving.shipping import SHIP_S

FLIGHTS = "flight_delays"
FLIGHT_DAYS = ("2013-01-01", "2013-02-28")

INPUTS = {
    "minutes": [5.0, 60.0],
    "shop_name": ["north", "south"],
    "shop_return_share": [0.4, None],
    "shop_size": [3.0, 3.0],
}


def ask(cluster: Cluster, request: str) -> dict[str, Any]:
    """What the small use case's endpoint answers."""
    path = f"/v2/models/{SMALL}/infer"
    tensors = [
        {
            "name": field,
            "shape": [2],
            "datatype": "BYTES" if field == "shop_name" else "FP64",
            "data": values,
        }
        for field, values in INPUTS.items()
    ]
    url = cluster.service(ENDPOINTS, object_name(SMALL), 8931, path)
    return cluster.post(url, {"id": request, "inputs": tensors})


@pytest.mark.kubernetes_quick
@pytest.mark.timeout(2400)
def test_raw_data_becomes_an_endpoint_that_answers(cluster: Cluster, line: Line) -> None:
    """The run worker is on the on-demand node, the training on the spot node with the GPU; the
    endpoint is a Deployment and a Service that answers with the trained model.
    """
    placed = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["spec"]["nodeName"]
        for pod in line.pods
    }
    assert placed == {"run_worker": ON_DEMAND, "step_worker": SPOT}
    (step,) = [pod for pod in line.pods if pod["spec"]["nodeName"] == SPOT]
    limits = step["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert line.run.ends() == [("spot", "succeeded")]
    line.run.leaves_nothing()
    assert rounds_saved(cluster, SMALL) == 0  # of a training that is done nothing is kept

    name = object_name(SMALL)
    pods = objects("pod", ENDPOINTS, f"app.kubernetes.io/instance={name}")
    assert {pod["spec"]["nodeName"] for pod in pods} == {ON_DEMAND}
    assert name in names(objects("service", ENDPOINTS))
    answer = ask(cluster, "asked")
    assert answer["parameters"]["sha256"] == line.run.sha256()
    assert all(0 < score < 1 for score in answer["outputs"][0]["data"])


def test_an_endpoint_that_serves_the_champion_already_is_left_alone(
    cluster: Cluster, line: Line
) -> None:
    """Materialized again, it rolls no pod."""
    before = names(objects("pod", ENDPOINTS))
    launch(cluster, SMALL, ["endpoint"]).succeeded(420)
    assert names(objects("pod", ENDPOINTS)) == before


def test_what_a_pod_answered_reaches_the_store(
    cluster: Cluster, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within two shipments, whichever pod it was."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": cluster.s3}.items():
        monkeypatch.setenv(name, value)
    wanted = {f"shipped-{number}" for number in range(6)}
    for request in wanted:
        assert ask(cluster, request)["id"] == request
    url = f"{ENVIRONMENT['MLOPS_DOCUMENTS_URL']}/prediction-log/{SMALL}"
    until(
        lambda: wanted <= set(read_predictions(url).table["request_id"].to_pylist()),
        2 * SHIP_S + 30,
        f"the shipment of {wanted}",
        5,
    )


def test_the_logs_of_a_step_in_a_pod_can_be_read_in_the_ui(
    cluster: Cluster, small_model: str
) -> None:
    """Through the webserver, from where the pod, which is gone, has put them."""
    run = launch(cluster, SMALL, ["model"]).succeeded(420)
    captured = [event for event in run.events() if event["__typename"] == "LogsCapturedEvent"]
    (key,) = {event["fileKey"] for event in captured if event["stepKeys"] == [f"{SMALL}__model"]}
    query = """query($key: [String!]!) { capturedLogs(logKey: $key) { stdout stderr } }"""
    log = cluster.graphql(query, key=[run.id, "compute_logs", key])["capturedLogs"]
    assert "round" in (log["stderr"] or "") + (log["stdout"] or "")


@pytest.mark.timeout(3600)
def test_the_flight_delays_lifecycle_runs_through_an_interruption(cluster: Cluster) -> None:
    """From the raw data of two months to an endpoint, whose training loses its node on the way."""
    spec = spec_of(FLIGHTS)
    for with_days, without_days in tables_by_days(spec).values():
        launch(cluster, FLIGHTS, with_days, FLIGHT_DAYS).succeeded(1500)
        launch(cluster, FLIGHTS, without_days).succeeded(900)
    run = launch(cluster, FLIGHTS, ["training_set", "model", "evaluation", "promotion", "endpoint"])
    wait_for_rounds(run, FLIGHTS, LONG_ROUNDS // 3, 1200)
    interrupt(SPOT, "--terminate")
    run.succeeded(1500)
    assert run.ends() == [("spot", "interrupted"), ("spot", "succeeded")]
    run.leaves_nothing()
    url = cluster.service(ENDPOINTS, object_name(FLIGHTS), spec.endpoint.port, "/v2/models/")
    with urllib.request.urlopen(f"{url}{FLIGHTS}", timeout=60) as answer:  # noqa: S310
        served = json.loads(answer.read())
    assert served["parameters"]["sha256"] == run.sha256()
    assert launch(cluster, FLIGHTS, ["model"]).succeeded(1500).sha256() == run.sha256()
