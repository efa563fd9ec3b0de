"""Encoding and the model file: one meaning on every path, nothing foreign loaded."""

import hashlib

import numpy as np
import polars as pl
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_support import SIGNATURE, tiny_model

from mlops_assets.core import inference
from mlops_assets.core.errors import DigestMismatchError, PermanentError, SchemaError
from mlops_assets.core.inference import (
    count_unknown_categories,
    dump_model,
    encode,
    encode_frame,
    load_model,
    predict,
)

categories = st.one_of(st.none(), st.sampled_from(["AA", "DL", "UA"]), st.text(max_size=3))
numbers = st.one_of(
    st.none(),
    st.floats(allow_infinity=False, width=32),
    st.floats(min_value=-3e38, max_value=3e38),
)
rows = st.lists(st.tuples(categories, numbers, numbers), max_size=20)


def frame_of(columns: dict[str, list[object]]) -> pl.DataFrame:
    """``columns`` with the types that a training set has."""
    types = {"carrier": pl.String, "hour": pl.Float64, "delay": pl.Float64}
    return pl.DataFrame(columns, schema=types)


def loaded(data: bytes) -> inference.Model:
    """The model in ``data``, whose digest is the right one."""
    return load_model(data, hashlib.sha256(data).hexdigest())


@settings(deadline=None)
@given(rows)
def test_a_frame_is_encoded_as_its_columns_are(values: list[tuple[object, ...]]) -> None:
    """Training reads frames and the server lists: the same values give the same matrix."""
    columns = {field.name: [row[n] for row in values] for n, field in enumerate(SIGNATURE.inputs)}
    np.testing.assert_array_equal(
        encode_frame(frame_of(columns), SIGNATURE), encode(columns, SIGNATURE)
    )


@settings(deadline=None)
@given(rows)
def test_encoding_row_by_row_is_encoding_all_at_once(values: list[tuple[object, ...]]) -> None:
    """A row's code does not depend on the rows beside it."""
    names = [field.name for field in SIGNATURE.inputs]
    whole = encode({name: [row[n] for row in values] for n, name in enumerate(names)}, SIGNATURE)
    for n, row in enumerate(values):
        alone = encode({name: [value] for name, value in zip(names, row, strict=True)}, SIGNATURE)
        np.testing.assert_array_equal(alone[0], whole[n])


def test_codes_are_places_and_what_is_not_known_is_missing() -> None:
    """Code n is categories[n]; unknown, null and pandas' NaN are missing."""
    columns = {
        "carrier": ["AA", "UA", "ZZ", None, float("nan")],
        "hour": np.arange(5),
        "delay": np.full(5, np.nan),
    }
    matrix = encode(columns, SIGNATURE)
    np.testing.assert_array_equal(matrix[:, 0], [0, 2, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(matrix[:, 1], [0, 1, 2, 3, 4])
    assert matrix.dtype == np.float32


def test_categorical_and_enum_columns_are_encoded_by_their_text() -> None:
    """The physical codes of a polars column are its own, never the model's."""
    texts = frame_of({"carrier": ["UA", "AA", None], "hour": [1, 2, 3], "delay": [0, 0, 0]})
    expected = encode_frame(texts, SIGNATURE)
    for kind in (pl.Categorical(), pl.Enum(["UA", "AA", "zz"])):
        cast = texts.with_columns(pl.col("carrier").cast(kind))
        np.testing.assert_array_equal(encode_frame(cast, SIGNATURE), expected)


def test_large_integers_are_rounded_alike_on_both_paths() -> None:
    """Integers go through 64-bit floats, so that no path rounds twice where another does once."""
    values = [2**60 + 2**36 + 1, 16_777_217, -(2**53) - 1]
    frame = pl.DataFrame({"carrier": ["AA"] * 3, "hour": values, "delay": values})
    columns = {"carrier": ["AA"] * 3, "hour": values, "delay": np.array(values)}
    np.testing.assert_array_equal(encode_frame(frame, SIGNATURE), encode(columns, SIGNATURE))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e39])
def test_an_infinite_value_is_refused_with_its_feature_and_row(value: float) -> None:
    """XGBoost would refuse the whole matrix without saying where."""
    columns = {"carrier": ["AA", "AA"], "hour": [1.0, 2.0], "delay": [0.0, value]}
    for call in (
        lambda: encode(columns, SIGNATURE),
        lambda: encode_frame(frame_of(columns), SIGNATURE),
    ):
        with pytest.raises(SchemaError, match=r"'delay'.* row 1"):
            call()


def test_a_missing_column_is_named() -> None:
    """Both paths say what the table lacks."""
    with pytest.raises(SchemaError, match="delay"):
        encode({"carrier": [], "hour": []}, SIGNATURE)
    with pytest.raises(SchemaError, match="delay"):
        encode_frame(pl.DataFrame({"carrier": [], "hour": []}), SIGNATURE)


def test_a_column_of_the_wrong_type_is_refused() -> None:
    """Numbers are no categories and text is no number."""
    frame = frame_of({"carrier": ["AA"], "hour": [1.0], "delay": [1.0]})
    with pytest.raises(SchemaError, match="'hour'"):
        encode_frame(frame.with_columns(hour=pl.lit("1")), SIGNATURE)
    with pytest.raises(SchemaError, match="'carrier'"):
        encode_frame(frame.with_columns(carrier=pl.lit(1)), SIGNATURE)
    with pytest.raises(SchemaError, match="'hour'"):
        encode({"carrier": ["AA"], "hour": ["noon"], "delay": [1.0]}, SIGNATURE)


def test_unknown_categories_are_counted_and_nulls_are_not() -> None:
    """The count is what a client is told; an empty string is a category like any other."""
    columns = {"carrier": ["AA", "ZZ", None, "", "ZZ"], "hour": [0] * 5, "delay": [0] * 5}
    assert count_unknown_categories(columns, SIGNATURE) == {"carrier": 3}


def test_a_loaded_model_predicts_as_the_trained_one() -> None:
    """The file keeps trees and signature; the probabilities are the same to the bit."""
    model = loaded(tiny_model())
    assert model.signature == SIGNATURE
    matrix = encode({"carrier": ["UA", "ZZ"], "hour": [17, None], "delay": [0, 1]}, SIGNATURE)
    booster = xgboost.Booster(model_file=bytearray(tiny_model()))
    np.testing.assert_array_equal(predict(model, matrix), booster.inplace_predict(matrix))
    assert predict(model, matrix[:0]).shape == (0,)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_file_is_refused_by_its_digest(cut: int) -> None:
    """Nothing of a file with another digest is parsed."""
    data = tiny_model()
    with pytest.raises(DigestMismatchError, match="sha256"):
        load_model(data[:cut], hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not UBJSON"),
        (b"\x80\x04\x95pickle", "not UBJSON"),
        (b'{"learner": {}}', "not UBJSON"),
        (tiny_model()[:200], "cannot read"),
    ],
)
def test_a_foreign_file_with_the_right_digest_is_refused(data: bytes, says: str) -> None:
    """A digest proves identity, not that the file is a model of ours."""
    with pytest.raises(PermanentError, match=says):
        loaded(data)


def test_a_model_whose_signature_is_missing_or_does_not_fit_is_refused() -> None:
    """Trees read columns by place: a signature of another length would shift them."""
    booster = xgboost.Booster(model_file=bytearray(tiny_model()))
    short = SIGNATURE.model_copy(update={"inputs": SIGNATURE.inputs[:2]})
    with pytest.raises(PermanentError, match="3 features"):
        loaded(dump_model(booster, short))
    booster.set_attr(mlops_signature="{}")
    with pytest.raises(PermanentError, match="signature"):
        loaded(bytes(booster.save_raw("ubj")))
    booster.set_attr(mlops_signature=None)
    with pytest.raises(PermanentError, match="no signature"):
        loaded(bytes(booster.save_raw("ubj")))


def test_an_absurdly_large_file_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file larger than any model of ours is not even hashed."""
    monkeypatch.setattr(inference, "MAX_MODEL_BYTES", 1000)
    with pytest.raises(PermanentError, match="at most 1000"):
        loaded(tiny_model())
