from datetime import UTC, date, datetime, timedelta

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.errors import PermanentError, SchemaError
from mlops_assets.core.schema import arrow_schema, conform, split_by_day
from mlops_assets.core.spec import ColumnType
from mlops_assets.core.windows import Window

NEW_YORK = "America/New_York"
INSTANT = pa.timestamp("us", tz="UTC")


def table(name: str, values: object) -> pa.Table:
    """A table of one column."""
    return pa.table({name: values})


def test_a_polars_frame_conforms_in_the_order_of_the_description() -> None:
    """Columns are reordered and cast; views and categories become plain strings."""
    frame = pl.DataFrame(
        {
            "n": [1, 2],
            "code": pl.Series(["a", None], dtype=pl.Categorical),
            "name": ["x", "y"],
            "at": pl.Series([datetime(2013, 1, 1, tzinfo=UTC)] * 2, dtype=pl.Datetime("ms", "UTC")),
        }
    )
    columns: dict[str, ColumnType] = {
        "name": "string",
        "code": "string",
        "at": "timestamp",
        "n": "int32",
    }
    found = conform(frame, columns, "flights")
    assert found.schema == arrow_schema(columns)
    assert found.to_pydict() == {
        "name": ["x", "y"],
        "code": ["a", None],
        "at": [datetime(2013, 1, 1, tzinfo=UTC)] * 2,
        "n": [1, 2],
    }


def test_a_filtered_pandas_frame_conforms() -> None:
    """The unnamed index is no column, and pandas' floats with gaps are integers with nulls."""
    frame = pd.DataFrame({"n": [1, None, 3], "drop": [False, True, True]})
    found = conform(frame[frame["drop"]][["n"]], {"n": "int64"}, "flights")
    assert found.to_pydict() == {"n": [None, 3]}


def test_no_rows_conform_to_every_type() -> None:
    """An empty untyped result has the described types."""
    columns: dict[str, ColumnType] = {"a": "timestamp", "b": "bool", "c": "string"}
    empty = pa.table({name: pa.nulls(0) for name in columns})
    assert conform(empty, columns, "flights").schema == arrow_schema(columns)


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        (["x"], "int64", ["string", "int64", "x in row 0"]),
        (["12"], "int64", ["string", "12"]),
        ([7], "string", ["int64", "string", "7"]),
        ([None, True], "int32", ["bool", "int32", "True in row 1"]),
        ([1, 2.5], "int64", ["double", "int64", "2.5 in row 1", "without loss"]),
        ([1.0, float("nan")], "int64", ["nan in row 1"]),
        ([1, 2**40], "int32", ["int64", "int32", f"{2**40} in row 1"]),
        ([2**60 + 1], "float64", ["int64", "float64", str(2**60 + 1)]),
        ([1.0, 1e300], "float32", ["double", "float32", "1e+300 in row 1", "float64"]),
        ([date(2013, 1, 1)], "timestamp", ["date32", "timestamp", "2013-01-01"]),
        ([datetime(2013, 1, 1)], "timestamp", ["time zone", "localize", "2013-01-01"]),  # noqa: DTZ001
        (
            pa.array([1], pa.timestamp("ns", tz="UTC")),
            "timestamp",
            ["timestamp[ns", "without loss", "in row 0"],
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    values: object, expected: ColumnType, words: list[str]
) -> None:
    """The message names table, column, both types and a value that does not fit."""
    with pytest.raises(SchemaError) as caught:
        conform(table("distance", values), {"distance": expected}, "dataset flights")
    for word in ["dataset flights", "'distance'", *words]:
        assert word in str(caught.value)


def test_missing_and_extra_columns_are_refused_by_name() -> None:
    """The message says which, and what to do."""
    with pytest.raises(SchemaError, match=r"flights: column 'b' is missing \(expected type bool\)"):
        conform(table("a", [1]), {"a": "int64", "b": "bool"}, "flights")
    with pytest.raises(SchemaError, match=r"flights: .*: b; add them to `columns` or drop them"):
        conform(pa.table({"a": [1], "b": [2]}), {"a": "int64"}, "flights")


def test_what_is_no_table_is_refused() -> None:
    """Lists, lazy frames and mixed columns are named."""
    with pytest.raises(SchemaError, match=r"found a builtins\.list, expected a polars"):
        conform([1], {"a": "int64"}, "flights")
    with pytest.raises(SchemaError, match="LazyFrame"):
        conform(pl.LazyFrame({"a": [1]}), {"a": "int64"}, "flights")
    with pytest.raises(SchemaError, match="mixes types"):
        conform(pd.DataFrame({"a": [1, "x"]}), {"a": "int64"}, "flights")
    with pytest.raises(SchemaError, match="'a' is there more than once"):
        conform(pa.table([[1], [2]], names=["a", "a"]), {"a": "int64"}, "flights")


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2013, 3, 10), 23), (date(2013, 11, 3), 25), (date(2013, 7, 1), 24)],
)
def test_a_day_has_the_hours_of_its_clock(day: date, hours: int) -> None:
    """Every hour between two local midnights is in the day, also when clocks change."""
    window = Window(day - timedelta(days=1), day + timedelta(days=2), NEW_YORK)
    span = int((window.end_time - window.start_time) / timedelta(hours=1))
    instants = [window.start_time + timedelta(hours=n) for n in range(span)]
    days = split_by_day(table("at", pa.array(instants, INSTANT)), "at", window, "flights")
    assert {name: len(rows) for name, rows in days.items()} == {
        window.partitions[0]: 24,
        day.isoformat(): hours,
        window.partitions[2]: 24,
    }


def test_a_day_without_rows_is_there_and_empty() -> None:
    """So that the caller can refuse it by name."""
    window = Window(date(2013, 1, 1), date(2013, 1, 4), "UTC")
    rows = table("at", pa.array([datetime(2013, 1, 3, tzinfo=UTC)], INSTANT))
    days = split_by_day(rows, "at", window, "flights")
    assert [len(days[name]) for name in window.partitions] == [0, 0, 1]
    assert days["2013-01-01"].schema == rows.schema


def test_rows_outside_the_window_are_refused_with_an_example() -> None:
    """The number, the row and its values are named; local midnight is the border, not UTC's."""
    window = Window(date(2013, 1, 1), date(2013, 1, 2), NEW_YORK)
    at = [window.start_time, window.end_time, window.start_time - timedelta(microseconds=1)]
    rows = pa.table({"at": pa.array(at, INSTANT), "flight": [1, 2, 3]})
    with pytest.raises(PermanentError, match=r"flights: 2 of 3 rows .* row 1: .*flight=2"):
        split_by_day(rows, "at", window, "flights")
    without_time = pa.table({"at": pa.array([None, at[0]], INSTANT), "flight": [7, 8]})
    with pytest.raises(PermanentError, match=r"1 of 2 rows have no 'at', e\.g\. row 0: .*flight=7"):
        split_by_day(without_time, "at", window, "flights")


@settings(deadline=None, max_examples=60)
@given(
    seconds=st.lists(st.integers(0, 10 * 86_400 - 1), max_size=60),
    first=st.sampled_from([date(2013, 3, 5), date(2013, 10, 30), date(2013, 6, 1)]),
    zone=st.sampled_from([NEW_YORK, "UTC", "Europe/Berlin", "Pacific/Auckland"]),
)
def test_each_row_is_in_the_day_of_its_local_date(
    seconds: list[int], first: date, zone: str
) -> None:
    """No row is lost, and rows of a day keep their order."""
    window = Window(first, first + timedelta(days=11), zone)
    at = [window.start_time + timedelta(seconds=n) for n in seconds]
    rows = pa.table({"at": pa.array(at, INSTANT), "row": pa.array(range(len(at)), pa.int64())})
    days = split_by_day(rows, "at", window, "flights")
    expected: dict[str, list[int]] = {name: [] for name in window.partitions}
    local = pl.Series(at, dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone(zone).dt.date()
    for row, day in enumerate(local):
        expected[day.isoformat()].append(row)
    assert {name: part["row"].to_pylist() for name, part in days.items()} == expected
