"""What moto's SageMaker lacks: UpdateEndpoint, in the few lines of it that matter."""

import json

import pytest
from moto.sagemaker.responses import SageMakerResponse


def update_endpoint(response: SageMakerResponse) -> str:
    """The endpoint has the configuration at once, and as many containers as that says."""
    backend = response.sagemaker_backend
    endpoint = backend.endpoints[response._get_param("EndpointName")]
    configuration = response._get_param("EndpointConfigName")
    described = backend.describe_endpoint_config(configuration)
    endpoint.endpoint_config_name = configuration
    endpoint.production_variants = endpoint._process_production_variants(
        described["ProductionVariants"]
    )
    return json.dumps({"EndpointArn": endpoint.arn})


def with_update_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teach moto UpdateEndpoint for a test."""
    monkeypatch.setattr(SageMakerResponse, "update_endpoint", update_endpoint, raising=False)
