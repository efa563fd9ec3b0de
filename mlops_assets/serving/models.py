"""Which models are served: a release is followed, its models are loaded by digest and warmed."""

import logging
import time
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from mlops_assets.core.errors import PermanentError, PlatformError
from mlops_assets.core.records import Signature
from mlops_assets.core.requests import RequestSchema, request_schema
from mlops_assets.core.rollout_state import Release, Role, ServedModel
from mlops_assets.serving.objects import read_changed
from mlops_assets.serving.predictor import Predictor, load_predictor

logger = logging.getLogger("mlops_assets.serving")

RETRY_S = 5.0
"""Seconds until a model that failed to load is tried again: its file may still be on its way."""

FILE_POLL_S = 0.25
"""Seconds between looks at a file."""

STORE_POLL_S = 1.0
"""Seconds between looks at a store, each of which costs a request: replicas follow within two."""

MAX_RELEASE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Loaded:
    """A model that is loaded and warm."""

    served: ServedModel
    predictor: Predictor

    @property
    def signature(self) -> Signature:
        """Its inputs, in order."""
        return self.predictor.model.signature

    @cached_property
    def inputs(self) -> frozenset[str]:
        """The names of its inputs."""
        return frozenset(field.name for field in self.signature.inputs)


@dataclass(frozen=True)
class Served:
    """A release with its models. A challenger that could not be loaded is left out."""

    release: Release
    champion: Loaded
    challenger: Loaded | None
    schema: RequestSchema
    """What a request carries: the champion's inputs, and maybe those that only the challenger has.
    """
    same_inputs: bool
    """Whether one matrix is the input of both."""

    @property
    def returnable(self) -> tuple[Loaded, ...]:
        """The models whose answers callers may get, the champion first."""
        if self.challenger is not None and self.release.mode == "canary":
            return self.champion, self.challenger
        return (self.champion,)

    def role(self, loaded: Loaded) -> Role:
        """What ``loaded``, one of the two, is here."""
        return "champion" if loaded is self.champion else "challenger"


def parse_release(data: bytes, source: str) -> Release:
    """The release in ``data``, which is from ``source``. Raises PermanentError when it is none."""
    try:
        return Release.model_validate_json(data)
    except ValidationError as error:
        raise PermanentError(
            f"{source} is no release ({error.error_count()} problems, first: "
            f"{error.errors()[0]['msg']}): deploy again"
        ) from error


def load(use_case: str, served: ServedModel) -> Loaded:
    """The model ``served``, whose digest is verified and which has answered once.

    Raises PermanentError for an artifact that is not the registered one, TransientError when its
    file cannot be read.
    """
    try:
        predictor = load_predictor(served.artifact, served.sha256, served.onnx, served.onnx_sha256)
    except PlatformError as error:
        named = f"{use_case} version {served.version}, artifact {served.artifact}"
        raise type(error)(f"{named}: {error}") from error
    return Loaded(served, predictor)


def joined(release: Release, champion: Loaded, challenger: Loaded | None) -> Served:
    """``release`` with its models.

    Raises PermanentError for a challenger that no request could be right for: a feature that both
    have, as another type.
    """
    if challenger is None:
        return Served(release, champion, None, request_schema(champion.signature), same_inputs=True)
    known = {field.name: field for field in champion.signature.inputs}
    for field in challenger.signature.inputs:
        if field.name in known and field.type != known[field.name].type:
            raise PermanentError(
                f"{release.use_case} version {challenger.served.version} takes {field.name!r} as "
                f"{field.type}, version {champion.served.version} as {known[field.name].type}: "
                "give the new feature another name"
            )
    optional = [field for field in challenger.signature.inputs if field.name not in known]
    schema = request_schema(champion.signature, optional)
    same = champion.signature.inputs == challenger.signature.inputs
    return Served(release, champion, challenger, schema, same_inputs=same)


class Follower:
    """Follows a release: ``served`` changes as a whole, so that a request that began with one state
    ends with it. After a failure the last good models stay, and ``error`` says why.

    One thread at a time calls its methods.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.poll_s = STORE_POLL_S if source.startswith("s3://") else FILE_POLL_S
        self.served: Served | None = None
        self.error: str | None = None
        self.refused: int | None = None
        """The revision that could not be applied, or only without its challenger."""
        self._tag = ""
        self._wanted: Release | None = None
        self._damaged: str | None = None
        self._failed: str | None = None
        self._retry_at = 0.0
        self._kept: dict[tuple[str, str | None], Predictor] = {}

    def load_first(self) -> None:
        """Load what the server starts with. Raises PlatformError without a champion."""
        self._look()
        if self._wanted is None:
            raise PermanentError(self._damaged or f"{self.source} is empty")
        self._apply(self._wanted)
        self.error = self._failed

    def poll(self) -> bool:
        """Look for a change, and serve what is wanted then. Returns whether there is anything to
        report. Never raises.
        """
        before = self.served, self.error, self.refused
        changed, away = False, None
        try:
            changed = self._look()
        except Exception as error:  # noqa: BLE001 - the models that work go on serving
            away = _said(error)
        again = self._failed is not None and time.monotonic() >= self._retry_at
        if self._wanted is not None and (changed or again):
            try:
                self._apply(self._wanted)
            except Exception as error:  # noqa: BLE001 - likewise, whatever a new release does
                self.refused, self._failed = self._wanted.revision, _said(error)
                self._retry_at = time.monotonic() + RETRY_S
        error = away or self._damaged or self._failed
        if error is not None and error != self.error:
            logger.error("the last good models stay: %s", error)
        self.error = error
        return (self.served, self.error, self.refused) != before

    def _look(self) -> bool:
        """Read the release if it changed. Returns whether it did. Raises PlatformError when it
        cannot be read.
        """
        found = read_changed(self.source, self._tag, MAX_RELEASE_BYTES)
        if found is None:
            return False
        content, self._tag = found
        self._wanted, self._damaged, self._failed, self.refused = None, None, None, None
        try:
            release = parse_release(content, self.source)
        except PermanentError as error:
            self._damaged = str(error)
            return True
        if self.served is not None and release.use_case != self.served.release.use_case:
            self.refused = release.revision
            self._damaged = (
                f"{self.source} names {release.use_case}, this server serves "
                f"{self.served.release.use_case}: start another server"
            )
            return True
        self._wanted = release
        return True

    def _apply(self, release: Release) -> None:
        """Serve ``release``, without a challenger that does not load. Raises PlatformError."""
        champion = self._loaded(release.use_case, release.champion)
        served, problem = joined(release, champion, None), None
        if release.challenger is not None:
            try:
                challenger = self._loaded(release.use_case, release.challenger)
                served = joined(release, champion, challenger)
            except Exception as error:  # noqa: BLE001 - the champion goes on serving
                problem = _said(error)
                self._retry_at = time.monotonic() + RETRY_S
        # A rollback to the champion before needs no store.
        former = self.served and self.served.champion
        kept = [loaded for loaded in (champion, served.challenger, former) if loaded is not None]
        self._kept = {_identity(loaded.served): loaded.predictor for loaded in kept}
        self.refused, self._failed = (release.revision, problem) if problem else (None, None)
        if self.served is None or release != self.served.release:
            logger.info(
                "serving %s revision %d: %s, version %d%s",
                release.use_case,
                release.revision,
                release.mode,
                champion.served.version,
                f" with {served.challenger.served.version}" if served.challenger else "",
            )
        self.served = served

    def _loaded(self, use_case: str, served: ServedModel) -> Loaded:
        kept = self._kept.get(_identity(served))
        return load(use_case, served) if kept is None else Loaded(served, kept)


def _identity(served: ServedModel) -> tuple[str, str | None]:
    return served.sha256, served.onnx_sha256


def _said(error: Exception) -> str:
    if isinstance(error, PlatformError):
        return str(error)
    logger.exception("a bug, or a library's failure")
    return f"internal error: {error!r}"
