"""What all assets of a use case have in common: keys, group, owners, partitions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TypedDict

import dagster as dg

from mlops_assets.adapters.compute_profiles import profile_named
from mlops_assets.core.compute import op_tags
from mlops_assets.core.compute_stages import profile_name
from mlops_assets.core.spec import FeatureViewSpec, UseCaseSpec
from mlops_assets.lifecycle.freshness import freshness_policy
from mlops_assets.lifecycle.retries import StageRetries


def asset_key(spec: UseCaseSpec, name: str) -> dg.AssetKey:
    """The key of the use case's asset ``name``; also its table's name in the lake."""
    return dg.AssetKey([spec.name, name])


def table_name(spec: UseCaseSpec, name: str) -> str:
    """The lake's table of the use case's dataset, view or stage ``name``."""
    return f"{spec.name}/{name}"


def days(spec: UseCaseSpec) -> dg.DailyPartitionsDefinition:
    """One partition per calendar day in the use case's time zone."""
    return dg.DailyPartitionsDefinition(
        start_date=spec.start.isoformat(),
        end_date=spec.end.isoformat() if spec.end else None,
        timezone=spec.timezone,
    )


# A day depends on the same day, for Dagster: with the lookback in the mapping, a backfill of some
# days would go on to the days after them, whose data nobody asked for. The stages look at the days
# before by themselves, and refuse a day whose past is not in the lake.

DATASET_BACKFILL = dg.BackfillPolicy.multi_run(max_partitions_per_run=100_000)
"""All days in one run, so in one commit. It differs from DAY_BACKFILL on purpose: a backfill puts
assets of equal policies into one run, where a refused day of a dataset would stop the other days of
everything downstream."""

DAY_BACKFILL = dg.BackfillPolicy.single_run()
"""All days in one run."""


def tables_by_days(spec: UseCaseSpec) -> dict[str, tuple[list[str], list[str]]]:
    """Names of the datasets and of the feature views: those with days, then those without.

    A run of some days plans an event for each day and asset, also for assets without days: they go
    into runs of their own.
    """
    datasets, views = spec.datasets, spec.feature_views
    return {
        "datasets": (
            [name for name, dataset in datasets.items() if dataset.partitioned],
            [name for name, dataset in datasets.items() if not dataset.partitioned],
        ),
        "feature views": (
            [name for name, view in views.items() if view.partitioned],
            [name for name, view in views.items() if not view.partitioned],
        ),
    }


def view_lookback_days(view: FeatureViewSpec) -> int:
    """Days before an event's own in which the row of ``view`` that it uses may lie."""
    if not view.partitioned or view.ttl_hours is None:
        return 0
    return -(-timedelta(hours=view.ttl_hours) // timedelta(days=1))


class Common(TypedDict):
    """Keyword arguments of ``dg.asset`` that each stage has."""

    key: dg.AssetKey
    group_name: str
    owners: list[str]
    description: str
    kinds: set[str]
    freshness_policy: dg.FreshnessPolicy


def common(spec: UseCaseSpec, name: str, description: str, kinds: Iterable[str]) -> Common:
    """What every asset shows in the UI: its key, group, owners, description, kinds, freshness."""
    return {
        "key": asset_key(spec, name),
        "group_name": spec.name,
        "owners": list(spec.owners),
        "description": description,
        "kinds": set(kinds),
        "freshness_policy": freshness_policy(spec, name),
    }


class Placed(TypedDict):
    """Keyword arguments of ``dg.asset`` that say where its step runs, and what is tried again."""

    op_tags: Mapping[str, object]
    pool: str | None
    retry_policy: dg.RetryPolicy


def placed(spec: UseCaseSpec, name: str) -> Placed:
    """The compute profile of the use case's asset ``name``.

    It is the op's, so that it holds however a run is launched. Raises PermanentError for a profile
    that there is not.
    """
    profile = profile_name(spec, name)
    found = profile_named(profile)
    return {
        "op_tags": op_tags(profile, found),
        "pool": found.pool,
        "retry_policy": StageRetries(found.error_retries),
    }


def contiguous(partitions: Sequence[str], dates: Sequence[str]) -> list[list[str]]:
    """``partitions`` as runs of days that follow each other in ``dates``, in order."""
    order = {day: n for n, day in enumerate(dates)}
    runs: list[list[str]] = []
    for partition in sorted(partitions):
        if runs and order[partition] == order[runs[-1][-1]] + 1:
            runs[-1].append(partition)
        else:
            runs.append([partition])
    return runs
