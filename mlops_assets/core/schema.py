"""Tables with the columns and types that a use case promises, and their rows by day."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false
# (pyarrow ships no types.)

import re
from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.core.errors import PermanentError, SchemaError
from mlops_assets.core.spec import ColumnType
from mlops_assets.core.windows import Window, day_start

_ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}

# pandas writes an unnamed index as such a column; it is no part of the rows.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def arrow_schema(columns: Mapping[str, ColumnType]) -> pa.Schema:
    """The Arrow schema of ``columns``, in their order; every column may be null."""
    return pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in columns.items()])


def conform(data: object, columns: Mapping[str, ColumnType], where: str) -> pa.Table:
    """``data`` (a polars, pandas or Arrow table) with exactly ``columns``, in their order and type.

    A value is cast only where it stays the same: whole floats to integers, any width of integer
    that fits, any unit of time that keeps the instant. Floats may be rounded to ``float32``, but
    not become infinite. Text is never parsed, nothing is formatted as text.
    ``where`` names the table in messages. Raises SchemaError with the column, the type found and
    expected, and a value, for a missing or extra column, another type, or a cast that would lose.
    """
    table = _as_table(data, where)
    found: list[str] = list(table.schema.names)
    if missing := [name for name in columns if name not in found]:
        raise SchemaError(
            f"{where}: column {missing[0]!r} is missing (expected type {columns[missing[0]]}); "
            f"found columns {', '.join(found)}"
            + (f"; also missing: {', '.join(missing[1:])}" if missing[1:] else "")
        )
    if extra := [name for name in found if name not in columns]:
        raise SchemaError(
            f"{where}: columns that are not in the description: {', '.join(extra)}; "
            "add them to `columns` or drop them in the source"
        )
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise SchemaError(f"{where}: column {twice[0]!r} is there more than once; rename one")
    arrays = [_conform_column(table.column(name), name, columns[name], where) for name in columns]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(columns))


def _as_table(data: object, where: str) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")):
        raise SchemaError(
            f"{where}: found a {type(data).__module__}.{type(data).__qualname__}, expected a "
            "polars, pandas or Arrow table"
        )
    try:
        table = pa.table(data)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise SchemaError(f"{where}: a column mixes types: {error}") from error
    return table.drop_columns([name for name in table.schema.names if _PANDAS_INDEX.match(name)])


def _conform_column(
    column: pa.ChunkedArray, name: str, expected: ColumnType, where: str
) -> pa.ChunkedArray:
    column = decoded(column)
    found, target = column.type, _ARROW_TYPES[expected]
    if expected == "timestamp" and pa.types.is_timestamp(found) and found.tz is None:
        raise SchemaError(
            f"{where}: column {name!r} is {found} without a time zone, expected an instant in UTC"
            f"{_example(column, 0)}; localize it in the source (polars: "
            "`.dt.replace_time_zone(zone).dt.convert_time_zone('UTC')`)"
        )
    if not _castable(found, expected):
        first = pc.index(column.is_valid(), True).as_py()
        raise SchemaError(
            f"{where}: column {name!r} is {found}, expected {expected}"
            f"{_example(column, max(first, 0))}; convert it in the source or change `columns`"
        )
    try:
        result = column.cast(target)
    except pa.ArrowInvalid as error:
        unsafe = column.cast(target, safe=False).cast(found, safe=False)
        row = pc.index(pc.call_function("not_equal", [unsafe, column]), True).as_py()
        raise SchemaError(
            f"{where}: column {name!r} is {found} and does not fit {expected} without loss"
            f"{_example(column, row) if row >= 0 else f': {error}'}"
        ) from error
    if expected == "float32" and found != target:
        infinite = pc.call_function("is_inf", [result])
        was_finite = pc.call_function("is_finite", [column.cast(pa.float64())])
        row = pc.index(pc.call_function("and", [infinite, was_finite]), True).as_py()
        if row >= 0:
            raise SchemaError(
                f"{where}: column {name!r} is {found} and too large for {expected}"
                f"{_example(column, row)}; declare it as float64"
            )
    return result


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """``column`` with plain values where it holds codes into a dictionary."""
    kind = column.type
    if not pa.types.is_dictionary(kind):
        return column
    # Arrow does not cast from codes into string views, which polars uses, so they are looked up.
    view = pa.types.is_string_view(kind.value_type)
    values = pa.large_string() if view else kind.value_type
    chunks = [chunk.dictionary.cast(values).take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=values)


def _castable(found: pa.DataType, expected: ColumnType) -> bool:
    types = pa.types
    if types.is_null(found):
        return True
    match expected:
        case "string":
            return (
                types.is_string(found)
                or types.is_large_string(found)
                or types.is_string_view(found)
            )
        case "bool":
            return types.is_boolean(found)
        case "timestamp":
            return types.is_timestamp(found)
        case "int32" | "int64" | "float32" | "float64":
            return types.is_integer(found) or types.is_floating(found) or types.is_decimal(found)


def _example(column: pa.ChunkedArray, row: int) -> str:
    return f", e.g. {column[row]!s} in row {row}" if row < len(column) else ""


def split_by_day(
    table: pa.Table, event_time: str, window: Window, where: str
) -> dict[str, pa.Table]:
    """The rows of each day of ``window``, by partition key, in the table's order.

    A day is a calendar day in the window's time zone; each has an entry, which may be empty.
    ``event_time`` is an instant column (see :func:`conform`). Raises PermanentError for rows
    without an event time or outside the window, with their number and one of them.
    """
    column = table.column(event_time)
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise PermanentError(
            f"{where}: {column.null_count} of {len(table)} rows have no {event_time!r}, e.g. row "
            f"{row}: {_row(table, row)}; drop them in the source or give them a time"
        )
    instants = cast(
        "npt.NDArray[np.int64]",
        column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(),
    )
    starts = [day_start(day, window.timezone) for day in window.days]
    edges = pa.array([*starts, window.end_time], pa.timestamp("us", tz="UTC"))
    bounds = cast("npt.NDArray[np.int64]", edges.cast(pa.int64()).to_numpy())
    day = np.searchsorted(bounds, instants, side="right") - 1
    outside = np.flatnonzero((day < 0) | (day >= len(starts)))
    if len(outside):
        row = int(outside[0])
        raise PermanentError(
            f"{where}: {len(outside)} of {len(table)} rows lie outside the window from "
            f"{window.first} until before {window.end} ({window.timezone}), e.g. row {row}: "
            f"{_row(table, row)}; have the source return only rows of the window"
        )
    if np.any(day[1:] < day[:-1]):
        order = np.argsort(day, kind="stable")
        table, day = table.take(pa.array(order)), day[order]
    cuts = np.searchsorted(day, np.arange(len(starts) + 1))
    return {
        partition: table.slice(int(cuts[n]), int(cuts[n + 1] - cuts[n]))
        for n, partition in enumerate(window.partitions)
    }


def _row(table: pa.Table, row: int) -> str:
    values = table.slice(row, 1).to_pylist()[0]
    return ", ".join(f"{name}={value!s}" for name, value in list(values.items())[:6])
