"""Scores of real models on real flights, for simulated rollouts.

Models are trained on the first months of 2013 and score the rest of the year. Challengers of a
known quality are made from them: probabilities are drawn towards one half, on the scale of log
odds, until the log-loss over all held-out flights is what it should be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from bench._incidents_year import DAY, PART, Answering, flights_year, scores_of
from mlops_assets.adapters.xgboost_engine import train
from mlops_assets.core.inference import load_model
from mlops_assets.core.rollout_evidence import quality_rows, score_rows
from mlops_assets.core.spec import LABEL, UseCaseSpec

Vector = npt.NDArray[np.float64]

CHAMPION_UNTIL, WORSE_UNTIL, RETRAINED_UNTIL = date(2013, 3, 1), date(2013, 5, 1), date(2013, 7, 1)
"""First day after each model's training days; all flights from the last on are held out. The model
that ends with April is really worse on them than the one that ends with February.
"""

_VALIDATION_DAYS = 7
_ROUNDS = 150


@dataclass(frozen=True)
class Pool:
    """Held-out requests in the order of days, with each model's score and the label."""

    day: npt.NDArray[np.int64]
    """Code of the day, from 0."""
    hour: npt.NDArray[np.int64]
    label: Vector
    champion: Vector
    challengers: Mapping[str, Vector]

    @property
    def days(self) -> int:
        """How many there are."""
        return int(self.day[-1]) + 1

    def difference(self, name: str) -> float:
        """The challenger's log-loss over all requests, relative to the champion's."""
        d, b = quality_rows(self.label, self.champion, self.challengers[name])
        return float(d.sum() / b.sum())

    def disagreement(self, name: str) -> float:
        """The share of pairs of requests on which the challenger disagrees with the champion."""
        d, b = score_rows(self.champion, self.challengers[name])
        return float(d.sum() / b.sum())


def swapped(pool: Pool) -> Pool:
    """The same with a model much like the champion in its place, and the champion as challenger:
    days that were rarely good for the one are rarely bad for the other.
    """
    champion = pool.challengers["equal, much alike"]
    challengers = {
        "equal, much alike, roles swapped": pool.champion,
        "worse by 1 %, much alike, roles swapped": tempered(
            pool.label, champion, pool.champion, 0.01
        ),
    }
    return Pool(pool.day, pool.hour, pool.label, champion, challengers)


def pool_at(path: Path | None) -> Pool:
    """The pool, kept in the file ``path`` (.npz) if one is given."""
    if path is not None and path.exists():
        with np.load(path, allow_pickle=False) as kept:
            columns = {name: kept[name] for name in kept.files}
        return _pool(columns)
    columns = _scored()
    if path is not None:
        np.savez(path, allow_pickle=False, **columns)
    return _pool(columns)


def _pool(columns: Mapping[str, npt.NDArray[np.float64]]) -> Pool:
    label, champion = columns["label"], columns["champion"]
    retrained, alike = columns["retrained"], columns["other_seed"]
    # The mean of two models is better than each, so that it can be made as bad as is wanted.
    alike = _probability((_log_odds(champion) + _log_odds(alike)) / 2)
    challengers = {
        "better": retrained,
        "equal": tempered(label, champion, retrained, 0.0),
        "equal, much alike": tempered(label, champion, alike, 0.0),
        "worse by 1 %": tempered(label, champion, retrained, 0.01),
        "worse by 1 %, much alike": tempered(label, champion, alike, 0.01),
        "worse, trained until May": columns["until_may"],
        "broken: no features": columns["no_features"],
        "broken: rows mixed up": np.random.default_rng(7).permutation(retrained),
        "broken: inverted": 1 - retrained,
    }
    return Pool(
        columns["day"].astype(np.int64),
        columns["hour"].astype(np.int64),
        label,
        champion,
        challengers,
    )


def tempered(label: Vector, champion: Vector, scores: Vector, worse_by: float) -> Vector:
    """``scores`` with log odds scaled by one factor below 1, so that the log-loss is as much worse
    than the champion's, relatively, as it should be.
    """

    def difference(factor: float) -> float:
        d, b = quality_rows(label, champion, _probability(factor * _log_odds(scores)))
        return float(d.sum() / b.sum()) - worse_by

    low, high = 0.0, 1.0
    if not difference(high) < 0 < difference(low):
        raise RuntimeError(f"the scores cannot be made worse by {worse_by:.0%} than the champion's")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if difference(middle) > 0 else (low, middle)
    return _probability(high * _log_odds(scores))


def _scored() -> dict[str, npt.NDArray[np.float64]]:
    year = flights_year(())
    events = year.events.filter(pl.col(LABEL).is_not_null())
    held_out = events.filter(pl.col(DAY) >= RETRAINED_UNTIL)
    champion = _trained(year.spec, events, CHAMPION_UNTIL, 7)
    retrained = _trained(year.spec, events, RETRAINED_UNTIL, 7)
    empty = held_out.with_columns(
        pl.lit(None, held_out.schema[name]).alias(name) for name in year.spec.feature_types
    )
    columns = {
        "champion": scores_of(champion, held_out)[0],
        "other_seed": scores_of(_trained(year.spec, events, CHAMPION_UNTIL, 8), held_out)[0],
        "until_may": scores_of(_trained(year.spec, events, WORSE_UNTIL, 7), held_out)[0],
        "retrained": scores_of(retrained, held_out)[0],
        "no_features": scores_of(retrained, empty)[0],
        "label": held_out[LABEL],
        "hour": held_out["hour"].cast(pl.Float64),
        "day": held_out[DAY].rank("dense") - 1,
    }
    return {name: column.to_numpy().astype(np.float64) for name, column in columns.items()}


def _trained(spec: UseCaseSpec, events: pl.DataFrame, end: date, seed: int) -> Answering:
    validation = end - timedelta(days=_VALIDATION_DAYS)
    part = pl.when(pl.col(DAY) < validation).then(pl.lit("train")).otherwise(pl.lit("validation"))
    rate = 2 * float(spec.model.parameters["learning_rate"])
    quick = spec.model.model_copy(
        update={
            "rounds": _ROUNDS,
            "seed": seed,
            "parameters": {**spec.model.parameters, "learning_rate": rate},
        }
    )
    trained = train(
        events.filter(pl.col(DAY) < end).with_columns(part.alias(PART)),
        spec.feature_types,
        label=LABEL,
        part=PART,
        spec=quick,
        output=spec.label.name,
    )
    return Answering(1, end, load_model(trained.data, trained.sha256), trained.importances)


def _log_odds(scores: Vector) -> Vector:
    kept = np.clip(scores, 1e-6, 1 - 1e-6)
    return cast("Vector", np.log(kept / (1 - kept)))


def _probability(log_odds: Vector) -> Vector:
    return cast("Vector", 1 / (1 + np.exp(-log_odds)))
