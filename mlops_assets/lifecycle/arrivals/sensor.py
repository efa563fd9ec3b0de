"""The sensor that asks for what sources have and the lake has not, and for what late data touches.

It compares: what the sources have now with the versions that were ingested, and what each computed
partition was made of with what is there now. It remembers nothing that matters (its cursor spares
work while nothing changes), so neither a crash, nor a second daemon, nor a clock that goes back
loses anything, and what was done is not asked for again.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

import dagster as dg

from mlops_assets import clock
from mlops_assets.adapters.functions import Functions
from mlops_assets.core.arrivals import (
    UNDATED,
    Recorded,
    Stage,
    arrived,
    ended_days,
    groups,
    inputs_of,
    stale,
)
from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle import switches
from mlops_assets.lifecycle.arrivals.inputs import stages_of
from mlops_assets.lifecycle.arrivals.objects import told_of
from mlops_assets.lifecycle.arrivals.requests import Tick
from mlops_assets.lifecycle.arrivals.sources import Had, Source, sources_of
from mlops_assets.lifecycle.assets import asset_key
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.under_way import being_made

MOST_SECONDS = 20.0
"""After which a tick leaves further sources to the next one: Dagster ends a tick at 60 seconds."""

INTERVAL_SECONDS = 30

LOOK_AGAIN = timedelta(minutes=5)
"""How long sources rest whose newest day is in the lake: most are databases, which would be asked
for rows twice a minute by each use case. In a replay, ticks are farther apart."""


@dataclass(frozen=True)
class Cursor:
    """What spares the next tick work."""

    seen: str = ""
    """Stands for all that a tick looked at that found nothing to do."""
    said: tuple[str, ...] = ()
    """What it said about that."""
    after: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where to look first, by source."""
    known: str = ""
    """Stands for the days and what is written down of partitions, without the sources."""
    looked: float = 0.0
    """When sources were looked at whose newest days are in the lake (Unix time); else 0."""

    @classmethod
    def of(cls, text: str | None) -> "Cursor":
        """The cursor in ``text``; an empty one when that is none of this release."""
        try:
            found = json.loads(text or "{}")
            after, looked = dict(found["after"]), float(found["looked"])
            return cls(found["seen"], tuple(found["said"]), after, found["known"], looked)
        except (ValueError, KeyError, TypeError):
            return cls()

    def rests(self, known: str, now: datetime) -> bool:
        """Whether sources need not be looked at ``now``, and nothing else has changed."""
        # A clock that stands still, or goes back, is a replay's: whoever ticks wants to know.
        recently = 0 < now.timestamp() - self.looked < LOOK_AGAIN.total_seconds()
        return recently and self.known == known

    def text(self) -> str:
        """The cursor as Dagster keeps it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Plan:
    """What a tick asks for, and what it says about it."""

    requests: tuple[dg.RunRequest, ...]
    said: tuple[str, ...]
    cursor: Cursor


def new_data_sensor(
    spec: UseCaseSpec, functions: Functions, stages: Sequence[Stage] | None = None
) -> dg.SensorDefinition:
    """The sensor ``<use_case>_new_data``.

    ``stages`` (each behind what it reads) are those whose assets write down what they were made of
    and read other days than their own; default: the feature views and the batch predictions.
    """
    sources = sources_of(spec, functions)
    known = stages_of(spec) if stages is None else stages
    names = [*(source.asset for source in sources), *(stage.name for stage in known)]
    name = f"{spec.name}_new_data"

    @dg.sensor(
        name=name,
        # With a target instead, Dagster would make a job of it, one for each use case.
        asset_selection=dg.AssetSelection.assets(*(asset_key(spec, asset) for asset in names)),
        default_status=switches.default_status(name),
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Asks for the days that sources have and the lake has not, and for days of "
        "features and predictions that late or corrected data touches.",
    )
    def _new_data(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        made = plan(spec, sources, known, platform, context.instance, Cursor.of(context.cursor))
        for line in made.said:
            context.log.info(line)
        return dg.SensorResult(
            run_requests=list(made.requests),
            skip_reason=None if made.requests else "; ".join(made.said) or "nothing is new",
            cursor=made.cursor.text(),
        )

    return _new_data


def plan(
    spec: UseCaseSpec,
    sources: Sequence[Source],
    stages: Sequence[Stage],
    platform: Platform,
    instance: dg.DagsterInstance,
    cursor: Cursor,
) -> Plan:
    """What to ask for now: first what sources have, then what was made of other things.

    A partition that waits for another one is left to a later tick.
    """
    from mlops_assets.adapters import inputs

    now = clock.now()
    window = ended_days(now, spec.start, spec.end, spec.timezone)
    days = [] if window is None else window.partitions
    names = [*(source.asset for source in sources), *(stage.name for stage in stages)]

    def documents() -> dict[str, bytes]:
        return {name: inputs.content(platform.documents_url, spec.name, name) for name in names}

    def parsed(name: str) -> dict[str, PartitionInputs]:
        where = inputs.place(platform.documents_url, spec.name, name)
        return inputs.parse(written[name], where)

    written = documents()
    known = _known(days[-1:], stages, written, told_of(spec, platform))
    if cursor.rests(known, now):
        return Plan((), cursor.said, cursor)
    had, said = _ask(sources, platform, days, parsed, cursor)
    after = {name: found.after for name, found in had.items() if found.after}
    seen = _fingerprint(known, had)
    looked = now.timestamp() if not said and _complete(spec, had, days, parsed) else 0.0
    if seen == cursor.seen:
        cursor = replace(cursor, after=after, known=known, looked=looked)
        return Plan((), (*said, *cursor.said), cursor)
    tick = Tick(spec, instance, being_made(spec, instance, days))
    if documents() != written:
        # A run ended just now: what it wrote down and what is being made do not fit each other.
        return Plan((), (*said, "a run wrote something meanwhile"), Cursor("", (), after))
    recorded = {name: parsed(name) for name in names}
    new = {name: arrived(found.versions, recorded[name]) for name, found in had.items()}
    for group in groups(new, days):
        tick.ask(group, lambda asset, key: had[asset].versions[key])
    found = stale(stages, days, recorded, tick.pending)
    wanted = _with_lost(spec, instance, found.wanted, found.unrecorded)
    joints = _joints(stages, wanted, days, recorded)
    for group in groups(wanted, days):
        tick.ask(group, lambda asset, key: joints[asset][key])
    settled = not (tick.requests or tick.waits or found.held or found.unrecorded)
    return Plan(
        tuple(tick.requests),
        (*said, *tick.said),
        Cursor(seen, tuple(tick.said), after, known, looked) if settled else Cursor(after=after),
    )


def _complete(
    spec: UseCaseSpec,
    had: Mapping[str, Had],
    days: Sequence[str],
    recorded: Callable[[str], Mapping[str, PartitionInputs]],
) -> bool:
    """Whether each dataset's source was looked at, and its newest day is in the lake."""

    def sound(name: str, key: str) -> bool:
        entry = recorded(name).get(key)
        return name in had and entry is not None and bool(entry.digest)

    return bool(days) and all(
        sound(name, days[-1] if dataset.partitioned else UNDATED)
        for name, dataset in spec.datasets.items()
    )


def _ask(
    sources: Sequence[Source],
    platform: Platform,
    days: Sequence[str],
    recorded: Callable[[str], Mapping[str, PartitionInputs]],
    cursor: Cursor,
) -> tuple[dict[str, Had], list[str]]:
    """What each source has of ``days``; one that fails has nothing, and does not stop others."""
    begun = time.monotonic()
    had: dict[str, Had] = {}
    said: list[str] = []
    wanted = {*days, UNDATED}
    for source in sources:
        if time.monotonic() - begun > MOST_SECONDS:
            said.append(f"the source of {source.asset} has to wait: others took {MOST_SECONDS} s")
            continue
        before = cursor.after.get(source.asset, "")
        try:
            found = source.look(platform, days, recorded(source.asset), before)
        # Teams write these functions: whatever one raises must not stop the other sources.
        except Exception as error:  # noqa: BLE001 - see above
            said.append(f"the source of {source.asset} failed: {type(error).__name__}: {error}")
            continue
        kept = {key: version for key, version in found.versions.items() if key in wanted}
        had[source.asset] = replace(found, versions=kept)
        said += found.said
    return had, said


def _known(
    last: Sequence[str],
    stages: Sequence[Stage],
    written: Mapping[str, bytes],
    told: Sequence[bytes],
) -> str:
    """Stands for all that a tick decides by, but sources and what is being made."""
    digest = hashlib.sha256(repr((list(last), stages, list(told))).encode())
    for name, document in written.items():
        digest.update(f"\n{name} {len(document)}\n".encode())
        digest.update(document)
    return digest.hexdigest()


def _fingerprint(known: str, had: Mapping[str, Had]) -> str:
    """Stands for all that a tick decides by, but what is being made."""
    digest = hashlib.sha256(known.encode())
    for name, found in had.items():
        digest.update(f"\n{name} {found.versions}".encode())
    return digest.hexdigest()


def _with_lost(
    spec: UseCaseSpec,
    instance: dg.DagsterInstance,
    wanted: Mapping[str, Sequence[str]],
    unrecorded: Mapping[str, Sequence[str]],
) -> dict[str, list[str]]:
    """``wanted``, and partitions that were made without anybody writing down of what.

    Two writers at the same moment lose such a record, and tables of an earlier release have none.
    A partition that was never made is not among them: the assets' conditions ask for it.
    """
    result = {name: list(partitions) for name, partitions in wanted.items()}
    for name, partitions in unrecorded.items():
        key = asset_key(spec, name)
        if UNDATED in partitions:
            made = {UNDATED} if instance.get_latest_materialization_event(key) else set[str]()
        else:
            made = set(instance.get_materialized_partitions(key))
        if lost := made.intersection(partitions):
            result[name] = sorted({*result.get(name, ()), *lost})
    return result


def _joints(
    stages: Sequence[Stage],
    wanted: Mapping[str, Sequence[str]],
    days: Sequence[str],
    recorded: Recorded,
) -> dict[str, dict[str, str]]:
    """What the ``wanted`` partitions would be made of, by stage and partition."""
    digests = {
        name: {key: entry.digest for key, entry in entries.items()}
        for name, entries in recorded.items()
    }
    return {
        stage.name: {
            key: found.joint
            for key, found in inputs_of(stage, days, digests, set(wanted[stage.name])).items()
        }
        for stage in stages
        if stage.name in wanted
    }
