"""What has to be made: from what sources have, and what was made of what.

A partition's *inputs* stand for everything that it is made of: for a dataset, the source's version
of the day; for what is computed, the digests of all partitions that it reads. A partition is stale
when its inputs are not what they were when it was made. Nothing here remembers anything: the same
records give the same answer, however often and by whomever they are asked.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.windows import Window, day_start

UNDATED = "all"
"""The partition key of a table without days."""

Recorded = Mapping[str, Mapping[str, PartitionInputs]]
"""By asset and partition key."""


_WIDTH = 64
"""Of a SHA-256 in hexadecimal."""


@dataclass(frozen=True)
class Reads:
    """A table that a stage reads: its own day and ``days_before`` it."""

    table: str
    days_before: int = 0


@dataclass(frozen=True)
class Stage:
    """What is computed from other tables, and from which of their days."""

    name: str
    reads: tuple[Reads, ...]
    dated: bool = True
    """Whether it has one partition per day; then all that it reads has, else nothing has."""


@dataclass(frozen=True)
class Inputs:
    """What a partition would be made of now."""

    joint: str
    """SHA-256 of the digests of all partitions that it reads."""
    missing: tuple[str, ...]
    """Tables and days that it needs and that are not there, as ``table day``."""


@dataclass(frozen=True)
class Stale:
    """Partitions of stages, by stage, in order."""

    wanted: Mapping[str, tuple[str, ...]]
    """Made of something else than what is there now; all that they need is there."""
    unrecorded: Mapping[str, tuple[str, ...]]
    """Could be made, and nobody wrote down that they were."""
    held: bool
    """Whether any waits for a partition that is being made."""


@dataclass(frozen=True)
class Group:
    """Assets that need the same days in a row: one run. No days for tables without."""

    assets: tuple[str, ...]
    days: tuple[str, ...] = field(default=())


def ended_days(now: datetime, first: date, end: date | None, timezone: str) -> Window | None:
    """The days from ``first`` that are over at ``now`` and before ``end``; None when none is."""
    today = now.astimezone(ZoneInfo(timezone)).date()
    # A day ends when the next one begins, however long the clocks make it.
    over = today if day_start(today, timezone) <= now else today - timedelta(days=1)
    last = over if end is None else min(over, end)
    return Window(first, last, timezone) if first < last else None


def days_to_read(
    sound: Collection[str], days: Sequence[str], late_days: int, most: int, after: str = ""
) -> tuple[list[str], list[str]]:
    """Days of a source to look at, where only reading them tells what it has.

    First those that are not ``sound`` yet, at most ``most``, oldest first, beginning behind
    ``after`` (so that days that stay empty do not stand before others for ever); then the newest
    ``late_days`` sound ones, whose rows may have changed.
    """
    missing = [day for day in days if day not in sound]
    behind = [day for day in missing if day > after]
    before = missing[: len(missing) - len(behind)]
    known = [day for day in days if day in sound]
    return (behind + before)[:most], known[-late_days:] if late_days else []


def arrived(versions: Mapping[str, str], recorded: Mapping[str, PartitionInputs]) -> list[str]:
    """Partitions that the source has in another version than the recorded one, in order."""
    return sorted(
        partition
        for partition, version in versions.items()
        if partition not in recorded or recorded[partition].inputs != version
    )


def inputs_of(
    stage: Stage,
    days: Sequence[str],
    digests: Mapping[str, Mapping[str, str]],
    wanted: Collection[str] | None = None,
) -> dict[str, Inputs]:
    """What the partitions ``wanted`` (default: all) of ``stage`` would be made of.

    ``days`` are all days in a row from the use case's first: before it there is nothing to read.
    ``digests`` are by table and partition; an absent or empty one is not there.
    """
    keys = list(days) if stage.dated else [UNDATED]
    tables = [(reads, *_in_a_row(digests[reads.table], keys)) for reads in stage.reads]
    result: dict[str, Inputs] = {}
    for n, key in enumerate(keys):
        if wanted is not None and key not in wanted:
            continue
        digest = hashlib.sha256()
        missing: list[str] = []
        for reads, text, absent in tables:
            begin = max(0, n - reads.days_before)
            digest.update(reads.table.encode())
            digest.update(text[begin * _WIDTH : (n + 1) * _WIDTH])
            if absent:
                missing += [
                    f"{reads.table} {keys[place]}"
                    for place in range(begin, n + 1)
                    if place in absent
                ]
        result[key] = Inputs(digest.hexdigest(), tuple(missing))
    return result


def _in_a_row(digests: Mapping[str, str], keys: Sequence[str]) -> tuple[bytes, set[int]]:
    """The digests of ``keys``, one after the other, and the places of those that are not there."""
    found = [digests.get(key, "") for key in keys]
    text = "".join(
        digest if len(digest) == _WIDTH else _padded(digest) for digest in found
    ).encode()
    return text, {place for place, digest in enumerate(found) if not digest}


def _padded(digest: str) -> str:
    """A digest of another length, or none, at the width of all others."""
    return hashlib.sha256(digest.encode()).hexdigest() if digest else " " * _WIDTH


def stale(
    stages: Sequence[Stage],
    days: Sequence[str],
    recorded: Recorded,
    pending: Mapping[str, Collection[str]],
) -> Stale:
    """Which partitions of ``stages`` (each behind what it reads) have to be made again.

    ``pending`` are partitions that are being made, or about to: what reads them waits, and so does
    what reads that.
    """
    waiting = {name: set(partitions) for name, partitions in pending.items()}
    digests = {
        name: {key: entry.digest for key, entry in entries.items()}
        for name, entries in recorded.items()
    }
    wanted: dict[str, tuple[str, ...]] = {}
    unrecorded: dict[str, tuple[str, ...]] = {}
    held = False
    for stage in stages:
        own = recorded.get(stage.name, {})
        busy = _busy(stage, days, waiting)
        new: list[str] = []
        changed: list[str] = []
        for key, inputs in inputs_of(stage, days, digests).items():
            if key in busy or inputs.missing:
                continue
            if key not in own:
                new.append(key)
            elif own[key].inputs != inputs.joint:
                changed.append(key)
        held = held or bool(busy)
        waiting[stage.name] = {*waiting.get(stage.name, ()), *busy, *changed}
        wanted |= {stage.name: tuple(changed)} if changed else {}
        unrecorded |= {stage.name: tuple(new)} if new else {}
    return Stale(wanted, unrecorded, held)


def _busy(stage: Stage, days: Sequence[str], waiting: Mapping[str, Collection[str]]) -> set[str]:
    """Partitions of ``stage`` that are being made, or read one that is."""
    busy = set(waiting.get(stage.name, ()))
    for reads in stage.reads:
        being_made = waiting.get(reads.table, ())
        if not being_made:
            continue
        if not stage.dated:
            busy.add(UNDATED)
            continue
        for n, day in enumerate(days):
            if day in being_made:
                busy.update(days[n : n + reads.days_before + 1])
    return busy


def groups(wanted: Mapping[str, Iterable[str]], days: Sequence[str]) -> list[Group]:
    """``wanted`` partitions by asset as runs: days in a row, for all assets that need just them.

    Oldest first, tables without days before all.
    """
    place = {day: n for n, day in enumerate(days)}
    assets: dict[tuple[int, int] | None, list[str]] = {}
    for name, partitions in wanted.items():
        for found in _ranges(partitions, place):
            assets.setdefault(found, []).append(name)
    ordered = sorted(assets, key=lambda found: (-1, -1) if found is None else found)
    return [
        Group(
            tuple(sorted(assets[found])),
            () if found is None else tuple(days[found[0] : found[1] + 1]),
        )
        for found in ordered
    ]


def _ranges(
    partitions: Iterable[str], place: Mapping[str, int]
) -> Iterable[tuple[int, int] | None]:
    begin = before = -2
    for key in sorted(partitions, key=lambda key: place.get(key, -1)):
        if key == UNDATED:
            yield None
            continue
        at = place[key]
        if at != before + 1:
            if begin >= 0:
                yield begin, before
            begin = at
        before = at
    if begin >= 0:
        yield begin, before


def content_of(group: Group, version: Callable[[str, str], str]) -> str:
    """What a run of ``group`` is for, as 20 hexadecimal digits: assets, days and versions.

    ``version`` gives the inputs that an asset's partition would be made of.
    """
    digest = hashlib.sha256()
    for asset in group.assets:
        for key in group.days or (UNDATED,):
            digest.update(f"{asset}\n{key}\n{version(asset, key)}\n".encode())
    return digest.hexdigest()[:20]
