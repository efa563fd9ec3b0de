"""Feature views: features computed from datasets, one partition per day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.spec import EVENT_TIME, KNOWN_AT, ColumnType, FeatureViewSpec, UseCaseSpec
from mlops_assets.core.windows import Window, window_of
from mlops_assets.lifecycle.arrivals.inputs import (
    blocked,
    digests_of,
    entries_of,
    inputs_now,
    recording,
    view_stage,
)
from mlops_assets.lifecycle.assets import (
    DAY_BACKFILL,
    asset_key,
    common,
    contiguous,
    days,
    placed,
    table_name,
)
from mlops_assets.lifecycle.automation import carries
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.publish import (
    UNPARTITIONED,
    Published,
    PublishEvents,
    check_specs,
    events,
    publish,
)
from mlops_assets.lifecycle.tables import Tables

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake


@dataclass(frozen=True)
class Computed:
    """What became of some partitions of a view."""

    published: Published
    left_out: Mapping[str, str]
    """Partitions that need days of a dataset that are not in the lake, or for which the function
    has no rows, with the reason."""
    entries: Mapping[str, PartitionInputs]
    """What each partition was made of."""


def compute(
    spec: UseCaseSpec,
    functions: Functions,
    name: str,
    lake: "Lake",
    partitions: Sequence[str] | None,
) -> Computed:
    """Compute the view ``name`` and publish it, as one commit.

    A partition that cannot be computed is left out; the others are published.
    """
    view = spec.feature_views[name]
    inputs = inputs_now(spec, view_stage(spec, name), lake, partitions)
    left_out = blocked(spec, inputs)
    sound = [partition for partition in inputs if partition not in left_out]
    tables: dict[str, pa.Table] = {}
    if partitions is None:
        if sound:
            tables[UNPARTITIONED] = view_rows(spec, functions, name, lake, None)
    else:
        every = window_of(partitions, spec.timezone).partitions
        for run in contiguous(sound, every):
            tables |= _compute_days(spec, functions, name, lake, run)
    left_out |= {p: "the function returned no rows" for p, t in tables.items() if t.num_rows == 0}
    full = {partition: rows for partition, rows in tables.items() if partition not in left_out}
    published = Published(write=None)
    if full:
        published = publish(
            lake,
            table_name(spec, name),
            full,
            key=[*view.entity, EVENT_TIME, KNOWN_AT],
            functions=functions,
            suite=view.suite,
            quarantine_limit=0,
        )
    made_of = {partition: found.joint for partition, found in inputs.items()}
    return Computed(published, left_out, entries_of(made_of, digests_of(published)))


def _compute_days(
    spec: UseCaseSpec, functions: Functions, name: str, lake: "Lake", partitions: Sequence[str]
) -> Mapping[str, "pa.Table"]:
    from mlops_assets.core.schema import split_by_day

    window = window_of(partitions, spec.timezone)
    table = view_rows(spec, functions, name, lake, window)
    return split_by_day(table, EVENT_TIME, window, f"feature view {table_name(spec, name)}")


def view_rows(
    spec: UseCaseSpec, functions: Functions, name: str, tables: Tables, window: Window | None
) -> "pa.Table":
    """The rows of the view ``name`` for ``window``, None for a view without days.

    Raises MissingPartitionsError, and SchemaError for other columns or types than described.
    """
    from mlops_assets.core.schema import conform

    view = spec.feature_views[name]
    if window is None:
        # All of the use case's time so far.
        end = spec.end or spec.start + timedelta(days=1)
        window = Window(spec.start, end, spec.timezone)
    datasets = {
        source: read_days(spec, tables, source, window, view.lookback_days)
        for source in view.datasets
    }
    result = functions.resolve(view.function)(window, **datasets)
    return conform(result, view_columns(spec, view), f"feature view {table_name(spec, name)}")


def view_columns(spec: UseCaseSpec, view: FeatureViewSpec) -> dict[str, ColumnType]:
    """The columns of a view's table: entity, times, features."""
    features: dict[str, ColumnType] = {
        feature: "string" if kind == "category" else "float32"
        for feature, kind in view.features.items()
    }
    entity: dict[str, ColumnType] = {
        column: spec.entity_types.get(column, "string") for column in view.entity
    }
    return {**entity, EVENT_TIME: "timestamp", KNOWN_AT: "timestamp", **features}


def read_days(
    spec: UseCaseSpec, tables: Tables, dataset: str, window: Window, lookback_days: int
) -> "pl.DataFrame":
    """Rows of ``dataset`` for the window's days and ``lookback_days`` before, all if it has none.

    Raises MissingPartitionsError for a day that is not in the lake, unless it is before the use
    case's first.
    """
    import polars as pl

    partitions: Sequence[str] | None = None
    if spec.datasets[dataset].partitioned:
        partitions = needed_days(spec, window, lookback_days)
    rows = tables.read(table_name(spec, dataset), partitions=partitions)
    return cast("pl.DataFrame", pl.from_arrow(rows))


def needed_days(spec: UseCaseSpec, window: Window, lookback_days: int) -> list[str]:
    """The window's days and those before it, from the use case's first day on."""
    return [
        day.isoformat() for day in window.with_lookback(lookback_days).days if day >= spec.start
    ]


def feature_view_asset(spec: UseCaseSpec, functions: Functions, name: str) -> dg.AssetsDefinition:
    """The asset that computes the feature view ``name``."""
    view = spec.feature_views[name]
    key = asset_key(spec, name)

    @dg.asset(
        **common(spec, name, view.description, ["polars", "deltalake"]),
        **placed(spec, name),
        partitions_def=days(spec) if view.partitioned else None,
        backfill_policy=DAY_BACKFILL if view.partitioned else None,
        deps=[asset_key(spec, source) for source in view.datasets],
        automation_condition=carries(
            undated=[
                asset_key(spec, source)
                for source in view.datasets
                if view.partitioned and not spec.datasets[source].partitioned
            ],
            compared=True,
        ),
        check_specs=check_specs(key, view.suite),
        metadata={
            "table": table_name(spec, name),
            "entity": ", ".join(view.entity),
            "features": ", ".join(view.features),
            "lookback_days": view.lookback_days,
            **({"ttl_hours": view.ttl_hours} if view.ttl_hours is not None else {}),
        },
    )
    def _feature_view(context: dg.AssetExecutionContext, platform: Platform) -> PublishEvents:
        partitions = context.partition_keys if view.partitioned else None
        computed = compute(spec, functions, name, platform.lake(), partitions)
        with recording(platform, spec, name, computed.entries):
            if partitions is not None and set(partitions) <= set(computed.left_out):
                partition, reason = min(computed.left_out.items())
                raise MissingPartitionsError(f"{table_name(spec, name)} {partition}: {reason}")
            yield from events(
                key,
                computed.published,
                suite=view.suite,
                partitioned=view.partitioned,
                blocked=computed.left_out,
            )

    return _feature_view
