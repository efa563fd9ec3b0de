"""Which model is served: a release file is followed, its model loaded by digest and warmed."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mlops_assets.core.errors import PermanentError, PlatformError, TransientError
from mlops_assets.core.inference import MAX_MODEL_BYTES, Model, encode, load_model, predict
from mlops_assets.core.records import Release
from mlops_assets.serving.objects import read_object

logger = logging.getLogger("mlops_assets.serving")

RETRY_S = 5.0
"""Seconds until a release that failed to load is tried again: its file may still be on its way."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Served:
    """A release with its model, loaded and warmed."""

    release: Release
    model: Model


def read_release(path: Path) -> Release:
    """The release that ``path`` names.

    Raises TransientError when it cannot be read and PermanentError when it is no release.
    """
    try:
        return Release.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TransientError(f"the release file {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise PermanentError(
            f"the release file {path} is no release ({error.error_count()} problems, first: "
            f"{error.errors()[0]['msg']}): deploy again"
        ) from error


def load_release(release: Release) -> Served:
    """``release`` with its model, whose digest is verified and which has answered once.

    Raises PermanentError for an artifact that is not the registered one, TransientError when its
    file cannot be read.
    """
    named = f"{release.use_case} version {release.version}, artifact {release.artifact}"
    try:
        model = load_model(read_object(release.artifact, MAX_MODEL_BYTES), release.sha256)
    except PlatformError as error:
        raise type(error)(f"{named}: {error}") from error
    # The first prediction allocates XGBoost's buffers; no client should wait for that.
    predict(
        model, encode({field.name: [None] for field in model.signature.inputs}, model.signature)
    )
    return Served(release, model)


class Follower:
    """Follows a release file: ``served`` changes as a whole, so that a request that began with one
    model ends with it. After a failure the last good model stays and ``error`` says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.served: Served | None = None
        self.error: str | None = None
        self.refused: Release | None = None
        self._seen: Stamp | None = None
        self._retry_at = 0.0

    def load_first(self) -> None:
        """Load the release that the server starts with. Raises PlatformError."""
        self._seen = _stamp(self.path)
        self.served = load_release(read_release(self.path))

    def due(self) -> bool:
        """Whether the file has changed, or a failed release should be tried again."""
        if _stamp(self.path) != self._seen:
            return True
        return self.error is not None and time.monotonic() >= self._retry_at

    def refresh(self) -> None:
        """Serve what the file names now, or say in ``error`` why not."""
        self._seen = _stamp(self.path)
        release: Release | None = None
        try:
            release = read_release(self.path)
            if self.served is None or release != self.served.release:
                self._check_use_case(release)
                self.served = load_release(release)
                logger.info("serving %s version %d", release.use_case, release.version)
        except PlatformError as error:
            if str(error) != self.error:
                logger.error("the last good model stays: %s", error)
            # The release first: who reads an error finds the release that it is about.
            self.refused, self.error = release, str(error)
            self._retry_at = time.monotonic() + RETRY_S
        except Exception as error:
            # Whatever a new release does, the model that works goes on serving.
            logger.exception("the last good model stays")
            self.refused, self.error = release, f"internal error: {error!r}"
            self._retry_at = time.monotonic() + RETRY_S
        else:
            self.refused, self.error = None, None

    def _check_use_case(self, release: Release) -> None:
        if self.served is not None and release.use_case != self.served.release.use_case:
            raise PermanentError(
                f"the release file {self.path} names {release.use_case}, this server serves "
                f"{self.served.release.use_case}: start another server"
            )


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
