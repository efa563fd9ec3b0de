"""Datasets: raw data from a source into the lake."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import EmptyPartitionError
from mlops_assets.core.spec import FileSource, UseCaseSpec
from mlops_assets.core.windows import window_of
from mlops_assets.lifecycle.assets import DATASET_BACKFILL, asset_key, common, days, table_name
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


def ingest(
    spec: UseCaseSpec,
    functions: Functions,
    name: str,
    lake: "Lake",
    partitions: Sequence[str] | None,
) -> Published:
    """Read the dataset ``name`` from its source and publish it, as one commit.

    ``partitions`` are ISO days without gaps, None for an unpartitioned dataset. Partitions for
    which the source has no rows are refused; the others are published.
    """
    dataset = spec.datasets[name]
    tables = _read(spec, functions, name, partitions)
    empty = {partition for partition, rows in tables.items() if rows.num_rows == 0}
    reason = f"the source of {name} has no rows for it; check the source, or choose another day"
    if len(empty) == len(tables):
        first, last = min(empty), max(empty)
        raise EmptyPartitionError(f"{table_name(spec, name)} {first} to {last}: {reason}")
    published = publish(
        lake,
        table_name(spec, name),
        {partition: rows for partition, rows in tables.items() if partition not in empty},
        key=dataset.key,
        functions=functions,
        suite=dataset.suite,
        quarantine_limit=dataset.quarantine_limit,
    )
    refused = {**published.refused, **dict.fromkeys(empty, (reason,))}
    return Published(published.write, refused, published.quarantined, published.expectations)


def _read(
    spec: UseCaseSpec, functions: Functions, name: str, partitions: Sequence[str] | None
) -> Mapping[str, "pa.Table"]:
    from mlops_assets.adapters.sources import read_source
    from mlops_assets.core.schema import conform, split_by_day

    dataset = spec.datasets[name]
    where = f"dataset {table_name(spec, name)}"
    window = window_of(partitions, spec.timezone) if partitions is not None else None
    if isinstance(dataset.source, FileSource):
        raw: object = read_source(
            dataset.source, window, dataset.event_time, where, dataset.columns
        )
    else:
        source = functions.resolve(dataset.source)
        raw = source() if window is None else source(window)
    table = conform(raw, dataset.columns, where)
    if window is None or dataset.event_time is None:
        return {UNPARTITIONED: table}
    return split_by_day(table, dataset.event_time, window, where)


def dataset_asset(spec: UseCaseSpec, functions: Functions, name: str) -> dg.AssetsDefinition:
    """The asset that keeps the dataset ``name`` in the lake."""
    dataset = spec.datasets[name]
    key = asset_key(spec, name)

    @dg.asset(
        **common(spec, name, dataset.description, ["deltalake", *dataset.kinds]),
        partitions_def=days(spec) if dataset.partitioned else None,
        backfill_policy=DATASET_BACKFILL if dataset.partitioned else None,
        check_specs=check_specs(key, dataset.suite),
        metadata={"table": table_name(spec, name), "key": ", ".join(dataset.key)},
    )
    def _dataset(context: dg.AssetExecutionContext, platform: Platform) -> PublishEvents:
        partitions = context.partition_keys if dataset.partitioned else None
        published = ingest(spec, functions, name, platform.lake(), partitions)
        yield from events(key, published, suite=dataset.suite, partitioned=dataset.partitioned)

    return _dataset
