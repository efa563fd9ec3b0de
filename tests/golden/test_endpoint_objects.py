"""The objects of an endpoint on Kubernetes: agreed on, valid, and without a right to spare."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from manifests import SCHEMAS, VERSIONS, named, no_schemas, part, restricted, schema_problems

from mlops_assets.adapters.endpoints.kubernetes_companions import (
    Owner,
    Requests,
    autoscaler,
    disruption_budget,
    network_policy,
    scaled_object,
    service,
)
from mlops_assets.adapters.endpoints.kubernetes_kserve import inference_service
from mlops_assets.adapters.endpoints.kubernetes_objects import Server, deployment
from mlops_assets.core.spec import EndpointSpec
from mlops_assets.serving.run import GRACE_S
from mlops_assets.serving.shipping import LAST_SHIPMENT_S

GOLDEN = Path(__file__).parent / "endpoint_objects.json"
REWRITE = "REWRITE_GOLDEN"
NAMESPACE = "mlops-endpoints"


def objects() -> dict[str, Any]:
    """Each kind, of an endpoint with two to six servers; KEDA's with none to six."""
    server = Server(
        use_case="flight_delays",
        image="registry.example/mlops-server:1",
        version="1.0",
        release_url="s3://documents/endpoints/flight_delays/release.json",
        log_url="s3://documents/prediction-log/flight_delays",
    )
    spec = EndpointSpec.model_validate({"port": 8901, "replicas": {"min": 2, "max": 6}})
    zero = EndpointSpec.model_validate({"port": 8901, "replicas": {"min": 0, "max": 6}})
    owner = Owner("flight_delays", NAMESPACE, "6f1c5a52-0000-4000-8000-000000000000")
    requests = Requests(
        "http://prometheus.monitoring.svc:9090",
        'sum(rate(gateway_requests_total{service="{service}"}[2m]))',
    )
    made = (
        deployment(server, spec, NAMESPACE, 2),
        service(owner, spec),
        disruption_budget(owner, "v1"),
        network_policy(owner, spec),
        autoscaler(owner, spec, "v2"),
        scaled_object(owner, zero, requests),
        inference_service(server, spec, NAMESPACE),
    )
    return {str(each["kind"]): json.loads(json.dumps(each)) for each in made}


def test_the_objects_are_the_ones_that_were_agreed_on() -> None:
    """They change on purpose or not at all."""
    text = json.dumps(objects(), indent=1, sort_keys=True) + "\n"
    if os.environ.get(REWRITE) == "1":
        GOLDEN.write_text(text)
        # What is compared with itself proves nothing, so it does not pass.
        pytest.skip(f"{GOLDEN.name} was rewritten: look at its diff and commit it")
    assert json.loads(text) == json.loads(GOLDEN.read_text()), (
        f"when it should have changed, run this test with {REWRITE}=1 and commit {GOLDEN.name}"
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", objects())
def test_an_api_server_knows_every_field(kind: str, version: str) -> None:
    """Kubernetes' own schemas, KEDA's and KServe's."""
    if kind in ("ScaledObject", "InferenceService") and not SCHEMAS.exists():
        # They are KEDA's and KServe's, too large for this repository; Kubernetes' are a package.
        pytest.skip(no_schemas(kind))
    assert schema_problems(objects()[kind], version) == []


def test_a_misspelt_field_is_an_error() -> None:
    """At any depth, in custom resources too: the API server would leave it out in silence."""
    if not SCHEMAS.exists():
        # As above: two of the three kinds that are misspelt are custom resources.
        pytest.skip(no_schemas("ScaledObject", "InferenceService"))
    found = objects()
    found["ScaledObject"]["spec"]["cooldownSeconds"] = 1
    found["InferenceService"]["spec"]["predictor"]["containers"][0]["probe"] = {}
    found["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["resource"]["targets"] = {}
    for kind, field in (
        ("ScaledObject", "cooldownSeconds"),
        ("InferenceService", "probe"),
        ("HorizontalPodAutoscaler", "targets"),
    ):
        assert field in "".join(schema_problems(found[kind], VERSIONS[0]))


def test_the_servers_have_no_right_to_spare() -> None:
    """By Kubernetes' standard `restricted`, whoever makes the pods; and no token of the API."""
    found = objects()
    for pod in (
        found["Deployment"]["spec"]["template"]["spec"],
        found["InferenceService"]["spec"]["predictor"],
    ):
        assert restricted(pod) == []
        assert pod["automountServiceAccountToken"] is False
        account = named(part("base"), "ServiceAccount", pod["serviceAccountName"])
        assert account["metadata"]["namespace"] == NAMESPACE
        named(part("base"), "PriorityClass", pod["priorityClassName"])


def test_all_objects_find_the_same_pods() -> None:
    """Service, budget, policy and Deployment select what the Deployment makes, on its port."""
    found = objects()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    (rule,) = found["NetworkPolicy"]["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port["containerPort"]]
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        assert found[kind]["spec"]["scaleTargetRef"]["name"] == "flight-delays"


def test_a_pod_ends_after_its_last_request() -> None:
    """The wait for routes and the server's own grace fit into the pod's."""
    pod = objects()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (_, before) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert int(before) + GRACE_S + LAST_SHIPMENT_S <= pod["terminationGracePeriodSeconds"]
