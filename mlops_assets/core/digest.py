"""Content digests of tables: the identity of data, whatever holds it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false
# (pyarrow ships no types.)

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops_assets.core.errors import SchemaError
from mlops_assets.core.schema import decoded

# Part of what is hashed: a change of the scheme below must not look like equal content.
_SCHEME = "table-digest-1"

_FLOATS = {pa.float16(): np.float16, pa.float32(): np.float32, pa.float64(): np.float64}


def table_digest(table: pa.Table) -> str:
    """The sha256 of a table's columns and rows, hexadecimal.

    Depends on the names, types and order of the columns, the order of the rows, every value and
    the place of every null. Does not depend on chunks, slices, bytes beneath nulls, metadata or on
    how text is held (plain, large, view, dictionary). Floats are told apart as numbers: -0.0
    is 0.0, every NaN is the same, and NaN is not null.
    Raises SchemaError for a nested column.
    """
    columns = [[field.name, _type_name(field.type, field.name)] for field in table.schema]
    digest = hashlib.sha256(json.dumps([_SCHEME, len(table), columns]).encode())
    for column in table.columns:
        for part in _parts(decoded(column)):
            digest.update(part)
    return digest.hexdigest()


def _type_name(kind: pa.DataType, column: str) -> str:
    if pa.types.is_dictionary(kind):
        return _type_name(kind.value_type, column)
    if _is_text(kind):
        return "string"
    if _is_binary(kind):
        return "binary"
    if pa.types.is_nested(kind):
        raise SchemaError(f"column {column!r} is nested ({kind}); flatten it into columns")
    return str(kind)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _parts(column: pa.ChunkedArray) -> Iterator[memoryview | bytes]:
    """One column's bytes: whether it has nulls, their places, then the values.

    The table's number of rows and the column's type are hashed before, so that no two columns
    share an encoding.
    """
    yield b"1" if column.null_count else b"0"
    if column.null_count:
        yield np.packbits(column.is_null().to_numpy()).data
    if pa.types.is_null(column.type):
        return
    if _is_text(column.type):
        yield from _byte_strings(column.cast(pa.large_string()).cast(pa.large_binary()))
    elif _is_binary(column.type):
        yield from _byte_strings(column.cast(pa.large_binary()))
    else:
        column = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
        for chunk in column.chunks:
            yield _fixed_width(chunk).data


def _byte_strings(column: pa.ChunkedArray) -> Iterator[memoryview]:
    """All lengths, then all contents, so that neither tells where a chunk ends."""
    contents: list[memoryview] = []
    for chunk in column.chunks:
        filled = chunk.fill_null(b"") if chunk.null_count else chunk
        if len(filled) == 0:
            continue
        _, offsets_buffer, data = filled.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int64, len(filled) + 1, filled.offset * 8)
        yield np.diff(offsets).data
        if data is not None:
            contents.append(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    yield from contents


def _fixed_width(chunk: pa.Array) -> npt.NDArray[Any]:
    """The values of ``chunk`` with nulls as zeros and floats in one form per number."""
    width = chunk.type.byte_width
    shape = (len(chunk), width)
    if len(chunk) == 0:
        return np.empty(shape, np.uint8)
    raw = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
    values = raw.reshape(shape)
    if chunk.type in _FLOATS:
        numbers = raw.view(_FLOATS[chunk.type]) + 0  # -0.0 + 0 is 0.0
        numbers[np.isnan(numbers)] = np.nan
        values = numbers.view(np.uint8).reshape(shape)
    if chunk.null_count:
        null = chunk.is_null().to_numpy(zero_copy_only=False)
        if width in (1, 2, 4, 8):
            # One store a row, where a row of bytes would be `width`.
            numbers = values.reshape(-1).view(f"u{width}").copy()
            numbers[null] = 0
            return numbers
        values = values.copy()
        values[null] = 0
    return values
