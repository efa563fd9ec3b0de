"""Conditions of expectations, evaluated alone, against the verdicts of Great Expectations."""

from datetime import UTC, datetime, timedelta

import great_expectations.expectations as gxe
import pyarrow as pa
from great_expectations.expectations.row_conditions import Column
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.adapters.validation import engine
from mlops_assets.adapters.validation.conditions import met
from mlops_assets.adapters.validation.frames import comparable, frame_of

START = datetime(2013, 1, 1, tzinfo=UTC)

EXPECTATIONS = dict(
    enumerate(
        [
            gxe.ExpectColumnValuesToNotBeNull(column="number"),
            gxe.ExpectColumnValuesToNotBeNull(column="number", mostly=0.5),
            gxe.ExpectColumnValuesToNotBeNull(column="text", mostly=2 / 3),
            gxe.ExpectColumnValuesToNotBeNull(
                column="text", row_condition=Column("count").is_not_null()
            ),
            gxe.ExpectColumnValuesToNotBeNull(
                column="text", mostly=0.5, row_condition=Column("count").is_not_null()
            ),
            gxe.ExpectColumnValuesToBeNull(column="text", mostly=0.5),
            gxe.ExpectColumnValuesToBeBetween(column="number", min_value=-1, max_value=1),
            gxe.ExpectColumnValuesToBeBetween(column="number", max_value=0, mostly=0.75),
            gxe.ExpectColumnValuesToBeBetween(column="count", min_value=0, strict_min=True),
            gxe.ExpectColumnValuesToBeInSet(column="text", value_set=["a", "b"]),
            gxe.ExpectColumnValuesToNotBeInSet(column="text", value_set=["c"], mostly=0.6),
            gxe.ExpectColumnValuesToMatchRegex(column="text", regex="^[ab]$", mostly=0.5),
            gxe.ExpectColumnValuesToBeUnique(column="count"),
            gxe.ExpectColumnValuesToBeUnique(column="count", mostly=0.5),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["text", "count"]),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["text", "count"], mostly=0.5),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="until",
                column_B="at",
                or_equal=True,
                ignore_row_if="either_value_is_missing",
            ),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="until", column_B="at", ignore_row_if="either_value_is_missing", mostly=0.5
            ),
            gxe.ExpectSelectColumnValuesToBeUniqueWithinRecord(column_list=["number", "count"]),
            gxe.ExpectColumnValueLengthsToEqual(column="text", value=1),
            gxe.ExpectColumnValuesToNotBeNull(column="no such column"),
            gxe.ExpectTableRowCountToBeBetween(min_value=1, max_value=3),
            gxe.ExpectColumnMeanToBeBetween(column="number", min_value=-1, max_value=1),
        ]
    )
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.sampled_from([None, -2.0, -1.0, 0.0, 1.0, 5.0]),
            "count": st.none() | st.integers(0, 3),
            "text": st.sampled_from([None, "a", "b", "c", "cc"]),
            "at": st.integers(0, 2).map(lambda hours: START + timedelta(hours=hours)),
            "until": st.none() | st.integers(0, 2).map(lambda h: START + timedelta(hours=h)),
        }
    ),
    min_size=1,
    max_size=6,
)
SCHEMA = pa.schema(
    {
        "number": pa.float64(),
        "count": pa.int64(),
        "text": pa.string(),
        "at": pa.timestamp("us", "UTC"),
        "until": pa.timestamp("us", "UTC"),
    }
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
def test_what_a_condition_alone_says_is_what_great_expectations_says(
    rows: list[dict[str, object]],
) -> None:
    """Nothing counts as met that is not."""
    frame = comparable(frame_of([pa.Table.from_pylist(rows, SCHEMA)]))
    judged = engine._pass(frame, EXPECTATIONS, engine._batches())
    holds = {n for n, outcome in judged.items() if outcome.success}
    assert met(frame, EXPECTATIONS) <= holds


class Stricter(gxe.ExpectColumnValuesToNotBeNull):
    """An expectation of somebody's own."""

    def _validate(self, *args: object, **options: object) -> dict[str, bool]:
        return {"success": False}


def test_a_subclass_is_left_to_great_expectations() -> None:
    """It may judge by more than its condition."""
    frame = frame_of([pa.table({"number": [1.0]})])
    both = {0: gxe.ExpectColumnValuesToNotBeNull(column="number"), 1: Stricter(column="number")}
    assert met(frame, both) == {0}


def test_on_a_sound_day_every_condition_about_rows_is_seen_to_be_met() -> None:
    """What every row does not meet, and what is not about rows, goes the long way."""
    hours = [START + timedelta(hours=n) for n in range(3)]
    day = pa.table(
        [[0.0, 0.5, None], [1, 2, 3], ["a", None, "b"], hours, [*hours[1:], None]], schema=SCHEMA
    )
    sound = set(EXPECTATIONS) - {0, 3, 4, 5, 7, 19, 20, 21, 22}
    assert met(comparable(frame_of([day])), EXPECTATIONS) == sound
