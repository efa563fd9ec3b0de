"""Whether an endpoint is well, where it cannot just be asked."""

from pathlib import Path

import pytest
from fake_endpoints import FakeEndpoints
from fake_kubernetes import serving

from mlops_assets.adapters.endpoints.health import is_well
from mlops_assets.core.spec import EndpointSpec

AWAY = "http://127.0.0.1:9"
"""Nobody listens there."""


def spec_of(least: int) -> EndpointSpec:
    """An endpoint of at least so many servers."""
    return EndpointSpec.model_validate({"replicas": {"min": least, "max": 2}})


def test_an_endpoint_that_scales_to_zero_may_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where it may, and where no server runs: one that runs has to answer."""
    cluster = FakeEndpoints()
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with serving(cluster, tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

        def well(least: int) -> bool:
            return is_well("visits", spec_of(least), AWAY, "kubernetes://endpoints", "s3://docs")

        assert well(0)
        assert not well(1)
        template = {"name": "visits"}
        cluster.found["deployments/visits"] = {
            "kind": "Deployment",
            "metadata": {"name": "visits"},
            "spec": {"replicas": 1, "template": template},
        }
        assert not well(0)
    assert not is_well("visits", spec_of(0), AWAY, str(tmp_path), str(tmp_path))
