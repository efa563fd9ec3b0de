"""What is being made, and how often it was tried: read from Dagster's runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from mlops_assets.core.spec import UseCaseSpec

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PARTITION_TAG = "dagster/partition"

_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)

_NEWEST_RUNS = 60
"""Of a use case's own, to find the last ones of an asset among."""


def being_made(
    spec: UseCaseSpec, instance: dg.DagsterInstance, days: Sequence[str]
) -> dict[str, set[str]]:
    """Partitions of the use case's assets that unfinished runs and backfills are for, by asset.

    All of ``days`` where a run does not say which.
    """
    found: dict[str, set[str]] = {}
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=list(_UNFINISHED))):
        for name in _own(spec, run.asset_selection or ()):
            found.setdefault(name, set()).update(_days_of(run.tags, days))
    for keys in _backfills(instance):
        for name in _own(spec, keys):
            found.setdefault(name, set()).update(days)
    return found


def _own(spec: UseCaseSpec, keys: Collection[dg.AssetKey]) -> list[str]:
    return [key.path[1] for key in keys if len(key.path) == 2 and key.path[0] == spec.name]


def _days_of(tags: Mapping[str, str], days: Sequence[str]) -> Sequence[str]:
    if PARTITION_TAG in tags:
        return [tags[PARTITION_TAG]]
    if RANGE_START_TAG in tags and RANGE_END_TAG in tags:
        return [day for day in days if tags[RANGE_START_TAG] <= day <= tags[RANGE_END_TAG]]
    return days


def _backfills(instance: dg.DagsterInstance) -> list[Sequence[dg.AssetKey]]:
    """The assets of each backfill that goes on: runs of it may not have been created yet."""
    from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

    filters = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    return [backfill.asset_selection or () for backfill in instance.get_backfills(filters=filters)]


@dataclass(frozen=True)
class Attempts:
    """Runs for one content."""

    in_a_row: int
    """Newest runs of the assets that all were for it: it is not there, or was not written down."""
    ever: int


def attempts(
    instance: dg.DagsterInstance,
    use_case: tuple[str, str],
    content: tuple[str, str],
    assets: Collection[dg.AssetKey],
) -> Attempts:
    """How often ``assets`` were asked for with the tag ``content``, by runs tagged ``use_case``."""
    row = 0
    filters = dg.RunsFilter(tags=dict([use_case]))
    for run in instance.get_runs(filters=filters, limit=_NEWEST_RUNS):
        if not (run.asset_selection or frozenset()) & set(assets):
            continue
        if run.tags.get(content[0]) != content[1]:
            break
        row += 1
    ever = instance.get_runs_count(filters=dg.RunsFilter(tags=dict([content])))
    return Attempts(row, ever)
