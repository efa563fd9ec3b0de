"""Prediction requests: bytes of a body to columns that fit a model's signature.

Here is the Open Inference Protocol V2 (one tensor per feature column) and what it shares with the
``/invocations`` form (core.invocations). Everything that does not fit is refused with the HTTP
status and a message that names the field and the row.
"""

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


_infer_decoder = msgspec.json.Decoder(_InferRequest)


def parse_infer(body: bytes, signature: Signature, max_rows: int) -> PredictionRequest:
    """An Open Inference Protocol V2 inference request.

    Raises RequestError: 400 for malformed JSON, 413 for more than ``max_rows`` rows, 422 for
    content that does not fit ``signature``.
    """
    request = decode(body, _infer_decoder)
    if request.id is not None and len(request.id) > MAX_ID_CHARACTERS:
        raise RequestError(422, f"'id' is longer than {MAX_ID_CHARACTERS} characters")
    for output in request.outputs or ():
        if output.name != signature.output:
            raise RequestError(
                422, f"there is no output {output.name!r}; the output is {signature.output!r}"
            )
    names = [tensor.name for tensor in request.inputs]
    check_names(names, signature)
    tensors = {tensor.name: tensor for tensor in request.inputs}
    rows = _tensor_rows(tensors[signature.inputs[0].name])
    check_rows(rows, max_rows)
    values = {name: _tensor_values(tensor, rows) for name, tensor in tensors.items()}
    types = {name: tensor.datatype for name, tensor in tensors.items()}
    return typed_request(values, types, rows, signature, request.id)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """``body`` as JSON. Raises RequestError: 400 if it is none, 422 if it has another form."""
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


def check_rows(rows: int, max_rows: int) -> None:
    """Raises RequestError 413 for too many rows."""
    if rows > max_rows:
        raise RequestError(
            413, f"the request has {rows} rows or more, at most {max_rows} are taken: split it"
        )


def check_names(names: Sequence[str], signature: Signature) -> None:
    """Raises RequestError 422 unless ``names`` are the inputs, each once, maybe with an id."""
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


def typed_request(
    values: dict[str, list[object]],
    given_types: dict[str, str],
    rows: int,
    signature: Signature,
    request_id: str | None,
) -> PredictionRequest:
    """``values`` of checked names as columns of their types; ``given_types`` are V2 datatypes.

    Raises RequestError 422 for a value of another type.
    """
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
