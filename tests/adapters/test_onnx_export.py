"""The export to ONNX: the same probabilities, or no export."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.adapters import onnx_export
from mlops_assets.adapters.models import keep_export
from mlops_assets.adapters.onnx_export import export_onnx
from mlops_assets.adapters.xgboost_engine import TrainedModel
from mlops_assets.core import onnx_trees, tree_tables
from mlops_assets.core.errors import DigestMismatchError, PermanentError
from mlops_assets.core.inference import (
    Matrix,
    Model,
    dump_model,
    encode,
    encode_frame,
    feature_types,
    load_model,
    predict,
)
from mlops_assets.core.onnx_trees import OnnxTrees, load_onnx
from mlops_assets.core.records import FeatureField, Signature

PLACES = tuple(f"p{n:02d}" for n in range(40))
SIGNATURE = Signature(
    inputs=(
        FeatureField(name="place", type="category", categories=PLACES),
        FeatureField(name="kind", type="category", categories=("a", "b", "c")),
        FeatureField(name="empty", type="category"),
        FeatureField(name="size", type="float"),
        FeatureField(name="age", type="float"),
    ),
    output="late",
)


def frame_of(rows: int, seed: int = 0) -> pl.DataFrame:
    """Rows with missing values, and categories that no model knows."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "place": random.choice([*PLACES, "unknown"], rows),
            "kind": [("a", "b", "c", None)[n] for n in random.integers(0, 4, rows)],
            "empty": pl.Series([None] * rows, dtype=pl.String),
            "size": random.normal(size=rows) * 10.0 ** random.integers(-3, 4, rows),
            "age": np.where(random.uniform(size=rows) < 0.2, np.nan, random.normal(size=rows)),
        }
    )


@lru_cache
def trained(seed: int = 0, trees: int = 30, **parameters: float) -> TrainedModel:
    """A model with splits on sets of categories and on single ones."""
    frame = frame_of(3000, seed)
    matrix = encode_frame(frame, SIGNATURE)
    odds = np.nan_to_num(matrix[:, 0] % 7 - 3) + np.nan_to_num(matrix[:, 4])
    labels = np.random.default_rng(seed).uniform(size=3000) < 1 / (1 + np.exp(-odds))
    data = xgboost.DMatrix(
        matrix,
        labels.astype(np.float32),
        feature_types=feature_types(SIGNATURE),
        enable_categorical=True,
    )
    settings = {"objective": "binary:logistic", "max_depth": 6, "nthread": 1, "seed": seed}
    file = dump_model(xgboost.train(settings | parameters, data, trees), SIGNATURE)
    return TrainedModel(file, hashlib.sha256(file).hexdigest(), SIGNATURE, trees, {}, {})


@lru_cache
def both(seed: int = 0) -> tuple[Model, OnnxTrees]:
    """A model as XGBoost and as ONNX."""
    model = trained(seed)
    loaded = load_model(model.data, model.sha256)
    export = export_onnx(model, frame_of(500, 1))
    assert export.data is not None, export.refused
    assert export.sha256 is not None
    return loaded, load_onnx(export.data, export.sha256, loaded)


values = st.one_of(
    st.none(),
    st.floats(-1e38, 1e38),
    st.sampled_from([0.0, -0.0, 3e38, -3e38, 1e-44]),
)
rows = st.lists(
    st.tuples(
        st.sampled_from([*PLACES, "unknown", None]),
        st.sampled_from(["a", "b", "c", "d", None]),
        st.sampled_from(["x", None]),
        values,
        values,
    ),
    min_size=1,
    max_size=80,
)


@settings(deadline=None)
@given(rows)
def test_onnx_gives_what_xgboost_gives(given_rows: list[tuple[object, ...]]) -> None:
    """For any rows: missing and unknown values and the ends of what a float holds included."""
    model, trees = both()
    columns = {
        field.name: [row[n] for row in given_rows] for n, field in enumerate(SIGNATURE.inputs)
    }
    matrix = encode(columns, SIGNATURE)
    expected = predict(model, matrix)
    np.testing.assert_allclose(trees.predict(matrix), expected, rtol=1e-5, atol=2e-7)
    one_by_one = [trees.predict(matrix[n : n + 1])[0] for n in range(len(matrix))]
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_cat_to_onehot": 100},
        {"max_cat_threshold": 2},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"base_score": 0.01},
        {"max_depth": 0, "max_leaves": 200, "grow_policy": "lossguide"},
        {"gamma": 1e9},
    ],
    ids=str,
)
def test_all_kinds_of_trees_are_exported(parameters: dict[str, float]) -> None:
    """Splits on one category and on many, forests, deep trees, and trees without a split."""
    export = export_onnx(trained(1, 8, **parameters), frame_of(500, 1))
    assert export.refused is None
    assert export.difference is not None
    assert export.difference <= 2e-7


def test_small_probabilities_keep_their_digits() -> None:
    """A rare outcome's score is as exact as XGBoost's, not only close to 0."""
    model = trained(2, 30, base_score=1e-6, eta=0.01)
    loaded = load_model(model.data, model.sha256)
    export = export_onnx(model, frame_of(500, 1))
    assert export.data is not None
    assert export.sha256 is not None
    matrix = encode_frame(frame_of(500, 3), SIGNATURE)
    expected = predict(loaded, matrix)
    assert expected.max() < 1e-4
    trees = load_onnx(export.data, export.sha256, loaded)
    np.testing.assert_allclose(trees.predict(matrix), expected, rtol=1e-5)


def test_equal_models_give_equal_bytes() -> None:
    """Also where the rows that they are compared on differ."""
    first, second = (export_onnx(trained(), frame_of(200, seed)) for seed in (1, 2))
    assert first.sha256 is not None
    assert first.sha256 == second.sha256


def test_an_export_that_predicts_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter's mistake costs speed, and never a training or a wrong answer."""
    right = onnx_export._chain  # pyright: ignore[reportPrivateUsage]

    def wrong(
        split: tuple[int, int, int],
        to_right: frozenset[int],
        codes: int,
        branches: tuple[int, int, int],
        more: Iterator[int],
    ) -> object:
        low, high, missing = branches
        return right(split, to_right, codes, (low, high, 1 - missing), more)

    monkeypatch.setattr(onnx_export, "_chain", wrong)
    export = export_onnx(trained(), frame_of(500, 1))
    assert export.data is None
    assert "differ" in str(export.refused)


def test_a_model_of_another_kind_is_not_exported() -> None:
    """What went wrong is said; the training goes on."""
    model = trained()
    broken = TrainedModel(model.data[:-9], model.sha256, SIGNATURE, 1, {}, {})
    export = export_onnx(broken, frame_of(10))
    assert (export.data, export.sha256) == (None, None)
    assert "DigestMismatchError" in str(export.refused)


def test_a_few_rows_are_enough_to_compare_on() -> None:
    """Where no process reads the whole training set, thresholds and categories still are."""
    assert export_onnx(trained(), frame_of(0)).rows > 100


def test_what_was_not_exported_from_the_model_is_not_loaded() -> None:
    """Another model's export, another digest, a cut file."""
    model, _ = both()
    other = export_onnx(trained(5), frame_of(100))
    assert other.data is not None
    assert other.sha256 is not None
    with pytest.raises(DigestMismatchError, match="was exported from the model"):
        load_onnx(other.data, other.sha256, model)
    with pytest.raises(DigestMismatchError, match="was registered"):
        load_onnx(other.data, "0" * 64, model)
    cut = other.data[: len(other.data) // 2]
    with pytest.raises(PermanentError, match="cannot read the ONNX file"):
        load_onnx(cut, hashlib.sha256(cut).hexdigest(), model)


def test_parity_is_asked_on_both_sides_of_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that takes the threshold itself to the wrong side is found."""
    predict_as_is = OnnxTrees.predict

    def shifted(self: OnnxTrees, matrix: Matrix) -> np.ndarray:
        return predict_as_is(self, np.nextafter(matrix, np.float32(-np.inf), dtype=np.float32))

    monkeypatch.setattr(onnx_trees.OnnxTrees, "predict", shifted)
    assert export_onnx(trained(), frame_of(0)).data is None


def test_a_model_with_tables_is_kept_without_an_export(tmp_path: Path) -> None:
    """The server would not read it."""
    kept = keep_export(str(tmp_path / "model.ubj"), trained(), frame_of(100))
    assert kept == {"onnx_note": "not exported: the server answers from tables of bits"}
    assert not list(tmp_path.iterdir())


def test_a_model_without_tables_is_kept_with_its_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside its file, by digest."""
    monkeypatch.setattr(tree_tables, "MAX_TABLE_BYTES", 0)
    kept = keep_export(str(tmp_path / "model.ubj"), trained(), frame_of(100))
    assert kept["onnx"] == str(tmp_path / "model.onnx")
    assert hashlib.sha256(Path(kept["onnx"]).read_bytes()).hexdigest() == kept["onnx_sha256"]
    assert kept["onnx_note"].startswith("exported: within ")
