"""Prediction requests: bytes of a body to columns that fit a model's signature.

Here is what the forms share: tensors of the Open Inference Protocol V2 (core.tensors) and the
``/invocations`` (core.invocations). Everything that does not fit is refused with the HTTP status
and a message that names the field and the row.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar, cast

import msgspec

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.spec import EVENT_ID

MAX_ID_CHARACTERS = 256
"""Longest request id and request key."""

MAX_INPUTS = 10_000
"""Most columns in one request: their number is compared with the signature's before their names."""


def _integers(bits: int, least: int) -> object:
    return list[Annotated[int, msgspec.Meta(ge=least, le=least + 2**bits - 1)] | None]


NUMBER_TYPES: dict[str, object] = {
    "FP16": list[float | None],
    "FP32": list[float | None],
    "FP64": list[float | None],
    **{f"INT{bits}": _integers(bits, -(2 ** (bits - 1))) for bits in (8, 16, 32)},
    **{f"UINT{bits}": _integers(bits, 0) for bits in (8, 16, 32)},
    # msgspec compares with 64-bit numbers; a larger one is no feature's value anyway.
    "INT64": list[Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None],
    "UINT64": list[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None],
}
"""V2 datatypes of a ``float`` feature, with the JSON values that each allows."""

TEXT_TYPE = "BYTES"
"""V2 datatype of a ``category`` feature and of event ids."""

_COMMAS_TO_COUNT = 64 * 1024
_COMMAS_PER_VALUE = 4

Texts = list[str | None]
Floats = list[float | None]
T = TypeVar("T")


class RequestError(PermanentError):
    """A request that is refused, with the HTTP ``status`` that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, eq=False)
class RequestSchema:
    """What a request may carry. Compared by identity: it is made once for a model, and caches hang
    on it.
    """

    inputs: tuple[FeatureField, ...]
    """Every column that is taken, in order, but for event ids."""
    output: str
    required: frozenset[str]
    """The columns that every request has; others are not in its ``columns`` unless they are given.
    """


def request_schema(signature: Signature, optional: Sequence[FeatureField] = ()) -> RequestSchema:
    """A request for a model with ``signature``: all of its inputs, and maybe ``optional`` ones."""
    return RequestSchema(
        (*signature.inputs, *optional),
        signature.output,
        frozenset(field.name for field in signature.inputs),
    )


@dataclass(slots=True)
class PredictionRequest:
    """Columns to predict for. Every list has ``rows`` items; null is missing."""

    rows: int
    categories: dict[str, Texts]
    floats: dict[str, Floats]
    event_ids: Texts | None
    request_id: str | None
    key: str | None = None
    """What a rollout splits by: the callers that send the same key are answered by one model."""
    binary_output: bool = False
    """Whether the scores are asked for as binary data."""
    written: dict[str, msgspec.Raw] | None = None
    """Its columns as JSON without a line break, for the prediction log; None where they are few
    enough to be written anew, or came in another form."""

    @property
    def columns(self) -> dict[str, Sequence[object]]:
        """Each input's values, by name."""
        return {**self.categories, **self.floats}


def request_key(parameters: Mapping[str, object] | None) -> str | None:
    """The parameter ``key``. Raises RequestError 422 for one that is no text or too long."""
    key = (parameters or {}).get("key")
    if key is None:
        return None
    if not isinstance(key, str) or len(key) > MAX_ID_CHARACTERS:
        raise RequestError(
            422, f"parameter 'key' is no text of at most {MAX_ID_CHARACTERS} characters"
        )
    return key


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """``body`` as JSON. Raises RequestError: 400 if it is none, 422 if it has another form.

    A bare NaN is null: JSON has none, and Python's clients write it for a missing number.
    """
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            if b"NaN" not in body:
                raise
            # Whatever else is wrong with the body, the standard library refuses it too.
            content = json.loads(body.decode(), parse_constant=_constant)
            return msgspec.convert(content, decoder.type)
    except msgspec.ValidationError as error:
        raise RequestError(422, f"the request does not have the right form: {error}") from error
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the request is not UTF-8: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            400, f"malformed JSON in a body of {len(body)} bytes: {error}"
        ) from error


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no number: give a finite one, or null for missing")


def check_size(body: bytes, columns: int, max_rows: int) -> None:
    """Raises RequestError 413 for a body of far more values than ``max_rows`` rows have.

    Decoded, two bytes of JSON may take thirty in memory; the bytes are counted before that.
    """
    if len(body) > _COMMAS_TO_COUNT:
        most = _COMMAS_PER_VALUE * (max_rows + 100) * (columns + 10)
        if body.count(b",") > most:
            raise RequestError(
                413, f"the request has more values than {max_rows} rows can have: split it"
            )


def check_rows(rows: int, max_rows: int) -> None:
    """Raises RequestError 413 for too many rows."""
    if rows > max_rows:
        raise RequestError(
            413, f"the request has {rows} rows or more, at most {max_rows} are taken: split it"
        )


def check_names(names: Sequence[str], schema: RequestSchema) -> None:
    """Raises RequestError 422 unless ``names`` are the schema's, each once, maybe with an id."""
    inputs = [field.name for field in schema.inputs]
    if len(names) > MAX_INPUTS:
        raise RequestError(422, f"there are {len(names)} inputs; {len(inputs)} are known")
    given: set[str] = set()
    for name in names:
        if name in given:
            raise RequestError(422, f"input {name[:80]!r} is given twice")
        given.add(name)
    missing = [name for name in inputs if name in schema.required and name not in given]
    if missing:
        raise RequestError(
            422,
            f"input {missing[0]!r} is missing ({len(missing)} of {len(inputs)} inputs are: "
            f"{', '.join(missing)}); give null where a value is not known",
        )
    unknown = given - {*inputs, EVENT_ID}
    if unknown:
        raise RequestError(
            422, f"input {min(unknown)[:80]!r} is unknown; the inputs are {', '.join(inputs)}"
        )


def unnested(name: str, data: list[object]) -> list[object]:
    """``data`` of shape (n, 1) as n values; what is flat already stays as it is."""
    if not data or not isinstance(data[0], list):
        return data
    try:
        return [value for (value,) in msgspec.convert(data, list[tuple[object]])]
    except msgspec.ValidationError as error:
        raise RequestError(422, f"input {name!r}: {row_of(str(error))}") from error


def typed_request(
    values: Mapping[str, list[object]],
    given_types: Mapping[str, str],
    rows: int,
    schema: RequestSchema,
    *,
    request_id: str | None = None,
    key: str | None = None,
    binary: bool = False,
) -> PredictionRequest:
    """``values`` of checked names as columns of their types; ``given_types`` are V2 datatypes.

    Raises RequestError 422 for a value of another type.
    """
    categories: dict[str, Texts] = {}
    floats: dict[str, Floats] = {}
    for field in schema.inputs:
        column = values.get(field.name)
        if column is None:
            continue
        if field.type == "category":
            categories[field.name] = _texts(field.name, column, given_types.get(field.name))
        else:
            floats[field.name] = _floats(field, column, given_types.get(field.name, "FP64"))
    ids = values.get(EVENT_ID)
    event_ids = None if ids is None else _texts(EVENT_ID, ids, given_types.get(EVENT_ID))
    return PredictionRequest(rows, categories, floats, event_ids, request_id, key, binary)


def _texts(name: str, column: list[object], datatype: str | None) -> Texts:
    if datatype not in (None, TEXT_TYPE) and not _all_null(column, datatype):
        raise RequestError(
            422, f"input {name!r} has datatype {datatype[:20]}; it takes {TEXT_TYPE}"
        )
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
        raise RequestError(422, f"input {name!r}: {row_of(str(error))}") from error


def row_of(message: str) -> str:
    """msgspec's message with its JSON path said as a row."""
    reason, _, path = message.partition(" - at `$[")
    reason = reason.replace("`str", "string").replace("`", "")
    return f"{reason} in row {path.rstrip('`]')}" if path else reason


def datatype(field: FeatureField) -> str:
    """The V2 datatype of an input, as a model's metadata announces it."""
    return TEXT_TYPE if field.type == "category" else "FP32"
