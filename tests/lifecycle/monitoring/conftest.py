"""A champion of the tests' use case, whose answered days are judged."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from answered_days import Answered
from lifecycle_support import Project, make_project

from mlops_assets.core.records import ModelRecord
from mlops_assets.lifecycle.platform import Places

DATA, VIEWS = ("2024-03-12", "2024-04-25"), ("2024-03-16", "2024-04-25")
STAGES = ["training_set", "model", "evaluation", "promotion"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Data, features, and a champion."""
    with dg.DagsterInstance.ephemeral() as instance:
        project = make_project(tmp_path_factory.mktemp("trained"), instance, 8932)
        assert project.run(["visits", "shops"], DATA).success
        assert project.run(["visit", "shop_returns", "shop_sizes"], VIEWS).success
        assert project.run(STAGES).success
        yield project


@pytest.fixture
def site(trained: Project, tmp_path: Path) -> Iterator[Answered]:
    """The trained project, copied for one test."""
    shutil.copytree(Path(trained.places.lake).parent, tmp_path / "site")
    with dg.DagsterInstance.ephemeral() as instance:
        places = Places.under(tmp_path / "site")
        yield Answered(replace(trained, places=places, instance=instance))


@pytest.fixture
def champion(site: Answered) -> ModelRecord:
    """The version that serves."""
    found = site.tracking.champion("visits")
    assert found is not None
    return found
