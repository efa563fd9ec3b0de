"""Endpoints of the tests' use case, which answer with two versions of a model."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from answers_support import SETTLED, Endpoint, at, define, make_model
from lifecycle_support import Project, make_project

from mlops_assets import clock
from mlops_assets.adapters.endpoints import local
from mlops_assets.core.rollout_state import ServedModel
from mlops_assets.lifecycle.platform import Places

DATA = ("2024-03-01", "2024-03-08")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ServedModel, ServedModel]:
    """A lake with eight days of data, and two versions of a model."""
    folder = tmp_path_factory.mktemp("answers")
    with dg.DagsterInstance.ephemeral() as instance:
        project = make_project(folder / "state", instance, 8931)
        assert project.run(["visits", "shops"], DATA).success
        assert project.run(["visit", "shop_returns", "shop_sizes"], DATA).success
        first = make_model(project, folder, "2024-03-04")
        return folder / "state", first, make_model(project, folder, "2024-03-04", version=2)


@pytest.fixture
def project(
    template: tuple[Path, ServedModel, ServedModel],
    tmp_path: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    """A project with that lake, at a time when all labels are known."""
    shutil.copytree(template[0] / "lake", tmp_path / "lake")
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    at(tmp_path, SETTLED)
    with dg.DagsterInstance.ephemeral() as instance:
        made = make_project(tmp_path, instance, free_port)
        define(made)
        yield made
    local.stop("visits", Places.under(tmp_path).endpoints)


@pytest.fixture
def endpoint(project: Project, template: tuple[Path, ServedModel, ServedModel]) -> Endpoint:
    """What answers with the first version."""
    return Endpoint(project, template[1])


@pytest.fixture
def newer(project: Project, template: tuple[Path, ServedModel, ServedModel]) -> Endpoint:
    """What answers with the second version."""
    return Endpoint(project, template[2])
