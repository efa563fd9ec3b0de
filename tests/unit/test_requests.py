"""Requests: each form gives the same columns, each mistake its status, field and row."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_support import SIGNATURE, infer_body

from mlops_assets.core.invocations import parse_csv, parse_invocation
from mlops_assets.core.records import FeatureField
from mlops_assets.core.requests import PredictionRequest, RequestError, request_schema
from mlops_assets.core.tensors import parse_infer

MAX_ROWS = 100
SCHEMA = request_schema(SIGNATURE)


def infer(body: object) -> PredictionRequest:
    """``body`` as a V2 request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_infer(data, SCHEMA, MAX_ROWS)


def invoke(body: object) -> PredictionRequest:
    """``body`` as an invocation."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_invocation(data, SCHEMA, MAX_ROWS)


def from_csv(text: str) -> PredictionRequest:
    """``text`` as an invocation in CSV."""
    return parse_csv(text.encode(), SCHEMA, MAX_ROWS)


rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(min_size=1, max_size=5)),
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        st.text(min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(rows)
def test_tensors_records_and_split_frames_give_the_same_columns(
    values: list[tuple[object, ...]],
) -> None:
    """What a client sends decides the answer, not the form in which it is sent."""
    names = ["carrier", "hour", "delay", "event_id"]
    columns = {name: [row[n] for row in values] for n, name in enumerate(names)}
    types = {"carrier": "BYTES", "hour": "FP64", "delay": "INT32", "event_id": "BYTES"}
    tensors = [
        {"name": name, "shape": [len(values), 1], "datatype": types[name], "data": column}
        for name, column in columns.items()
    ]
    nested = [t | {"data": [[value] for value in columns[t["name"]]]} for t in tensors]
    records = [dict(zip(names, row, strict=True)) for row in values]
    split = {"columns": names, "data": values, "index": list(range(len(values)))}
    first = infer({"inputs": tensors})
    assert first.columns == {name: columns[name] for name in names[:3]}
    assert first.event_ids == columns["event_id"]
    assert infer({"inputs": nested}) == first
    assert invoke({"dataframe_records": records}) == first
    assert invoke({"instances": records}) == first
    assert invoke({"dataframe_split": split}) == first
    assert invoke({"inputs": records}) == first
    assert invoke({"inputs": columns}) == first


def test_csv_gives_the_same_columns_and_empty_is_missing() -> None:
    """A blank line is no row; the order of columns is the header's."""
    request = from_csv('\ufeffhour,carrier,delay,event_id\r\n17.5,"U,A",,e1\r\n\r\n,,-1e-3,\r\n')
    assert request.categories == {"carrier": ["U,A", None]}
    assert request.floats == {"hour": [17.5, None], "delay": [None, -0.001]}
    assert request.event_ids == ["e1", None]


def test_the_request_id_is_kept_and_limited() -> None:
    """An id is recorded with each prediction: it is a name, not a place for data."""
    assert infer({"id": "r-1", **infer_body()}).request_id == "r-1"
    with pytest.raises(RequestError, match="'id'"):
        infer({"id": "x" * 257, **infer_body()})


def test_no_rows_are_a_request_too() -> None:
    """An empty batch is answered with an empty list."""
    assert infer(infer_body(rows=0)).rows == 0
    assert invoke({"dataframe_records": []}).rows == 0
    assert from_csv("carrier,hour,delay\n").rows == 0


def test_a_column_of_nulls_needs_no_matching_datatype() -> None:
    """A client that has no value for a feature cannot know its type; other types stay refused."""
    nulls = {"datatype": "FP64", "data": [None]}
    assert infer(infer_body(carrier=nulls)).categories == {"carrier": [None]}
    nulls = {"datatype": "BYTES", "data": [None]}
    assert infer(infer_body(hour=nulls)).floats["hour"] == [None]
    with pytest.raises(RequestError, match=r"'hour'.*FP8"):
        infer(infer_body(hour={"datatype": "FP8", "data": [None]}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hour": {"name": "our"}}, "'hour' is missing"),
        ({"hour": {"name": "carrier"}}, "'carrier' is given twice"),
        ({"hour": {"datatype": "BYTES"}}, "'hour' has datatype BYTES"),
        ({"hour": {"datatype": "BOOL"}}, "'hour' has datatype BOOL"),
        ({"carrier": {"datatype": "FP32"}}, "'carrier' has datatype FP32"),
        ({"carrier": {"data": [1]}}, "'carrier': Expected string"),
        ({"hour": {"data": ["NaN"]}}, "'hour': Expected float.* in row 0"),
        ({"hour": {"data": ["12"]}}, "'hour': Expected float"),
        ({"hour": {"data": [True]}}, "'hour': Expected float"),
        ({"hour": {"datatype": "INT64", "data": [1.5]}}, "'hour': Expected int"),
        ({"hour": {"datatype": "INT32", "data": [2**31]}}, "'hour': Expected int"),
        ({"hour": {"data": [10**400]}}, "'hour': Number out of range"),
        ({"hour": {"data": [1, 2]}}, "'hour' has 2 values"),
        ({"hour": {"shape": [2], "data": [1, 2]}}, "'hour' has 2 rows"),
        ({"hour": {"shape": [1, 2]}}, "'hour' has shape"),
        ({"hour": {"shape": []}}, "'hour' has shape"),
        ({"hour": {"shape": [-1]}}, "shape"),
        ({"hour": {"shape": [1, 1], "data": [[1, 2]]}}, "'hour'"),
        ({"hour": {"data": {"0": 1}}}, "data"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(
    changes: dict[str, dict[str, object]], says: str
) -> None:
    """Content that does not fit the signature is a 422 that says which field."""
    with pytest.raises(RequestError, match=says) as refusal:
        infer(infer_body(**changes))
    assert refusal.value.status == 422


def test_an_unknown_input_or_output_is_refused_by_name() -> None:
    """A misspelt optional field would otherwise be dropped in silence."""
    body = infer_body()
    extra = {"name": "ours", "shape": [1], "datatype": "FP32", "data": [1]}
    with pytest.raises(RequestError, match="'ours' is unknown"):
        infer({"inputs": [*body["inputs"], extra]})  # type: ignore[misc]
    with pytest.raises(RequestError, match="no output 'x'"):
        infer({**body, "outputs": [{"name": "x"}]})
    assert infer({**body, "outputs": [{"name": "late"}], "parameters": {"a": 1}}).rows == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"inputs": [}',
        b'{"inputs": [{"name": "hour", "shape": [1], "datatype": "FP32", "data": [Infinity]}]}',
        b'{"inputs": [NaN, -Infinity]}',
        b'{"inputs": [NaN, ',
        b'{"inputs": [NaN], "id": "\xff"}',
        b'{"inputs": NaN' + b"[" * 100_000,
        b'{"inputs": [], "x": Infinity}',
        b'{"inputs": []} x',
        b'{"id": "\xff"}',
        b'{"x": ' + b"[" * 100_000,
        b'{"x": "\\ud800"}',
    ],
)
def test_malformed_json_is_a_400(body: bytes) -> None:
    """JSON has no infinity; nothing at all, cut off or nested without end is no request."""
    with pytest.raises(RequestError) as refusal:
        infer(body)
    assert refusal.value.status == 400


def test_malformed_json_is_refused_with_its_position() -> None:
    """A person finds the byte."""
    with pytest.raises(RequestError, match="byte 12"):
        infer(b'{"inputs": [}')


@pytest.mark.parametrize("body", [[], 1, "x", None, {}, {"inputs": 1}, {"inputs": [1]}])
def test_json_of_another_form_is_a_422(body: object) -> None:
    """Well-formed JSON that is no request says what was expected."""
    with pytest.raises(RequestError) as refusal:
        infer(body)
    assert refusal.value.status == 422


RECORD = {"carrier": "UA", "hour": 1, "delay": None}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "exactly one"),
        ({"instances": [RECORD], "dataframe_records": [RECORD]}, "exactly one"),
        ({"instances": [RECORD], "params": {"x": 1}}, "'params' has 'x'"),
        ({"instances": [RECORD], "x": {}}, "unknown field `x`"),
        ({"instances": [RECORD, {"carrier": "UA", "hour": 1}]}, "row 1: input 'delay' is missing"),
        ({"instances": [RECORD, {**RECORD, "x": 1}]}, "row 1: input 'x' is unknown"),
        ({"instances": [{**RECORD, "event_id": "a"}, RECORD]}, "row 1: 'event_id'"),
        ({"instances": [RECORD, {**RECORD, "hour": "nan"}]}, "'hour': Expected float.* row 1"),
        ({"instances": [[1, 2, 3]]}, "'carrier': Expected string"),
        ({"instances": [["UA", 2, 3, 4]]}, "row 0 has 4 values for 3 columns"),
        ({"instances": [["UA", 2, 3], RECORD]}, "row 1: 'instances' has lists and records"),
        ({"instances": [RECORD, ["UA", 2, 3]]}, "row 1: 'instances' has lists and records"),
        ({"inputs": {"carrier": ["UA"], "hour": [1, 2], "delay": [1]}}, "'hour' has 2 values"),
        ({"inputs": {"carrier": ["UA"], "hour": [1]}}, "'delay' is missing"),
        ({"instances": [RECORD], "params": {"key": 1}}, "'key' is no text"),
        ({"instances": [RECORD], "params": {"key": "x" * 257}}, "'key' is no text"),
        ({"dataframe_split": {"columns": ["hour"], "data": []}}, "'carrier' is missing"),
        (
            {"dataframe_split": {"columns": ["carrier", "hour", "delay"], "data": [["UA", 1]]}},
            "row 0 has 2 values",
        ),
    ],
)
def test_a_record_that_does_not_fit_is_refused_by_field_and_row(body: object, says: str) -> None:
    """The same rules hold for records and split frames."""
    with pytest.raises(RequestError, match=says) as refusal:
        invoke(body)
    assert refusal.value.status == 422


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1_0", "x", "1e999"])
def test_a_csv_field_that_is_no_finite_number_is_refused(value: str) -> None:
    """Python's float() takes more than CSV means."""
    with pytest.raises(RequestError, match=r"'hour'.* row 2"):
        from_csv(f"carrier,hour,delay\nUA,1,\nUA,{value},\n")


def test_csv_that_is_cut_ragged_or_empty_is_refused() -> None:
    """Each with its line or row."""
    with pytest.raises(RequestError, match="malformed CSV in line 2"):
        from_csv('carrier,hour,delay\nUA,1,"x')
    with pytest.raises(RequestError, match="row 0 has 2 values"):
        from_csv("carrier,hour,delay\nUA,1\n")
    with pytest.raises(RequestError, match="empty"):
        from_csv("")
    with pytest.raises(RequestError, match="UTF-8"):
        parse_csv(b"carrier\n\xff", SCHEMA, MAX_ROWS)


def test_too_many_rows_are_a_413_in_every_form() -> None:
    """The limit holds before the values are looked at."""
    bodies = (
        lambda: infer(infer_body(rows=101)),
        lambda: invoke({"instances": [{}] * 101}),
        lambda: invoke({"dataframe_split": {"columns": [], "data": [[]] * 101}}),
        lambda: from_csv("carrier,hour,delay\n" + "UA,1,\n" * 101),
    )
    for body in bodies:
        with pytest.raises(RequestError, match="at most 100") as refusal:
            body()
        assert refusal.value.status == 413
    assert infer(infer_body(rows=100)).rows == 100


def test_rows_without_names_are_in_the_order_of_the_inputs() -> None:
    """Lists of values and CSV without a header are as good as named columns, without event ids."""
    named = invoke({"instances": [RECORD]})
    row = list(RECORD.values())
    for form in ("instances", "inputs"):
        assert invoke({form: [row]}) == named
    assert parse_csv(b"UA,1,\n", SCHEMA, MAX_ROWS, header=False) == named
    assert parse_csv(b"", SCHEMA, MAX_ROWS, header=False).rows == 0


def test_columns_may_be_of_shape_n_by_one() -> None:
    """An array of one column is what numpy's users have at hand."""
    body = {"inputs": {"carrier": [["UA"]], "hour": [[1]], "delay": [[None]]}}
    assert invoke(body) == invoke({"instances": [RECORD]})


def test_a_bare_nan_is_missing_as_pythons_clients_mean_it() -> None:
    """Python's json writes NaN for a missing number, and clients of peers do not change that."""
    nan = float("nan")
    assert infer(infer_body(delay={"data": [nan]})) == infer(infer_body())
    assert invoke({"instances": [{**RECORD, "delay": nan}]}) == invoke({"instances": [RECORD]})
    with pytest.raises(RequestError, match="'carrier' is missing"):
        infer({"inputs": [], "x": nan})


def test_the_last_of_two_equal_names_in_an_object_counts() -> None:
    """As in most readers of JSON; tensors and columns that are there twice are refused."""
    first = b'{"instances": [], "instances": [{"carrier": "UA", "hour": 1, "delay": null}]}'
    assert invoke(first) == invoke({"instances": [RECORD]})


def test_a_key_is_the_callers_in_both_forms() -> None:
    """A rollout keeps who sends the same key on one side."""
    assert infer({**infer_body(), "parameters": {"key": "caller"}}).key == "caller"
    assert invoke({"instances": [RECORD], "params": {"key": "caller"}}).key == "caller"
    assert infer(infer_body()).key is None
    for key in (1, "x" * 257, ["a"]):
        with pytest.raises(RequestError, match="'key' is no text"):
            infer({**infer_body(), "parameters": {"key": key}})


def test_optional_inputs_may_be_left_out_and_are_typed_where_they_are_given() -> None:
    """A challenger's new feature breaks no client that does not know it yet."""
    wind = FeatureField(name="wind", type="float")
    schema = request_schema(SIGNATURE, (wind,))
    plain = parse_infer(json.dumps(infer_body()).encode(), schema, MAX_ROWS)
    assert plain == infer(infer_body())
    tensor = {"name": "wind", "shape": [1], "datatype": "FP32", "data": [2.5]}
    body = {"inputs": [*infer_body()["inputs"], tensor]}  # type: ignore[misc]
    assert parse_infer(json.dumps(body).encode(), schema, MAX_ROWS).floats["wind"] == [2.5]
    tensor["data"] = ["x"]
    with pytest.raises(RequestError, match="'wind': Expected float"):
        parse_infer(json.dumps(body).encode(), schema, MAX_ROWS)
    records = json.dumps({"instances": [{**RECORD, "wind": 1}, RECORD]}).encode()
    with pytest.raises(RequestError, match="row 1: 'wind' is in some rows"):
        parse_invocation(records, schema, MAX_ROWS)


def test_more_values_than_the_rows_can_have_are_refused_before_they_are_decoded() -> None:
    """Thirty bytes of memory for two of a body: the body's limit alone would not hold it."""
    flood = b'{"inputs": [{"name": "hour", "data": [' + b"0," * 100_000
    with pytest.raises(RequestError, match="more values than 100 rows") as refusal:
        infer(flood)
    assert refusal.value.status == 413
    with pytest.raises(RequestError, match="more values than 100 rows"):
        parse_csv(b"," * 200_000, SCHEMA, MAX_ROWS)
