"""Generated data with a known answer; a day's rows do not depend on which days are asked for."""

import json
import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from mlops_assets.core.windows import Window, day_start

SHOPS = ("north", "south", "east", "west")
ROWS_A_DAY = 60


def _faults() -> dict[str, str]:
    """Faults by day, planted by a test: empty, duplicated, out_of_range, no_column, wrong_type …"""
    path = os.environ.get("VISITS_FAULTS")
    return json.loads(Path(path).read_text()) if path and Path(path).exists() else {}


def _day(day: date, timezone: str) -> pl.DataFrame:
    rng = np.random.default_rng(day.toordinal())
    start = day_start(day, timezone)
    seconds = (day_start(day + timedelta(days=1), timezone) - start).total_seconds()
    at = np.sort(rng.uniform(0, seconds * 0.95, ROWS_A_DAY))
    shop = rng.integers(0, 4, ROWS_A_DAY)
    minutes = rng.gamma(2.0, 10.0, ROWS_A_DAY)
    logit = -1.5 + 0.06 * minutes + np.array([1.0, -1.0, 0.3, -0.3])[shop]
    returned = (rng.uniform(size=ROWS_A_DAY) < 1 / (1 + np.exp(-logit))).astype(np.int32)
    visited = [start + timedelta(seconds=float(second)) for second in at]
    return pl.DataFrame(
        {
            "visit_id": [f"{day.isoformat()}-{n:03d}" for n in range(ROWS_A_DAY)],
            "visited_at": visited,
            "settled_at": [moment + timedelta(hours=2) for moment in visited],
            "visitor": [f"v{n}" for n in rng.integers(0, 200, ROWS_A_DAY)],
            "shop": [SHOPS[n] for n in shop],
            "minutes": minutes,
            "returned": returned,
        },
        schema_overrides={
            "visited_at": pl.Datetime("us", "UTC"),
            "settled_at": pl.Datetime("us", "UTC"),
        },
    )


def visits(window: Window) -> pl.DataFrame:
    """The visits of the window's days."""
    faults = _faults()
    frames: list[pl.DataFrame] = []
    for day in window.days:
        frame = _day(day, window.timezone)
        match faults.get(day.isoformat()):
            case "empty":
                frame = frame.head(0)
            case "duplicated":
                frame = pl.concat([frame, frame.head(30)])
            case "out_of_range":
                frame = frame.with_columns(pl.col("visited_at") + timedelta(days=90))
            case "no_column":
                frame = frame.drop("minutes")
            case "wrong_type":
                frame = frame.with_columns(pl.lit("many").alias("minutes"))
            case "negative":
                frame = frame.with_columns(pl.lit(-5.0).alias("minutes"))
            case "some_negative":
                bad = pl.int_range(pl.len()) < 3
                frame = frame.with_columns(
                    pl.when(bad).then(-5.0).otherwise("minutes").alias("minutes")
                )
            case "corrected":
                frame = frame.with_columns(pl.col("minutes") + 1)
            case "few":
                frame = frame.head(5)
            case "half":
                frame = frame.head(ROWS_A_DAY // 2)
            case "scaled":
                frame = frame.with_columns(pl.col("minutes") * 3)
            case "flipped":
                frame = frame.with_columns((1 - pl.col("returned")).alias("returned"))
            case None:
                pass
            case other:
                raise ValueError(f"unknown fault {other}")
        frames.append(frame)
    return pl.concat(frames)


def shops() -> pl.DataFrame:
    """All shops."""
    return pl.DataFrame({"shop": SHOPS, "size": [10, 20, 30, 40]})
