"""Arrow tables as the pandas frames that Great Expectations reads, with values unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def frame_of(tables: Sequence[pa.Table]) -> pd.DataFrame:
    """All rows of tables of one schema, numbered from 0.

    Integers with nulls stay integers, because pandas' own conversion to floats rounds above 2**53.
    32-bit floats are widened, which is exact: Great Expectations compares int64 and float64 as
    arrays and everything else value by value, which is tens of times slower.
    """
    import pandas as pd
    import pyarrow as pa

    nullable = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    frame = pa.concat_tables(tables).to_pandas(types_mapper=nullable.get, ignore_metadata=True)
    types = {
        name: "float64" if column.dtype == "float32" else column.dtype.numpy_dtype
        for name, column in frame.items()
        if column.dtype == "float32"
        or (column.dtype in nullable.values() and not column.isna().any())
    }
    return frame.astype(types, copy=False)


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame for expectations that compare columns: they fail on pandas' NA ("ambiguous").

    Integers with nulls become floats with NaN where floats hold them exactly, booleans become
    objects; the same frame is returned when nothing has to change.
    """
    import pandas as pd

    changed: dict[str, pd.Series] = {}
    for name, column in frame.items():
        if not pd.api.types.is_extension_array_dtype(column.dtype) or not column.isna().any():
            continue
        if pd.api.types.is_bool_dtype(column.dtype):
            changed[str(name)] = column.astype(object).where(column.notna(), None)
        elif pd.api.types.is_integer_dtype(column.dtype):
            present = column.dropna()
            if present.between(-(2**53), 2**53).all():
                changed[str(name)] = column.astype("float64")
    return frame.assign(**changed) if changed else frame
