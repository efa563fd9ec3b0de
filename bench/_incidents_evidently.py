"""Evidently's DataDriftPreset as it comes, as a daily alert: drift of the dataset, which is when
half of the columns drifted.
"""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from bench._incidents_inject import Incident
from bench._incidents_watch import Watch, answered
from bench._incidents_year import DAY, SCORE
from mlops_assets.core.spec import LABEL

TRAINING, WEEKS = "the training window", "the 28 days before"
REFERENCES = (TRAINING, WEEKS)

_DRIFT_SHARE = 0.5  # DataDriftPreset's default
_REFERENCE_ROWS = 5000  # above 1,000 it chooses its methods as for all rows
_SLOW_AFTER = 28


@dataclass(frozen=True)
class Fired:
    """What the trigger did on a day before incidents, and on one with them."""

    reference: str
    incidents: int
    found: int
    quiet: int
    false: int
    named: int
    """Incidents whose own column is among those that drifted, however few."""
    with_columns: int
    """Incidents that have a column."""
    columns: float
    """Columns that drifted on a quiet day, mean."""


def installed() -> bool:
    """Whether it can be measured here."""
    return importlib.util.find_spec("evidently") is not None


def fired(watch: Watch, incidents: Sequence[Incident], reference: str) -> Fired:
    """The trigger on the day before each incident, and on the day after its first one (of a slow
    drift: four weeks after).
    """
    found = false = named = with_columns = columns = 0
    for incident in incidents:
        quiet_day = incident.first - timedelta(days=1)
        age = 0 if incident.days == 1 else 1 if incident.days < _SLOW_AFTER else _SLOW_AFTER
        day = incident.first + timedelta(days=age)
        frame = incident.change(watch.frames[day], day)
        assert frame is not None
        before = _reference(watch, incident, reference)
        quiet = _drifted(before, watch.frames[quiet_day])
        broken = _drifted(before, answered(watch.year, frame, day))
        total = len(_names(watch))
        false += len(quiet) / total >= _DRIFT_SHARE
        found += len(broken) / total >= _DRIFT_SHARE
        columns += len(quiet)
        if incident.columns:
            with_columns += 1
            named += bool(incident.columns & broken)
    count = len(incidents)
    return Fired(reference, count, found, count, false, named, with_columns, columns / count)


def _names(watch: Watch) -> list[str]:
    return [*watch.year.spec.feature_types, SCORE, LABEL]


def _reference(watch: Watch, incident: Incident, reference: str) -> pl.DataFrame:
    day = pl.col(DAY)
    if reference == WEEKS:
        first = incident.first - timedelta(days=29)
        rows = watch.year.events.filter(
            day.is_between(first, incident.first - timedelta(days=1), closed="left")
        )
    else:
        model = watch.year.model_of(incident.first)
        assert model is not None
        rows = watch.year.events.filter(day < model.since)
    rows = rows.select(_names(watch))
    return rows.sample(min(rows.height, _REFERENCE_ROWS), seed=incident.first.toordinal())


def _drifted(reference: pl.DataFrame, current: pl.DataFrame) -> set[str]:
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import Report
    from evidently.presets import DataDriftPreset

    # It refuses columns without values: on these days it is run without them.
    names = [
        name
        for name in reference.columns
        if reference[name].drop_nulls().len() and current[name].drop_nulls().len()
    ]
    report = Report([DataDriftPreset()])
    snapshot = report.run(current.select(names).to_pandas(), reference.select(names).to_pandas())
    drifted: set[str] = set()
    for metric in snapshot.dict()["metrics"]:
        settings = metric.get("config", {})
        if "column" not in settings or "threshold" not in settings:
            continue
        method, value = str(settings["method"]).lower(), float(metric["value"])
        limit = float(settings["threshold"])
        # Of tests the value is a p-value.
        if value < limit if "p_value" in method else value >= limit:
            drifted.add(str(settings["column"]))
    return drifted
