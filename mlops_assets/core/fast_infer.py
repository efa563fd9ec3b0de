"""The usual inference request in one pass: what nearly every client sends.

The general way (core.requests.parse_infer) reads tensors of any content and then converts each to
its input's type, so that it can name what is wrong. Here the types are decoded with the JSON, and
what does not fit at once is left to the general way; what does, means the same in both.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

import msgspec

from mlops_assets.core.requests import MAX_ID_CHARACTERS, PredictionRequest
from mlops_assets.core.spec import EVENT_ID

if TYPE_CHECKING:
    from mlops_assets.core.requests import Floats, RequestSchema, Texts

_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Tensor(msgspec.Struct, tag_field="datatype", kw_only=True, gc=False):
    name: str
    shape: list[int]
    # What the binary extension and others put here is for the general way.
    parameters: None = None


class _Text(_Tensor, tag="BYTES", kw_only=True, gc=False):
    data: list[str | None]


class _Float32(_Tensor, tag="FP32", kw_only=True, gc=False):
    data: list[float | None]


class _Float64(_Tensor, tag="FP64", kw_only=True, gc=False):
    data: list[float | None]


class _Integer32(_Tensor, tag="INT32", kw_only=True, gc=False):
    data: list[_Int32 | None]


class _Integer64(_Tensor, tag="INT64", kw_only=True, gc=False):
    data: list[_Int64 | None]


class _Parameters(msgspec.Struct, forbid_unknown_fields=True):
    key: str | None = None


class _Request(msgspec.Struct):
    inputs: list[_Text | _Float32 | _Float64 | _Integer32 | _Integer64]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: None = None


class _WrittenTensor(msgspec.Struct, gc=False):
    name: str
    data: msgspec.Raw


class _WrittenRequest(msgspec.Struct):
    inputs: list[_WrittenTensor]


_decoder = msgspec.json.Decoder(_Request)
_written_decoder = msgspec.json.Decoder(_WrittenRequest)

WRITTEN_BYTES = 4096
"""From here on a request's own JSON is logged: to find it costs a quarter of writing it again."""


def parse_fast(  # noqa: PLR0911 - each is a way not to be the usual request
    body: bytes, schema: "RequestSchema", max_rows: int
) -> PredictionRequest | None:
    """The request in ``body``, or None where the general way has to look at it."""
    try:
        request = _decoder.decode(body)
    except (ValueError, RecursionError):
        return None
    tensors = request.inputs
    rows = len(tensors[0].data) if tensors else 0
    shapes = ([rows], [rows, 1])
    types = _types(schema)
    categories: dict[str, Texts] = {}
    floats: dict[str, Floats] = {}
    ids: Texts | None = None
    for tensor in tensors:
        name, data, shape = tensor.name, tensor.data, tensor.shape
        if len(data) != rows or shape not in shapes:
            return None
        kind = types.get(name)
        # Not isinstance: for a class that it is not, it costs as much as all else here.
        if type(tensor) is not _Text:
            if kind != "float":
                return None
            floats[name] = data  # pyright: ignore[reportArgumentType] - or integers
        elif kind == "category":
            categories[name] = tensor.data
        elif kind is None and name == EVENT_ID:
            ids = tensor.data
        else:
            return None
    given = len(categories) + len(floats)
    # Not: none at all, one twice, or without one that is required.
    if not tensors or given + (ids is not None) != len(tensors):
        return None
    if given < len(types) and not schema.required <= categories.keys() | floats.keys():
        return None
    key = None if request.parameters is None else request.parameters.key
    if rows > max_rows or max(len(request.id or ""), len(key or "")) > MAX_ID_CHARACTERS:
        return None
    parsed = PredictionRequest(rows, categories, floats, ids, request.id, key)
    # A line of the log is one line: JSON has line breaks between its values alone.
    if len(body) >= WRITTEN_BYTES and b"\n" not in body and b"\r" not in body:
        tensors_written = _written_decoder.decode(body).inputs
        parsed.written = {tensor.name: tensor.data for tensor in tensors_written}
    return parsed


@lru_cache(maxsize=16)
def _types(schema: "RequestSchema") -> dict[str, str]:
    """The type of each input."""
    return {field.name: field.type for field in schema.inputs}
