"""What a model was made with: versions of Python and packages, and the commit of the code.

Environment variables are not recorded: they hold secrets.
"""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

COMMIT_VARIABLE = "MLOPS_GIT_COMMIT"
"""Environment variable that names the commit where there is no git checkout, as in an image."""

_PACKAGES = (
    "mlops-assets",
    "dagster",
    "dagster-mlflow",
    "deltalake",
    "mlflow",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pydantic",
    "xgboost",
)
_GIT_SECONDS = 10  # a git that waits for a lock or a network file system does not stop a training


@dataclass(frozen=True)
class GitState:
    """The code's commit, and whether files differ from it; None where that is not known."""

    commit: str | None
    dirty: bool | None


def package_versions() -> dict[str, str]:
    """Version of each installed package that can change a model, by its name."""
    versions: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def environment() -> dict[str, object]:
    """Versions of Python, the platform and the packages, to be stored as JSON."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
    }


def git_state(folder: Path | None = None) -> GitState:
    """The commit of the code in ``folder`` (default: of this package).

    ``MLOPS_GIT_COMMIT`` wins, since an image has no checkout. Code that git does not track, such
    as a package installed somewhere inside another checkout, has no commit.
    """
    if commit := os.environ.get(COMMIT_VARIABLE):
        return GitState(commit, None)
    folder = folder or Path(__file__).parent.parent
    if not _git(folder, "ls-files", "--", "."):
        return GitState(None, None)
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return GitState(None, None)
    changes = _git(folder, "status", "--porcelain")
    return GitState(commit, None if changes is None else changes != "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where it fails, is missing or takes too long."""
    try:
        # --no-optional-locks: reading must not disturb a commit that someone makes right now.
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],  # noqa: S607 - from PATH
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
