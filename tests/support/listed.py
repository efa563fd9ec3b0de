"""A source that says what it has without being read: the visits', with versions by a test."""

import json
import os
from pathlib import Path

import polars as pl

from mlops_assets.core.windows import Window


def visits(window: Window) -> pl.DataFrame:
    """The days in the file that VISITS_LISTED names, with their versions."""
    listed: dict[str, str] = json.loads(Path(os.environ["VISITS_LISTED"]).read_text())
    days = {day: listed[day] for day in window.partitions if day in listed}
    return pl.DataFrame(
        {"day": list(days), "version": list(days.values())},
        schema={"day": pl.String, "version": pl.String},
    )
