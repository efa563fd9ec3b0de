"""The ``/invocations`` form of a prediction request, as MLflow and SageMaker send it: records, a
split frame, or CSV. What does not fit is refused as in core.requests.
"""

import csv
import io
import math
from collections.abc import Sequence
from typing import cast

import msgspec

from mlops_assets.core.records import Signature
from mlops_assets.core.requests import (
    PredictionRequest,
    RequestError,
    check_names,
    check_rows,
    decode,
    typed_request,
)
from mlops_assets.core.spec import EVENT_ID


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    data: list[list[object]]
    index: list[object] | None = None


class _Invocation(msgspec.Struct, forbid_unknown_fields=True):
    dataframe_split: _Split | None = None
    dataframe_records: list[dict[str, object]] | None = None
    instances: list[dict[str, object]] | None = None


_invocation_decoder = msgspec.json.Decoder(_Invocation)


def parse_invocation(body: bytes, signature: Signature, max_rows: int) -> PredictionRequest:
    """An ``/invocations`` body in JSON: ``dataframe_split``, ``dataframe_records`` or
    ``instances`` (a list of records).

    Raises RequestError as :func:`mlops_assets.core.requests.parse_infer` does.
    """
    request = decode(body, _invocation_decoder)
    forms = (request.dataframe_split, request.dataframe_records, request.instances)
    if sum(form is not None for form in forms) != 1:
        raise RequestError(
            422, "give exactly one of 'dataframe_split', 'dataframe_records' and 'instances'"
        )
    split = request.dataframe_split
    if split is not None:
        check_rows(len(split.data), max_rows)
        return _from_rows(split.columns, split.data, signature)
    records = request.dataframe_records
    if records is None:
        records = request.instances or []
    check_rows(len(records), max_rows)
    return _from_records(records, signature)


def parse_csv(body: bytes, signature: Signature, max_rows: int) -> PredictionRequest:
    """An ``/invocations`` body in CSV (UTF-8, a header line); an empty field is missing.

    Raises RequestError as :func:`mlops_assets.core.requests.parse_infer` does.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the CSV is not UTF-8: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[object]] = []
    try:
        header = next(reader, None)
        if header is None:
            raise RequestError(400, "the CSV is empty: begin with a line of column names")
        for row in reader:
            if row:  # a blank line is no row
                rows.append([value or None for value in row])
                check_rows(len(rows), max_rows)
    except csv.Error as error:
        raise RequestError(400, f"malformed CSV in line {reader.line_num}: {error}") from error
    floats = {field.name for field in signature.inputs if field.type == "float"}
    for n, name in enumerate(header):
        if name in floats:
            for line, row in enumerate(rows, start=1):
                if n < len(row):
                    row[n] = _csv_number(row[n], name, line)
    return _from_rows(header, rows, signature)


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


def _from_records(records: Sequence[dict[str, object]], signature: Signature) -> PredictionRequest:
    names = [field.name for field in signature.inputs]
    if records and EVENT_ID in records[0]:
        names.append(EVENT_ID)
    expected = set(names)
    for row, record in enumerate(records):
        if record.keys() != expected:
            try:
                check_names(list(record), signature)
            except RequestError as error:
                raise RequestError(error.status, f"row {row}: {error}") from None
            raise RequestError(422, f"row {row}: {EVENT_ID!r} is in some rows and not in others")
    values = {name: [record[name] for record in records] for name in names}
    return typed_request(values, {}, len(records), signature, None)


def _from_rows(
    names: Sequence[str], rows: Sequence[Sequence[object]], signature: Signature
) -> PredictionRequest:
    check_names(names, signature)
    for n, row in enumerate(rows):
        if len(row) != len(names):
            raise RequestError(422, f"row {n} has {len(row)} values for {len(names)} columns")
    values = {name: [row[n] for row in rows] for n, name in enumerate(names)}
    return typed_request(values, {}, len(rows), signature, None)
