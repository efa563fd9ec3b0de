"""Training on a GPU against training on the CPU: the engine's own parameters, rows like flights'.

Sizes are rows of 45 features, five of them categories, with missing values. The GPU's model has to
come out the same twice, and the same when it is resumed from a checkpoint: both are counted as
differences, which have to be none. Where XGBoost finds no GPU this says so and measures nothing.
"""

import argparse
import hashlib
import os
import statistics
import time

import numpy as np
import numpy.typing as npt

from bench.report import Result, compared, limited, unmeasured

FLOATS, CATEGORIES, LEVELS = 40, 5, 30
ROUNDS = 100
PARAMETERS: dict[str, object] = {
    "objective": "binary:logistic",
    "eval_metric": "logloss",
    "tree_method": "hist",
    "max_depth": 5,
    "learning_rate": 0.05,
    "min_child_weight": 50,
    "subsample": 0.8,
    "colsample_bytree": 0.3,
    "max_cat_to_onehot": 4,
    "seed": 7,
}

Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes and repeats."""
    parser.add_argument("--rows", type=int, nargs="+", help="rows (default: 50000 300000 3000000)")
    parser.add_argument("--repeats", type=int, help="timed trainings of each (default: 3)")


def main(options: argparse.Namespace) -> list[Result]:
    """Seconds for 100 rounds on each device, and whether the GPU repeats itself."""
    sizes: list[int] = options.rows or ([20_000] if options.quick else [50_000, 300_000, 3_000_000])
    if not _has_gpu():
        why = "XGBoost finds no GPU here"
        return [unmeasured(f"{size:,} rows", "seconds", "CPU", why) for size in sizes]
    repeats = options.repeats or (1 if options.quick else 3)
    cores = len(os.sched_getaffinity(0))
    found: list[Result] = []
    for size in sizes:
        rows = _rows(size)
        on_gpu, gpu = _seconds(rows, "cuda", None, repeats)
        again = _seconds(rows, "cuda", None, 1)[1]
        resumed = _seconds(rows, "cuda", None, 1, segments=5)[1]
        whole = _seconds(rows, "cuda", None, 1, segments=5, reload=False)[1]
        for threads in sorted({4, cores}):
            on_cpu, _ = _seconds(rows, "cpu", threads, max(1, repeats - 1))
            found.append(
                compared(
                    f"{size:,} rows", f"seconds of {ROUNDS} rounds", on_gpu, on_cpu,
                    f"CPU, {threads} threads",
                )
            )  # fmt: skip
        found.append(
            limited(f"{size:,} rows", "GPU models that differ in a repeat", gpu != again, 0)
        )
        found.append(
            limited(f"{size:,} rows", "GPU models that differ when resumed", resumed != whole, 0)
        )
    return found


def _has_gpu() -> bool:
    import xgboost as xgb

    if not xgb.build_info().get("USE_CUDA"):
        return False
    try:
        tiny = xgb.DMatrix(np.zeros((2, 1), dtype=np.float32), np.array([0, 1]))
        found = xgb.train({"device": "cuda", "tree_method": "hist"}, tiny, 1)
    except xgb.core.XGBoostError:
        return False
    return '"device":"cuda' in found.save_config().replace(" ", "")


def _rows(size: int) -> Rows:
    """``size`` rows of features, some missing, and labels that depend on a few of them."""
    rng = np.random.default_rng(7)
    floats = rng.standard_normal((size, FLOATS), dtype=np.float32)
    codes = rng.integers(0, LEVELS, (size, CATEGORIES)).astype(np.float32)
    effect = rng.standard_normal(LEVELS).astype(np.float32)
    score = floats[:, 0] + floats[:, 1] * floats[:, 2] + effect[codes[:, 0].astype(np.int64)]
    label = (rng.random(size) < 1 / (1 + np.exp(1.3 - 0.8 * score))).astype(np.float32)
    floats[rng.random((size, FLOATS)) < 0.03] = np.nan
    return np.hstack([floats, codes]), label


def _seconds(
    rows: Rows,
    device: str,
    threads: int | None,
    repeats: int,
    segments: int = 1,
    reload: bool = True,
) -> tuple[float, str]:
    """Median seconds of a training with its quantised matrix, and the model's SHA-256.

    In ``segments``, each has a seed of its own; with ``reload`` the model goes through its bytes in
    between, as it does when another process resumes it.
    """
    import xgboost as xgb

    taken: list[float] = []
    digest = ""
    for _ in range(repeats):
        begun = time.perf_counter()
        matrix = xgb.QuantileDMatrix(
            *rows,
            feature_types=["q"] * FLOATS + ["c"] * CATEGORIES,
            enable_categorical=True,
            nthread=threads,
        )
        model: xgb.Booster | None = None
        each = ROUNDS // segments
        for first in range(0, ROUNDS, each):
            here = PARAMETERS | {"device": device, "seed": 7 + first, "nthread": threads or 0}
            model = xgb.train(here, matrix, each, xgb_model=model, verbose_eval=False)
            if reload:
                model = xgb.Booster(model_file=model.save_raw("ubj"))
        assert model is not None
        digest = hashlib.sha256(model.save_raw("ubj")).hexdigest()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken), digest
