"""What a local endpoint keeps on disk: its files, written whole, and the lock around them."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mlops_assets.adapters.endpoints.locks import lock
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.rollout_state import EndpointRecord

POLL_S = 0.05


@dataclass(frozen=True)
class Paths:
    """Where the files of one use case's endpoint lie."""

    folder: Path

    @property
    def release(self) -> Path:
        """What the server is told to serve (adapters.endpoints.release_store)."""
        return self.folder / "release.json"

    @property
    def endpoint(self) -> Path:
        """Which server is ours."""
        return self.folder / "endpoint.json"

    @property
    def lock(self) -> Path:
        """Held by who deploys or stops."""
        return self.folder / "lock"

    @property
    def server_log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    @property
    def predictions(self) -> Path:
        """The prediction log's folder."""
        return self.folder / "predictions"


def paths_of(use_case: str, state_dir: str) -> Paths:
    """The files of ``use_case`` under ``state_dir``."""
    return Paths(Path(state_dir).absolute() / use_case)


def read(path: Path) -> EndpointRecord | None:
    """The record in ``path``, none if there is none that this version understands."""
    try:
        return EndpointRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write(path: Path, record: EndpointRecord) -> None:
    """Put ``record`` in ``path``, whole or not at all. Raises TransientError if it cannot."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(record.model_dump_json(indent=2))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise TransientError(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def locked(paths: Paths, timeout_s: float) -> Iterator[None]:
    """One deployment at a time; the lock ends with the process that holds it.

    Raises TransientError after ``timeout_s`` seconds, PermanentError for a folder that cannot be
    written.
    """
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
        file = paths.lock.open("w")
    except OSError as error:
        raise PermanentError(
            f"the endpoint's folder {paths.folder} cannot be written: {error.strerror}"
        ) from error
    busy = (
        f"another deployment holds {paths.lock} for more than {timeout_s:g} s: wait for it, then "
        "try again"
    )
    with file:
        lock(file, timeout_s, busy)
        yield
