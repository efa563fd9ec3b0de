"""The usual inference request in one pass: what nearly every client sends.

The general way (core.requests.parse_infer) reads tensors of any content and then converts each to
its input's type, so that it can name what is wrong. Here the types are decoded with the JSON, and
what does not fit at once is left to the general way; what does, means the same in both.
"""

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


_decoder = msgspec.json.Decoder(_Request)


def parse_fast(  # noqa: PLR0911 - each is a way not to be the usual request
    body: bytes, schema: "RequestSchema", max_rows: int
) -> PredictionRequest | None:
    """The request in ``body``, or None where the general way has to look at it."""
    try:
        request = _decoder.decode(body)
    except (ValueError, RecursionError):
        return None
    tensors = {tensor.name: tensor for tensor in request.inputs}
    if not tensors or len(tensors) != len(request.inputs):
        return None
    rows = len(request.inputs[0].data)
    shapes = ([rows], [rows, 1])
    for tensor in request.inputs:
        if len(tensor.data) != rows or tensor.shape not in shapes:
            return None
    categories: dict[str, Texts] = {}
    floats: dict[str, Floats] = {}
    for field in schema.inputs:
        tensor = tensors.pop(field.name, None)
        if tensor is None:
            if field.name in schema.required:
                return None
            continue
        if isinstance(tensor, _Text) != (field.type == "category"):
            return None
        if isinstance(tensor, _Text):
            categories[field.name] = tensor.data
        else:
            floats[field.name] = tensor.data  # pyright: ignore[reportArgumentType] - or integers
    ids = tensors.pop(EVENT_ID, None)
    key = None if request.parameters is None else request.parameters.key
    names = (request.id or "", key or "")
    if tensors or rows > max_rows or max(map(len, names)) > MAX_ID_CHARACTERS:
        return None
    if ids is None:
        return PredictionRequest(rows, categories, floats, None, request.id, key)
    if not isinstance(ids, _Text):
        return None
    return PredictionRequest(rows, categories, floats, ids.data, request.id, key)
