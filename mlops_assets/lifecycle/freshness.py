"""Freshness: the policy of each asset, and which days of a dataset are late.

Dagster's policies are about an asset as a whole and go by the machine's clock: they notice that
nothing comes any more. Deadlines of single days go by the platform's clock.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from mlops_assets.core.deadlines import late_days
from mlops_assets.core.spec import UseCaseSpec

WAITED_DAYS = 28
"""Days back that are waited for. What has not come by then will not, and is somebody's decision."""

_DAY = timedelta(days=1)
_PATIENT = timedelta(days=366)
_DAILY_STAGES = ("predictions", "prediction_log", "outcomes", "drift", "performance")


def freshness_policy(spec: UseCaseSpec, name: str) -> dg.FreshnessPolicy:
    """How often the asset ``name`` has to be materialized.

    One with days: every day, ``due_hours`` of the slowest dataset behind it later; it warns after a
    day and fails after two. One without days changes when somebody decides so, and a use case whose
    data has an end gets nothing new: a year is to be looked at.
    """
    hours = _due_hours(spec, name)
    if hours is None or spec.end is not None:
        return dg.FreshnessPolicy.time_window(fail_window=_PATIENT)
    slack = timedelta(hours=hours)
    return dg.FreshnessPolicy.time_window(fail_window=2 * _DAY + slack, warn_window=_DAY + slack)


def _due_hours(spec: UseCaseSpec, name: str) -> float | None:
    """Hours after a day's end by which its partition of ``name`` is due; None without days."""
    datasets = spec.datasets
    if name in datasets:
        return datasets[name].due_hours if datasets[name].partitioned else None
    if name in spec.feature_views:
        view = spec.feature_views[name]
        behind: Sequence[str] = view.datasets if view.partitioned else ()
    else:
        behind = list(datasets) if name in _DAILY_STAGES else ()
    hours = [datasets[one].due_hours for one in behind if datasets[one].partitioned]
    return max(hours, default=None)


def late(spec: UseCaseSpec, name: str, present: Collection[str], now: datetime) -> list[date]:
    """Days of the dataset ``name`` that are due and not among ``present`` (ISO days), in order.

    Of the last four weeks: an older gap was told long enough.
    """
    today = now.astimezone(UTC).date()
    first = max(spec.start, today - timedelta(days=WAITED_DAYS))
    found = {date.fromisoformat(day) for day in present if day >= first.isoformat()}
    hours = spec.datasets[name].due_hours
    return late_days(found, first, spec.end, now, spec.timezone, hours)
