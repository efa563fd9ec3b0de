"""The release of an endpoint and the reports of its replicas, in a folder or on S3."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from mlops_assets.adapters.endpoints import conditional
from mlops_assets.adapters.storage import join
from mlops_assets.core.errors import ConflictError, PermanentError
from mlops_assets.core.replica_reports import ReplicaReport, is_stale
from mlops_assets.core.rollout_state import Release, reverted

RELEASE = "release.json"
REPLICAS = "replicas"

KEPT = timedelta(days=1)
"""How long a replica that is gone stays in the status, where no rollout needs its counts."""

RACES = 5
"""How often a change is made again after somebody else made one."""


@dataclass(frozen=True)
class Stored:
    """What a place held when it was read."""

    release: Release | None
    """None where there is none, or a damaged one."""
    tag: str
    """Identifies the content, for the swap; empty where there is nothing."""
    damage: str | None = None
    """Why the content is no release."""


def load(place: str) -> Stored:
    """What is stored in the folder or below the URL ``place``.

    Raises TransientError when it cannot be read now, PermanentError when it may not.
    """
    where = join(place, RELEASE)
    found = conditional.get(where)
    if found is None:
        return Stored(None, "")
    data, tag = found
    try:
        return Stored(Release.model_validate_json(data), tag)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        return Stored(None, tag, f"{where} is no release of this version: {reason}; deploy again")


def read(place: str) -> Release | None:
    """The release in ``place``, None where nothing was deployed. Raises PermanentError for a
    damaged one, and as :func:`load`.
    """
    stored = load(place)
    if stored.damage is not None:
        raise PermanentError(stored.damage)
    return stored.release


def write(place: str, release: Release, expected: Stored) -> None:
    """Make ``release`` what ``place`` holds, if that is still ``expected``.

    Raises ConflictError when it is not, or when the revision is not the next one.
    """
    stored = expected.release
    if stored is not None and release.revision != stored.revision + 1:
        raise ConflictError(
            f"revision {release.revision} of {release.use_case} does not follow revision "
            f"{stored.revision}, which is stored: look at it, try again"
        )
    conditional.swap(join(place, RELEASE), release.model_dump_json(indent=1).encode(), expected.tag)


def change(
    place: str, transition: Callable[[Release | None], Release]
) -> tuple[Release | None, Release]:
    """Make ``transition`` of what ``place`` holds its content; both, before and after.

    A transition that returns its argument changes nothing. After a race it is asked again. A
    damaged release counts as none. Raises ConflictError where others keep coming first.
    """
    races = 0
    while True:
        stored = load(place)
        release = transition(stored.release)
        if stored.release is None:
            release = _above(release, read_reports(place))
        try:
            if release != stored.release:
                write(place, release, stored)
        except ConflictError:
            races += 1
            if races == RACES:
                raise
        else:
            return stored.release, release


def _above(first: Release, reports: tuple[ReplicaReport, ...]) -> Release:
    """``first``, as a revision that no replica knows: a damaged or lost release had others."""
    last = max((report.revision for report in reports), default=0)
    return first.model_copy(update={"revision": last + 1})


def restore(place: str, refused: Release, former: Release | None, now: datetime) -> None:
    """Undo ``refused``, unless somebody has changed it since: ``former`` again, as a new revision,
    or nothing where there was nothing.
    """
    stored = load(place)
    if stored.release != refused or refused == former:
        return
    if former is None:
        conditional.delete(join(place, RELEASE))
        return
    reason = f"revision {refused.revision} was refused"
    write(place, reverted(refused, former, now, reason), stored)


def read_reports(place: str) -> tuple[ReplicaReport, ...]:
    """What the replicas below ``place`` reported last, by name; what is no report is left out."""
    found: list[ReplicaReport] = []
    for where in conditional.listed(join(place, REPLICAS), ".json"):
        content = conditional.get(where)
        if content is not None:  # else removed meanwhile
            try:
                found.append(ReplicaReport.model_validate_json(content[0]))
            except ValidationError:  # of another version of the server
                continue
    return tuple(found)


def prune(place: str, now: datetime) -> None:
    """Remove the reports of replicas that are gone for a day and whose counts no rollout needs."""
    release = load(place).release
    rollout = "" if release is None else release.rollout_id
    for report in read_reports(place):
        needed = bool(rollout) and any(part.rollout_id == rollout for part in report.totals)
        if is_stale(report, now) and now - report.at > KEPT and not needed:
            conditional.delete(join(place, REPLICAS, f"{report.replica}.json"))
