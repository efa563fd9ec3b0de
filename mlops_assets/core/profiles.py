"""Profiles: what a set of rows looks like, column by column, in a few kilobytes.

Profiles of one layout merge exactly: the profile of a window is the merge of its days' profiles,
equal to the last bit to the profile of all of its rows, in any order and grouping. A window so
costs its profiles, never its rows again.

- Numbers are counted as the model sees them, as 32-bit floats, in bins with fixed edges. Sums are
  exact integers: adding floats would depend on the order.
- Categories are counted for those that the layout lists; of the others, which are without bound,
  the profile names the few whose hashes are smallest. Which those are does not depend on how rows
  are split, so that their counts stay exact (bottom-k sampling, Cohen and Kaplan 2007).
"""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, cast

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field, PlainSerializer

from mlops_assets.core.errors import PermanentError, SchemaError
from mlops_assets.core.layouts import ColumnLayout, Layout, category_values, float_values
from mlops_assets.core.records import Record

# As text in JSON: its readers keep 53 bits of a number.
Exact = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]
"""A sum without rounding, as a multiple of a power of two."""

SUM_EXPONENT = -149
"""Sums are multiples of 2 to this power, the smallest 32-bit float; sums of squares of its square.
"""

_LARGEST = np.finfo(np.float32).max
# At most _PIECE values whose exponents differ by less than _OCTAVES: with 12 bits a value their
# products add up to at most 2^53 units, so that float64 adds them without rounding, in any order.
# BLAS takes more than 10,000 values to several threads, which costs more than it gives.
_OCTAVES = 8
_PIECE = 1 << 13
_POWERS = np.ldexp(np.float32(1), np.arange(-141, 128, _OCTAVES)).astype(np.float32)
_BOUNDARIES = np.concatenate([-_POWERS[::-1], _POWERS]).astype(np.float32)
_UPPER_BITS = np.uint32(0xFFFFF000)


class ColumnProfile(Record):
    """One column of a set of rows. ``counts`` has the layout's bins."""

    name: str
    counts: tuple[int, ...]
    missing: int
    """Rows with null or NaN."""
    infinite: int = 0
    """Rows with an infinity, or a number beyond 32-bit floats. Neither these nor missing rows are
    in what follows."""
    total: Exact = 0
    """Sum of the values, in units of 2^-149."""
    squares: Exact = 0
    """Sum of the squared values, in units of 2^-298."""
    below: Exact = 0
    """Sum of the values in the first bin, in units of 2^-149."""
    above: Exact = 0
    """Sum of the values in the last bin, in units of 2^-149."""
    least: float | None = None
    most: float | None = None
    most_others: int = 0
    others: dict[str, int] = Field(default_factory=dict[str, int])
    """Categories that the layout does not list and how often they occur, for the ``most_others``
    smallest by hash."""


class Profile(Record):
    """A set of rows, under one layout."""

    layout: str
    """The layout's digest."""
    rows: int
    columns: tuple[ColumnProfile, ...]


def profile(frame: pl.DataFrame, layout: Layout) -> Profile:
    """The profile of ``frame``, which has the layout's columns.

    Raises SchemaError for a missing column and for one whose type is not its feature's.
    """
    missing = [column.name for column in layout.columns if column.name not in frame.columns]
    if missing:
        raise SchemaError(
            f"the table lacks the profile's columns {', '.join(missing)}: add them, or profile "
            "with a layout of this table"
        )
    return Profile(
        layout=layout.digest,
        rows=frame.height,
        columns=tuple(
            _floats(frame.get_column(column.name), column)
            if column.type == "float"
            else _categories(frame.get_column(column.name), column)
            for column in layout.columns
        ),
    )


def merge(profiles: Iterable[Profile]) -> Profile:
    """The profile of the rows of all ``profiles`` together.

    Raises PermanentError for none, and for profiles of different layouts.
    """
    parts = list(profiles)
    if not parts:
        raise PermanentError("there are no profiles to merge: give at least one")
    layouts = {part.layout for part in parts}
    if len(layouts) > 1:
        raise PermanentError(
            f"the profiles have {len(layouts)} different layouts: profile all rows with one"
        )
    return Profile(
        layout=parts[0].layout,
        rows=sum(part.rows for part in parts),
        columns=tuple(
            _merged([part.columns[n] for part in parts]) for n in range(len(parts[0].columns))
        ),
    )


def merged_others(parts: Iterable[Mapping[str, int]], limit: int) -> dict[str, int]:
    """The counts of the ``limit`` categories with the smallest hashes, in the order of these."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part)
    kept = heapq.nsmallest(limit, counts, key=rank)
    return {value: counts[value] for value in kept}


def rank(category: str) -> tuple[bytes, str]:
    """The place of ``category`` in an order that has nothing to do with its meaning."""
    return hashlib.blake2b(category.encode(), digest_size=8).digest(), category


def _merged(parts: list[ColumnProfile]) -> ColumnProfile:
    least = [part.least for part in parts if part.least is not None]
    most = [part.most for part in parts if part.most is not None]
    counts = np.array([part.counts for part in parts], dtype=np.int64).sum(axis=0)
    return ColumnProfile(
        name=parts[0].name,
        counts=tuple(cast("list[int]", counts.tolist())),
        missing=sum(part.missing for part in parts),
        infinite=sum(part.infinite for part in parts),
        total=sum(part.total for part in parts),
        squares=sum(part.squares for part in parts),
        below=sum(part.below for part in parts),
        above=sum(part.above for part in parts),
        least=min(least, default=None),
        most=max(most, default=None),
        most_others=parts[0].most_others,
        others=merged_others((part.others for part in parts), parts[0].most_others),
    )


def _floats(series: pl.Series, column: ColumnLayout) -> ColumnProfile:
    # Sorting is what makes this fast: bins, infinities, NaN and exponents become runs, and finding
    # 100 edges in a million sorted values is free, a million values among 100 edges is not.
    values = np.sort(float_values(series, column.name))
    first = int(np.searchsorted(values, -_LARGEST, side="left"))
    end = int(np.searchsorted(values, _LARGEST, side="right"))
    numbers = int(np.searchsorted(values, np.float32(np.inf), side="right"))
    finite = values[first:end]
    # With float64 edges numpy would convert all values.
    ends = np.searchsorted(finite, np.array(column.edges, dtype=np.float32), side="right")
    # For a day's rows, numpy's diff with its prepended zero takes longer than the rest.
    cuts: list[int] = [0, *cast("list[int]", ends.tolist()), len(finite)]
    counts = [end - start for start, end in pairwise(cuts)]
    total, squares = _exact_sums(finite)
    edges = len(column.edges) > 0
    return ColumnProfile(
        name=column.name,
        counts=tuple(counts),
        missing=len(values) - numbers,
        infinite=numbers - len(finite),
        total=total,
        squares=squares,
        below=_exact_sums(finite[: ends[0]])[0] if edges else total,
        above=_exact_sums(finite[ends[-1] :])[0] if edges else 0,
        # Adding zero turns -0.0 into 0.0, which compares equal and would be written differently.
        least=float(finite[0]) + 0.0 if len(finite) else None,
        most=float(finite[-1]) + 0.0 if len(finite) else None,
    )


def _exact_sums(ordered: npt.NDArray[np.float32]) -> tuple[int, int]:
    """The sum of finite values in ascending order, and of their squares, in their units.

    Each value is split into its upper 12 bits and the rest, so that squares are made of products
    of 24 bits.
    """
    total = squares = 0
    if not len(ordered):
        return total, squares
    cuts: list[int] = np.searchsorted(ordered, _BOUNDARIES).tolist()
    for start, end in pairwise([0, *cuts, len(ordered)]):
        for at in range(start, end, _PIECE):
            piece = ordered[at : min(at + _PIECE, end)]
            value = piece.astype(np.float64)
            upper = (piece.view(np.uint32) & _UPPER_BITS).view(np.float32).astype(np.float64)
            lower = value - upper
            total += _units(float(value.sum()), 1)
            squares += _units(float(upper @ upper), 2) + _units(float(lower @ lower), 2)
            squares += 2 * _units(float(upper @ lower), 2)
    return total, squares


def _units(value: float, power: int) -> int:
    return int(math.ldexp(value, -SUM_EXPONENT * power))


def _categories(series: pl.Series, column: ColumnLayout) -> ColumnProfile:
    found = category_values(series, column.name)
    counts = [found.pop(category, 0) for category in column.categories]
    return ColumnProfile(
        name=column.name,
        counts=(*counts, sum(found.values())),
        missing=series.null_count(),
        most_others=column.others,
        others=merged_others([found], column.others),
    )
