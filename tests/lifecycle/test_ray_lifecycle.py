"""The model's step with `engine: ray`, on the frozen training set of a lake."""

from pathlib import Path

import dagster as dg
import pytest
from lifecycle_support import Project, make_project

from mlops_assets.adapters import documents
from mlops_assets.core.records import TrainingSetRecord
from mlops_assets.core.spec import RaySpec, UseCaseSpec
from mlops_assets.lifecycle.model import train_on
from mlops_assets.lifecycle.platform import Platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DATA = ("2024-03-01", "2024-04-10")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A frozen training set, with nothing trained on it."""
    monkeypatch.setenv("VISITS_FAULTS", str(tmp_path / "faults.json"))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    made = make_project(tmp_path, dg.DagsterInstance.ephemeral(), 8932)
    assert made.run(["visits", "shops", "visit", "shop_returns", "shop_sizes"], DATA).success
    assert made.run(["training_set"]).success
    return made


def _with_ray(spec: UseCaseSpec) -> UseCaseSpec:
    model = spec.model.model_copy(update={"engine": "ray", "ray": RaySpec(workers=1)})
    return spec.model_copy(update={"model": model})


def test_one_ray_worker_gives_the_bytes_that_one_process_gives(project: Project) -> None:
    """The engine decides where a model is trained, not what it is."""
    platform = Platform.at(project.places)
    frozen = documents.read(
        project.places.documents, project.spec.name, "training_set", TrainingSetRecord
    )
    assert frozen is not None
    lake, tracking = platform.lake(), platform.tracking()
    told: list[str] = []
    there, example = train_on(
        _with_ray(project.spec), frozen, lake, tracking, lambda *_: None, told.append
    )
    # Without the checkpoints of the training before, which it would go on from.
    for checkpoint in Path(project.places.artifacts).rglob("*.checkpoint"):
        checkpoint.unlink()
    here, rows = train_on(project.spec, frozen, lake, tracking, None, told.append)
    assert there.sha256 == here.sha256
    assert 0 < len(example) < len(rows)
