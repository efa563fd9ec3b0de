"""What it costs that a training can be cut: in segments with checkpoints, against plain xgb.train.

Both sides train on the same quantised rows (40 features, 4 of them categories), with parameters
like those of the flight delays, as many rounds, losses on both parts after each, and early stopping
watching. Ours also seeds each round, and every 20 rounds makes its updater anew and writes a
checkpoint to a local disk. Sides take turns; the least counts: what else the machine does only ever
adds to it.

Then trainings are cut at random rounds and gone on with: what was lost?
"""

import argparse
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping

import numpy as np
import xgboost as xgb

from bench.report import Result, compared, limited
from mlops_assets.adapters.boosting import boost, plan_of
from mlops_assets.adapters.checkpoints import Keeper, Place
from mlops_assets.adapters.interruption import Interruption
from mlops_assets.core.errors import InterruptedTrainingError
from mlops_assets.core.segments import Plan
from mlops_assets.core.spec import ModelSpec

GOAL = 1.05
FEATURES, CATEGORIES = 40, 4
PARAMETERS: dict[str, float | int | str | bool] = {
    "tree_method": "hist",
    "max_depth": 5,
    "learning_rate": 0.05,
    "min_child_weight": 50,
    "subsample": 0.8,
    "colsample_bytree": 0.3,
}
WITHOUT_DRAWS = {
    name: value for name, value in PARAMETERS.items() if not name.endswith(("sample", "bytree"))
}

Matrices = Mapping[str, xgb.QuantileDMatrix]


class _Cut(Exception):  # noqa: N818 - no error
    """The process is gone."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many rows, rounds and repeats."""
    parser.add_argument("--rows", type=int, action="append", help="train rows, may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds (default 100, quick 40)")
    parser.add_argument("--repeats", type=int, help="turns of both sides (default 5, quick 2)")


def main(options: argparse.Namespace) -> list[Result]:
    """Least seconds of both sides, and rounds lost to interruptions."""
    sizes = options.rows or ([20_000] if options.quick else [50_000, 300_000])
    rounds = options.rounds or (40 if options.quick else 100)
    repeats = options.repeats or (2 if options.quick else 5)
    results: list[Result] = []
    for size in sizes:
        matrices = _matrices(size)
        results += _overhead(matrices, size, PARAMETERS, "sampled", rounds, repeats)
        if size == sizes[0]:
            results += _overhead(matrices, size, WITHOUT_DRAWS, "all columns", rounds, repeats)
            results += _lost(matrices, rounds, cuts=5 if options.quick else 20)
    return results


def _matrices(rows: int) -> Matrices:
    rng = np.random.default_rng(7)

    def part(rows: int) -> tuple[np.ndarray, np.ndarray]:
        values = rng.normal(size=(rows, FEATURES)).astype(np.float32)
        values[:, :CATEGORIES] = rng.integers(0, 30, (rows, CATEGORIES))
        margin = values[:, 5] + values[:, 6] * values[:, 7] + (values[:, 0] % 3 == 0)
        values[rng.uniform(size=values.shape) < 0.05] = np.nan
        return values, (margin + rng.normal(size=rows) > 0.5).astype(np.float32)

    kinds = ["c"] * CATEGORIES + ["float"] * (FEATURES - CATEGORIES)
    train = xgb.QuantileDMatrix(*part(rows), feature_types=kinds, enable_categorical=True)
    validation = xgb.QuantileDMatrix(
        *part(rows // 5), feature_types=kinds, enable_categorical=True, ref=train
    )
    return {"train": train, "validation": validation}


def _settings(parameters: Mapping[str, object]) -> dict[str, object]:
    return {
        **parameters,
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "seed": 7,
    }


def _spec(rounds: int) -> ModelSpec:
    return ModelSpec(rounds=rounds, early_stopping_rounds=rounds)


def _plan(matrices: Matrices, spec: ModelSpec) -> Plan:
    return plan_of(spec, matrices["train"].num_row(), FEATURES)


def _overhead(
    matrices: Matrices,
    size: int,
    parameters: Mapping[str, object],
    kind: str,
    rounds: int,
    repeats: int,
) -> list[Result]:
    spec, settings = _spec(rounds), _settings(parameters)
    saving: list[float] = []

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            keeper = Keeper(Place(folder, "bench", "rows"), "k" * 64, print)
            done = boost(settings, matrices, _plan(matrices, spec), keeper=keeper)
            assert done.booster.num_boosted_rounds() == rounds
            assert keeper.saved == -(-rounds // spec.segment_rounds)
            saving.append(keeper.seconds)

    def plain() -> None:
        done = xgb.train(
            settings,
            matrices["train"],
            rounds,
            evals=[(matrix, part) for part, matrix in matrices.items()],
            evals_result={},
            early_stopping_rounds=rounds,
            verbose_eval=False,
        )
        assert done.num_boosted_rounds() == rounds

    taken: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
    for turn in range(repeats + 1):
        sides: list[tuple[str, Callable[[], None]]] = [("ours", ours), ("plain", plain)]
        # Whoever comes second finds memory that the first has given back.
        for name, side in sides if turn % 2 else reversed(sides):
            wall, cpu = time.perf_counter(), time.process_time()
            side()
            seconds = time.perf_counter() - wall, time.process_time() - cpu
            if turn:  # the first warms up
                taken[name].append(seconds)
    case = f"{size:,} rows, {kind}, {rounds} rounds"
    return [
        compared(
            case,
            f"{clock} seconds",
            min(each[index] for each in taken["ours"]),
            min(each[index] for each in taken["plain"]),
            "xgb.train",
            goal=GOAL,
            note=note,
        )
        for index, clock, note in (
            (0, "least wall", f"of which saving {min(saving):.2f} s"),
            (1, "least CPU", "less shaken by what else the machine does"),
        )
    ]


def _lost(matrices: Matrices, rounds: int, cuts: int) -> list[Result]:
    """The most rounds that are trained again after the process is gone, and after SIGTERM."""
    spec, settings = _spec(rounds), _settings(PARAMETERS)
    moments = random.Random(7)  # noqa: S311 - no secret
    gone, told = [], []
    for _ in range(cuts):
        cut = moments.randint(1, rounds - 1)
        with tempfile.TemporaryDirectory() as folder:
            gone.append(cut - _resumed(matrices, settings, spec, folder, cut, warned=False))
        with tempfile.TemporaryDirectory() as folder:
            # After a warning it trains on to where it can be cut.
            found = _resumed(matrices, settings, spec, folder, cut, warned=True)
            told.append(max(0, cut - found))
    note = f"of {cuts} cuts at random rounds; median {{}}"
    return [
        limited(
            "work lost, no warning",
            "rounds",
            max(gone),
            spec.segment_rounds,
            note=note.format(statistics.median(gone)),
        ),
        limited(
            "work lost, SIGTERM", "rounds", max(told), 0, note=note.format(statistics.median(told))
        ),
    ]


def _resumed(
    matrices: Matrices,
    settings: Mapping[str, object],
    spec: ModelSpec,
    folder: str,
    cut: int,
    *,
    warned: bool,
) -> int:
    """The rounds that a second attempt finds after the first was cut at a round."""
    interruption = Interruption()

    def on_round(number: int, *_: float) -> None:
        if number == cut and warned:
            interruption.handle(signal.SIGTERM, None)
        elif number == cut:
            raise _Cut

    def keeper() -> Keeper:
        return Keeper(Place(folder, "bench", "rows"), "k" * 64, print)

    try:
        boost(
            settings,
            matrices,
            _plan(matrices, spec),
            keeper=keeper(),
            interruption=interruption,
            on_round=on_round,
        )
    except (_Cut, InterruptedTrainingError):
        found = next(iter(keeper().found()), None)
        return 0 if found is None else found.rounds
    raise RuntimeError(f"the training was not cut at round {cut}")
