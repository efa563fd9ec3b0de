"""Trees as tables: XGBoost's probabilities, or no tables."""

import hashlib
from functools import lru_cache

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core import tree_tables as tables_module
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.inference import (
    Matrix,
    Model,
    dump_model,
    encode,
    feature_types,
    load_model,
    predict,
)
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.tree_tables import CHUNK_ROWS, FEW_ROWS, TreeTables, tree_tables

PLACES = tuple(f"p{n:02d}" for n in range(40))
SIGNATURE = Signature(
    inputs=(
        FeatureField(name="place", type="category", categories=PLACES),
        FeatureField(name="kind", type="category", categories=("a", "b", "c")),
        FeatureField(name="only", type="category", categories=("x",)),
        FeatureField(name="empty", type="category"),
        FeatureField(name="size", type="float"),
        FeatureField(name="age", type="float"),
    ),
    output="late",
)


def rows_of(number: int, seed: int = 0) -> Matrix:
    """Rows of all kinds, with missing values in each column."""
    random = np.random.default_rng(seed)
    columns = [
        random.integers(0, 40, number),
        random.integers(0, 3, number),
        np.zeros(number),
        np.full(number, np.nan),
        random.normal(size=number) * 10.0 ** random.integers(-3, 4, number),
        random.normal(size=number),
    ]
    matrix = np.column_stack(columns).astype(np.float32)
    matrix[random.uniform(size=matrix.shape) < 0.1] = np.nan
    return matrix


@lru_cache
def model_of(trees: int = 30, **parameters: object) -> Model:
    """A model with splits on sets of categories, on single ones and on numbers."""
    matrix = rows_of(3000)
    odds = np.nan_to_num(matrix[:, 0] % 7 - 3) + np.nan_to_num(matrix[:, 5])
    labels = np.random.default_rng(1).uniform(size=3000) < 1 / (1 + np.exp(-odds))
    data = xgboost.DMatrix(
        matrix,
        labels.astype(np.float32),
        feature_types=feature_types(SIGNATURE),
        enable_categorical=True,
    )
    usual: dict[str, object] = {"objective": "binary:logistic", "max_depth": 6, "nthread": 1}
    file = dump_model(xgboost.train(usual | parameters, data, trees), SIGNATURE)
    return load_model(file, hashlib.sha256(file).hexdigest())


@lru_cache
def both() -> tuple[Model, TreeTables]:
    """A model and its tables."""
    return model_of(), tree_tables(model_of())


values = st.one_of(
    st.none(),
    st.floats(-1e38, 1e38),
    st.sampled_from([0.0, -0.0, 3e38, -3e38, 1e-44, float("nan"), -float("nan")]),
)
rows = st.lists(
    st.tuples(
        st.sampled_from([*PLACES, "unknown", None]),
        st.sampled_from(["a", "b", "c", "d", None]),
        st.sampled_from(["x", "y", None]),
        st.sampled_from(["x", None]),
        values,
        values,
    ),
    min_size=1,
    max_size=2 * FEW_ROWS,
)


@settings(deadline=None)
@given(rows)
def test_tables_give_what_xgboost_gives(given_rows: list[tuple[object, ...]]) -> None:
    """For any rows: missing and unknown values and the ends of what a float holds included."""
    model, tables = both()
    columns = {
        field.name: [row[n] for row in given_rows] for n, field in enumerate(SIGNATURE.inputs)
    }
    matrix = encode(columns, SIGNATURE)
    expected = predict(model, matrix)
    found = tables.predict(matrix)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-7)
    one_by_one = [tables.predict(matrix[n : n + 1])[0] for n in range(len(matrix))]
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_cat_to_onehot": 100},
        {"max_cat_threshold": 2},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"base_score": 0.01},
        {"max_depth": 0, "max_leaves": 200, "grow_policy": "lossguide", "min_child_weight": 0},
        {"max_depth": 12, "min_child_weight": 0},
        {"gamma": 1e9},
    ],
    ids=str,
)
def test_all_kinds_of_trees_have_tables(parameters: dict[str, object]) -> None:
    """Splits on one category and on many, forests, trees of several words, and of one leaf; at
    each threshold, right below it, and where it is missing.
    """
    model = model_of(8, **parameters)
    tables = tree_tables(model)
    for matrix in (tables.probes(), rows_of(500, 3)):
        np.testing.assert_allclose(
            tables.predict(matrix), predict(model, matrix), rtol=1e-5, atol=2e-7
        )


def test_the_trees_of_several_words_are_some() -> None:
    """The case above is one: trees with more leaves than a word has bits."""
    deep = model_of(8, max_depth=12, min_child_weight=0)
    leaves = deep.booster.get_dump()[0].count("leaf")
    assert leaves > 64


@pytest.mark.parametrize(
    "number", [1, 2, FEW_ROWS, FEW_ROWS + 1, CHUNK_ROWS, CHUNK_ROWS + 1, 3 * CHUNK_ROWS]
)
def test_a_row_has_the_same_probability_in_any_company(number: int) -> None:
    """So that a request is answered alike alone and together with others."""
    _, tables = both()
    matrix = rows_of(number, 5)
    alone = np.concatenate([tables.predict(matrix[n : n + 1]) for n in range(number)])
    np.testing.assert_array_equal(tables.predict(matrix), alone)


def test_the_layout_of_the_matrix_is_no_matter() -> None:
    """A matrix by columns, and one that is a part of another."""
    _, tables = both()
    matrix = rows_of(40)
    expected = tables.predict(matrix)
    np.testing.assert_array_equal(tables.predict(np.asfortranarray(matrix)), expected)
    np.testing.assert_array_equal(tables.predict(np.repeat(matrix, 2, axis=0)[::2]), expected)


def test_other_models_have_none() -> None:
    """Another objective, another booster: they are refused, not guessed at."""
    for parameters in ({"objective": "reg:squarederror"}, {"booster": "dart", "rate_drop": 0.5}):
        with pytest.raises(PermanentError, match="has no tables"):
            tree_tables(model_of(3, **parameters))


def test_tables_that_would_be_too_large_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would slow the server down, and take its memory."""
    # What is made one takes at most twice as much.
    monkeypatch.setattr(tables_module, "MAX_TABLE_BYTES", both()[1].nbytes // 2 - 1)
    with pytest.raises(PermanentError, match="would take"):
        tree_tables(model_of())


def test_merged_tables_change_no_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that are looked up as one give the same bits as each by itself."""
    _, tables = both()
    monkeypatch.setattr(tables_module, "MERGED_BYTES", 0)
    apart = tree_tables(model_of())
    assert apart.nbytes < tables.nbytes <= 2 * apart.nbytes
    for matrix in (rows_of(FEW_ROWS, 7), rows_of(500, 8), tables.probes()):
        np.testing.assert_array_equal(tables.predict(matrix), apart.predict(matrix))
