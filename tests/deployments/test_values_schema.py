"""The values of Dagster's Helm chart, held against the chart's own schema."""

import copy
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from manifests import ENVIRONMENTS, SCHEMAS, values

SCHEMA = SCHEMAS / "dagster-helm-values.schema.json"

NOT_IN_SCHEMA = {"rbacEnabled"}
"""Values that the chart's templates read, and its schema lacks (templates/role.yaml)."""


WHOLE = {"UserDeployment", "ReadinessProbeWithEnabled", "Image", "ConfigurableClass"}
"""Parts that are in lists, or that only we give: no default fills what they lack."""


def closed(schema: Any) -> Any:
    """``schema`` where unknown keys are errors; missing ones are not, the chart has defaults."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: closed(value)
        for key, value in schema.items()
        if not (key == "required" and isinstance(value, list)) or schema.get("title") in WHOLE
    }
    # An object that says itself that it is open (a probe, raw Kubernetes) stays open; the top level
    # says so too.
    if result.get("properties") and schema.get("title") != "StartupProbe":
        result.setdefault("additionalProperties", False)
    return result


def problems(document: dict[str, Any]) -> list[str]:
    """What the chart's schema says against ``document``."""
    if not SCHEMA.exists():
        # It comes with the chart, which is downloaded from elsewhere and is not in this repository.
        pytest.skip(f"NOT TESTED: put the values.schema.json of Dagster's Helm chart at {SCHEMA}")
    schema = closed(json.loads(SCHEMA.read_text()))
    schema["additionalProperties"] = False
    known = {key: value for key, value in document.items() if key not in NOT_IN_SCHEMA}
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in Draft202012Validator(schema).iter_errors(known)
    ]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_values_fit_the_charts_schema(environment):
    """Each environment's values, merged as Helm merges them."""
    assert problems(values(environment)) == []


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("global",),
        ("dagsterWebserver",),
        ("dagsterWebserver", "image"),
        ("dagsterDaemon",),
        ("dagsterDaemon", "runRetries"),
        ("dagsterDaemon", "runCoordinator"),
        ("dagsterDaemon", "sensors"),
        ("concurrency",),
        ("concurrency", "pools"),
        ("concurrency", "runs", "tagConcurrencyLimits", 0),
        ("dagster-user-deployments", "deployments", 0),
        ("runLauncher", "config", "k8sRunLauncher"),
        ("runLauncher", "config", "k8sRunLauncher", "runK8sConfig"),
        ("postgresql",),
        ("computeLogManager", "config", "s3ComputeLogManager"),
        ("retention",),
    ],
    ids=lambda path: ".".join(map(str, path)) or "top",
)
def test_a_key_that_the_chart_does_not_know_is_an_error(path):
    """A typo would be left out in silence by Helm."""
    document = copy.deepcopy(values("production"))
    place: Any = document
    for key in path:
        place = place[key]
    place["notAKey"] = 1
    assert any("notAKey" in problem for problem in problems(document))


def test_runs_are_placed_by_the_launcher_alone():
    """A code location whose settings were copied into runs would override where they go."""
    for environment in ENVIRONMENTS:
        deployments = values(environment)["dagster-user-deployments"]["deployments"]
        assert deployments
        for deployment in deployments:
            assert deployment["includeConfigInLaunchedRuns"] == {"enabled": False}


def test_no_value_is_a_secret():
    """The database's password comes from a Secret that the chart neither makes nor sees."""
    for environment in ENVIRONMENTS:
        found = values(environment)
        assert found["postgresql"]["postgresqlPassword"] == ""
        assert not found["generatePostgresqlPasswordSecret"]
        assert not found["generateCeleryConfigSecret"]
        assert found["global"]["postgresqlSecretName"]


def test_the_charts_own_role_is_off():
    """It grants every verb on Jobs and pods in the control plane's namespace."""
    assert values("production")["rbacEnabled"] is False
    assert values("production")["serviceAccount"]["create"] is False
