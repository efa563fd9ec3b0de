"""A small training set and what describes it."""

from datetime import date

import numpy as np
import polars as pl

from mlops_assets.adapters.xgboost_engine import TrainedModel, train
from mlops_assets.core.records import TrainingSetRecord
from mlops_assets.core.spec import FeatureType, ModelSpec, UseCaseSpec

FEATURES: dict[str, FeatureType] = {"carrier": "category", "delay": "float", "hour": "float"}
SAMPLING: dict[str, float | int | str | bool] = {
    "subsample": 0.7,
    "colsample_bytree": 0.7,
    "max_depth": 3,
}


def training_frame(rows: int = 3000) -> pl.DataFrame:
    """Rows whose label depends on every feature; three fifths train, a fifth is the holdout."""
    rng = np.random.default_rng(5)
    carrier = rng.choice(["UA", "AA", "DL"], rows)
    delay, hour = rng.normal(size=rows), rng.uniform(0, 24, rows)
    chance = 1 / (1 + np.exp(-(delay + (hour - 12) / 6 + (carrier == "UA"))))
    part = np.repeat(["train", "validation", "holdout"], [3 * rows // 5, rows // 5, rows // 5])
    frame = pl.DataFrame(
        {
            "carrier": carrier,
            "delay": delay.astype(np.float32),
            "hour": hour.astype(np.float32),
            "label": (rng.uniform(size=rows) < chance).astype(np.int8),
            "part": part,
        }
    )
    missing = pl.Series(rng.uniform(size=rows) < 0.1)
    return frame.with_columns(
        pl.when(~missing).then(pl.col(name)).alias(name) for name in ("carrier", "delay")
    )


def train_on(frame: pl.DataFrame, spec: ModelSpec, threads: int | None = 1) -> TrainedModel:
    """The model of ``frame``."""
    return train(
        frame, FEATURES, label="label", part="part", spec=spec, output="late", threads=threads
    )


def training_set_record(digest: str = "a" * 64) -> TrainingSetRecord:
    """The record of a training set with that digest."""
    return TrainingSetRecord(
        use_case="late_flights",
        digest=digest,
        first=date(2013, 1, 1),
        validation_first=date(2013, 2, 1),
        holdout_first=date(2013, 2, 8),
        end=date(2013, 2, 22),
        rows=3000,
        positives=1500,
        unlabelled=0,
        table_versions={"flights": 3, "weather": 4},
    )


def use_case_spec(model: ModelSpec) -> UseCaseSpec:
    """A use case that trains like ``model``."""
    source = {"dataset": "flights", "function": "flights:rows"}
    return UseCaseSpec.model_validate(
        {
            "name": "late_flights",
            "description": "Is a flight late?",
            "owners": ["team:flights"],
            "start": date(2013, 1, 1),
            "datasets": {
                "flights": {
                    "description": "Flights.",
                    "source": "flights:source",
                    "columns": {"flight": "string", "at": "timestamp"},
                    "key": ["flight"],
                    "event_time": "at",
                }
            },
            "feature_views": {
                "delays": {
                    "description": "Delays.",
                    "function": "flights:delays",
                    "datasets": ["flights"],
                    "entity": ["flight"],
                    "features": FEATURES,
                }
            },
            "events": source,
            "label": {"name": "late", **source},
            "training_set": {"end": date(2013, 2, 22), "days": 52},
            "gate": {"rules": [{"metric": "log_loss", "at_most": 1}]},
            "model": model,
        }
    )
