"""Drift as a live platform would have found it, for the models of a backtest."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING

from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.backtest.rows import Span, training_rows
from mlops_assets.lifecycle.training_set import DAY, PART

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_assets.core.drift import Drift
    from mlops_assets.core.profiles import Profile

DriftOf = Callable[[date], "Drift"]
"""From a day to the drift of the monitoring window that ends with it."""


def drift_against(
    spec: UseCaseSpec, span: Span, window: Window, importances: "Mapping[str, float]"
) -> DriftOf:
    """The drift of the features against the training rows of ``window``, whose model has given
    its ``importances``. Each day is profiled once, in the bins of the model's layout.
    """
    import polars as pl

    from mlops_assets.core.daily_profiles import daily
    from mlops_assets.core.drift import DriftThresholds, compare
    from mlops_assets.core.layouts import layout_of
    from mlops_assets.core.profiles import profile

    frame = training_rows(spec, span, window)
    layout = layout_of(frame.filter(pl.col(PART) == "train"), spec.feature_types)
    by_day = frame.partition_by(DAY, as_dict=True).items()
    reference = daily(
        {date.fromisoformat(str(day)): profile(rows, layout) for (day,), rows in by_day}, layout
    )
    thresholds = DriftThresholds(
        distance=spec.monitoring.drift_distance, model=spec.monitoring.drift_of_model
    )

    @cache
    def of_day(day: date) -> "Profile | None":
        rows = span.between(day, day + timedelta(days=1))
        return None if rows.is_empty() else profile(rows, layout)

    def drift(day: date) -> "Drift":
        days = [day - timedelta(days=n) for n in range(spec.monitoring.window_days)]
        profiles = {each: found for each in days if (found := of_day(each)) is not None}
        return compare(
            reference, daily(profiles, layout), importance=importances, thresholds=thresholds
        )

    return drift
