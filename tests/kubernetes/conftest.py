"""The two-node cluster with the platform on it, once for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing, platform
from cluster_images import SMALL
from cluster_runs import Run, launch

HERE = Path(__file__).parent

FLIGHTS = "flight_delays"
FLIGHT_DAYS = ("2013-01-01", "2013-02-28")
SMALL_DAYS = ("2024-03-01", "2024-04-11")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the cluster; a run on it takes minutes."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kubernetes)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The platform on the cluster, with empty stores; skips where there can be none."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    with platform(tmp_path_factory.mktemp("services")) as found:
        yield found


@pytest.fixture(scope="session")
def small_data(cluster: Cluster) -> Run:
    """A small use case's data and training set, in the lake."""
    raw = launch(cluster, SMALL, ["visits", "shops"], SMALL_DAYS).succeeded(420)
    views = ["visit", "shop_returns", "shop_sizes"]
    launch(cluster, SMALL, views, SMALL_DAYS).succeeded(420)
    launch(cluster, SMALL, ["training_set"]).succeeded(300)
    return raw


@pytest.fixture(scope="session")
def small_model(cluster: Cluster, small_data: Run) -> str:
    """The sha256 of the small use case's model, trained without an interruption."""
    return launch(cluster, SMALL, ["model"]).succeeded(420).sha256()
