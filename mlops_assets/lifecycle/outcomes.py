"""Outcomes: a day's events with what the endpoint answered and how they ended; and skew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets import clock
from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, UseCaseSpec
from mlops_assets.core.windows import Window, window_of
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
from mlops_assets.lifecycle.feature_views import read_days
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.prediction_log import PREDICTION_LOG, read_answers
from mlops_assets.lifecycle.publish import Published, PublishEvents, events
from mlops_assets.lifecycle.training_set import events_with_features

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.outcomes import DayOutcomes
    from mlops_assets.core.skew import Skew

OUTCOMES = "outcomes"
SKEW = "skew"

EMPTY = "empty"
"""The data version of a day on which no event was answered: it has no partition in the lake."""


@dataclass(frozen=True)
class Day:
    """A day's outcomes, what they add up to (None when no event was answered), and its skew."""

    outcomes: "pl.DataFrame"
    summary: "DayOutcomes | None"
    skew: "Skew"


@dataclass
class Joined:
    """What became of the days that were asked for."""

    days: dict[str, Day] = field(default_factory=dict[str, Day])
    blocked: dict[str, str] = field(default_factory=dict[str, str])
    """Days for which another table lacks a partition, with the reason."""
    absent: tuple[str, ...] = ()
    """Days of which no answer was collected."""


def join(
    spec: UseCaseSpec,
    functions: Functions,
    lake: "Lake",
    partitions: Sequence[str],
    now: datetime,
) -> Joined:
    """The outcomes of the days ``partitions`` as known at ``now``, and their skew.

    A day that lacks a partition of another table does not keep the others from being computed.
    """
    logged = lake.states(table_name(spec, PREDICTION_LOG))
    result = Joined(absent=tuple(day for day in partitions if day not in logged))
    every = window_of(partitions, spec.timezone).partitions
    for run in contiguous([day for day in partitions if day in logged], every):
        try:
            result.days |= _join_days(spec, functions, lake, run, now)
        except MissingPartitionsError:
            for day in run:
                try:
                    result.days |= _join_days(spec, functions, lake, [day], now)
                except MissingPartitionsError as error:
                    result.blocked[day] = str(error)
    return result


def _join_days(
    spec: UseCaseSpec,
    functions: Functions,
    lake: "Lake",
    partitions: Sequence[str],
    now: datetime,
) -> dict[str, Day]:
    import polars as pl

    from mlops_assets.core import outcomes
    from mlops_assets.core.leakage import check_labels
    from mlops_assets.core.skew import find_skew

    window = window_of(partitions, spec.timezone)
    known = events_with_features(spec, functions, lake, window)
    source = read_days(spec, lake, spec.label.dataset, window, 0)
    labels = cast("pl.DataFrame", functions.resolve(spec.label.function)(window, source))
    check_labels(known, labels)
    answers = read_answers(spec, lake, window.with_lookback(reach_days(spec)).partitions)
    last = outcomes.last_answers(known, answers)
    batch = _batch_scores(spec, lake, partitions)
    result: dict[str, Day] = {}
    for partition in partitions:
        day = _window_of_day(spec, partition)
        inside = pl.col(EVENT_TIME).is_between(day.start_time, day.end_time, closed="left")
        asked, answered = known.filter(inside), last.filter(inside)
        rows = outcomes.with_labels(answered, labels, now)
        unknown = outcomes.unknown_events(asked, answers, day, spec.events.lead_minutes)
        result[partition] = Day(
            rows,
            outcomes.summary(asked.height, rows, unknown, day, now) if rows.height else None,
            find_skew(answered, asked, spec.feature_types, batch),
        )
    return result


def reach_days(spec: UseCaseSpec) -> int:
    """Days before an event's own on which it may be asked about: as agreed, or a day earlier."""
    return -(-timedelta(minutes=spec.events.lead_minutes) // timedelta(days=1)) + 1


def _window_of_day(spec: UseCaseSpec, partition: str) -> Window:
    return window_of([partition], spec.timezone)


def _batch_scores(
    spec: UseCaseSpec, lake: "Lake", partitions: Sequence[str]
) -> "pl.DataFrame | None":
    """The scores of those of the days ``partitions`` that were predicted in batch."""
    import polars as pl

    name = table_name(spec, "predictions")
    present = lake.states(name)
    wanted = [day for day in partitions if day in present]
    columns = [EVENT_ID, "model_sha256", "score"]
    return pl.DataFrame(lake.read(name, wanted, columns)) if wanted else None


def publish_days(spec: UseCaseSpec, lake: "Lake", found: Mapping[str, Day]) -> Published:
    """Put the outcomes of the days ``found`` (at least one) in the lake, as one commit.

    A day without an answered event has no partition there, and counts as published.
    """
    from mlops_assets.adapters.lake import PartitionState, WriteResult
    from mlops_assets.core.outcomes import COLUMNS
    from mlops_assets.core.schema import conform

    name = table_name(spec, OUTCOMES)
    tables = {
        partition: conform(day.outcomes, COLUMNS, f"table {name}")
        for partition, day in found.items()
        if day.outcomes.height
    }
    empty = tuple(PartitionState(day, EMPTY, 0, 0) for day in found if day not in tables)
    version = lake.remove(name, [state.partition for state in empty]) if empty else -1
    if not tables:
        return Published(write=WriteResult(name, version, (), empty))
    write = lake.write(name, tables, [EVENT_TIME, EVENT_ID])
    return Published(
        write=WriteResult(name, write.version, write.written, (*write.unchanged, *empty))
    )


def _metadata(day: Day) -> dict[str, object]:
    """What the UI shows and charts of a day."""
    found = day.summary
    skew = {"skewed_answers": day.skew.skewed, "skew_share": day.skew.share}
    if found is None:
        return {"answered": 0, "result": "no event of the day was answered", **skew}
    lateness = {
        f"labelled_within_{part.hours:g}h": part.share
        for part in (found.labels.after if found.labels else ())
        if part.share is not None
    }
    complete = {} if found.labels is None else {"labels_complete": found.labels.complete}
    base_rate = {} if found.base_rate is None else {"base_rate": found.base_rate}
    return {
        "events": found.events,
        "answered": found.answered,
        "unanswered_share": found.unanswered_share,
        "outcomes_known": found.known,
        "labelled": found.labelled,
        "mean_score": found.mean_score,
        **base_rate,
        "unknown_events": found.unknown_events,
        **complete,
        **lateness,
        **skew,
        "models": dg.MetadataValue.md(found.models_markdown()),
        "labels": f"{found.known} of {found.answered} answered events have ended, "
        f"{found.labelled} of them with a label",
    }


def skew_result(
    key: dg.AssetKey, found: Mapping[str, "Skew"], tolerated: float
) -> dg.AssetCheckResult:
    """The check ``skew`` over some days: it passes when each is within ``tolerated`` (a share)."""
    from mlops_assets.core.skew import skew_markdown

    if not found:
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=SKEW,
            passed=True,
            severity=dg.AssetCheckSeverity.WARN,
            description="nothing to compare: no day of the run has its answers and its tables",
        )
    worst, skew = max(found.items(), key=lambda item: (item[1].share, item[0]))
    columns = ", ".join(difference.name for difference in skew.differences)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=SKEW,
        passed=skew.share <= tolerated,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{worst}: {skew.skewed} of {skew.answers} answers saw other values than the "
        f"lake has ({skew.share:.2%}, tolerated {tolerated:.2%})"
        + (f": {columns}" if columns else ""),
        metadata={
            "day": worst,
            "answers": skew.answers,
            "skewed_answers": skew.skewed,
            "skew_share": skew.share,
            "scores_compared": skew.scores_compared,
            "differences": dg.MetadataValue.md(skew_markdown(skew.differences)),
            "days_skewed": sum(each.share > tolerated for each in found.values()),
        },
    )


def outcomes_asset(spec: UseCaseSpec, functions: Functions) -> dg.AssetsDefinition:
    """The asset that joins answers with labels, and compares answers with the lake."""
    key = asset_key(spec, OUTCOMES)
    upstreams = {spec.events.dataset, spec.label.dataset, PREDICTION_LOG, *spec.feature_views}
    undated = [name for name, view in spec.feature_views.items() if not view.partitioned]

    @dg.asset(
        **common(
            spec,
            OUTCOMES,
            f"Each event of a day with the last answer that the endpoint gave about it in time, "
            f"and its {spec.label.name} once that is known; a label that comes later re-opens the "
            "day.",
            ["polars", "deltalake"],
        ),
        **placed(spec, OUTCOMES),
        partitions_def=days(spec),
        backfill_policy=DAY_BACKFILL,
        automation_condition=carries([asset_key(spec, name) for name in undated]),
        deps=[asset_key(spec, name) for name in sorted(upstreams)],
        # A day may have no answer.
        output_required=False,
        check_specs=[
            dg.AssetCheckSpec(
                SKEW,
                asset=key,
                description="Whether the endpoint was asked with the features that the lake has "
                "for the same events, and answered what the same model says in batch; the docs' "
                "runbooks/skew.md says what to do.",
            )
        ],
        metadata={"table": table_name(spec, OUTCOMES)},
    )
    def _outcomes(context: dg.AssetExecutionContext, platform: Platform) -> PublishEvents:
        lake = platform.lake()
        found = join(spec, functions, lake, context.partition_keys, clock.now())
        published = publish_days(spec, lake, found.days) if found.days else Published(write=None)
        skews = {partition: day.skew for partition, day in found.days.items()}
        yield skew_result(key, skews, spec.monitoring.skew_share)
        yield from events(
            key,
            published,
            suite=None,
            partitioned=True,
            blocked=found.blocked,
            by_partition={partition: _metadata(day) for partition, day in found.days.items()},
            absent=found.absent,
        )

    return _outcomes
