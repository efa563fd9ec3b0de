"""The Open Inference Protocol V2: a prediction request as tensors, one for each column, in JSON or
as binary data behind it. What does not fit is refused as in core.requests.
"""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec

from mlops_assets.core.binary_tensors import NUMBER_FORMATS, read_numbers, read_texts
from mlops_assets.core.requests import (
    MAX_ID_CHARACTERS,
    TEXT_TYPE,
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

Parameters: TypeAlias = dict[str, object]


class _Tensor(msgspec.Struct):
    name: str
    shape: list[Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]]
    datatype: str
    data: list[object] | None = None
    parameters: Parameters | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class _InferRequest(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: Parameters | None = None


_infer_decoder = msgspec.json.Decoder(_InferRequest)


def parse_infer(
    body: bytes, schema: RequestSchema, max_rows: int, json_bytes: int | None = None
) -> PredictionRequest:
    """An Open Inference Protocol V2 inference request.

    ``json_bytes`` is the length of the JSON where binary data follow it.

    Raises RequestError: 400 for malformed JSON or binary data, 413 for more than ``max_rows`` rows,
    422 for content that does not fit ``schema``.
    """
    blobs: memoryview | None = None
    if json_bytes is not None:
        if json_bytes > len(body):
            raise RequestError(
                400,
                f"the JSON has {json_bytes} bytes by Inference-Header-Content-Length, the whole "
                f"body {len(body)}",
            )
        body, blobs = body[:json_bytes], memoryview(body)[json_bytes:]
    check_size(body, len(schema.inputs), max_rows)
    request = decode(body, _infer_decoder)
    if request.id is not None and len(request.id) > MAX_ID_CHARACTERS:
        raise RequestError(422, f"'id' is longer than {MAX_ID_CHARACTERS} characters")
    binary = binary_output(request.parameters, request.outputs, schema.output)
    names = [tensor.name for tensor in request.inputs]
    check_names(names, schema)
    if not request.inputs:
        raise RequestError(422, "the request has no inputs")
    rows = _tensor_rows(request.inputs[0])
    check_rows(rows, max_rows)
    read = _with_blobs(request.inputs, blobs)
    values = {tensor.name: _tensor_values(tensor, data, rows) for tensor, data in read}
    types = {tensor.name: tensor.datatype for tensor in request.inputs}
    return typed_request(
        values,
        types,
        rows,
        schema,
        request_id=request.id,
        key=request_key(request.parameters),
        binary=binary,
    )


def binary_output(
    parameters: Parameters | None, outputs: Sequence[_Output] | None, name: str
) -> bool:
    """Whether the output ``name`` is asked for as binary data, by itself or for all.

    Raises RequestError 422 for an output that the model does not have.
    """
    binary = _flag(parameters, "binary_data_output", default=False)
    for output in outputs or ():
        if output.name != name:
            raise RequestError(
                422, f"there is no output {output.name[:80]!r}; the output is {name!r}"
            )
        _refuse_extensions(output.parameters, f"output {name!r}")
        binary = _flag(output.parameters, "binary_data", default=binary)
    return binary


def _flag(parameters: Parameters | None, name: str, *, default: bool) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        raise RequestError(422, f"parameter {name!r} is neither true nor false")
    return value


def _refuse_extensions(parameters: Parameters | None, where: str) -> None:
    """Of extensions that this server does not have, those that would change the answer."""
    for name in ("shared_memory_region", "classification"):
        if name in (parameters or {}):
            raise RequestError(
                422, f"{where} has the parameter {name!r}: this server does not have the extension"
            )


def _tensor_rows(tensor: _Tensor) -> int:
    if len(tensor.shape) == 1 or (len(tensor.shape) == 2 and tensor.shape[1] == 1):
        return tensor.shape[0]
    shape = str(tensor.shape)[:80]
    raise RequestError(422, f"input {tensor.name!r} has shape {shape}, not [n] or [n, 1]")


def _with_blobs(
    tensors: Sequence[_Tensor], blobs: memoryview | None
) -> list[tuple[_Tensor, list[object]]]:
    """Each tensor with its data, from the JSON or from the binary data in the tensors' order."""
    read: list[tuple[_Tensor, list[object]]] = []
    place = 0
    for tensor in tensors:
        where = f"input {tensor.name!r}"
        _refuse_extensions(tensor.parameters, where)
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            if tensor.data is None:
                raise RequestError(422, f"{where} has no 'data'")
            read.append((tensor, tensor.data))
            continue
        if tensor.data is not None:
            raise RequestError(422, f"{where} has both 'data' and 'binary_data_size'")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise RequestError(422, f"{where}: 'binary_data_size' is no count of bytes")
        if blobs is None:
            raise RequestError(
                400, f"{where} is binary, and the header Inference-Header-Content-Length is missing"
            )
        if place + size > len(blobs):
            raise RequestError(
                400,
                f"{where} has {size} bytes by 'binary_data_size', {len(blobs) - place} are left of "
                f"the {len(blobs)} behind the JSON",
            )
        read.append((tensor, _blob_values(tensor, blobs[place : place + size])))
        place += size
    if blobs is not None and place != len(blobs):
        raise RequestError(
            400, f"{len(blobs)} bytes follow the JSON, the inputs name {place} of them"
        )
    return read


def _blob_values(tensor: _Tensor, data: memoryview) -> list[object]:
    try:
        if tensor.datatype == TEXT_TYPE:
            return read_texts(data)
        if tensor.datatype in NUMBER_FORMATS:
            return read_numbers(tensor.datatype, data)
    except ValueError as error:
        raise RequestError(400, f"input {tensor.name!r}: {error}") from error
    raise RequestError(422, f"input {tensor.name!r} has datatype {tensor.datatype[:20]!r}")


def _tensor_values(tensor: _Tensor, data: list[object], rows: int) -> list[object]:
    if _tensor_rows(tensor) != rows:
        raise RequestError(
            422, f"input {tensor.name!r} has {_tensor_rows(tensor)} rows, the first input {rows}"
        )
    if len(data) != rows:
        raise RequestError(
            422, f"input {tensor.name!r} has {len(data)} values for shape {tensor.shape}"
        )
    return unnested(tensor.name, data) if len(tensor.shape) == 2 else data
