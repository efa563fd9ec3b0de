"""What is proven without Great Expectations is what it would have found."""

# pyright: reportPrivateImportUsage=false, reportPrivateUsage=false

from datetime import UTC, datetime, timedelta

import great_expectations.expectations as gxe
import pyarrow as pa
import pytest
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.row_conditions import Column
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.adapters.validation.certain import certainly_met
from mlops_assets.adapters.validation.engine import _batches, _evaluate
from mlops_assets.adapters.validation.frames import frame_of

_START = datetime(2013, 3, 1, tzinfo=UTC)

_EXPECTATIONS: tuple[Expectation, ...] = (
    *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("n", "x", "text", "a")),
    *(
        gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)
        for name in ("n", "small", "x")
        for low, high in ((0, 3), (None, 2.5), (-1, None))
    ),
    gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0, max_value=3, strict_max=True),
    gxe.ExpectColumnValuesToBeInSet(column="text", value_set=["a", "b"]),
    gxe.ExpectColumnValuesToBeUnique(column="n"),
    gxe.ExpectColumnValuesToBeUnique(column="x"),
    gxe.ExpectCompoundColumnsToBeUnique(column_list=["n", "text"]),
    *(
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="b", column_B="a", or_equal=equal, ignore_row_if="either_value_is_missing"
        )
        for equal in (True, None)
    ),
)

_ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-1, 4),
        st.none() | st.sampled_from([-1.0, 0.0, 2.5, 3.0, float("nan"), float("inf")]),
        st.none() | st.sampled_from(["a", "b", "c"]),
        st.none() | st.integers(0, 2),
        st.none() | st.integers(0, 2),
    ),
    max_size=4,
)


_Row = tuple[int | None, float | None, str | None, int | None, int | None]


def _table(rows: list[_Row]) -> pa.Table:
    def at(hours: int | None) -> datetime | None:
        return None if hours is None else _START + timedelta(hours=hours)

    instant = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "n": pa.array([row[0] for row in rows], pa.int64()),
            "small": pa.array([row[0] for row in rows], pa.int16()),
            "x": pa.array([row[1] for row in rows], pa.float64()),
            "text": pa.array([row[2] for row in rows], pa.string()),
            "a": pa.array([at(row[3]) for row in rows], instant),
            "b": pa.array([at(row[4]) for row in rows], instant),
        }
    )


@given(_ROWS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_great_expectations_agrees_with_every_proof(rows: list[_Row]) -> None:
    """Nothing is passed over that it would have refused."""
    frame = frame_of([_table(rows)])
    proven = {n: e for n, e in enumerate(_EXPECTATIONS) if certainly_met(frame, e)}
    found = _evaluate(frame, proven, "COMPLETE", _batches())
    assert {n for n, outcome in found.items() if not outcome.success} == set()


def test_what_holds_of_complete_rows_is_proven() -> None:
    """The proofs are of use: a day in order needs no judge, except for strict bounds."""
    frame = frame_of([_table([(0, 0.0, "a", 0, 1), (1, 2.5, "b", 1, 2)])])
    unproven = [e for e in _EXPECTATIONS if not certainly_met(frame, e)]
    assert unproven == [
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0, max_value=3, strict_max=True)
    ]


@pytest.mark.parametrize(
    "expectation",
    [
        gxe.ExpectColumnValuesToNotBeNull(column="absent"),
        gxe.ExpectColumnValuesToNotBeNull(column="n", row_condition=Column("x").is_not_null()),
        gxe.ExpectColumnValuesToBeBetween(column="text", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="many", min_value=0),
        gxe.ExpectColumnValuesToBeUnique(column="many"),
        gxe.ExpectColumnValuesToMatchRegex(column="text", regex="."),
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
    ],
)
def test_what_great_expectations_does_in_its_own_way_is_left_to_it(
    expectation: Expectation,
) -> None:
    """Other columns, types and kinds prove nothing, and raise nothing."""
    table = _table([(0, 0.0, "a", 0, 1)] * 2).append_column("many", pa.array([[1], [1]]))
    assert not certainly_met(frame_of([table]), expectation)
