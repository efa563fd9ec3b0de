"""Datasets: raw data from a source into the lake."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import (
    EmptyPartitionError,
    PermanentError,
    SchemaError,
    TransientError,
)
from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.spec import FileSource, UseCaseSpec
from mlops_assets.core.windows import Window, window_of
from mlops_assets.lifecycle.arrivals.inputs import digests_of, entries_of, recording
from mlops_assets.lifecycle.assets import (
    DATASET_BACKFILL,
    asset_key,
    common,
    days,
    placed,
    table_name,
)
from mlops_assets.lifecycle.dataset_checks import dataset_check_specs, dataset_checks
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.publish import (
    UNPARTITIONED,
    Published,
    PublishEvents,
    check_specs,
    events,
    publish,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake


@dataclass(frozen=True)
class SourceDays:
    """What a source has of some partitions."""

    tables: Mapping[str, "pa.Table"]
    """Rows of the partitions that have some."""
    versions: Mapping[str, str]
    """The source's version of each partition that it has, sound or not."""
    refused: Mapping[str, Exception]
    """Partitions without rows, or whose rows are not what the dataset's description promises, or
    for which the source raises."""


@dataclass(frozen=True)
class Ingested:
    """What became of the partitions that a source was asked for."""

    published: Published
    entries: Mapping[str, PartitionInputs]
    """The source's version of each partition that it has, and what was published of it."""
    refused: Mapping[str, Exception]
    """Partitions that never came to be checked."""


def ingest(
    spec: UseCaseSpec,
    functions: Functions,
    name: str,
    lake: "Lake",
    partitions: Sequence[str] | None,
) -> Ingested:
    """Read the dataset ``name`` from its source and publish it, as one commit.

    ``partitions`` are ISO days without gaps, None for an unpartitioned dataset. Partitions for
    which the source has no rows, or others than described, are refused; the others are published.
    """
    dataset = spec.datasets[name]
    found = read_source_days(spec, functions, name, partitions)
    published = Published(write=None)
    if found.tables:
        published = publish(
            lake,
            table_name(spec, name),
            found.tables,
            key=dataset.key,
            functions=functions,
            suite=dataset.suite,
            quarantine_limit=dataset.quarantine_limit,
        )
    reasons = {partition: (str(error),) for partition, error in found.refused.items()}
    return Ingested(
        replace(published, refused={**published.refused, **reasons}),
        entries_of(found.versions, digests_of(published)),
        found.refused,
    )


def read_source_days(
    spec: UseCaseSpec, functions: Functions, name: str, partitions: Sequence[str] | None
) -> SourceDays:
    """What the source of the dataset ``name`` has of ``partitions``, as :func:`ingest` takes them.

    Without an inventory a partition's version is the digest of its rows, in the order of their key.
    Raises what the source raises for all of them, but for rows that are not as described.
    """
    from mlops_assets.adapters.delta import sort_rows
    from mlops_assets.core.digest import table_digest

    dataset = spec.datasets[name]
    table = table_name(spec, name)
    # Before the rows: a version that is too old only has them read again.
    listed = None if dataset.inventory is None else inventory(spec, functions, name, partitions)
    tables, refused = _read_each(spec, functions, name, partitions)
    versions = {
        partition: _version_of(error)
        for partition, error in refused.items()
        if isinstance(error, SchemaError)
    }
    for partition, rows in tables.items():
        if rows.num_rows:
            versions[partition] = table_digest(sort_rows(table, partition, rows, dataset.key))
            continue
        refused[partition] = EmptyPartitionError(
            f"{table} {partition}: the source of {name} has no rows for it; check the source, or "
            "choose another day"
        )
    if listed is not None:
        versions = {p: listed[p] for p in (*tables, *refused) if p in listed}
    return SourceDays({p: t for p, t in tables.items() if t.num_rows}, versions, refused)


def inventory(
    spec: UseCaseSpec, functions: Functions, name: str, partitions: Sequence[str] | None
) -> dict[str, str]:
    """The source's version of each of ``partitions`` that it has, by its inventory function.

    An unpartitioned dataset has one version for all that the function returns. Raises SchemaError
    for anything else than a table of ``day`` and ``version``.
    """
    from mlops_assets.core.schema import conform

    function = spec.datasets[name].inventory
    if function is None:
        raise PermanentError(f"dataset {table_name(spec, name)} has no inventory")
    whole = Window(spec.start, spec.end or spec.start + timedelta(days=1), spec.timezone)
    window = whole if partitions is None else window_of(partitions, spec.timezone)
    where = f"the inventory of dataset {table_name(spec, name)}"
    found = conform(
        functions.resolve(function)(window), {"day": "string", "version": "string"}, where
    )
    rows = dict(zip(found["day"].to_pylist(), found["version"].to_pylist(), strict=True))
    if partitions is None:
        text = "\n".join(f"{day} {version}" for day, version in sorted(rows.items()))
        return {UNPARTITIONED: hashlib.sha256(text.encode()).hexdigest()}
    return {partition: str(rows[partition]) for partition in partitions if partition in rows}


def _version_of(error: SchemaError) -> str:
    """What stands for rows that cannot be read: it stays while they are wrong in the same way."""
    return f"wrong {hashlib.sha256(str(error).encode()).hexdigest()}"


def _read_each(
    spec: UseCaseSpec, functions: Functions, name: str, partitions: Sequence[str] | None
) -> "tuple[Mapping[str, pa.Table], dict[str, Exception]]":
    """The rows of all partitions, and errors by day: a wrong day does not keep the others out.

    Raises what the source raises for every day.
    """
    try:
        return _read(spec, functions, name, partitions), {}
    except TransientError:
        raise
    except Exception as error:
        if partitions is not None and len(partitions) > 1:
            return _read_apart(spec, functions, name, partitions)
        if isinstance(error, SchemaError):
            return {}, {(partitions or [UNPARTITIONED])[0]: error}
        raise


def _read_apart(
    spec: UseCaseSpec, functions: Functions, name: str, partitions: Sequence[str]
) -> "tuple[Mapping[str, pa.Table], dict[str, Exception]]":
    tables: dict[str, pa.Table] = {}
    wrong: dict[str, Exception] = {}
    # The first and the last day before the others: a source that has neither is away, and each
    # further question may take as long as it takes to give up.
    for partition in dict.fromkeys([partitions[-1], *partitions]):
        try:
            tables |= _read(spec, functions, name, [partition])
        except SchemaError as error:
            wrong[partition] = error
        except Exception as error:
            if len(wrong) == 1 and not tables and partition == partitions[0]:
                raise
            wrong[partition] = error
    return tables, wrong


def _read(
    spec: UseCaseSpec, functions: Functions, name: str, partitions: Sequence[str] | None
) -> Mapping[str, "pa.Table"]:
    from mlops_assets import clock
    from mlops_assets.core.as_of import as_of
    from mlops_assets.core.schema import split_by_day

    dataset = spec.datasets[name]
    window = window_of(partitions, spec.timezone) if partitions is not None else None
    # A replay's source has the whole year: what the clock has not reached is not known yet.
    table = as_of(source_rows(spec, functions, name, window), dataset, clock.now())
    if window is None or dataset.event_time is None:
        return {UNPARTITIONED: table}
    where = f"dataset {table_name(spec, name)}"
    return split_by_day(table, dataset.event_time, window, where)


def source_rows(
    spec: UseCaseSpec, functions: Functions, name: str, window: Window | None
) -> "pa.Table":
    """What the source of the dataset ``name`` has for ``window``, known by now or not.

    ``window`` is None for an unpartitioned dataset. Raises SchemaError for other columns or types.
    """
    from mlops_assets.adapters.sources import read_source
    from mlops_assets.core.schema import conform

    dataset = spec.datasets[name]
    where = f"dataset {table_name(spec, name)}"
    if isinstance(dataset.source, FileSource):
        raw: object = read_source(
            dataset.source, window, dataset.event_time, where, dataset.columns
        )
    else:
        source = functions.resolve(dataset.source)
        raw = source() if window is None else source(window)
    return conform(raw, dataset.columns, where)


def dataset_asset(spec: UseCaseSpec, functions: Functions, name: str) -> dg.AssetsDefinition:
    """The asset that keeps the dataset ``name`` in the lake."""
    dataset = spec.datasets[name]
    key = asset_key(spec, name)

    @dg.asset(
        **common(spec, name, dataset.description, ["deltalake", *dataset.kinds]),
        **placed(spec, name),
        partitions_def=days(spec) if dataset.partitioned else None,
        backfill_policy=DATASET_BACKFILL if dataset.partitioned else None,
        check_specs=[*check_specs(key, dataset.suite), *dataset_check_specs(spec, name)],
        metadata={"table": table_name(spec, name), "key": ", ".join(dataset.key)},
    )
    def _dataset(context: dg.AssetExecutionContext, platform: Platform) -> PublishEvents:
        from mlops_assets.clock import now

        partitions = context.partition_keys if dataset.partitioned else None
        done = ingest(spec, functions, name, platform.lake(), partitions)
        with recording(platform, spec, name, done.entries):
            if done.refused and set(done.refused) == set(partitions or [UNPARTITIONED]):
                raise done.refused[min(done.refused)]
            yield from dataset_checks(spec, name, platform.lake(), done.published, now())
            yield from events(
                key, done.published, suite=dataset.suite, partitioned=dataset.partitioned
            )

    return _dataset
