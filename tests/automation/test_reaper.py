"""The reaper: what runs left behind in the cluster goes, what they need stays."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from compute_support import Runs, run_worker
from fake_kubernetes import FakeCluster, condition

from mlops_assets.compute.reaper import cluster_of, reap, reaper_sensor
from mlops_assets.core.errors import PermanentError


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """An instance whose run launcher has a cluster."""
    with run_worker(tmp_path_factory.mktemp("reaper"), FakeCluster()) as found:
        yield found


@pytest.fixture
def runs(worker: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Without Jobs."""
    monkeypatch.setenv("COMPUTE_TEST_IO", str(tmp_path))
    worker.cluster.clear()
    return worker


def add_job(
    runs: Runs, name: str, run_id: str, *, minutes: float, finished: bool = False, step: bool = True
) -> None:
    """A Job that is ``minutes`` old."""
    created = datetime.now(UTC) - timedelta(minutes=minutes)
    component = "step_worker" if step else "run_worker"
    runs.cluster.jobs[name] = {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/component": component, "dagster/run-id": run_id},
            "creationTimestamp": created.isoformat(timespec="seconds"),
        },
        "status": {"conditions": [condition("Complete")] if finished else []},
    }


def test_what_no_run_needs_is_removed_and_the_rest_stays(runs: Runs) -> None:
    """Runs that the instance does not know, and runs that ended; by age."""
    going = runs.create()
    runs.start(going)
    add_job(runs, "of-a-run-that-goes-on", going.run_id, minutes=600)
    add_job(runs, "unknown", "0" * 36, minutes=6)
    add_job(runs, "unknown-run-worker", "0" * 36, minutes=6, step=False)
    add_job(runs, "unknown-but-new", "0" * 36, minutes=1)
    add_job(runs, "unknown-output", "0" * 36, minutes=6, finished=True)
    add_job(runs, "unknown-old-output", "0" * 36, minutes=61, finished=True)
    doomed = {"unknown", "unknown-run-worker", "unknown-old-output"}
    cluster = cluster_of(runs.instance)
    would = reap(runs.instance, cluster, dry_run=True)
    assert {line.split(":")[0] for line in would} == doomed
    assert runs.cluster.deleted == []
    assert reap(runs.instance, cluster) == would
    assert set(runs.cluster.deleted) == doomed
    assert reap(runs.instance, cluster) == []


def test_the_jobs_of_a_run_that_failed_stay_for_a_while(runs: Runs) -> None:
    """Whoever ended it may still be deleting them."""
    run = runs.create()
    runs.start(run)
    runs.instance.report_run_failed(run)
    add_job(runs, "of-a-failed-run", run.run_id, minutes=600)
    assert reap(runs.instance, cluster_of(runs.instance)) == []


def test_the_sensor_says_what_it_deleted(runs: Runs) -> None:
    """In its tick, and launches nothing."""
    add_job(runs, "unknown", "0" * 36, minutes=6)
    sensor = reaper_sensor()
    said: list[str] = []
    for _ in range(2):
        data = sensor.evaluate_tick(dg.build_sensor_context(instance=runs.instance))
        assert data.run_requests == []
        said.append(data.skip_message or "")
    assert said == ["deleted 1 Jobs", "nothing was left behind"]
    assert runs.cluster.deleted == ["unknown"]


def test_an_instance_without_kubernetes_has_nothing_to_reap(tmp_path: Path) -> None:
    """Said plainly."""
    with (
        dg.instance_for_test(temp_dir=str(tmp_path)) as instance,
        pytest.raises(PermanentError, match="not on Kubernetes: there is nothing to reap"),
    ):
        cluster_of(instance)
