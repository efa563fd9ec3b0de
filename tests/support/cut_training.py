"""Trainings that are cut: parameter sets, and one attempt in a process of its own."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from training_support import FEATURES, SAMPLING, training_frame

from mlops_assets.adapters.boosting import OnRound
from mlops_assets.adapters.checkpoints import Place
from mlops_assets.adapters.devices import Device
from mlops_assets.adapters.xgboost_engine import TrainedModel, train
from mlops_assets.core.spec import ModelSpec

ROWS = 1500

SPECS = {
    "rows, columns and categories are sampled": ModelSpec(
        rounds=40, early_stopping_rounds=40, segment_rounds=4, parameters=SAMPLING
    ),
    "columns are drawn for each tree, level and node": ModelSpec(
        rounds=40,
        early_stopping_rounds=40,
        segment_rounds=3,
        parameters={
            "colsample_bytree": 0.7,
            "colsample_bylevel": 0.7,
            "colsample_bynode": 0.7,
            "max_cat_to_onehot": 1,
        },
    ),
    "it stops early": ModelSpec(
        rounds=400,
        early_stopping_rounds=15,
        segment_rounds=4,
        parameters={"subsample": 0.8, "eta": 0.15, "max_depth": 2},
    ),
    "trees grow by loss": ModelSpec(
        rounds=40,
        early_stopping_rounds=40,
        segment_rounds=5,
        parameters={"grow_policy": "lossguide", "max_leaves": 9, "colsample_bynode": 0.5},
    ),
    "each round is a forest": ModelSpec(
        rounds=40,
        early_stopping_rounds=40,
        segment_rounds=4,
        parameters={"num_parallel_tree": 3, "subsample": 0.5, "colsample_bynode": 0.7},
    ),
}


def train_kept(
    name: str,
    folder: Path | str | None,
    on_round: OnRound | None = None,
    *,
    threads: int = 1,
    device: Device = "cpu",
    note: Callable[[str], None] = lambda _: None,
) -> TrainedModel:
    """The model of a parameter set, with checkpoints in ``folder``."""
    return train(
        training_frame(ROWS),
        FEATURES,
        label="label",
        part="part",
        spec=SPECS[name],
        output="late",
        threads=threads,
        on_round=on_round,
        device=device,
        place=None if folder is None else Place(str(folder), "late_flights", "a" * 64),
        note=note,
    )


def attempt(name: str, folder: Path, rounds: Connection) -> None:
    """Train until the end or until killed: tells each round, then None, then the model."""
    model = train_kept(name, folder, lambda number, *_: rounds.send(number))
    rounds.send(None)
    rounds.send((model.data, model.history, model.course.interruptions))
