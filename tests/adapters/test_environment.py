"""What a model was made with, recorded without secrets."""

import json
import subprocess
from pathlib import Path

import pytest

from mlops_assets.adapters.environment import COMMIT_VARIABLE, GitState, environment, git_state


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one committed file."""
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    (tmp_path / "code.py").write_text("x = 1\n")
    for command in (
        ["init", "-q"],
        ["add", "code.py"],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "x"],
    ):
        subprocess.run(
            ["git", "-C", str(tmp_path), *command],  # noqa: S607 - from PATH
            check=True,
            timeout=60,
        )
    return tmp_path


def test_a_checkout_has_its_commit_and_is_dirty_once_a_file_differs(checkout: Path) -> None:
    """The commit alone would claim code that did not run."""
    clean = git_state(checkout)
    assert clean.commit is not None
    assert len(clean.commit) == 40
    assert clean.dirty is False
    (checkout / "code.py").write_text("x = 2\n")
    assert git_state(checkout) == GitState(clean.commit, True)


def test_code_that_git_does_not_track_has_no_commit(checkout: Path) -> None:
    """A package installed inside another checkout is not that checkout's code."""
    (checkout / "installed").mkdir()
    (checkout / "installed" / "module.py").write_text("")
    assert git_state(checkout / "installed") == GitState(None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image has neither a checkout nor git."""
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout) == GitState(None, None)


def test_the_environment_variable_names_the_commit_of_an_image(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether files differ from it is not known there."""
    monkeypatch.setenv(COMMIT_VARIABLE, "abc123")
    assert git_state(checkout) == GitState("abc123", None)


def test_the_environment_has_versions_and_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables hold secrets."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    found = environment()
    assert set(found) == {"python", "platform", "packages"}
    packages = found["packages"]
    assert isinstance(packages, dict)
    assert packages["xgboost"].startswith("3.2")
    assert "hunter2" not in json.dumps(found)
