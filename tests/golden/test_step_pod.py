"""The pods of steps: the tag of each profile, and the Job that dagster-k8s makes of it."""

import json
import os
from pathlib import Path

import pytest
from compute_support import executing, run_worker
from fake_kubernetes import FakeCluster

from mlops_assets.adapters.compute_profiles import profiles
from mlops_assets.core.compute import op_tags

GOLDEN = Path(__file__).parent / "step_pods.json"
REWRITE = "REWRITE_GOLDEN"

_VARIES = ("DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS",)


def _job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """The Job of the model's step, as it reaches the cluster's API."""
    monkeypatch.setenv("COMPUTE_TEST_IO", str(folder / "io"))
    monkeypatch.setenv("DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS", "0.02")
    monkeypatch.setenv("MLOPS_TRAINING_IMAGE", "registry.example/mlops-training:1")
    cluster = FakeCluster()
    cluster.add_node("gpu-1")
    with run_worker(folder, cluster) as runs:
        cluster.on_job = executing(runs.instance)
        run = runs.execute(runs.create(["training_set", "model"]))
        assert run.is_success, runs.told(run)
        [job] = runs.step_jobs()
    del job["metadata"]["creationTimestamp"], job["metadata"]["uid"]
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [pair for pair in container["env"] if pair["name"] not in _VARIES]
    text = json.dumps(job).replace(run.run_id, "RUN").replace(job["metadata"]["name"], "NAME")
    return json.loads(text)


def test_the_pods_are_the_ones_that_were_agreed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Placement, resources, limits and environment change on purpose or not at all."""
    found = {
        "tags": {name: op_tags(name, profile) for name, profile in profiles().items()},
        "job": _job(tmp_path, monkeypatch),
    }
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if os.environ.get(REWRITE) == "1":
        GOLDEN.write_text(text)
        # What is compared with itself proves nothing, so it does not pass.
        pytest.skip(f"{GOLDEN.name} was rewritten: look at its diff and commit it")
    assert json.loads(text) == json.loads(GOLDEN.read_text()), (
        f"when it should have changed, run this test with {REWRITE}=1 and commit {GOLDEN.name}"
    )
