"""The ``/invocations`` form of a prediction request, as MLflow and SageMaker send it: records, a
split frame, columns, lists of lists, or CSV. What does not fit is refused as in core.requests.
"""

import csv
import io
import math
from collections.abc import Sequence
from typing import cast

import msgspec

from mlops_assets.core.requests import (
    PredictionRequest,
    RequestError,
    RequestSchema,
    check_names,
    check_rows,
    check_size,
    decode,
    request_key,
    typed_request,
    unnested,
)

Records = list[dict[str, object] | list[object]]


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    data: list[list[object]]
    index: list[object] | None = None


class _Invocation(msgspec.Struct, forbid_unknown_fields=True):
    dataframe_split: _Split | None = None
    dataframe_records: list[dict[str, object]] | None = None
    instances: Records | None = None
    inputs: dict[str, list[object]] | Records | None = None
    params: dict[str, object] | None = None


_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

_invocation_decoder = msgspec.json.Decoder(_Invocation)


def parse_invocation(body: bytes, schema: RequestSchema, max_rows: int) -> PredictionRequest:
    """An ``/invocations`` body in JSON: ``dataframe_split``, ``dataframe_records``, ``instances``
    (records, or lists of values in the order of the inputs) or ``inputs`` (these, or columns).

    ``params`` may hold the request's ``key``. Raises RequestError as
    :func:`mlops_assets.core.tensors.parse_infer` does.
    """
    check_size(body, len(schema.inputs), max_rows)
    request = decode(body, _invocation_decoder)
    given = [name for name in _FORMS if getattr(request, name) is not None]
    if len(given) != 1:
        raise RequestError(422, f"give exactly one of {', '.join(map(repr, _FORMS))}")
    for name in request.params or {}:
        if name != "key":
            raise RequestError(422, f"'params' has {name[:80]!r}; the model takes 'key' alone")
    key = request_key(request.params)
    if request.dataframe_split is not None:
        split = request.dataframe_split
        check_rows(len(split.data), max_rows)
        return _from_rows(split.columns, split.data, schema, key)
    if isinstance(request.inputs, dict):
        return _from_columns(request.inputs, schema, max_rows, key)
    records = request.dataframe_records or request.instances or request.inputs or []
    check_rows(len(records), max_rows)
    if records and isinstance(records[0], list):
        return _from_rows(_positions(schema), _lists(records, given[0]), schema, key)
    return _from_records(_maps(records, given[0]), schema, key)


def parse_csv(
    body: bytes, schema: RequestSchema, max_rows: int, *, header: bool = True
) -> PredictionRequest:
    """An ``/invocations`` body in CSV (UTF-8); an empty field is missing.

    Its first line names the columns; without such a ``header`` they are the inputs, in order.
    Raises RequestError as :func:`mlops_assets.core.tensors.parse_infer` does.
    """
    check_size(body, len(schema.inputs), max_rows)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the CSV is not UTF-8: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[object]] = []
    try:
        names = next(reader, None) if header else _positions(schema)
        if names is None:
            raise RequestError(400, "the CSV is empty: begin with a line of column names")
        for row in reader:
            if row:  # a blank line is no row
                rows.append([value or None for value in row])
                check_rows(len(rows), max_rows)
    except csv.Error as error:
        raise RequestError(400, f"malformed CSV in line {reader.line_num}: {error}") from error
    floats = {field.name for field in schema.inputs if field.type == "float"}
    for n, name in enumerate(names):
        if name in floats:
            for line, row in enumerate(rows, start=1):
                if n < len(row):
                    row[n] = _csv_number(row[n], name, line)
    return _from_rows(names, rows, schema)


def _csv_number(value: object, name: str, line: int) -> float | None:
    if value is None:
        return None
    text = cast("str", value)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # float() also takes "nan", "inf" and "1_0", which no CSV of numbers means.
    if not math.isfinite(number) or "_" in text:
        raise RequestError(
            422,
            f"input {name!r}: {text[:40]!r} in row {line} is no finite number; empty is missing",
        )
    return number


def _positions(schema: RequestSchema) -> list[str]:
    """The columns of rows that do not name theirs."""
    return [field.name for field in schema.inputs if field.name in schema.required]


def _lists(records: Sequence[object], form: str) -> list[list[object]]:
    for row, record in enumerate(records):
        if not isinstance(record, list):
            raise RequestError(422, f"row {row}: {form!r} has lists and records: choose one")
    return cast("list[list[object]]", records)


def _maps(records: Sequence[object], form: str) -> list[dict[str, object]]:
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise RequestError(422, f"row {row}: {form!r} has lists and records: choose one")
    return cast("list[dict[str, object]]", records)


def _from_columns(
    columns: dict[str, list[object]], schema: RequestSchema, max_rows: int, key: str | None
) -> PredictionRequest:
    check_names(list(columns), schema)
    rows = len(next(iter(columns.values()), ()))
    check_rows(rows, max_rows)
    for name, column in columns.items():
        if len(column) != rows:
            raise RequestError(
                422, f"input {name!r} has {len(column)} values, the first input {rows}"
            )
    values = {name: unnested(name, column) for name, column in columns.items()}
    return typed_request(values, {}, rows, schema, key=key)


def _from_records(
    records: Sequence[dict[str, object]], schema: RequestSchema, key: str | None
) -> PredictionRequest:
    names = list(records[0]) if records else _positions(schema)
    try:
        check_names(names, schema)
    except RequestError as error:
        raise RequestError(error.status, f"row 0: {error}") from None
    expected = set(names)
    for row, record in enumerate(records):
        if record.keys() != expected:
            try:
                check_names(list(record), schema)
            except RequestError as error:
                raise RequestError(error.status, f"row {row}: {error}") from None
            odd = min(expected ^ record.keys())
            raise RequestError(422, f"row {row}: {odd!r} is in some rows and not in others")
    values = {name: [record[name] for record in records] for name in names}
    return typed_request(values, {}, len(records), schema, key=key)


def _from_rows(
    names: Sequence[str],
    rows: Sequence[Sequence[object]],
    schema: RequestSchema,
    key: str | None = None,
) -> PredictionRequest:
    check_names(names, schema)
    for n, row in enumerate(rows):
        if len(row) != len(names):
            raise RequestError(422, f"row {n} has {len(row)} values for {len(names)} columns")
    values = {name: [row[n] for row in rows] for n, name in enumerate(names)}
    return typed_request(values, {}, len(rows), schema, key=key)
