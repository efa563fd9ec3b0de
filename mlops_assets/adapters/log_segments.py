"""The segments of a prediction log: files that servers write to, or objects that they shipped.

Which hours a segment holds stands in its name, so that a reader of some hours opens no other one.
The files' own times say nothing: a replay's clock is not the machine's.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.adapters import storage
from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    import pyarrow.fs

HOUR = timedelta(hours=1)

STAMP = len("20130301T05")
"""Characters of a segment's name that tell its hour."""


@dataclass(frozen=True, order=True)
class Segment:
    """One that is not empty; ``place`` is its path or URL."""

    hour: datetime
    name: str
    size: int
    place: str


def segments(
    log: str | Path,
    since: datetime | None,
    until: datetime | None,
    skipped: Sequence[str] = (),
) -> list[Segment]:
    """The segments that hold records between the two, by hour and name.

    ``skipped`` are hours to leave out, as the names of their segments begin: where each run of such
    hours begins, and the hour behind it, in turn, sorted.

    Raises PermanentError for a file that is no segment, TransientError when it cannot be listed.
    """
    directory = storage.local_path(str(log))
    if directory is None:
        found = _shipped(str(log), since, until, skipped)
    else:
        found = _written(directory, skipped)
    return sorted(
        segment
        for segment in found
        if segment.size
        and not _is_skipped(segment.name, skipped)
        and (since is None or segment.hour + HOUR > since)
        and (until is None or segment.hour < until)
    )


def lines_of(found: Iterable[Segment]) -> Iterator[bytes]:
    """The lines of the segments, one after the other, without empty ones.

    Raises TransientError for one that cannot be read.
    """
    for segment in found:
        path = storage.local_path(segment.place)
        if path is None:
            data = storage.read_bytes(segment.place)
            if data is None:
                raise TransientError(f"{segment.place} is gone while the log was read")
            yield from (line for line in data.splitlines(keepends=True) if line.strip())
            continue
        try:
            with path.open("rb") as file:
                yield from (line for line in file if line.strip())
        except OSError as error:
            raise _unreadable(path.parent, error) from error


def _is_skipped(name: str, skipped: Sequence[str]) -> bool:
    return bool(bisect_right(skipped, name[:STAMP]) % 2)


def _hour_of(name: str, where: object) -> datetime:
    from mlops_assets.core.prediction_log import segment_hour

    try:
        return segment_hour(name)
    except PermanentError as error:
        raise PermanentError(f"{where}: {error}") from error


def _written(directory: Path, skipped: Sequence[str]) -> Iterator[Segment]:
    try:
        # A log of a year has thousands of segments: what is skipped costs nothing but its name.
        for name in os.listdir(directory):  # noqa: PTH208
            if not name.endswith(".jsonl") or _is_skipped(name, skipped):
                continue
            hour = _hour_of(name, directory)
            path = directory / name
            try:
                yield Segment(hour, name, path.stat().st_size, str(path))
            except FileNotFoundError:  # an empty one that its server just removed
                continue
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(directory, error) from error


def _shipped(
    url: str, since: datetime | None, until: datetime | None, skipped: Sequence[str]
) -> Iterator[Segment]:
    """Those in the folders of the days from ``since`` to ``until`` that have hours to read."""
    scheme = url.partition("://")[0]
    days = [info.base_name for info in _listed(url) if not info.is_file]
    for day in sorted(days):
        if not _concerns(day, since, until, skipped):
            continue
        for info in _listed(storage.join(url, day)):
            if info.is_file and info.base_name.endswith(".jsonl"):
                hour = _hour_of(info.base_name, url)
                yield Segment(hour, info.base_name, info.size or 0, f"{scheme}://{info.path}")


def _listed(url: str) -> "list[pyarrow.fs.FileInfo]":
    import pyarrow.fs

    files, path = storage.filesystem(url)
    try:
        return files.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise storage.failure(error, "list", url) from error


def _concerns(
    day: str, since: datetime | None, until: datetime | None, skipped: Sequence[str]
) -> bool:
    """Whether the folder of the UTC day ``day`` may hold something that is asked for."""
    from mlops_assets.core.prediction_log import DAY_FOLDER

    # From the hour that `since` lies in.
    if since is not None and day < f"{(since - HOUR).astimezone(UTC):{DAY_FOLDER}}":
        return False
    if until is not None and day > f"{until.astimezone(UTC):{DAY_FOLDER}}":
        return False
    first, last = bisect_right(skipped, f"{day}T00"), bisect_right(skipped, f"{day}T23")
    return first != last or not first % 2


def _unreadable(directory: Path, error: OSError) -> TransientError:
    return TransientError(f"the prediction log {directory} cannot be read: {error.strerror}")
