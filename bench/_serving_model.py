"""The model that the servers are compared with: 200 trees on 20 columns of real flights."""

import hashlib
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from mlops_assets.core.inference import Matrix, dump_model, encode_frame, feature_types
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.windows import Window

if TYPE_CHECKING:
    import xgboost

TREES = 200
ROWS = 60_000
ASKED_ROWS = 10_000

_CATEGORIES = ("carrier", "origin", "dest")
_NUMBERS = (
    *("distance", "hour", "minute", "weekday", "yearday", "seats", "engines", "built"),
    *("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"),
    "planned_minutes",
)


@dataclass(frozen=True)
class Problem:
    """A trained model, its file, and rows to ask it about: as columns and as XGBoost's matrix."""

    booster: "xgboost.Booster"
    data: bytes
    sha256: str
    signature: Signature
    frame: pl.DataFrame
    matrix: Matrix


def problem() -> Problem:
    """Will a flight be late? Trained on 60,000 flights of 2013, asked about those that follow."""
    import xgboost as xgb

    frame = _flights()
    trained, asked = frame.head(ROWS), frame.slice(ROWS, ASKED_ROWS)
    signature = Signature(
        inputs=(
            *(
                FeatureField(
                    name=name,
                    type="category",
                    categories=tuple(trained[name].drop_nulls().unique().sort().to_list()),
                )
                for name in _CATEGORIES
            ),
            *(FeatureField(name=name, type="float") for name in _NUMBERS),
        ),
        output="late",
    )
    data = xgb.DMatrix(
        encode_frame(trained, signature),
        trained["late"].to_numpy(),
        feature_types=feature_types(signature),
        enable_categorical=True,
    )
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 6}, data, TREES)
    file = dump_model(booster, signature)
    digest = hashlib.sha256(file).hexdigest()
    return Problem(booster, file, digest, signature, asked, encode_frame(asked, signature))


def _flights() -> pl.DataFrame:
    from mlops_assets.defs.flight_delays.sources import flights, planes, weather

    year = Window(date(2013, 1, 1), date(2014, 1, 1), "UTC")
    observed = weather(year).with_columns(pl.col("event_time").dt.truncate("1h").alias("at"))
    aircraft = planes().select("tailnum", "seats", "engines", pl.col("year").alias("built"))
    minutes = (pl.col("scheduled_arrival") - pl.col("event_time")).dt.total_minutes()
    return (
        flights(year)
        .drop_nulls("arr_delay")
        .with_columns(
            at=pl.col("event_time").dt.truncate("1h"),
            late=(pl.col("arr_delay") > 15).cast(pl.Float32),
            weekday=pl.col("event_time").dt.weekday(),
            yearday=pl.col("event_time").dt.ordinal_day(),
            planned_minutes=minutes,
        )
        .join(observed.drop("event_time", "known_at"), on=["origin", "at"], how="left")
        .join(aircraft, on="tailnum", how="left")
        .sort("event_time", "event_id")
        .select("late", *_CATEGORIES, *(pl.col(name).cast(pl.Float64) for name in _NUMBERS))
    )
