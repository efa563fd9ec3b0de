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

TRAINING, WEEKS = "a day against the training window", "a day against the 28 days before"
SEVEN = "seven days against the training window"
WAYS = (TRAINING, WEEKS, SEVEN)

_DRIFT_SHARE = 0.5  # DataDriftPreset's default
_REFERENCE_ROWS = 5000  # above 1,000 it chooses its methods as for all rows
_SLOW_AFTER = 28


@dataclass(frozen=True)
class Fired:
    """What the trigger did on a day before incidents, and on one with them."""

    way: str
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


def fired(watch: Watch, incidents: Sequence[Incident], way: str) -> Fired:
    """The trigger on the day before each incident, and on the day after its first one (of a slow
    drift: four weeks after).
    """
    found = false = named = with_columns = columns = 0
    for incident in incidents:
        age = 0 if incident.days == 1 else 1 if incident.days < _SLOW_AFTER else _SLOW_AFTER
        before = _reference(watch, incident, way)
        quiet = _drifted(before, _current(watch, incident, -1, way))
        broken = _drifted(before, _current(watch, incident, age, way))
        total = len(_names(watch))
        false += len(quiet) / total >= _DRIFT_SHARE
        found += len(broken) / total >= _DRIFT_SHARE
        columns += len(quiet)
        if incident.columns:
            with_columns += 1
            named += bool(incident.columns & broken)
    count = len(incidents)
    return Fired(way, count, found, count, false, named, with_columns, columns / count)


def _current(watch: Watch, incident: Incident, age: int, way: str) -> pl.DataFrame:
    """The rows of the day ``age`` days after the incident's first, or of the seven until then."""
    frames: list[pl.DataFrame] = []
    for ago in range(7 if way == SEVEN else 1):
        day = incident.first + timedelta(days=age - ago)
        frame = watch.frames[day]
        if day >= incident.first:
            changed = incident.change(frame, day)
            assert changed is not None
            frame = answered(watch.year, changed, day)
        frames.append(frame.select(_names(watch)))
    return pl.concat(frames)


def _names(watch: Watch) -> list[str]:
    return [*watch.year.spec.feature_types, SCORE, LABEL]


def _reference(watch: Watch, incident: Incident, way: str) -> pl.DataFrame:
    day = pl.col(DAY)
    if way == WEEKS:
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
