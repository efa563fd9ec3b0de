"""Days of answers and outcomes of the tests' use case, as the endpoint's log would have them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
from lifecycle_support import Project

from mlops_assets.adapters.lake import Lake
from mlops_assets.adapters.models import read_model
from mlops_assets.adapters.tracking import Tracking
from mlops_assets.core import answer_features, outcomes
from mlops_assets.core.inference import encode_frame, predict
from mlops_assets.core.monitoring_records import DriftRecord, PerformanceRecord
from mlops_assets.core.records import ModelRecord
from mlops_assets.core.rollout_state import served_model
from mlops_assets.core.schema import conform
from mlops_assets.core.windows import window_of
from mlops_assets.lifecycle import prediction_log
from mlops_assets.lifecycle.monitoring.drift_days import find_drift
from mlops_assets.lifecycle.monitoring.performance_days import find_performance
from mlops_assets.lifecycle.training_set import events_with_features

Change = Callable[[pl.DataFrame], pl.DataFrame]


def days_from(first: str, count: int) -> list[str]:
    """``count`` days in a row."""
    start = date.fromisoformat(first)
    return [(start + timedelta(days=n)).isoformat() for n in range(count)]


WEEK = days_from("2024-04-11", 7)
"""A window of answered days."""
LAST = WEEK[-1]


@dataclass(frozen=True)
class Answered:
    """A project with a champion, and tables of what it answered."""

    project: Project

    @property
    def lake(self) -> Lake:
        """The project's tables."""
        return self.project.lake

    @property
    def tracking(self) -> Tracking:
        """The project's registry."""
        return Tracking(self.project.places.tracking, self.project.places.artifacts)

    def answer(
        self,
        day: str,
        model: ModelRecord,
        *,
        asked: Change = lambda rows: rows,
        ended: Change = lambda rows: rows,
        version: int | None = None,
        types: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Answer each event of ``day``, and join the outcomes, which are returned.

        ``asked`` changes the features that are sent, and ``ended`` the outcomes.
        """
        spec = self.project.spec
        window = window_of([day], spec.timezone)
        rows = events_with_features(spec, self.project.functions, self.lake, window)
        visits = pl.DataFrame(self.lake.read(f"{spec.name}/visits", [day]))
        rows = asked(
            rows.join(
                visits.select(pl.col("visit_id").alias("event_id"), "returned", "settled_at"),
                on="event_id",
            )
        )
        loaded = read_model(spec.name, served_model(model))
        rows = rows.with_columns(
            pl.Series("score", predict(loaded, encode_frame(rows, loaded.signature))),
            pl.lit(version or model.version).alias("model_version"),
            pl.lit(model.sha256).alias("model_sha256"),
            pl.lit("champion").alias("role"),
            pl.lit(True).alias("returned"),
            pl.lit("").alias("rollout_id"),
            pl.lit(None, pl.String).alias("error"),
            pl.lit(None, pl.String).alias("looked_up"),
            pl.col("event_id").alias("request_id"),
            pl.lit(0, dtype=pl.Int32).alias("row"),
            pl.col("returned").alias("label"),
            pl.col("settled_at").alias("label_known_at"),
            pl.lit(True).alias("outcome_known"),
        )
        sent = {n: t for n, t in spec.feature_types.items() if types is None or n in types}
        logged = rows.with_columns(answer_features.encoded(rows, sent))
        table = conform(logged.select(list(prediction_log.COLUMNS)), prediction_log.COLUMNS, "log")
        self.lake.write(f"{spec.name}/prediction_log", {day: table}, ["request_id"])
        return self.end(day, ended(rows.select(list(outcomes.COLUMNS))))

    def end(self, day: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Make ``rows`` the outcomes of ``day``."""
        table = conform(rows, outcomes.COLUMNS, "outcomes")
        name = f"{self.project.spec.name}/outcomes"
        self.lake.write(name, {day: table}, ["event_time", "event_id"])
        return rows


def unknown(share: float) -> Change:
    """The last ``share`` of a day's outcomes is not known yet."""

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        late = pl.int_range(pl.len()) >= round(rows.height * (1 - share))
        return rows.with_columns(
            outcome_known=~late,
            label=pl.when(~late).then("label"),
            label_known_at=pl.when(~late).then("label_known_at"),
        )

    return change


class Serving:
    """A registry in which ``record`` is the champion."""

    def __init__(self, record: ModelRecord | None) -> None:
        self.record = record

    def champion(self, use_case: str) -> ModelRecord | None:
        """As Tracking.champion."""
        return self.record


def drift_of(site: Answered, day: str, tracking: object = None) -> DriftRecord:
    """What is found about the window that ends with ``day``, by the site's registry or another."""
    found = find_drift(site.project.spec, site.lake, tracking or site.tracking, [day])
    return found[0].record


def performance_of(site: Answered, day: str, tracking: object = None) -> PerformanceRecord:
    """As :func:`drift_of`, of performance."""
    found = find_performance(site.project.spec, site.lake, tracking or site.tracking, [day])
    return found[0].record
