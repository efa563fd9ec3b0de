"""Feature views: features computed from datasets, one partition per day."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.spec import EVENT_TIME, KNOWN_AT, ColumnType, FeatureViewSpec, UseCaseSpec
from mlops_assets.core.windows import Window, window_of
from mlops_assets.lifecycle.assets import (
    DAY_BACKFILL,
    asset_key,
    common,
    contiguous,
    days,
    table_name,
)
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
    import polars as pl
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake


def compute(
    spec: UseCaseSpec,
    functions: Functions,
    name: str,
    lake: "Lake",
    partitions: Sequence[str] | None,
) -> tuple[Published, dict[str, str]]:
    """Compute the view ``name`` and publish it, as one commit.

    Returns what was published, and the partitions that could not be computed because days of a
    dataset that they need are not in the lake, with the reason. Raises MissingPartitionsError
    when none could be computed.
    """
    view = spec.feature_views[name]
    blocked = _blocked(spec, view, lake, partitions) if partitions is not None else {}
    sound = [partition for partition in partitions or () if partition not in blocked]
    if blocked and not sound:
        partition, reason = min(blocked.items())
        raise MissingPartitionsError(f"{table_name(spec, name)} {partition}: {reason}")
    if partitions is None:
        # The window of a view without days is all of the use case's time so far.
        end = spec.end or spec.start + timedelta(days=1)
        window = Window(spec.start, end, spec.timezone)
        tables = {UNPARTITIONED: _call(spec, functions, name, lake, window)}
    else:
        every = window_of(partitions, spec.timezone).partitions
        tables = {}
        for run in contiguous(sound, every):
            tables |= _compute_days(spec, functions, name, lake, run)
    empty = {p: "the function returned no rows" for p, t in tables.items() if t.num_rows == 0}
    published = publish(
        lake,
        table_name(spec, name),
        {partition: rows for partition, rows in tables.items() if partition not in empty},
        key=[*view.entity, EVENT_TIME, KNOWN_AT],
        functions=functions,
        suite=view.suite,
        quarantine_limit=0,
    )
    return published, {**blocked, **empty}


def _compute_days(
    spec: UseCaseSpec, functions: Functions, name: str, lake: "Lake", partitions: Sequence[str]
) -> Mapping[str, "pa.Table"]:
    from mlops_assets.core.schema import split_by_day

    window = window_of(partitions, spec.timezone)
    table = _call(spec, functions, name, lake, window)
    return split_by_day(table, EVENT_TIME, window, f"feature view {table_name(spec, name)}")


def _call(
    spec: UseCaseSpec, functions: Functions, name: str, lake: "Lake", window: Window
) -> "pa.Table":
    from mlops_assets.core.schema import conform

    view = spec.feature_views[name]
    datasets = {
        source: read_days(spec, lake, source, window, view.lookback_days)
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
    spec: UseCaseSpec, lake: "Lake", dataset: str, window: Window, lookback_days: int
) -> "pl.DataFrame":
    """Rows of ``dataset`` for the window's days and ``lookback_days`` before, all if it has none.

    Raises MissingPartitionsError for a day that is not in the lake, unless it is before the use
    case's first.
    """
    import polars as pl

    partitions: Sequence[str] | None = None
    if spec.datasets[dataset].partitioned:
        partitions = needed_days(spec, window, lookback_days)
    rows = lake.read(table_name(spec, dataset), partitions=partitions)
    return cast("pl.DataFrame", pl.from_arrow(rows))


def needed_days(spec: UseCaseSpec, window: Window, lookback_days: int) -> list[str]:
    """The window's days and those before it, from the use case's first day on."""
    return [
        day.isoformat() for day in window.with_lookback(lookback_days).days if day >= spec.start
    ]


def _blocked(
    spec: UseCaseSpec, view: FeatureViewSpec, lake: "Lake", partitions: Sequence[str]
) -> dict[str, str]:
    """Partitions that need a day of a dataset that is not in the lake, with the reason."""
    present = {
        source: set(lake.states(table_name(spec, source)))
        for source in view.datasets
        if spec.datasets[source].partitioned
    }
    blocked: dict[str, str] = {}
    for partition in partitions:
        day = date.fromisoformat(partition)
        window = Window(day, day + timedelta(days=1), spec.timezone)
        needed = needed_days(spec, window, view.lookback_days)
        for source, found in present.items():
            missing = [other for other in needed if other not in found]
            if missing:
                blocked[partition] = (
                    f"it needs {missing[0]} of {table_name(spec, source)}, which is not in the "
                    "lake: it was refused by its checks or never materialized"
                )
    return blocked


def feature_view_asset(spec: UseCaseSpec, functions: Functions, name: str) -> dg.AssetsDefinition:
    """The asset that computes the feature view ``name``."""
    view = spec.feature_views[name]
    key = asset_key(spec, name)

    @dg.asset(
        **common(spec, name, view.description, ["polars", "deltalake"]),
        partitions_def=days(spec) if view.partitioned else None,
        backfill_policy=DAY_BACKFILL if view.partitioned else None,
        deps=[asset_key(spec, source) for source in view.datasets],
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
        published, blocked = compute(spec, functions, name, platform.lake(), partitions)
        yield from events(
            key,
            published,
            suite=view.suite,
            partitioned=view.partitioned,
            blocked=blocked,
        )

    return _feature_view
