"""Parity: the features that the endpoint answered with, against the lake, and why they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import MissingPartitionsError, PlatformError
from mlops_assets.core.spec import EVENT_ID, ColumnType, UseCaseSpec
from mlops_assets.core.windows import Window, window_of
from mlops_assets.lifecycle.assets import (
    DAY_BACKFILL,
    asset_key,
    common,
    days,
    placed,
    table_name,
    view_lookback_days,
)
from mlops_assets.lifecycle.automation import carries
from mlops_assets.lifecycle.feature_views import needed_days
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.prediction_log import PREDICTION_LOG, read_answers
from mlops_assets.lifecycle.publish import Published, PublishEvents, events
from mlops_assets.lifecycle.training_set import ASKED_AT, asked_events

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake, WriteResult
    from mlops_assets.core.parity_records import Parity
    from mlops_assets.core.pit import View

PARITY = "parity"

COLUMNS: dict[str, ColumnType] = {
    EVENT_ID: "string",
    "request_id": "string",
    "asked_at": "timestamp",
    "view": "string",
    "features": "string",
    "served": "string",
    "lake": "string",
    "cause": "string",
    "detail": "string",
}
"""One row for each view of an answer whose features differ; see core.parity_records.Mismatch."""

NOTHING = "nothing"
"""The data version of a day on which nothing differs: it has no partition in the lake."""

EXPIRED_DAYS = 7
"""Days before a view's TTL in which the row that an endpoint should not have used is looked for."""


@dataclass
class Compared:
    """What became of the days that were asked for."""

    days: "dict[str, Parity]" = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict[str, str])
    """Days for which another table lacks a partition, with the reason."""
    absent: tuple[str, ...] = ()
    """Days of which no answer was collected."""


def compare(
    spec: UseCaseSpec, functions: Functions, lake: "Lake", partitions: Sequence[str]
) -> Compared:
    """The parity of the answers about the events of the days ``partitions``."""
    logged = lake.states(table_name(spec, PREDICTION_LOG))
    result = Compared(absent=tuple(day for day in partitions if day not in logged))
    for day in partitions:
        if day not in logged:
            continue
        try:
            result.days[day] = _compare_day(spec, functions, lake, day)
        except MissingPartitionsError as error:
            result.blocked[day] = str(error)
    return result


def _compare_day(spec: UseCaseSpec, functions: Functions, lake: "Lake", day: str) -> "Parity":
    import polars as pl

    from mlops_assets.core.parity import find_mismatches

    window = window_of([day], spec.timezone)
    asked = asked_events(spec, functions, lake, window).drop(ASKED_AT)
    # An event may be asked about as early as agreed, or a day earlier.
    reach = -(-timedelta(minutes=spec.events.lead_minutes) // timedelta(days=1)) + 1
    answers = read_answers(spec, lake, window.with_lookback(reach).partitions)
    answers = answers.filter(pl.col(EVENT_ID).is_not_null(), pl.col("returned"))

    @lru_cache(maxsize=64)
    def former(name: str, version: int) -> "View | None":
        try:
            return _view(spec, lake, name, window, version)
        except PlatformError:
            # Vacuumed, or written before the table was made anew.
            return None

    return find_mismatches(
        answers,
        asked,
        [_view(spec, lake, name, window, None) for name in spec.feature_views],
        spec.feature_types,
        former,
        spec.timezone,
    )


def _view(
    spec: UseCaseSpec, lake: "Lake", name: str, window: Window, version: int | None
) -> "View":
    """The rows of the view ``name`` that answers about the window may have used, or wrongly used.

    Raises MissingPartitionsError for a day that they need, unless of a former ``version``.
    """
    import polars as pl

    from mlops_assets.core.pit import View

    view = spec.feature_views[name]
    table = table_name(spec, name)
    partitions: list[str] | None = None
    if view.partitioned:
        back = view_lookback_days(view)
        needed = set(needed_days(spec, window, back)) if version is None else set[str]()
        wanted = needed_days(spec, window, back + EXPIRED_DAYS)
        present = lake.states(table, version)
        partitions = [day for day in wanted if day in present or day in needed]
    rows = lake.read(table, partitions, version=version)
    return View(
        name=name,
        frame=cast("pl.DataFrame", pl.from_arrow(rows)),
        entity=tuple(view.entity),
        features=tuple(view.features),
        ttl=timedelta(hours=view.ttl_hours) if view.ttl_hours is not None else None,
    )


def publish_days(spec: UseCaseSpec, lake: "Lake", found: "Mapping[str, Parity]") -> "WriteResult":
    """Put the mismatches of the days ``found`` (at least one) in the lake.

    A day without a mismatch has no partition there, and counts as published.
    """
    import polars as pl

    from mlops_assets.adapters.lake import PartitionState, WriteResult
    from mlops_assets.core.schema import conform

    name = table_name(spec, PARITY)
    tables = {
        day: conform(
            pl.DataFrame(
                [
                    {column: getattr(one, column) for column in COLUMNS}
                    | {"features": ", ".join(one.features)}
                    for one in parity.mismatches
                ]
            ),
            COLUMNS,
            f"table {name}",
        )
        for day, parity in found.items()
        if parity.mismatches
    }
    empty = tuple(PartitionState(day, NOTHING, 0, 0) for day in found if day not in tables)
    version = lake.remove(name, [state.partition for state in empty]) if empty else -1
    if not tables:
        return WriteResult(name, version, (), empty)
    write = lake.write(name, tables, ["view", "asked_at", "request_id", EVENT_ID])
    return WriteResult(name, write.version, write.written, (*write.unchanged, *empty))


def _metadata(parity: "Parity") -> dict[str, object]:
    return {
        "answers": parity.answers,
        "looked_up": parity.looked_up,
        "differing_answers": parity.differing,
        "parity_share": 1 - parity.share,
        **{f"cause_{cause}": count for cause, count in parity.causes.items()},
    }


def parity_result(
    key: dg.AssetKey, found: "Mapping[str, Parity]", tolerated: float
) -> dg.AssetCheckResult:
    """The check ``parity`` over some days: passes when each is within ``tolerated`` (a share)."""
    from mlops_assets.core.parity_records import parity_markdown

    if not found:
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=PARITY,
            passed=True,
            severity=dg.AssetCheckSeverity.WARN,
            description="nothing to compare: no day of the run has its answers and its tables",
        )
    worst, parity = max(found.items(), key=lambda item: (item[1].share, item[0]))
    causes = ", ".join(f"{cause} {count}" for cause, count in parity.causes.items())
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=PARITY,
        passed=parity.share <= tolerated,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{worst}: {parity.differing} of {parity.answers} answers had other features "
        f"than the lake gives as of the time of the answer ({parity.share:.2%}, tolerated "
        f"{tolerated:.2%})" + (f": {causes}" if causes else ""),
        metadata={
            "day": worst,
            **cast("dict[str, str]", _metadata(parity)),
            "mismatches": dg.MetadataValue.md(parity_markdown(parity.mismatches)),
            "days_differing": sum(each.share > tolerated for each in found.values()),
        },
    )


def parity_asset(spec: UseCaseSpec, functions: Functions) -> dg.AssetsDefinition:
    """The asset that computes again what the endpoint was answered with."""
    key = asset_key(spec, PARITY)
    upstreams = {spec.events.dataset, PREDICTION_LOG, *spec.feature_views}
    undated = [name for name, view in spec.feature_views.items() if not view.partitioned]

    @dg.asset(
        **common(
            spec,
            PARITY,
            "The features of each answer, as sent or looked up, against the point-in-time join as "
            "of the time of the answer; one row for each view that differs, with its cause.",
            ["polars", "deltalake"],
        ),
        **placed(spec, PARITY),
        partitions_def=days(spec),
        backfill_policy=DAY_BACKFILL,
        automation_condition=carries([asset_key(spec, name) for name in undated]),
        deps=[asset_key(spec, name) for name in sorted(upstreams)],
        # A day may have no answer.
        output_required=False,
        check_specs=[
            dg.AssetCheckSpec(
                PARITY,
                asset=key,
                description="Whether answers had the features that training would have had; each "
                "difference is named with its cause, see the docs' online-features.md.",
            )
        ],
        metadata={"table": table_name(spec, PARITY)},
    )
    def _parity(context: dg.AssetExecutionContext, platform: Platform) -> PublishEvents:
        lake = platform.lake()
        found = compare(spec, functions, lake, context.partition_keys)
        write = publish_days(spec, lake, found.days) if found.days else None
        yield parity_result(key, found.days, spec.monitoring.skew_share)
        yield from events(
            key,
            Published(write=write),
            suite=None,
            partitioned=True,
            blocked=found.blocked,
            by_partition={day: _metadata(parity) for day, parity in found.days.items()},
            absent=found.absent,
        )

    return _parity
