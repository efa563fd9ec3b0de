"""Prediction requests: bytes of a body to columns that fit a model's signature.

Two forms are understood: the Open Inference Protocol V2 (one tensor per feature column) and the
``/invocations`` form of MLflow and SageMaker (records, split frames, CSV). Everything that does
not fit is refused with the HTTP status and a message that names the field and the row.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias, TypeVar, cast

import msgspec

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.spec import EVENT_ID

MAX_ID_CHARACTERS = 256

_Int32: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

NUMBER_TYPES: dict[str, object] = {
    "FP32": list[float | None],
    "FP64": list[float | None],
    "INT32": list[_Int32 | None],
    "INT64": list[_Int64 | None],
}
"""V2 datatypes of a ``float`` feature, with the JSON values that each allows."""

TEXT_TYPE = "BYTES"
"""V2 datatype of a ``category`` feature and of event ids."""

Texts = list[str | None]
Floats = list[float | None]
T = TypeVar("T")


class RequestError(PermanentError):
    """A request that is refused, with the HTTP ``status`` that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class PredictionRequest:
    """Columns to predict for. Every list has ``rows`` items; null is missing."""

    rows: int
    categories: dict[str, Texts]
    floats: dict[str, Floats]
    event_ids: Texts | None
    request_id: str | None

    @property
    def columns(self) -> dict[str, Sequence[object]]:
        """Each input's values, by name."""
        return {**self.categories, **self.floats}


class _Tensor(msgspec.Struct):
    name: str
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    datatype: str
    data: list[object]


class _Output(msgspec.Struct):
    name: str


class _InferRequest(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: list[_Output] | None = None


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    data: list[list[object]]
    index: list[object] | None = None


class _Invocation(msgspec.Struct, forbid_unknown_fields=True):
    dataframe_split: _Split | None = None
    dataframe_records: list[dict[str, object]] | None = None
    instances: list[dict[str, object]] | None = None


_infer_decoder = msgspec.json.Decoder(_InferRequest)
_invocation_decoder = msgspec.json.Decoder(_Invocation)


def parse_infer(body: bytes, signature: Signature, max_rows: int) -> PredictionRequest:
    """An Open Inference Protocol V2 inference request.

    Raises RequestError: 400 for malformed JSON, 413 for more than ``max_rows`` rows, 422 for
    content that does not fit ``signature``.
    """
    request = _decode(body, _infer_decoder)
    if request.id is not None and len(request.id) > MAX_ID_CHARACTERS:
        raise RequestError(422, f"'id' is longer than {MAX_ID_CHARACTERS} characters")
    for output in request.outputs or ():
        if output.name != signature.output:
            raise RequestError(
                422, f"there is no output {output.name!r}; the output is {signature.output!r}"
            )
    names = [tensor.name for tensor in request.inputs]
    _check_names(names, signature)
    tensors = {tensor.name: tensor for tensor in request.inputs}
    rows = _tensor_rows(tensors[signature.inputs[0].name])
    _check_rows(rows, max_rows)
    values = {name: _tensor_values(tensor, rows) for name, tensor in tensors.items()}
    types = {name: tensor.datatype for name, tensor in tensors.items()}
    return _typed(values, types, rows, signature, request.id)


def parse_invocation(body: bytes, signature: Signature, max_rows: int) -> PredictionRequest:
    """An ``/invocations`` body in JSON: ``dataframe_split``, ``dataframe_records`` or
    ``instances`` (a list of records).

    Raises RequestError as :func:`parse_infer` does.
    """
    request = _decode(body, _invocation_decoder)
    forms = (request.dataframe_split, request.dataframe_records, request.instances)
    if sum(form is not None for form in forms) != 1:
        raise RequestError(
            422, "give exactly one of 'dataframe_split', 'dataframe_records' and 'instances'"
        )
    split = request.dataframe_split
    if split is not None:
        _check_rows(len(split.data), max_rows)
        return _from_rows(split.columns, split.data, signature)
    records = request.dataframe_records
    if records is None:
        records = request.instances or []
    _check_rows(len(records), max_rows)
    return _from_records(records, signature)


def parse_csv(body: bytes, signature: Signature, max_rows: int) -> PredictionRequest:
    """An ``/invocations`` body in CSV (UTF-8, a header line); an empty field is missing.

    Raises RequestError as :func:`parse_infer` does.
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
                _check_rows(len(rows), max_rows)
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


def _decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RequestError(422, f"the request does not have the right form: {error}") from error
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the request is not UTF-8: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            400, f"malformed JSON in a body of {len(body)} bytes: {error}"
        ) from error


def _check_rows(rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise RequestError(
            413, f"the request has {rows} rows or more, at most {max_rows} are taken: split it"
        )


def _check_names(names: Sequence[str], signature: Signature) -> None:
    inputs = [field.name for field in signature.inputs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(422, f"input {twice!r} is given twice")
    missing = [name for name in inputs if name not in names]
    if missing:
        raise RequestError(
            422,
            f"input {missing[0]!r} is missing ({len(missing)} of {len(inputs)} inputs are: "
            f"{', '.join(missing)}); give null where a value is not known",
        )
    for name in names:
        if name not in inputs and name != EVENT_ID:
            raise RequestError(
                422, f"input {name[:80]!r} is unknown; the inputs are {', '.join(inputs)}"
            )


def _tensor_rows(tensor: _Tensor) -> int:
    if len(tensor.shape) == 1 or (len(tensor.shape) == 2 and tensor.shape[1] == 1):
        return tensor.shape[0]
    raise RequestError(422, f"input {tensor.name!r} has shape {tensor.shape}, not [n] or [n, 1]")


def _tensor_values(tensor: _Tensor, rows: int) -> list[object]:
    if _tensor_rows(tensor) != rows:
        raise RequestError(
            422, f"input {tensor.name!r} has {_tensor_rows(tensor)} rows, the first input {rows}"
        )
    data = tensor.data
    if len(data) != rows:
        raise RequestError(
            422, f"input {tensor.name!r} has {len(data)} values for shape {tensor.shape}"
        )
    if len(tensor.shape) == 2 and data and isinstance(data[0], list):
        try:
            return [value for (value,) in msgspec.convert(data, list[tuple[object]])]
        except msgspec.ValidationError as error:
            raise RequestError(422, f"input {tensor.name!r}: {_place(str(error))}") from error
    return data


def _from_records(records: Sequence[dict[str, object]], signature: Signature) -> PredictionRequest:
    names = [field.name for field in signature.inputs]
    if records and EVENT_ID in records[0]:
        names.append(EVENT_ID)
    expected = set(names)
    for row, record in enumerate(records):
        if record.keys() != expected:
            try:
                _check_names(list(record), signature)
            except RequestError as error:
                raise RequestError(error.status, f"row {row}: {error}") from None
            raise RequestError(422, f"row {row}: {EVENT_ID!r} is in some rows and not in others")
    values = {name: [record[name] for record in records] for name in names}
    return _typed(values, {}, len(records), signature, None)


def _from_rows(
    names: Sequence[str], rows: Sequence[Sequence[object]], signature: Signature
) -> PredictionRequest:
    _check_names(names, signature)
    for n, row in enumerate(rows):
        if len(row) != len(names):
            raise RequestError(422, f"row {n} has {len(row)} values for {len(names)} columns")
    values = {name: [row[n] for row in rows] for n, name in enumerate(names)}
    return _typed(values, {}, len(rows), signature, None)


def _typed(
    values: dict[str, list[object]],
    given_types: dict[str, str],
    rows: int,
    signature: Signature,
    request_id: str | None,
) -> PredictionRequest:
    categories: dict[str, Texts] = {}
    floats: dict[str, Floats] = {}
    for field in signature.inputs:
        column = values[field.name]
        if field.type == "category":
            categories[field.name] = _texts(field.name, column, given_types.get(field.name))
        else:
            floats[field.name] = _floats(field, column, given_types.get(field.name, "FP64"))
    ids = values.get(EVENT_ID)
    event_ids = None if ids is None else _texts(EVENT_ID, ids, given_types.get(EVENT_ID))
    return PredictionRequest(rows, categories, floats, event_ids, request_id)


def _texts(name: str, column: list[object], datatype: str | None) -> Texts:
    if datatype not in (None, TEXT_TYPE) and not _all_null(column, datatype):
        raise RequestError(422, f"input {name!r} has datatype {datatype}; it takes {TEXT_TYPE}")
    return _convert(name, column, Texts)


def _floats(field: FeatureField, column: list[object], datatype: str) -> Floats:
    kind = NUMBER_TYPES.get(datatype)
    if kind is None:
        if _all_null(column, datatype):
            return [None] * len(column)
        raise RequestError(
            422,
            f"input {field.name!r} has datatype {datatype[:20]}; it takes "
            f"{', '.join(NUMBER_TYPES)}",
        )
    return _convert(field.name, column, cast("type[Floats]", kind))


def _all_null(column: list[object], datatype: str | None) -> bool:
    """Whether ``column`` is all null under a datatype of this protocol.

    A client that knows values and no types cannot tell what a column of nulls is.
    """
    known = datatype == TEXT_TYPE or datatype in NUMBER_TYPES
    return known and all(value is None for value in column)


def _convert(name: str, column: list[object], kind: type[T]) -> T:
    try:
        return msgspec.convert(column, kind)
    except msgspec.ValidationError as error:
        raise RequestError(422, f"input {name!r}: {_place(str(error))}") from error


def _place(message: str) -> str:
    """msgspec's message with its JSON path said as a row."""
    reason, _, path = message.partition(" - at `$[")
    reason = reason.replace("`str", "string").replace("`", "")
    return f"{reason} in row {path.rstrip('`]')}" if path else reason


def datatypes(signature: Signature) -> dict[str, str]:
    """Each input's V2 datatype, as a model's metadata announces it."""
    return {
        field.name: TEXT_TYPE if field.type == "category" else "FP32" for field in signature.inputs
    }
