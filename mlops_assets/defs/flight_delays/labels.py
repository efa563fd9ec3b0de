"""The flights to predict for, and whether they arrived late."""

import polars as pl

from mlops_assets.core.windows import Window

LATE_MINUTES = 15
"""A flight is late when it arrives more than this many minutes after the schedule."""


def events(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """Each scheduled flight, with the keys that the feature views are looked up by.

    The aircraft is taken to be assigned when the prediction is asked; where the source names none
    (2,512 flights, all of them cancelled) its features are missing.
    """
    return _inside(flights, window).select(
        "event_id",
        "event_time",
        "tailnum",
        airline="carrier",
        airport="origin",
        destination="dest",
    )


def late(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """1 for an arrival more than 15 minutes late, 0 for one in time.

    There is no outcome, null, for a flight that was cancelled or did not reach its destination as
    planned: it is neither late nor in time.
    """
    return _inside(flights, window).select(
        "event_id",
        label=(pl.col("arr_delay") > LATE_MINUTES).cast(pl.Int8),
        known_at="known_at",
    )


def _inside(frame: pl.DataFrame, window: Window) -> pl.DataFrame:
    return frame.filter(
        pl.col("event_time").is_between(window.start_time, window.end_time, closed="left")
    )
