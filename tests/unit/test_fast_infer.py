"""The usual request in one pass: what it reads is what the general way reads."""

import json
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from serving_support import SIGNATURE, infer_body

from mlops_assets.core.fast_infer import WRITTEN_BYTES, parse_fast
from mlops_assets.core.prediction_log import PredictionRecord, decode_line, encode_line
from mlops_assets.core.records import FeatureField
from mlops_assets.core.requests import PredictionRequest, RequestError, request_schema
from mlops_assets.core.tensors import parse_infer

SCHEMA = request_schema(SIGNATURE, [FeatureField(name="extra", type="float")])
MAX_ROWS = 4

texts = st.one_of(st.none(), st.text(max_size=4))
numbers = st.one_of(
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.integers(-300, 300),
)
anything = st.one_of(texts, numbers, st.booleans(), st.lists(st.integers(), max_size=2))


@st.composite
def requests(draw: st.DrawFn) -> dict[str, object]:
    """Mostly usual requests, each with a chance of every kind of surprise."""
    rows = draw(st.integers(0, MAX_ROWS + 1))
    tensors: list[dict[str, object]] = []
    names = ["carrier", "hour", "delay", *draw(st.sets(st.sampled_from(["event_id", "extra"])))]
    for name in draw(st.permutations(names)):
        text = name in ("carrier", "event_id")
        values = texts if text else numbers
        datatype = "BYTES" if text else draw(st.sampled_from(["FP32", "FP64", "INT32", "INT64"]))
        tensor: dict[str, object] = {
            "name": name,
            "shape": draw(st.sampled_from([[rows], [rows, 1]])),
            "datatype": datatype,
            "data": draw(st.lists(values, min_size=rows, max_size=rows)),
        }
        surprises: dict[str, st.SearchStrategy[object]] = {
            "name": st.sampled_from(["hour", "other"]),
            "shape": st.sampled_from([[rows + 1], [1, rows], [], "x"]),
            "datatype": st.sampled_from(["BYTES", "FP32", "UINT8", "BOOL", "x"]),
            "data": st.lists(anything, max_size=3),
            "parameters": st.sampled_from([{}, {"binary_data_size": 4}]),
        }
        for field, strategy in surprises.items():
            if draw(st.integers(0, 30)) == 0:
                tensor[field] = draw(strategy)
        tensors.append(tensor)
    request: dict[str, object] = {"inputs": tensors}
    request |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "id": st.one_of(st.none(), st.text(max_size=3), st.just("i" * 300)),
                "parameters": st.sampled_from([{}, {"key": "k"}, {"key": None}, {"key": 1}]),
                "outputs": st.sampled_from([[{"name": "late"}], [{"name": "x"}], None]),
                "more": st.just([1]),
            },
        )
    )
    return request


@settings(deadline=None, max_examples=150)
@given(requests())
def test_what_is_read_fast_is_what_the_general_way_reads(request: dict[str, object]) -> None:
    """A request means the same whichever way takes it, and no other is taken."""
    body = json.dumps(request).encode()
    fast = parse_fast(body, SCHEMA, MAX_ROWS)
    if fast is not None:
        assert fast == parse_infer(body, SCHEMA, MAX_ROWS)


@settings(deadline=None, max_examples=150)
@given(requests(), st.sampled_from([None, 1]), st.booleans())
def test_a_requests_own_json_is_logged_as_what_was_read(
    request: dict[str, object], indent: int | None, ascii: bool
) -> None:
    """The log's line is one line, and means the same, whichever way it is written."""
    body = json.dumps(request, indent=indent, ensure_ascii=ascii).encode(errors="replace")
    read = parse_fast(body + b" " * WRITTEN_BYTES, SCHEMA, MAX_ROWS)
    if read is None:
        return
    assert (read.written is None) == (indent is not None)
    record = answered(read)
    line = encode_line(record, read.written)
    assert line.splitlines(keepends=True) == [line]
    assert decode_line(line) == decode_line(encode_line(record))


def test_what_was_looked_up_is_logged_beside_a_requests_own_json() -> None:
    """A column that was not sent is written as it was found."""
    read = parse_fast(json.dumps(infer_body()).encode() + b" " * WRITTEN_BYTES, SCHEMA, MAX_ROWS)
    assert read is not None
    assert read.written is not None
    read.floats["extra"] = [0.5]
    record = answered(read)
    assert decode_line(encode_line(record, read.written)) == record


def test_a_small_request_is_written_anew() -> None:
    """Its own JSON would take longer to find."""
    read = parse_fast(json.dumps(infer_body()).encode(), SCHEMA, MAX_ROWS)
    assert read is not None
    assert read.written is None


def answered(request: PredictionRequest) -> PredictionRecord:
    """A record of ``request``."""
    return PredictionRecord(
        time=datetime(2013, 3, 1, tzinfo=UTC),
        request="r",
        use_case="flights",
        version=1,
        sha256="0" * 64,
        categories=request.categories,
        floats=request.floats,
        scores=[0.5] * request.rows,
        events=request.event_ids,
    )


def test_the_usual_requests_are_read_fast() -> None:
    """Else the law above would hold for a function that never reads any."""
    for body in (
        infer_body(),
        infer_body(rows=3),
        {"id": "r", "parameters": {"key": "k"}, **infer_body()},
        infer_body(delay={"datatype": "INT64", "data": [3], "shape": [1, 1]}),
    ):
        found = parse_fast(json.dumps(body).encode(), SCHEMA, MAX_ROWS)
        assert found is not None
        assert found.categories.keys() == {"carrier"}
    ids = {"name": "event_id", "shape": [1], "datatype": "BYTES", "data": ["e1"]}
    body = {"inputs": [*infer_body()["inputs"], ids]}  # type: ignore[misc]
    found = parse_fast(json.dumps(body).encode(), SCHEMA, MAX_ROWS)
    assert found is not None
    assert found.event_ids == ["e1"]


def test_what_is_no_request_is_left_to_the_general_way() -> None:
    """It says what is wrong."""
    for body in (b"", b"{", b"[1]", b"\xff", b'{"inputs": NaN}', b"[" * 100_000):
        assert parse_fast(body, SCHEMA, MAX_ROWS) is None
        try:
            parse_infer(body, SCHEMA, MAX_ROWS)
        except RequestError as error:
            assert error.status in (400, 422)
        else:
            raise AssertionError(body)
