"""From raw data to an endpoint that answers, on the cluster."""

import pytest
from cluster import ENDPOINTS, ON_DEMAND, SPOT, Cluster, names, objects
from cluster_images import SMALL
from cluster_runs import Run, launch, rounds_saved

from mlops_assets.adapters.endpoints.kubernetes_objects import object_name

INPUTS = {
    "minutes": [5.0, 60.0],
    "shop_name": ["north", "south"],
    "shop_return_share": [0.4, None],
    "shop_size": [3.0, 3.0],
}


@pytest.mark.kubernetes_quick
@pytest.mark.timeout(1800)
def test_raw_data_becomes_an_endpoint_that_answers(cluster: Cluster, small_data: Run) -> None:
    """The run worker is on the on-demand node, the training on the spot node with the GPU; the
    endpoint is a Deployment and a Service that answers with the trained model.
    """
    run = launch(cluster, SMALL, ["model", "evaluation", "promotion", "endpoint"]).succeeded(900)
    placed = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["spec"]["nodeName"]
        for pod in run.pods()
    }
    assert placed == {"run_worker": ON_DEMAND, "step_worker": SPOT}
    (step,) = [pod for pod in run.pods() if pod["spec"]["nodeName"] == SPOT]
    limits = step["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert run.ends() == [("spot", "succeeded")]
    run.leaves_nothing()
    assert rounds_saved(cluster, SMALL) == 0  # of a training that is done nothing is kept

    name = object_name(SMALL)
    pods = objects("pod", ENDPOINTS, f"app.kubernetes.io/instance={name}")
    assert {pod["spec"]["nodeName"] for pod in pods} == {ON_DEMAND}
    assert names(objects("service", ENDPOINTS)) == [name]
    url = cluster.service(ENDPOINTS, name, 8931, f"/v2/models/{SMALL}/infer")
    body = {
        "inputs": [
            {
                "name": field,
                "shape": [2],
                "datatype": "BYTES" if field == "shop_name" else "FP64",
                "data": values,
            }
            for field, values in INPUTS.items()
        ]
    }
    answer = cluster.post(url, body)
    assert answer["parameters"]["sha256"] == run.sha256()
    assert all(0 < score < 1 for score in answer["outputs"][0]["data"])


def test_an_endpoint_that_serves_the_champion_already_is_left_alone(
    cluster: Cluster, small_data: Run
) -> None:
    """Materialized again, it rolls no pod."""
    before = names(objects("pod", ENDPOINTS))
    launch(cluster, SMALL, ["endpoint"]).succeeded(420)
    assert names(objects("pod", ENDPOINTS)) == before


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
