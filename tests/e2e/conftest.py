"""A folder with the repository's instance files, so that a test leaves no trace in the checkout."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def instance_folder(tmp_path: Path) -> Path:
    """dagster.yaml and workspace.yaml as they are, in an empty folder."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def environment(instance_folder: Path) -> dict[str, str]:
    """The environment of a user who sets nothing, with the state in the test's folder."""
    unset = ("DAGSTER_HOME", "MLOPS_ENV", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "MLOPS_STATE": str(instance_folder / ".mlops")}
