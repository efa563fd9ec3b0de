"""What an endpoint serves: a small versioned document, its transitions, and the split of requests.

The document is written before it takes effect, and every replica follows it. Each change gives the
next revision, so that a writer who did not see the last change is refused, and a replica can say
which one it has applied.
"""

import hashlib
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import ModelRecord, Record

Mode = Literal["champion", "shadow", "canary", "watch"]
Role = Literal["champion", "challenger"]


class ServedModel(Record):
    """A registered model, as far as a server needs to know it."""

    version: int
    sha256: str
    artifact: str
    """URL or path of the model file (UBJSON)."""
    onnx: str | None = None
    """URL or path of the same model for small requests, where there is one."""
    onnx_sha256: str | None = None


class Release(Record):
    """What the replicas of an endpoint are told to serve.

    In shadow every request is answered by the champion and scored by the challenger too; in canary
    the challenger answers the requests whose key lies in its ``share``. In watch the challenger is
    the former champion: it scores each request, and stands in where the champion fails.
    """

    use_case: str
    revision: Annotated[int, Field(ge=1)]
    """Grows by one with each change."""
    champion: ServedModel
    challenger: ServedModel | None = None
    mode: Mode = "champion"
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of the request keys that the challenger answers."""
    rollout_id: str = ""
    """Seeds the split, so that the first callers of one rollout are not those of the next; empty
    outside of a rollout."""
    changed_at: AwareDatetime
    reason: str
    """Why the last change was made."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """A state that no transition gives is a document that somebody edited."""
        under_way = self.mode != "champion"
        if under_way != (self.challenger is not None) or under_way != bool(self.rollout_id):
            raise ValueError(f"mode {self.mode!r} does not fit the challenger and the rollout id")
        if (self.mode == "canary") != (self.share > 0):
            raise ValueError(f"share {self.share} does not fit mode {self.mode!r}")
        return self


class EndpointRecord(Record):
    """A running endpoint."""

    use_case: str
    url: str
    pid: int | None = None
    """The server's process, where it is one of this machine."""
    instance: str
    """Random identity of the server process, which it also answers with; on Kubernetes the
    Deployment's."""
    release: Release
    prediction_log: str
    """Folder, or URL, of what it answered."""


def served_model(record: ModelRecord) -> ServedModel:
    """The registered model ``record``, for a server."""
    return ServedModel(
        version=record.version,
        sha256=record.sha256,
        artifact=record.artifact,
        onnx=record.onnx,
        onnx_sha256=record.onnx_sha256,
    )


def first_release(use_case: str, champion: ServedModel, now: datetime, reason: str) -> Release:
    """The first state of an endpoint."""
    return Release(use_case=use_case, revision=1, champion=champion, changed_at=now, reason=reason)


def deployed(
    release: Release | None, use_case: str, champion: ServedModel, now: datetime, reason: str
) -> Release:
    """``champion`` serves: as before where it does already, with the rollout that is under way;
    else alone. ``release`` is None before the first deployment.
    """
    if release is None:
        return first_release(use_case, champion, now, reason)
    if release.champion == champion:
        return release
    return serve_only(release, champion, now, reason)


def start_rollout(
    release: Release, challenger: ServedModel, rollout_id: str, now: datetime, reason: str
) -> Release:
    """The challenger begins in shadow. Raises PermanentError while a rollout is under way, and for
    a challenger that serves already.
    """
    if release.mode != "champion":
        raise PermanentError(
            f"a rollout of {release.use_case} is under way ({release.rollout_id}, {release.mode}): "
            "promote or abort it first"
        )
    _refuse_same(release, challenger)
    return _next(release, now, reason, challenger=challenger, mode="shadow", rollout_id=rollout_id)


def set_share(release: Release, share: float, now: datetime, reason: str) -> Release:
    """The challenger answers ``share`` of the request keys, in canary.

    Raises PermanentError outside of a rollout, and for a share that does not grow: callers would
    go back to the champion, and what they saw would not be comparable.
    """
    _under_way(release)
    if not release.share < share <= 1:
        raise PermanentError(
            f"the share of the rollout of {release.use_case} is {release.share:g}: give a larger "
            f"one, up to 1, and not {share:g}"
        )
    return _next(release, now, reason, mode="canary", share=share)


def promote(release: Release, now: datetime, reason: str, *, watch: bool = False) -> Release:
    """The challenger becomes champion. With ``watch``, the former one stays, for comparison and to
    stand in, and the rollout keeps its id. Raises PermanentError outside of a rollout.
    """
    challenger = _under_way(release)
    if watch:
        return _watched(release, challenger, release.rollout_id, now, reason)
    return serve_only(release, challenger, now, reason)


def replace_watched(
    release: Release, champion: ServedModel, rollout_id: str, now: datetime, reason: str
) -> Release:
    """``champion`` serves at once, the former one stays for the watch of a rollout of its own.

    Raises PermanentError while a rollout is under way, and for a champion that serves already.
    """
    started = start_rollout(release, champion, rollout_id, now, reason)
    return _watched(release, champion, started.rollout_id, now, reason)


def abort(release: Release, now: datetime, reason: str) -> Release:
    """The champion serves alone. Raises PermanentError outside of a rollout."""
    _under_way(release)
    return serve_only(release, release.champion, now, reason)


def serve_only(release: Release, champion: ServedModel, now: datetime, reason: str) -> Release:
    """``champion`` serves alone, whatever was under way: a rollback to a former model, or a
    deployment without a rollout.
    """
    return _next(
        release,
        now,
        reason,
        champion=champion,
        challenger=None,
        mode="champion",
        share=0.0,
        rollout_id="",
    )


def reverted(release: Release, former: Release, now: datetime, reason: str) -> Release:
    """What ``former`` said, as the revision after ``release``."""
    return former.model_copy(
        update={"revision": release.revision + 1, "changed_at": now, "reason": reason}
    )


def position(rollout_id: str, key: str) -> float:
    """Where ``key`` lies in [0, 1) in this rollout: uniform over keys, independent of other
    rollouts, and the same in every process.
    """
    # A rollout id holds no NUL, so no two pairs give the same text. JSON may hold half a surrogate
    # pair, which UTF-8 does not.
    text = f"{rollout_id}\0{key}".encode("utf-8", "surrogatepass")
    # 53 bits: a float holds them exactly, and never rounds up to 1.
    return (int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 11) / 2**53


def side(release: Release, key: str) -> Role:
    """Who answers the caller with ``key``. A larger share only ever moves callers to the
    challenger.
    """
    if release.mode == "canary" and position(release.rollout_id, key) < release.share:
        return "challenger"
    return "champion"


def _next(release: Release, now: datetime, reason: str, **changes: object) -> Release:
    content = release.model_dump() | {
        "revision": release.revision + 1,
        "changed_at": now,
        "reason": reason,
        **changes,
    }
    return Release.model_validate(content)


def _watched(
    release: Release, champion: ServedModel, rollout_id: str, now: datetime, reason: str
) -> Release:
    return _next(
        release,
        now,
        reason,
        champion=champion,
        challenger=release.champion,
        mode="watch",
        share=0.0,
        rollout_id=rollout_id,
    )


def _under_way(release: Release) -> ServedModel:
    if release.challenger is None:
        raise PermanentError(
            f"no rollout of {release.use_case} is under way: version {release.champion.version} "
            "serves alone"
        )
    return release.challenger


def _refuse_same(release: Release, challenger: ServedModel) -> None:
    if challenger.version == release.champion.version:
        raise PermanentError(
            f"version {challenger.version} of {release.use_case} is the champion already"
        )
