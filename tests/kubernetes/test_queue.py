"""Many trainings and one GPU."""

import time

import pytest
from cluster import RUNS, Cluster, objects
from cluster_images import CROWD
from cluster_runs import launch

ASSETS = ["visits", "shops", "visit", "shop_returns", "shop_sizes", "training_set"]


@pytest.mark.timeout(2400)
def test_ten_use_cases_train_at_once_with_one_gpu(cluster: Cluster) -> None:
    """Each gets the GPU in its turn, never two at the same time, and none is lost."""
    days = ("2024-03-01", "2024-04-11")
    prepared = [launch(cluster, name, ASSETS, days) for name in CROWD]
    for run in prepared:
        run.succeeded(1500)
    runs = [launch(cluster, name, ["model"]) for name in CROWD]
    most = 0
    deadline = time.monotonic() + 1500
    while {run.status for run in runs} - {"SUCCESS", "FAILURE", "CANCELED"}:
        assert time.monotonic() < deadline, [run.status for run in runs]
        pods = objects("pod", RUNS, "app.kubernetes.io/component=step_worker")
        most = max(most, sum(pod["status"]["phase"] in ("Pending", "Running") for pod in pods))
        time.sleep(2)
    assert most == 1
    for run in runs:
        run.succeeded(1)
        assert run.ends() == [("spot", "succeeded")]
        run.leaves_nothing()
    assert len({run.sha256() for run in runs}) == 1  # the same rows, the same parameters
