"""The Open Inference Protocol's binary tensor data: values as they lie in memory, behind the JSON.

Numbers are little-endian; a text is its length as an unsigned 32-bit number and its UTF-8 bytes.
"""

import struct
from collections.abc import Sequence

import numpy as np

NUMBER_FORMATS: dict[str, str] = {
    "BOOL": "<?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""The layout of each datatype of fixed size."""

_LENGTH = struct.Struct("<I")


def read_numbers(datatype: str, data: memoryview) -> list[object]:
    """The values in ``data``. Raises ValueError unless it holds a whole number of them."""
    kind = np.dtype(NUMBER_FORMATS[datatype])
    if len(data) % kind.itemsize:
        raise ValueError(f"{len(data)} bytes are no whole number of {datatype} values")
    if datatype == "BOOL":  # any byte but 0 is true; read as bool it would stay what it is
        return [value != 0 for value in data.tolist()]
    return np.frombuffer(data, kind).tolist()


def read_texts(data: memoryview) -> list[object]:
    """The texts in ``data``. Raises ValueError for a length that leads outside, and no UTF-8."""
    texts: list[object] = []
    place = 0
    while place < len(data):
        start = place + _LENGTH.size
        if start > len(data):
            raise ValueError(f"value {len(texts)} is cut in its length")
        (length,) = _LENGTH.unpack_from(data, place)
        place = start + length
        if place > len(data):
            raise ValueError(
                f"value {len(texts)} has {length} bytes by its length, {len(data) - start} follow"
            )
        try:
            texts.append(str(data[start:place], "utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"value {len(texts)} is not UTF-8: {error.reason}") from error
    return texts


def write_floats(values: Sequence[float]) -> bytes:
    """``values`` as FP32."""
    return np.asarray(values, "<f4").tobytes()
