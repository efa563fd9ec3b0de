"""The year of flights as the platform would see it: each event's features when it was asked, its
score by the model of the month, and its label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import cast

import polars as pl
import yaml

from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.xgboost_engine import TrainedModel, train
from mlops_assets.core.inference import Model, encode_frame, load_model, predict
from mlops_assets.core.pit import ASKED_AT, View, point_in_time_join
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, LABEL, UseCaseSpec
from mlops_assets.core.windows import Window

PACKAGE = "mlops_assets.defs.flight_delays"
DAY = "day"
PART = "part"
SCORE = "score"
VERSION = "version"

_VALIDATION_DAYS = 7
"""Of each model's training days, the last ones, which decide when training stops."""

_ROUNDS = 150
"""At most, at twice the use case's learning rate: the year needs eleven models."""


@dataclass(frozen=True)
class Answering:
    """A model, and the first day that it answers."""

    version: int
    since: date
    model: Model
    importances: dict[str, float]


@dataclass(frozen=True)
class Year:
    """``events`` has event_id, day, the features, label (null where there is none), score and the
    version that gave it (null before the first model), in event order.
    """

    spec: UseCaseSpec
    events: pl.DataFrame
    models: tuple[Answering, ...]

    def model_of(self, day: date) -> Answering | None:
        """The model that answers on ``day``; None before the first."""
        since = [each for each in self.models if each.since <= day]
        return since[-1] if since else None


def flights_year(months: Sequence[int]) -> Year:
    """A model is trained on the first of each of ``months`` of 2013, on all days before."""
    folder = Path(__file__).resolve().parent.parent / "mlops_assets" / "defs" / "flight_delays"
    document = yaml.safe_load((folder / "defs.yaml").read_text())
    spec = UseCaseSpec.model_validate(document["attributes"])
    events = _events(spec, Functions(PACKAGE, folder))
    models: list[Answering] = []
    starts = [*(date(2013, month, 1) for month in months), date(2014, 1, 1)]
    scored = [events.filter(pl.col(DAY) < starts[0]).with_columns(_unscored())]
    for version, (since, until) in enumerate(pairwise(starts), start=1):
        trained = _trained(spec, events.filter(pl.col(DAY) < since), since)
        answering = Answering(
            version=version,
            since=since,
            model=load_model(trained.data, trained.sha256),
            importances=trained.importances,
        )
        models.append(answering)
        answered = events.filter(pl.col(DAY).is_between(since, until, closed="left"))
        scored.append(answered.with_columns(*scores_of(answering, answered)))
    return Year(spec, pl.concat(scored), tuple(models))


def scores_of(answering: Answering, events: pl.DataFrame) -> Sequence[pl.Series]:
    """The columns score and version of ``events``."""
    scores = predict(answering.model, encode_frame(events, answering.model.signature))
    version = pl.Series(VERSION, [answering.version], dtype=pl.Int32).new_from_index(
        0, events.height
    )
    return pl.Series(SCORE, scores, dtype=pl.Float32), version


def _unscored() -> Sequence[pl.Expr]:
    return pl.lit(None, pl.Float32).alias(SCORE), pl.lit(None, pl.Int32).alias(VERSION)


def _events(spec: UseCaseSpec, functions: Functions) -> pl.DataFrame:
    """What lifecycle.training_set joins from the lake, from the sources themselves."""
    assert spec.end is not None
    window = Window(spec.start, spec.end, spec.timezone)

    def call(name: object, *arguments: object, **tables: object) -> pl.DataFrame:
        return cast("pl.DataFrame", functions.resolve(str(name))(*arguments, **tables))

    datasets = {
        name: call(dataset.source, window) if dataset.partitioned else call(dataset.source)
        for name, dataset in spec.datasets.items()
    }
    views = [
        View(
            name=name,
            frame=call(view.function, window, **{each: datasets[each] for each in view.datasets}),
            entity=tuple(view.entity),
            features=tuple(view.features),
            ttl=timedelta(hours=view.ttl_hours) if view.ttl_hours is not None else None,
        )
        for name, view in spec.feature_views.items()
    ]
    source = datasets[spec.events.dataset]
    lead = timedelta(minutes=spec.events.lead_minutes)
    asked = (
        call(spec.events.function, window, source)
        .with_columns((pl.col(EVENT_TIME) - lead).alias(ASKED_AT))
        .sort(EVENT_TIME, EVENT_ID)
    )
    labels = call(spec.label.function, window, datasets[spec.label.dataset])
    day = pl.col(EVENT_TIME).dt.convert_time_zone(spec.timezone).dt.date()
    return (
        point_in_time_join(asked, views)
        .join(labels.select(EVENT_ID, LABEL), on=EVENT_ID, how="left", maintain_order="left")
        .select(EVENT_ID, day.alias(DAY), *spec.feature_types, pl.col(LABEL).cast(pl.Int32))
    )


def _trained(spec: UseCaseSpec, events: pl.DataFrame, end: date) -> TrainedModel:
    validation = end - timedelta(days=_VALIDATION_DAYS)
    part = pl.when(pl.col(DAY) < validation).then(pl.lit("train")).otherwise(pl.lit("validation"))
    labelled = events.filter(pl.col(LABEL).is_not_null()).with_columns(part.alias(PART))
    rate = 2 * float(spec.model.parameters["learning_rate"])
    quick = spec.model.model_copy(
        update={"rounds": _ROUNDS, "parameters": {**spec.model.parameters, "learning_rate": rate}}
    )
    return train(
        labelled, spec.feature_types, label=LABEL, part=PART, spec=quick, output=spec.label.name
    )
