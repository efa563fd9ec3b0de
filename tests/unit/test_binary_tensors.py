"""Binary tensors: the same columns as JSON gives, and no length is believed."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_support import SIGNATURE

from mlops_assets.core.binary_tensors import NUMBER_FORMATS, read_numbers, read_texts, write_floats
from mlops_assets.core.requests import PredictionRequest, RequestError, request_schema
from mlops_assets.core.tensors import parse_infer

SCHEMA = request_schema(SIGNATURE)


def texts(values: Sequence[str]) -> bytes:
    """``values`` as BYTES data."""
    return b"".join(struct.pack("<I", len(v.encode())) + v.encode() for v in values)


def binary_body(
    carriers: Sequence[str], hours: bytes, kind: str = "FP64", **changes: Any
) -> tuple[bytes, int]:
    """A body whose carriers and hours are binary and whose delays are JSON; its JSON's length."""
    rows = [len(carriers)]
    blob = texts(carriers)
    tensors = [
        {
            "name": "carrier",
            "shape": rows,
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(blob)},
        },
        {"name": "delay", "shape": rows, "datatype": "FP32", "data": [None] * len(carriers)},
        {
            "name": "hour",
            "shape": rows,
            "datatype": kind,
            "parameters": {"binary_data_size": len(hours)},
            **changes,
        },
    ]
    head = json.dumps({"inputs": tensors}).encode()
    return head + blob + hours, len(head)


def parse(body: bytes, json_bytes: int | None) -> PredictionRequest:
    """``body`` as a request."""
    return parse_infer(body, SCHEMA, 100, json_bytes)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=5).filter(lambda t: t.isprintable()),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=8,
    )
)
def test_binary_values_are_those_of_json(rows: list[tuple[str, float]]) -> None:
    """What a client sends decides the answer, not the form in which it is sent."""
    carriers, hours = [row[0] for row in rows], [row[1] for row in rows]
    request = parse(*binary_body(carriers, np.array(hours, "<f8").tobytes()))
    assert request.columns == {"carrier": carriers, "hour": hours, "delay": [None] * len(rows)}


@pytest.mark.parametrize("kind", sorted(set(NUMBER_FORMATS) - {"BOOL"}))
def test_each_datatype_of_numbers_is_read(kind: str) -> None:
    """Each in its size and sign, little-endian."""
    data = np.array([0, 1, 100], NUMBER_FORMATS[kind]).tobytes()
    assert parse(*binary_body(["UA"] * 3, data, kind)).floats["hour"] == [0, 1, 100]


def test_nan_is_missing_and_infinity_is_left_to_the_model() -> None:
    """Floats in memory have both; the encoder treats NaN as null and refuses infinity by row."""
    data = np.array([np.nan, 1], "<f4").tobytes()
    hours = parse(*binary_body(["UA", "DL"], data, "FP32")).floats["hour"]
    assert hours[0] is not None
    assert np.isnan(hours[0])
    assert hours[1] == 1


HOUR = np.array([17.0], "<f8").tobytes()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (binary_body(["UA"], HOUR[:-1]), "no whole number of FP64"),
        (binary_body(["UA"], HOUR, parameters={"binary_data_size": 9}), "9 bytes by .* 8 are left"),
        (binary_body(["UA"], HOUR, parameters={"binary_data_size": 4}), "no whole number"),
        (binary_body(["UA"], HOUR + HOUR, parameters={"binary_data_size": 8}), "name 14 of them"),
        (binary_body(["UA"], b"", parameters={"binary_data_size": 2**62}), "are left"),
        ((b"{}", 3), "the JSON has 3 bytes"),
        ((binary_body(["UA"], HOUR)[0], None), "malformed JSON"),
        ((binary_body(["UA"], HOUR)[0], 10), "malformed JSON"),
    ],
)
def test_a_length_that_lies_is_a_400(body: tuple[bytes, int | None], says: str) -> None:
    """Nothing outside of the body is read, nothing in it is passed over."""
    with pytest.raises(RequestError, match=says) as refusal:
        parse(*body)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parameters": {"binary_data_size": -1}}, "no count of bytes"),
        ({"parameters": {"binary_data_size": True}}, "no count of bytes"),
        ({"parameters": {"binary_data_size": "8"}}, "no count of bytes"),
        ({"parameters": {"shared_memory_region": "x"}}, "does not have the extension"),
        ({"parameters": {}}, "no 'data'"),
        ({"data": [1]}, "both 'data' and"),
        ({"shape": [2]}, "has 2 rows"),
        ({"datatype": "FP8"}, "datatype 'FP8'"),
        ({"datatype": "BOOL"}, "8 values"),
    ],
)
def test_a_binary_tensor_that_does_not_fit_is_refused_by_name(
    changes: dict[str, object], says: str
) -> None:
    """Each mistake names the input."""
    with pytest.raises(RequestError, match=rf"'hour'.*{says}") as refusal:
        parse(*binary_body(["UA"], HOUR, **changes))
    assert refusal.value.status == 422


def test_binary_data_need_the_header() -> None:
    """A JSON that promises binary data is no request without them."""
    body, length = binary_body(["UA"], HOUR)
    with pytest.raises(RequestError, match="Inference-Header-Content-Length is missing"):
        parse(body[:length], None)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x01\x00", "value 0 is cut in its length"),
        (
            texts(["a"]) + b"\xff\xff\xff\xffx",
            "value 1 has 4294967295 bytes by its length, 1 follow",
        ),
        (b"\x01\x00\x00\x00\xff", "value 0 is not UTF-8"),
    ],
)
def test_texts_that_are_cut_or_no_text_name_the_value(data: bytes, says: str) -> None:
    """A length leads nowhere but into the data."""
    with pytest.raises(ValueError, match=says):
        read_texts(memoryview(data))


def test_scores_go_out_as_they_are() -> None:
    """32-bit floats, to the bit."""
    scores = np.array([0.1, 0.9], np.float32)
    assert write_floats(scores.tolist()) == scores.tobytes()
    assert read_numbers("BOOL", memoryview(b"\x00\x01\x07")) == [False, True, True]


@pytest.mark.parametrize(
    ("parameters", "outputs", "expected"),
    [
        (None, None, False),
        ({"binary_data_output": True}, None, True),
        ({}, [{"name": "late", "parameters": {"binary_data": True}}], True),
        (
            {"binary_data_output": True},
            [{"name": "late", "parameters": {"binary_data": False}}],
            False,
        ),
    ],
)
def test_the_output_is_binary_where_it_is_asked_for(
    parameters: object, outputs: object, expected: bool
) -> None:
    """By the output itself, or else by the request for all outputs."""
    body, length = binary_body(["UA"], HOUR)
    head = {**json.loads(body[:length]), "parameters": parameters, "outputs": outputs}
    text = json.dumps(head).encode()
    assert parse(text + body[length:], len(text)).binary_output is expected


def test_an_output_parameter_that_is_no_flag_or_unknown_extension_is_refused() -> None:
    """Rather than answered in a form that the client does not expect."""
    body, length = binary_body(["UA"], HOUR)
    for parameters, says in (
        ({"binary_data": 1}, "neither true nor false"),
        ({"classification": 2}, "does not have the extension"),
    ):
        outputs = [{"name": "late", "parameters": parameters}]
        text = json.dumps({**json.loads(body[:length]), "outputs": outputs}).encode()
        with pytest.raises(RequestError, match=says):
            parse(text + body[length:], len(text))
