import struct
from decimal import Decimal
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlops_assets.core.digest import table_digest
from mlops_assets.core.errors import SchemaError

_TYPES: dict[pa.DataType, st.SearchStrategy[object]] = {
    pa.int32(): st.integers(-5, 5),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False).map(lambda x: x + 0.0),
    pa.float32(): st.floats(width=32, allow_nan=False).map(lambda x: x + 0.0),
    pa.string(): st.text(max_size=3),
    pa.binary(): st.binary(max_size=3),
    pa.bool_(): st.booleans(),
    pa.timestamp("us", tz="UTC"): st.integers(0, 10),
    pa.decimal128(5, 2): st.integers(-9, 9).map(Decimal),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Small tables of any types, with nulls."""
    kinds = draw(st.lists(st.sampled_from(list(_TYPES)), min_size=1, max_size=4))
    rows = draw(st.integers(0, 9))
    return pa.table(
        {
            f"c{n}": pa.array(
                draw(
                    st.lists(st.none() | _TYPES[kind], min_size=rows, max_size=rows),
                ),
                kind,
            )
            for n, kind in enumerate(kinds)
        }
    )


@settings(deadline=None)
@given(table=tables(), cuts=st.lists(st.integers(0, 9), max_size=3), data=st.data())
def test_chunks_slices_and_bytes_beneath_nulls_do_not_matter(
    table: pa.Table, cuts: list[int], data: st.DataObject
) -> None:
    """The same rows cut at other places, out of a larger table, have the same digest."""
    edges = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    parts = [table.slice(a, b - a) for a, b in pairwise(edges)]
    assert table_digest(pa.concat_tables(parts)) == table_digest(table)
    before = data.draw(st.integers(0, len(table)))
    wider = pa.concat_tables([table.slice(0, before), table, table]).combine_chunks()
    assert table_digest(wider.slice(before, len(table))) == table_digest(table)


@settings(deadline=None)
@given(one=tables(), other=tables())
def test_two_tables_have_one_digest_only_when_they_are_equal(
    one: pa.Table, other: pa.Table
) -> None:
    """Names, types, values, nulls and the order of rows are all told apart."""
    assert (table_digest(one) == table_digest(other)) == one.equals(other)


@settings(deadline=None)
@given(table=tables(), data=st.data())
def test_another_order_of_rows_is_another_digest(table: pa.Table, data: st.DataObject) -> None:
    """Unless the rows in the new order are the same rows."""
    order = data.draw(st.permutations(range(len(table))))
    assume(order != list(range(len(table))))
    moved = table.take(pa.array(order, pa.int64()))
    assert (table_digest(moved) == table_digest(table)) == moved.equals(table)


def test_garbage_beneath_nulls_does_not_matter() -> None:
    """Buffers that differ only where a value is null are the same content."""
    valid = pa.py_buffer(b"\x05")  # the first and the third of three values
    for kind, width in ((pa.int32(), 4), (pa.float64(), 8), (pa.timestamp("us", "UTC"), 8)):
        one, two = (
            pa.Array.from_buffers(
                kind, 3, [valid, pa.py_buffer(bytes(width) + fill * width + bytes(width))]
            )
            for fill in (b"\x01", b"\x7f")
        )
        assert table_digest(pa.table({"a": one})) == table_digest(pa.table({"a": two}))
    offsets = pa.py_buffer(struct.pack("<4i", 0, 1, 3, 4))
    texts = [
        pa.Array.from_buffers(pa.string(), 3, [valid, offsets, pa.py_buffer(content)])
        for content in (b"axxb", b"ayyb")
    ]
    plain = pa.array(["a", None, "b"])
    digests = {table_digest(pa.table({"a": text})) for text in [*texts, plain]}
    assert len(digests) == 1


def test_floats_are_compared_as_numbers() -> None:
    """-0.0 is 0.0, every NaN is the same, and NaN is neither null nor zero."""

    def digest(*values: float | None) -> str:
        return table_digest(pa.table({"a": pa.array(values, pa.float64(), from_pandas=False)}))

    assert digest(0.0) == digest(-0.0)
    other_nan = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
    assert digest(float("nan")) == digest(other_nan)
    assert len({digest(float("nan")), digest(None), digest(0.0), digest(float("inf"))}) == 4


def test_text_is_the_same_however_it_is_held() -> None:
    """Plain, large, view and dictionary columns of the same text have one digest."""
    plain = pa.chunked_array([["a", None], ["bb", "a"]])
    held = [
        plain,
        plain.cast(pa.large_string()),
        plain.cast(pa.string_view()),
        plain.dictionary_encode(),
        pa.table(pl.DataFrame({"a": pl.Series(["a", None, "bb", "a"], dtype=pl.Categorical)}))["a"],
    ]
    assert len({table_digest(pa.table({"a": column})) for column in held}) == 1


def test_text_does_not_run_over_its_ends() -> None:
    """The same letters cut at another place, or null instead of empty, are other content."""
    values = [["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None]]
    assert len({table_digest(pa.table({"a": value})) for value in values}) == 4


def test_the_digest_stays_what_it_is() -> None:
    """Digests are kept in the lake: another scheme would make all data look changed."""
    table = pa.table({"a": pa.array([1, None], pa.int32()), "b": ["x", "y"], "c": [True, None]})
    assert table_digest(table) == "6f1527729a3c6e1f1a6193066bfc09733fd80ba6973032dc733c03b23319aa75"


def test_a_large_table_is_hashed_without_loops_over_rows() -> None:
    """A million numbers give the digest of the same numbers in a thousand chunks."""
    values = np.arange(1_000_000)
    whole = pa.table({"a": values})
    chunks = pa.chunked_array(list(np.split(values, 1000)))
    assert table_digest(whole) == table_digest(pa.table({"a": chunks}))


def test_a_nested_column_is_refused_by_name() -> None:
    """Rather than hashed in a way that says nothing."""
    with pytest.raises(SchemaError, match="'items' is nested"):
        table_digest(pa.table({"items": [[1]]}))
