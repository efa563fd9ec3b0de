"""The usual request in one pass: what it reads is what the general way reads."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from serving_support import SIGNATURE, infer_body

from mlops_assets.core.fast_infer import parse_fast
from mlops_assets.core.records import FeatureField
from mlops_assets.core.requests import RequestError, request_schema
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
