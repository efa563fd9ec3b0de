"""Training with XGBoost: deterministic, blind to the holdout, clear about wrong input."""

import math
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from training_support import FEATURES, SAMPLING, train_on, training_frame

from mlops_assets.adapters.xgboost_engine import MAX_CATEGORIES, train
from mlops_assets.core.errors import PermanentError, SchemaError
from mlops_assets.core.inference import encode_frame, load_model, predict
from mlops_assets.core.spec import ModelSpec

SPEC = ModelSpec(rounds=60, early_stopping_rounds=10, parameters=SAMPLING)
FEW = ModelSpec(rounds=5, parameters={"max_depth": 3})


def rows_of(part: str, then: pl.Expr, column: str) -> pl.Expr:
    """``column`` with other values in one part."""
    return pl.when(pl.col("part") == part).then(then).otherwise(pl.col(column)).alias(column)


def test_the_same_rows_give_the_same_bytes_on_one_and_two_threads_with_sampling() -> None:
    """Where a model is trained does not change it."""
    frame = training_frame()
    models = [train_on(frame, SPEC, threads) for threads in (1, 2, 2)]
    assert len({model.data for model in models}) == 1


def test_another_process_gives_the_same_bytes() -> None:
    """Neither hash seeds nor what a process did before are part of a model."""
    code = (
        "from training_support import ModelSpec, train_on, training_frame\n"
        f"spec = ModelSpec.model_validate_json({SPEC.model_dump_json()!r})\n"
        "print(train_on(training_frame(), spec).sha256)"
    )
    support = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": support, "PYTHONHASHSEED": "3"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == train_on(training_frame(), SPEC).sha256


def test_another_seed_gives_another_model() -> None:
    """The seed reaches the sampling."""
    frame = training_frame()
    assert train_on(frame, SPEC).data != train_on(frame, SPEC.model_copy(update={"seed": 8})).data


def test_the_model_never_sees_the_holdout() -> None:
    """Whatever the holdout holds, an infinity or a new category too, the bytes are the same."""
    frame = training_frame()
    other = frame.with_columns(
        rows_of("holdout", pl.lit(math.inf, pl.Float32), "delay"),
        rows_of("holdout", pl.lit("ZZ"), "carrier"),
        rows_of("holdout", 1 - pl.col("label"), "label"),
    )
    assert train_on(other, SPEC).data == train_on(frame, SPEC).data


def test_rows_without_a_label_teach_nothing() -> None:
    """A row whose outcome is not known counts as not there."""
    frame = training_frame().with_row_index("n")
    unlabelled = pl.col("n") % 3 == 0
    blanked = frame.with_columns(label=pl.when(~unlabelled).then(pl.col("label")))
    assert train_on(blanked, FEW).data == train_on(frame.filter(~unlabelled), FEW).data


def test_training_stops_early_and_keeps_the_rounds_up_to_the_best() -> None:
    """Rounds after the best validation log-loss are cut from the model, not from the history."""
    spec = ModelSpec(rounds=400, early_stopping_rounds=5, parameters={"eta": 0.5})
    frame = training_frame()
    model = train_on(frame, spec)
    losses = model.history["validation_log_loss"]
    assert model.rounds == int(np.argmin(losses)) + 1
    assert len(losses) == len(model.history["train_log_loss"]) == model.rounds + 5
    loaded = load_model(model.data, model.sha256)
    assert loaded.booster.num_boosted_rounds() == model.rounds
    rows = frame.filter(pl.col("part") == "validation")
    chance = predict(loaded, encode_frame(rows, loaded.signature)).astype(float)
    truth = rows["label"].to_numpy()
    loss = -np.mean(np.where(truth == 1, np.log(chance), np.log1p(-chance)))
    assert loss == pytest.approx(min(losses), abs=1e-5)


def test_each_round_is_reported() -> None:
    """Whoever watches hears of each round once, in order, with its losses."""
    seen: list[tuple[int, float, float]] = []

    def note(number: int, training: float, validation: float) -> None:
        seen.append((number, training, validation))

    model = train(
        training_frame(),
        FEATURES,
        label="label",
        part="part",
        spec=FEW,
        output="late",
        on_round=note,
    )
    history = model.history
    assert seen == [
        (n + 1, history["train_log_loss"][n], history["validation_log_loss"][n]) for n in range(5)
    ]


def test_the_signature_has_the_features_in_order_and_the_sorted_categories_of_the_train_rows() -> (
    None
):
    """A category that only the validation part has is no part of the model."""
    frame = training_frame().with_columns(rows_of("validation", pl.lit("ZZ"), "carrier"))
    signature = train_on(frame, FEW).signature
    assert [field.name for field in signature.inputs] == list(FEATURES)
    assert signature.inputs[0].categories == ("AA", "DL", "UA")
    assert signature.output == "late"


def test_importances_are_shares_of_the_gain() -> None:
    """Each feature has one, and together they are 1."""
    importances = train_on(training_frame(), SPEC).importances
    assert list(importances) == list(FEATURES)
    assert sum(importances.values()) == pytest.approx(1)
    assert min(importances.values()) > 0


def test_features_that_are_always_missing_are_fine() -> None:
    """They get no importance; a model of nothing else predicts the base rate."""
    frame = training_frame().with_columns(
        carrier=pl.lit(None, pl.String), delay=pl.lit(None, pl.Float32)
    )
    assert train_on(frame, FEW).importances == {"carrier": 0.0, "delay": 0.0, "hour": 1.0}
    nothing = train_on(frame.with_columns(hour=pl.lit(None, pl.Float32)), FEW)
    assert set(nothing.importances.values()) == {0.0}
    loaded = load_model(nothing.data, nothing.sha256)
    base_rate = frame.filter(pl.col("part") == "train")["label"].mean()
    assert predict(
        loaded,
        encode_frame(frame.head(2).with_columns(hour=pl.lit(None, pl.Float32)), loaded.signature),
    ) == pytest.approx([base_rate] * 2, abs=0.01)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"learning_rte": 0.1, "max_depth": 3}, ["learning_rte = 0.1"]),
        ({"eta": "quick", "max_depth": 3}, ["eta = 'quick'", "expect float"]),
        ({"subsample": 3}, ["subsample = 3", "[0,1]"]),
        ({"max_bin": "many"}, ["max_bin = 'many'"]),
        ({"tree_method": "approx"}, ["tree_method = 'approx'"]),
        ({"rate_drop": 0.1}, ["rate_drop"]),
        ({"objective": "reg:squarederror"}, ["objective", "probabilities"]),
        ({"eval_metric": "auc"}, ["eval_metric", "log-loss"]),
        ({"device": "cuda"}, ["device"]),
        ({"nthread": 4}, ["nthread"]),
        ({"seed": 4}, ["seed"]),
        ({"booster": "dart"}, ["booster"]),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(
    parameters: dict[str, float | int | str | bool], words: list[str]
) -> None:
    """XGBoost would train without a parameter that it does not know; the platform does not."""
    with pytest.raises(PermanentError) as raised:
        train_on(training_frame(200), ModelSpec(parameters=parameters))
    message = str(raised.value)
    assert all(word in message for word in ["model.parameters", *words])
    assert "Stack trace" not in message
    assert "max_depth" not in message


def test_the_bins_of_the_histograms_can_be_chosen() -> None:
    """``max_bin`` reaches the data too, where XGBoost wants the same number."""
    frame = training_frame()
    coarse = train_on(frame, ModelSpec(rounds=5, parameters={"max_depth": 3, "max_bin": 4}))
    assert coarse.data != train_on(frame, FEW).data


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda frame: frame.filter(pl.col("part") != "train"),
            PermanentError,
            ["train part", "no row", "training_set.days"],
        ),
        (
            lambda frame: frame.filter(pl.col("part") != "validation"),
            PermanentError,
            ["validation part", "no row", "validation_days"],
        ),
        (
            lambda frame: frame.with_columns(label=pl.lit(0)),
            PermanentError,
            ["train part", "is 0", "one class"],
        ),
        (
            lambda frame: frame.with_columns(rows_of("validation", pl.lit(1), "label")),
            PermanentError,
            ["validation part", "is 1", "one class"],
        ),
        (lambda frame: frame.with_columns(pl.col("label") * 2), SchemaError, ["'label'", "2.0"]),
        (lambda frame: frame.drop("delay", "part"), SchemaError, ["lacks delay, part"]),
        (
            lambda frame: frame.with_columns(carrier=pl.lit(3)),
            SchemaError,
            ["'carrier'", "Int32", "string"],
        ),
        (
            lambda frame: frame.with_columns(hour=pl.lit("late")),
            SchemaError,
            ["'hour'", "String", "number"],
        ),
        (
            lambda frame: frame.with_columns(
                rows_of("validation", pl.lit(-math.inf, pl.Float32), "delay")
            ),
            SchemaError,
            ["validation part", "'delay'", "infinite"],
        ),
    ],
)
def test_a_training_set_that_cannot_be_learnt_from_is_refused_with_what_to_do(
    change: Callable[[pl.DataFrame], pl.DataFrame], error: type[Exception], words: list[str]
) -> None:
    """The message names the part, the column and the way out."""
    with pytest.raises(error) as raised:
        train_on(change(training_frame(500)), FEW)
    assert all(word in str(raised.value) for word in words)


def test_a_feature_with_too_many_categories_is_named() -> None:
    """An identifier that was declared as a category does not become a model."""
    rows = 5 * MAX_CATEGORIES
    frame = training_frame(rows).with_columns(
        carrier=pl.int_range(rows, dtype=pl.Int32).cast(pl.String)
    )
    with pytest.raises(PermanentError, match=r"'carrier' has \d+ categories.*1000 are allowed"):
        train_on(frame, FEW)


def test_training_without_features_is_refused() -> None:
    """There is nothing to split on."""
    with pytest.raises(SchemaError, match="no features"):
        train(training_frame(200), {}, label="label", part="part", spec=FEW, output="late")
