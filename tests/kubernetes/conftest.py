"""The two-node cluster with the platform on it, once for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing, platform
from cluster_images import SMALL
from cluster_runs import Line, launch

HERE = Path(__file__).parent

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
def line(cluster: Cluster) -> Line:
    """The run that trained a small use case's model without an interruption, and deployed it."""
    data = ["visits", "shops", "visit", "shop_returns", "shop_sizes", "training_set"]
    launch(cluster, SMALL, data, SMALL_DAYS).succeeded(900)
    stages = ["model", "evaluation", "promotion", "endpoint"]
    run = launch(cluster, SMALL, stages).succeeded(900)
    # Before somebody interrupts the node that they are on.
    return Line(run, run.pods())


@pytest.fixture(scope="session")
def small_model(line: Line) -> str:
    """The sha256 of that model."""
    return line.run.sha256()
