"""The dagster.yaml that follows from the Helm values, held against Dagster's own schemas."""

import copy
import importlib
import subprocess
import sys

import pytest
import yaml
from dagster._config import process_config
from dagster._config.field import resolve_to_config_type
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.config import dagster_instance_config
from manifests import DAGSTER, ENVIRONMENTS, KUBERNETES, instance, render_instance, values

from mlops_assets.core import compute

CLASSES = {
    "run_launcher",
    "run_coordinator",
    "compute_logs",
    "run_storage",
    "event_log_storage",
    "schedule_storage",
}


def checked(settings, folder):
    """``settings`` as Dagster reads them from dagster.yaml; DagsterInvalidConfigError."""
    (folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return dagster_instance_config(str(folder))[0]


def class_errors(part):
    """What a configurable class says against its configuration."""
    found = getattr(importlib.import_module(part["module"]), part["class"])
    result = process_config(resolve_to_config_type(found.config_type()), part["config"])
    return [error.message for error in result.errors or ()]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_dagster_accepts_the_settings(environment, tmp_path, monkeypatch):
    """The instance's schema, limits that contradict each other, and each class's own schema."""
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "secret")
    settings = instance(environment)
    assert checked(settings, tmp_path)["run_monitoring"]["max_resume_run_attempts"] == 3
    assert {key for key, part in settings.items() if "class" in part} == CLASSES
    for name in CLASSES:
        assert class_errors(settings[name]) == [], name


def test_a_wrong_setting_is_an_error(tmp_path, monkeypatch):
    """Dagster's schemas are closed: what they accept is spelled right."""
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "secret")
    for section in ("run_monitoring", "run_retries", "sensors"):
        settings = copy.deepcopy(instance("production"))
        settings[section]["not_a_key"] = 1
        with pytest.raises(DagsterInvalidConfigError, match="not_a_key"):
            checked(settings, tmp_path)
    for name in CLASSES:
        part = copy.deepcopy(instance("production")[name])
        part["config"]["not_a_key"] = 1
        assert any("not_a_key" in message for message in class_errors(part)), name


def test_a_value_that_would_be_left_out_is_an_error():
    """What the chart turns into instance settings and this rendering does not know."""
    module = render_instance()
    for change in (
        lambda found: found["runLauncher"]["config"]["k8sRunLauncher"].update(schedulerName="x"),
        lambda found: found["computeLogManager"]["config"].update(gcsComputeLogManager={}),
        lambda found: found["concurrency"].update(enabled=False),
    ):
        found = copy.deepcopy(values("production"))
        change(found)
        with pytest.raises(module.UnknownValueError):
            module.instance(found)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_password_is_a_variable(environment):
    """The whole configuration stands in a run pod's arguments, which many can read."""
    settings = instance(environment)
    for name in ("run_storage", "event_log_storage", "schedule_storage"):
        database = settings[name]["config"]["postgres_db"]
        assert database["password"] == {"env": "DAGSTER_PG_PASSWORD"}
        # What the installed driver is; plain postgresql:// means another one.
        assert database["scheme"] == "postgresql+psycopg2"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_monitor_is_more_patient_than_pods_need(environment):
    """A pod that waits for a node is not a failed run, and a step may use its grace period."""
    monitoring = instance(environment)["run_monitoring"]
    launcher = instance(environment)["run_launcher"]["config"]
    grace = launcher["run_k8s_config"]["pod_spec_config"]["terminationGracePeriodSeconds"]
    assert monitoring["cancel_timeout_seconds"] > grace
    assert monitoring["start_timeout_seconds"] >= 300
    assert monitoring["poll_interval_seconds"] <= 30


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_limit_counts_something_that_runs_have(environment):
    """A limit on a tag that nobody sets holds nothing."""
    from mlops_assets.adapters import run_coordinator
    from mlops_assets.lifecycle.retraining import runs

    concurrency = instance(environment)["concurrency"]
    limits = concurrency["runs"]["tag_concurrency_limits"]
    assert {limit["key"] for limit in limits} == {
        run_coordinator.TEAM,
        run_coordinator.USE_CASE,
        runs.TRAINING,
        "dagster/backfill",
    }
    assert all(
        limit["limit"] < concurrency["runs"]["max_concurrent_runs"] or environment != "production"
        for limit in limits
    )


def test_the_pool_is_the_one_that_gpu_profiles_are_in():
    """The default limit is the GPU's: no other profile may be in a pool."""
    from manifests import compute_profiles

    profiles = compute_profiles()
    assert {profile.get("pool") for profile in profiles.values()} == {"gpu", None}
    for name, profile in profiles.items():
        wants = int(profile.get("requests", {}).get(compute.GPU, 0))
        assert (profile.get("pool") == "gpu") == (wants > 0), name
    for environment in ENVIRONMENTS:
        pools = instance(environment)["concurrency"]["pools"]
        assert pools["default_limit"] >= 1
        assert pools["granularity"] == "op"


def test_the_test_clusters_settings_are_the_values(tmp_path):
    """Its dagster.yaml is what the program prints; its control plane has no other source."""
    committed = (KUBERNETES / "overlays/cluster-test/dagster.yaml").read_text()
    command = [sys.executable, str(DAGSTER / "render_instance.py")]
    command += ["values.yaml", "values-cluster-test.yaml"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert committed == printed.stdout, f"make it again: {' '.join(command[1:])}"
    port = [*command, "--set", "postgresql.service.port=6000"]
    printed = subprocess.run(port, capture_output=True, text=True, check=True, timeout=60)
    found = yaml.safe_load(printed.stdout)["run_storage"]["config"]["postgres_db"]
    assert found["port"] == 6000
