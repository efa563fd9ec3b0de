"""Entities as integers: what sorts and compares fast in place of several columns of any type."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.core.errors import SchemaError

_Ints = npt.NDArray[np.int64]

_LARGEST = int(np.iinfo(np.int64).max)

_MANY = 2**31


def entity_keys(
    rows: pl.DataFrame, events: pl.DataFrame, entity: Sequence[str], what: str
) -> tuple[_Ints, _Ints, int]:
    """A number for the entity of each of ``rows`` and ``events``, and a bound above the numbers.

    ``entity`` names columns that have the same types in both frames, neither of them empty. Equal
    entities have equal numbers. -1 stands for an entity with a null column and may stand for an
    event's entity that no row has.

    Raises SchemaError, which begins with ``what``, for a column of floats or nested values.
    """
    row_key = np.zeros(rows.height, dtype=np.int64)
    event_key = np.zeros(events.height, dtype=np.int64)
    count = 1
    for column in entity:
        row, event, values = _column_numbers(rows[column], events[column], what)
        # No overflow: values is at most 2^32 and count at most _MANY.
        row_key = np.where((row_key < 0) | (row < 0), -1, row_key * values + row)
        event_key = np.where((event_key < 0) | (event < 0), -1, event_key * values + event)
        count *= values
        if count > _MANY:
            row_key, event_key, count = _dense(row_key, event_key)
    return row_key, event_key, count


def _column_numbers(rows: pl.Series, events: pl.Series, what: str) -> tuple[_Ints, _Ints, int]:
    """The same for one column of the entity."""
    dtype = rows.dtype
    if dtype.is_float() or dtype.is_nested():
        raise SchemaError(
            f"{what}: entity column {rows.name!r} is of type {dtype}, which identifies "
            "nothing reliably; use strings or integers"
        )
    if dtype.is_integer() and rows.null_count() < len(rows):
        low, high = cast("int", rows.min()), cast("int", rows.max())
        if high - low < _MANY and low >= -_LARGEST and high <= _LARGEST:
            row, event = (
                pl.select(
                    pl.when(pl.lit(values).is_between(low, high))
                    .then(pl.lit(values).cast(pl.Int64, strict=False) - low)
                    .otherwise(-1)
                ).to_series()
                for values in (rows, events)
            )
            return row.to_numpy(), event.to_numpy(), high - low + 1
    # Interning both sides passes once over each; joining them would hash the rows twice. Codes are
    # shared only between series that live at the same time.
    interned = pl.Categorical(pl.Categories.random())
    alive = [values.cast(pl.String).cast(interned) for values in (rows, events)]
    row, event = (values.to_physical().cast(pl.Int64).fill_null(-1).to_numpy() for values in alive)
    return row, event, int(max(row.max(), event.max())) + 1


def _dense(row_key: _Ints, event_key: _Ints) -> tuple[_Ints, _Ints, int]:
    """Keys renumbered from 0 without gaps, so that there are no more than rows."""
    keys = np.unique(row_key[row_key >= 0])
    if len(keys) == 0:
        return np.full_like(row_key, -1), np.full_like(event_key, -1), 1

    def renumber(old: _Ints) -> _Ints:
        new = np.minimum(np.searchsorted(keys, old), len(keys) - 1)
        return np.where(keys[new] == old, new, -1)

    return renumber(row_key), renumber(event_key), len(keys)
