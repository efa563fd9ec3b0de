"""Days of values, and windows of them to compare."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl

from mlops_assets.core.daily_profiles import DailyProfiles, daily
from mlops_assets.core.drift import ColumnDrift, Drift
from mlops_assets.core.layouts import Layout, layout_of
from mlops_assets.core.profiles import profile
from mlops_assets.core.spec import FeatureType

FIRST = date(2024, 1, 1)
TYPES: dict[str, FeatureType] = {"x": "float", "c": "category"}


def days_of(frames: Sequence[pl.DataFrame], layout: Layout) -> DailyProfiles:
    """One frame a day."""
    return daily(
        {FIRST + timedelta(days=n): profile(each, layout) for n, each in enumerate(frames)}, layout
    )


def found_in(drift: Drift) -> dict[str, ColumnDrift]:
    """The results by column."""
    return {column.column: column for column in drift.columns}


def noisy_days(
    days: int, rows: int, *, wander: float = 0.0, moved: float = 0.0, seed: int = 0
) -> list[pl.DataFrame]:
    """Days whose mean wanders by ``wander`` around ``moved``, with a category that follows."""
    rng = np.random.default_rng(seed)
    frames: list[pl.DataFrame] = []
    for _ in range(days):
        x = rng.normal(moved + wander * rng.normal(), 1, rows).astype(np.float32)
        c = np.where(rng.uniform(size=rows) < 1 / (1 + np.exp(-x)), "late", "early")
        frames.append(pl.DataFrame({"x": x, "c": c}))
    return frames


def windows(
    reference: Sequence[pl.DataFrame], current: Sequence[pl.DataFrame]
) -> tuple[DailyProfiles, DailyProfiles]:
    """Both under the reference's layout."""
    layout = layout_of(pl.concat(reference), TYPES)
    return days_of(reference, layout), days_of(current, layout)
