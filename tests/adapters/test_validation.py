"""Validation of partitions before they are published, with Great Expectations itself."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import great_expectations.expectations as gxe
import pyarrow as pa
import pytest
from great_expectations.expectations.expectation import Expectation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.adapters.validation import (
    ExpectationResult,
    ValidationResult,
    expectations_markdown,
    validate,
)
from mlops_assets.core.errors import PermanentError, SchemaError
from mlops_assets.core.quality import QUARANTINE, Suite

FIRST, SECOND, THIRD = "2013-01-01", "2013-01-02", "2013-01-03"


def flights(
    numbers: list[int | None], delays: list[float | None], carriers: list[str | None] | None = None
) -> pa.Table:
    """Rows of (flight, delay, carrier)."""
    return pa.table(
        {
            "flight": pa.array(numbers, pa.int64()),
            "delay": pa.array(delays, pa.float64()),
            "carrier": pa.array(carriers or ["UA"] * len(numbers), pa.string()),
        }
    )


def delay_between(**options: object) -> Expectation:
    """A row-level rule that 9999 breaks."""
    return gxe.ExpectColumnValuesToBeBetween(
        column="delay", min_value=-60, max_value=1500, **options
    )


def check(
    partitions: dict[str, pa.Table],
    *rows: Expectation,
    profile: tuple[Expectation, ...] = (),
    history: dict[str, int] | None = None,
    limit: float = 0.5,
) -> ValidationResult:
    """Validates with ``flight`` as the key."""
    suite = Suite(rows=list(rows), partitions=list(profile))
    return validate(partitions, suite, history or {}, limit, ["flight"])


GOOD = {
    FIRST: flights([1, 2, 3, 4], [0, 5, -3, 12]),
    SECOND: flights([1, 2, 3, 4], [1, 6, -2, None]),
    THIRD: flights([1, 2, 3, 4], [2, 7, -1, 14]),
}


def test_partitions_that_meet_every_expectation_go_on_unchanged() -> None:
    """Validation hands on the very rows it was given, in their order."""
    result = check(
        GOOD,
        delay_between(),
        gxe.ExpectColumnValuesToNotBeNull(column="flight"),
        gxe.ExpectColumnMeanToBeBetween(column="delay", min_value=-10, max_value=10),
        gxe.ExpectTableColumnsToMatchSet(column_set=["flight", "delay", "carrier"]),
        profile=(gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=1),),
    )
    assert result.accepted == GOOD
    assert result.refused == {}
    assert result.quarantined.num_rows == 0
    assert result.quarantined.column_names == ["flight", "delay", "carrier", "_partition", "reason"]
    assert [(e.success, e.checked) for e in result.expectations] == [(True, 12)] * 4 + [(True, 3)]


def test_a_broken_row_refuses_its_partition_and_nothing_else() -> None:
    """The partition's reason names rule, row count, value and key; the others go on."""
    partitions = GOOD | {SECOND: flights([1, 2, 3, 4], [1, 9999, -2, 8888])}
    result = check(partitions, delay_between())
    assert result.accepted == {FIRST: GOOD[FIRST], THIRD: GOOD[THIRD]}
    assert result.refused == {
        SECOND: ("delay: values between -60 and 1500: 2 of 4 rows, e.g. delay=9999 at flight=2",)
    }
    assert result.expectations == (
        ExpectationResult(
            name="delay: values between -60 and 1500",
            type="expect_column_values_to_be_between",
            columns=("delay",),
            severity="critical",
            quarantine=False,
            success=False,
            checked=12,
            unexpected=2,
            examples=(
                "2013-01-02: delay=9999 at flight=2",
                "2013-01-02: delay=8888 at flight=4",
            ),
            partitions=(SECOND,),
            concerned=1,
            message="",
        ),
    )


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_a_failure_that_is_not_critical_is_reported_and_refuses_nothing(severity: str) -> None:
    """The rows go on; the result still counts them."""
    partitions = GOOD | {SECOND: flights([1], [9999])}
    result = check(partitions, delay_between(severity=severity))
    assert result.accepted == partitions
    assert result.refused == {}
    (found,) = result.expectations
    assert (found.success, found.unexpected, found.severity) == (False, 1, severity)


def test_rows_that_break_quarantine_rules_move_aside_with_every_reason() -> None:
    """A row that breaks two rules moves once and names both."""
    partitions = GOOD | {
        SECOND: flights([1, 2, 3, 4], [1, 9999, 9999, 4], ["UA", "UA", "??", "UA"])
    }
    result = check(
        partitions,
        delay_between(meta=QUARANTINE),
        gxe.ExpectColumnValuesToBeInSet(column="carrier", value_set=["UA"], meta=QUARANTINE),
    )
    assert result.refused == {}
    assert result.accepted[SECOND] == flights([1, 4], [1, 4])
    assert result.accepted[FIRST] == GOOD[FIRST]
    rule = "delay: values between -60 and 1500 (delay=9999)"
    assert result.quarantined.select(["flight", "_partition", "reason"]).to_pylist() == [
        {"flight": 2, "_partition": SECOND, "reason": rule},
        {
            "flight": 3,
            "_partition": SECOND,
            "reason": f"{rule}; carrier: values in set [UA] (carrier=??)",
        },
    ]
    assert [(e.quarantine, e.success, e.unexpected) for e in result.expectations] == [
        (True, False, 2),
        (True, False, 1),
    ]


def test_more_rows_to_quarantine_than_the_limit_refuse_the_partition() -> None:
    """At the limit rows move; above it none of the partition's rows goes anywhere."""
    at = flights([1, 2, 3, 4], [9999, 0, 0, 0])
    above = flights([1, 2, 3, 4], [9999, 9999, 0, 0])
    result = check({FIRST: at, SECOND: above}, delay_between(meta=QUARANTINE), limit=0.25)
    assert list(result.accepted) == [FIRST]
    assert result.quarantined["_partition"].to_pylist() == [FIRST]
    assert result.refused == {
        SECOND: (
            "2 of 4 rows (50.00%) break quarantine rules, more than the limit of 25.00%: "
            "delay: values between -60 and 1500: 2 rows",
        )
    }


def test_quarantine_moves_rows_that_mostly_would_tolerate() -> None:
    """`mostly` says how many failures are fine to publish; quarantine publishes none."""
    partitions = {FIRST: flights([1, 2, 3, 4], [9999, 0, 0, 0])}
    result = check(partitions, delay_between(mostly=0.5, meta=QUARANTINE))
    assert result.accepted[FIRST]["flight"].to_pylist() == [2, 3, 4]
    assert result.quarantined["flight"].to_pylist() == [1]


def test_other_rules_are_judged_on_the_rows_that_stay() -> None:
    """What is published is what has to be right."""
    partitions = {FIRST: flights([1, 2, 3], [9999, 4, 6])}
    aside = delay_between(meta=QUARANTINE)
    mean = gxe.ExpectColumnMeanToBeBetween(column="delay", min_value=0, max_value=10)
    rows = gxe.ExpectColumnValuesToBeBetween(column="rows", max_value=2)
    assert check(partitions, aside, mean, profile=(rows,)).refused == {}
    assert list(check(partitions, mean).refused) == [FIRST]


def test_of_exact_copies_one_row_stays_and_contradicting_rows_all_move() -> None:
    """Copies say the same; rows that differ under one key leave nobody to believe."""
    partitions = {
        FIRST: flights([1, 1, 2, 2, 3, 3, 3, 4], [5, 5, 6, 7, 8, 8, 9, 0]),
        SECOND: flights([1, 4], [5, 0]),
    }
    unique = gxe.ExpectCompoundColumnsToBeUnique(column_list=["flight", "carrier"], meta=QUARANTINE)
    result = check(partitions, unique, limit=0.9)
    assert result.accepted[FIRST] == flights([1, 4], [5, 0])
    assert result.accepted[SECOND] == partitions[SECOND]
    assert result.quarantined.select(["flight", "delay"]).to_pylist() == [
        {"flight": 1, "delay": 5.0},
        {"flight": 2, "delay": 6.0},
        {"flight": 2, "delay": 7.0},
        {"flight": 3, "delay": 8.0},
        {"flight": 3, "delay": 8.0},
        {"flight": 3, "delay": 9.0},
    ]
    assert result.expectations[0].unexpected == 6


def test_a_row_that_moves_for_another_reason_leaves_its_twin_alone() -> None:
    """The good one of two rows with one key is not lost with the bad one."""
    partitions = {FIRST: flights([1, 1, 2], [9999, 5, 6])}
    unique = gxe.ExpectColumnValuesToBeUnique(column="flight", meta=QUARANTINE)
    result = check(partitions, unique, delay_between(meta=QUARANTINE))
    assert result.accepted[FIRST] == flights([1, 2], [5, 6])
    assert [e.success for e in result.expectations] == [True, False]


def test_the_same_key_in_two_partitions_is_not_a_duplicate() -> None:
    """A verdict does not depend on which other partitions are validated beside it."""
    unique = gxe.ExpectColumnValuesToBeUnique(column="flight")
    assert check(GOOD, unique).refused == {}
    twice = GOOD | {SECOND: flights([1, 1], [0, 5])}
    assert list(check(twice, unique).refused) == [SECOND]


def test_an_aggregate_is_judged_per_partition_even_where_the_whole_batch_is_fine() -> None:
    """Two opposite errors do not cancel each other."""
    partitions = {
        FIRST: flights([1, 2], [-50, -40]),
        SECOND: flights([1, 2], [1, -1]),
        THIRD: flights([1, 2], [50, 40]),
    }
    mean = gxe.ExpectColumnMeanToBeBetween(column="delay", min_value=-5, max_value=5)
    result = check(partitions, mean)
    assert result.refused == {
        FIRST: ("delay: mean between -5 and 5: observed -45.0",),
        THIRD: ("delay: mean between -5 and 5: observed 45.0",),
    }
    (found,) = result.expectations
    assert (found.unexpected, found.concerned) == (2, 2)
    assert found.examples == ("2013-01-01: observed -45.0", "2013-01-03: observed 45.0")


def test_mostly_is_judged_per_partition() -> None:
    """A partition without any delay is not hidden by many good ones."""
    partitions = GOOD | {SECOND: flights([1, 2], [None, None])}
    known = gxe.ExpectColumnValuesToNotBeNull(column="delay", mostly=0.75)
    assert list(check(partitions, known).refused) == [SECOND]
    assert check(GOOD, known).refused == {}


def test_a_collapsed_row_count_is_refused_against_the_partitions_before() -> None:
    """The median of history and batch is the measure; the partition's sizes are the example."""
    history = {f"2012-12-{day}": 100 for day in range(20, 30)} | {"2013-01-09": 5}
    partitions = {
        FIRST: flights(list(range(96)), [0] * 96),
        SECOND: flights([1, 2, 3], [0, 0, 0]),
        THIRD: flights(list(range(104)), [0] * 104),
    }
    ratio = gxe.ExpectColumnValuesToBeBetween(column="rows_ratio", min_value=0.5)
    result = check(partitions, profile=(ratio,), history=history)
    assert list(result.accepted) == [FIRST, THIRD]
    assert result.refused == {
        SECOND: ("rows_ratio: values at least 0.5: rows_ratio=0.03 at rows=3, rows_before=100",)
    }


@pytest.mark.parametrize(
    ("before", "refused"),
    [([100, 100], []), ([100, 100, 100], [SECOND]), ([0, 0, 0], []), ([100] * 3 + [2] * 28, [])],
)
def test_the_usual_row_count_needs_three_partitions_and_looks_back_at_most_28(
    before: list[int], refused: list[str]
) -> None:
    """Unknown or zero means no ratio, and no ratio refuses nothing."""
    history = {f"2012-{n:03}": rows for n, rows in enumerate(before)}
    ratio = gxe.ExpectColumnValuesToBeBetween(column="rows_ratio", min_value=0.5)
    result = check({SECOND: flights([1, 2], [0, 0])}, profile=(ratio,), history=history)
    assert list(result.refused) == refused


def test_a_partition_without_a_column_is_refused_and_the_others_are_judged() -> None:
    """Partitions of different columns never meet in one frame."""
    partitions = GOOD | {SECOND: GOOD[SECOND].drop_columns(["carrier"])}
    columns = gxe.ExpectTableColumnsToMatchSet(column_set=["flight", "delay", "carrier"])
    result = check(partitions, columns, gxe.ExpectColumnToExist(column="delay"), delay_between())
    assert list(result.refused) == [SECOND]
    assert "table columns match set" in result.refused[SECOND][0]
    assert [e.success for e in result.expectations] == [False, True, True]


@pytest.mark.parametrize("options", [{}, {"severity": "warning"}, {"meta": QUARANTINE}])
@pytest.mark.parametrize("rows", [0, 3])
def test_an_expectation_that_raises_refuses_with_its_message(
    options: dict[str, object], rows: int
) -> None:
    """What could not be judged is not published, whatever the rule's severity or rows."""
    missing = gxe.ExpectColumnValuesToBeBetween(column="dellay", min_value=0, **options)
    partitions = {FIRST: flights(list(range(rows)), [0] * rows)}
    result = check(partitions, missing, gxe.ExpectColumnValuesToNotBeNull(column="flight"))
    assert result.accepted == {}
    (reason,) = result.refused[FIRST]
    assert reason.startswith("dellay: values at least 0: could not be judged: ")
    assert '"dellay"' in reason
    raised, fine = result.expectations
    assert (raised.success, raised.severity, raised.concerned) == (False, "critical", 1)
    assert '"dellay"' in raised.message
    assert fine.success


def test_an_empty_partition_meets_rules_about_values_and_is_judged_by_its_size() -> None:
    """Nothing can be said of no values; that there are none can be."""
    partitions = GOOD | {SECOND: GOOD[SECOND].slice(0, 0)}
    values = (
        delay_between(meta=QUARANTINE),
        gxe.ExpectColumnValuesToBeUnique(column="flight"),
        gxe.ExpectColumnMeanToBeBetween(column="delay", min_value=-9, max_value=9),
    )
    assert check(partitions, *values).refused == {}
    counted = gxe.ExpectTableRowCountToBeBetween(min_value=1)
    assert list(check(partitions, *values, counted).refused) == [SECOND]
    sized = gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=1)
    assert check(partitions, *values, profile=(sized,)).refused == {
        SECOND: ("rows: values at least 1: rows=0 at rows_before=null, rows_ratio=null",)
    }


def test_no_partitions_and_no_expectations_are_defined() -> None:
    """Nothing to validate is valid."""
    nothing = check({}, delay_between(meta=QUARANTINE))
    assert (nothing.accepted, nothing.refused) == ({}, {})
    assert nothing.quarantined.column_names == ["_partition", "reason"]
    assert nothing.expectations[0].success
    assert check(GOOD).accepted == GOOD


def test_integers_with_nulls_and_instants_keep_their_meaning() -> None:
    """No rounding above 2**53, no null that compares, no shifted time zone."""
    table = pa.table(
        {
            "flight": pa.array([1, None, 2**60 + 1], pa.int64()),
            "after": pa.array([2, None, None], pa.int64()),
            "late": pa.array([True, None, False]),
            "at": pa.array(
                [datetime(2013, 1, 1, 5, tzinfo=UTC), None, datetime(2013, 1, 2, 5, tzinfo=UTC)],
                pa.timestamp("us", "UTC"),
            ),
        }
    )

    def broken(expectation: Expectation) -> list[int]:
        (found,) = check({FIRST: table}, expectation).expectations
        assert found.message == ""
        return [found.unexpected, len(found.examples)]

    assert broken(gxe.ExpectColumnValuesToBeInSet(column="flight", value_set=[1, 2**60])) == [1, 1]
    assert broken(gxe.ExpectColumnValuesToBeInSet(column="flight", value_set=[1, 2**60 + 1])) == [
        0,
        0,
    ]
    assert broken(gxe.ExpectColumnValuesToBeOfType(column="flight", type_="int64")) == [0, 0]
    assert broken(gxe.ExpectColumnValuesToNotBeNull(column="flight")) == [1, 1]
    assert broken(gxe.ExpectColumnValuesToBeInSet(column="late", value_set=[True])) == [1, 1]
    assert broken(
        gxe.ExpectColumnValuesToBeBetween(
            column="at",
            min_value=datetime(2013, 1, 1, 5, tzinfo=UTC),
            max_value=datetime(2013, 1, 2, 4, 59, tzinfo=UTC),
        )
    ) == [1, 1]
    assert broken(
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="after", column_B="late", ignore_row_if="either_value_is_missing"
        )
    ) == [0, 0]
    small = pa.table({"a": pa.array([3, None, 1]), "b": pa.array([2, None, None], pa.int64())})
    pair = gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="a", column_B="b")
    assert check({FIRST: small}, pair).refused == {
        FIRST: ("a, b: pair values a greater than b: 1 of 3 rows, e.g. a=1, b=null",)
    }


def test_a_quarantine_mark_that_could_not_move_rows_is_refused() -> None:
    """A rule marked so would neither move rows nor block."""
    mean = gxe.ExpectColumnMeanToBeBetween(column="delay", min_value=0, meta=QUARANTINE)
    with pytest.raises(PermanentError, match=r"delay: mean at least 0.*remove meta=QUARANTINE"):
        check(GOOD, mean)
    sized = gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=1, meta=QUARANTINE)
    with pytest.raises(PermanentError, match=r"rows: values at least 1.*remove meta=QUARANTINE"):
        check(GOOD, profile=(sized,))


def test_a_column_that_the_quarantine_table_needs_is_refused() -> None:
    """Two columns of one name could not be told apart later."""
    partitions = {FIRST: GOOD[FIRST].append_column("reason", pa.array(["late"] * 4))}
    with pytest.raises(SchemaError, match="2013-01-01 has a column `reason`"):
        check(partitions, delay_between(meta=QUARANTINE))


def test_validation_writes_no_files_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No progress bars, no project folder, no log of what the result says anyway."""
    monkeypatch.chdir(tmp_path)
    missing = gxe.ExpectColumnValuesToNotBeNull(column="nope")
    check(GOOD | {SECOND: flights([1], [9999])}, delay_between(), missing)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_markdown_names_columns_counts_and_examples_with_failures_first() -> None:
    """What needs a person comes first, and a value cannot break the table."""
    partitions = GOOD | {SECOND: flights([1, 2], [9999, 0], ["a|b", "<b>"])}
    result = check(
        partitions,
        gxe.ExpectColumnValuesToNotBeNull(column="flight"),
        gxe.ExpectColumnValuesToBeInSet(column="carrier", value_set=["UA"], severity="warning"),
        delay_between(),
    )
    lines = expectations_markdown(result.expectations).splitlines()
    assert lines[2] == (
        "| **fail** | delay: values between -60 and 1500 | critical | 1 | 10 | 2013-01-02 | "
        "2013-01-02: delay=9999 at flight=1 |"
    )
    assert lines[3] == (
        "| warn | carrier: values in set [UA] | warning | 2 | 10 | 2013-01-02 | "
        "2013-01-02: carrier=a\\|b at flight=1; 2013-01-02: carrier=&lt;b&gt; at flight=2 |"
    )
    assert lines[4] == "| pass | flight: values not null | critical | 0 | 10 |  |  |"


def test_the_markdown_stays_small_and_counts_what_it_leaves_out() -> None:
    """Thousands of failing expectations do not bloat the event log."""
    result = ExpectationResult(
        name="ä" * 200,
        type="expect_column_values_to_be_between",
        columns=("ä",),
        severity="critical",
        quarantine=False,
        success=False,
        checked=1,
        unexpected=1,
        examples=("ö" * 300,) * 5,
        partitions=(FIRST,) * 5,
        concerned=9,
        message="",
    )
    text = expectations_markdown([result] * 1000)
    assert len(text.encode()) < 20_000
    shown = text.count("**fail**")
    assert shown > 0
    assert text.endswith(f"… and {1000 - shown} more expectations, {1000 - shown} of them not met")


SUITE = Suite(
    rows=[
        gxe.ExpectColumnValuesToBeBetween(
            column="delay", min_value=-60, max_value=60, meta=QUARANTINE
        ),
        gxe.ExpectColumnValuesToBeUnique(column="flight", meta=QUARANTINE),
        gxe.ExpectColumnValuesToNotBeNull(column="delay", mostly=0.5),
        gxe.ExpectColumnMeanToBeBetween(column="delay", min_value=-30, max_value=30),
    ],
    partitions=[],
)
ROWS = st.lists(
    st.tuples(st.integers(0, 4) | st.none(), st.sampled_from([None, -99.0, -50.0, 0.0, 50.0])),
    max_size=6,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROWS, min_size=1, max_size=3), st.sampled_from([0.0, 0.4, 1.0]))
def test_no_row_is_lost_and_each_partition_gets_the_verdict_it_gets_alone(
    batch: list[list[tuple[int | None, float | None]]], limit: float
) -> None:
    """Accepted and quarantined rows are all rows of the partitions that are not refused."""
    partitions = {
        f"2013-01-0{n}": flights([row[0] for row in rows], [row[1] for row in rows])
        for n, rows in enumerate(batch, start=1)
    }
    result = validate(partitions, SUITE, {}, limit, ["flight"])
    assert result.accepted.keys() | result.refused.keys() == partitions.keys()
    assert not result.accepted.keys() & result.refused.keys()
    moved = Counter(
        tuple(row.values())
        for row in result.quarantined.select(["_partition", "flight", "delay"]).to_pylist()
    )
    stayed = Counter(
        (name, *row)
        for name, table in result.accepted.items()
        for row in zip(table["flight"].to_pylist(), table["delay"].to_pylist(), strict=True)
    )
    assert moved + stayed == Counter(
        (name, *row)
        for name, rows in zip(partitions, batch, strict=True)
        if name not in result.refused
        for row in rows
    )
    for name, table in partitions.items():
        alone = validate({name: table}, SUITE, {}, limit, ["flight"])
        assert alone.refused.get(name) == result.refused.get(name)
        assert alone.accepted.get(name) == result.accepted.get(name)
