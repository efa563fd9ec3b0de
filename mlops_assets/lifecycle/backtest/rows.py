"""The rows of a backtest: a whole span's events with features and labels, point-in-time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, cast

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, LABEL, UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.tables import Tables
from mlops_assets.lifecycle.training_set import (
    ASKED_AT,
    DAY,
    LABEL_KNOWN_AT,
    frozen_rows,
    labelled_events,
)

if TYPE_CHECKING:
    import polars as pl

ARRIVAL = timedelta(hours=3)
"""After midnight: when a night's labels have come, and signals and retraining are decided on."""

NIGHTS = "nights"
"""Nights after the one that ends the event's day until its outcome is known; null when never. An
outcome may have no label: what was cancelled is neither late nor in time."""


@dataclass(frozen=True)
class Span:
    """The events of ``window`` in event order, with features, label, and since when it is known.

    What was asked, and what was known, stands in each row: the training set of any window inside is
    a choice of these rows.
    """

    window: Window
    events: "pl.DataFrame"
    digests: Mapping[date, str]
    """Of each day's rows; a day without events has none."""

    def between(self, first: date, end: date) -> "pl.DataFrame":
        """The events on days from ``first`` to before ``end``."""
        days = self.events[DAY]
        start, stop = (int(days.search_sorted(day.isoformat())) for day in (first, end))
        return self.events.slice(start, stop - start)


def read_span(spec: UseCaseSpec, functions: Functions, tables: Tables, window: Window) -> Span:
    """The events of ``window``, from the lake or from what answers like it.

    Raises LeakageError, and MissingPartitionsError for a day that is not there.
    """
    import polars as pl

    from mlops_assets.core.digest import table_digest

    zone = spec.timezone
    day = pl.col(EVENT_TIME).dt.convert_time_zone(zone).dt.date()
    # Just after the arrival belongs to the next night.
    instant = pl.col(LABEL_KNOWN_AT).dt.offset_by("-1us") - ARRIVAL
    known = instant.dt.convert_time_zone(zone).dt.date()
    nights = (known - day).dt.total_days().clip(lower_bound=0)
    joined = labelled_events(spec, functions, tables, window)
    events = joined.select(
        EVENT_ID,
        EVENT_TIME,
        ASKED_AT,
        day.dt.strftime("%Y-%m-%d").alias(DAY),
        *spec.feature_types,
        LABEL,
        LABEL_KNOWN_AT,
        nights.alias(NIGHTS),
    )
    digests = {
        date.fromisoformat(str(name)): table_digest(rows.to_arrow())
        for (name,), rows in events.partition_by(DAY, as_dict=True, maintain_order=True).items()
    }
    return Span(window, events, digests)


def training_rows(spec: UseCaseSpec, span: Span, window: Window) -> "pl.DataFrame":
    """The frozen training set of ``window``, as a live run would have read it.

    Raises PermanentError when a part of the window has no event with a label known by its end.
    """
    import polars as pl

    table = frozen_rows(spec, window, span.between(window.first, window.end))
    return cast("pl.DataFrame", pl.from_arrow(table))
