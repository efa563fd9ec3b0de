"""A fresh project of the tests' use case for each test."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from lifecycle_support import Project, make_project

from mlops_assets.adapters.endpoints import local
from mlops_assets.lifecycle.platform import Places


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> Iterator[Project]:
    """A fresh project for one test; its endpoint is stopped afterwards."""
    monkeypatch.setenv("VISITS_FAULTS", str(tmp_path / "faults.json"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield make_project(tmp_path, instance, free_port)
    local.stop("visits", Places.under(tmp_path).endpoints)
