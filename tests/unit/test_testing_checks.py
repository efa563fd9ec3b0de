"""The checks for teams: they pass what is right and name what is wrong."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.testing import (
    assert_matches_spec,
    assert_no_future,
    assert_partition_equals_whole,
    compute_view,
    load_spec,
)

START = date(2024, 1, 1)
WINDOW = Window(START, date(2024, 1, 6), "UTC")
UTC_US = pl.Datetime("us", "UTC")

SPEC = UseCaseSpec.model_validate(
    {
        "name": "sales",
        "description": "Does a shop sell?",
        "owners": ["team:shops"],
        "start": START,
        "datasets": {
            "sales": {
                "description": "A sale.",
                "source": "sources:sales",
                "columns": {
                    "shop": "string",
                    "sold_at": "timestamp",
                    "known_at": "timestamp",
                    "paid_at": "timestamp",
                    "amount": "int64",
                    "paid": "bool",
                },
                "key": ["shop", "sold_at"],
                "event_time": "sold_at",
            }
        },
        "feature_views": {
            "totals": {
                "description": "Sold on the days before.",
                "function": "features:totals",
                "datasets": ["sales"],
                "entity": ["shop"],
                "features": {"total": "float"},
                "lookback_days": 2,
                "ttl_hours": 24,
            }
        },
        "events": {"dataset": "sales", "function": "labels:events"},
        "label": {"name": "paid", "dataset": "sales", "function": "labels:paid"},
        "training_set": {"end": date(2024, 2, 1), "days": 30},
        "gate": {"rules": [{"metric": "ece", "at_most": 0.1}]},
    }
)


def at(day: int, hour: int = 12) -> datetime:
    """An instant of January 2024; day 0 is the last of December."""
    return datetime(2024, 1, 1, hour, tzinfo=UTC) + timedelta(days=day - 1)


def sales(amounts: list[int]) -> pl.DataFrame:
    """One sale a day from three days before the window, known an hour later, paid a day later."""
    days = range(-2, len(amounts) - 2)
    return pl.DataFrame(
        {
            "shop": ["a"] * len(amounts),
            "sold_at": [at(day) for day in days],
            "known_at": [at(day, 13) for day in days],
            "paid_at": [at(day + 1, 12) for day in days],
            "amount": amounts,
            "paid": [True] * len(amounts),
        },
        schema_overrides=dict.fromkeys(("sold_at", "known_at", "paid_at"), UTC_US),
    )


def before(days: int, window: Window, sales: pl.DataFrame) -> pl.DataFrame:
    """Each day's start with the total of ``days`` days before, counted from there."""
    starts = pl.DataFrame({"event_time": [at(0, 0) + timedelta(days=n) for n in range(20)]})
    rows = (
        starts.cast(UTC_US)
        .join(sales, how="cross")
        .filter(
            pl.col("sold_at") < pl.col("event_time"),
            pl.col("sold_at") >= pl.col("event_time") - pl.duration(days=days),
            pl.col("event_time").is_between(window.start_time, window.end_time, closed="left"),
        )
    )
    return rows.group_by("shop", "event_time").agg(
        known_at=pl.col("event_time").first(), total=pl.col("amount").sum().cast(pl.Float32)
    )


def totals(window: Window, sales: pl.DataFrame) -> pl.DataFrame:
    """A view that keeps to its lookback of two days."""
    return before(2, window, sales)


@given(amounts=st.lists(st.integers(1, 1000), min_size=8, max_size=8))
def test_a_view_within_its_lookback_passes(amounts: list[int]) -> None:
    """Whatever is sold."""
    assert_partition_equals_whole(SPEC, "totals", totals, WINDOW, {"sales": sales(amounts)})


def test_a_lookback_that_is_too_short_is_named() -> None:
    """Three days back with a lookback of two: the first differing day, feature and values."""

    def greedy(window: Window, sales: pl.DataFrame) -> pl.DataFrame:
        return before(3, window, sales)

    with pytest.raises(AssertionError, match=r"view 'totals', day 2024-01-02: feature 'total'"):
        assert_partition_equals_whole(
            SPEC, "totals", greedy, WINDOW, {"sales": sales([1, 2, 4, 8, 16, 32, 64, 128])}
        )


def test_rows_that_appear_only_among_others_are_named() -> None:
    """A day that has rows only when its neighbours are computed too."""

    def shy(window: Window, sales: pl.DataFrame) -> pl.DataFrame:
        return totals(window, sales) if len(window.days) > 1 else totals(window, sales).clear()

    with pytest.raises(
        AssertionError, match=r"only when computed with the days around it, first shop=a"
    ):
        assert_partition_equals_whole(SPEC, "totals", shy, WINDOW, {"sales": sales([1] * 8)})


def test_the_function_sees_its_lookback_and_nothing_else() -> None:
    """Two days before the window, and not the day after it."""
    seen: list[pl.DataFrame] = []

    def spy(window: Window, sales: pl.DataFrame) -> pl.DataFrame:
        seen.append(sales)
        return totals(window, sales)

    window = Window(date(2024, 1, 2), date(2024, 1, 3), "UTC")
    compute_view(SPEC, "totals", spy, window, {"sales": sales([1] * 8)})
    assert seen[0]["sold_at"].dt.day().to_list() == [31, 1, 2]


def test_a_view_of_known_values_passes() -> None:
    """Sales are known an hour later, totals are of days that are over."""
    assert_no_future(
        SPEC,
        "totals",
        totals,
        WINDOW,
        {"sales": sales([1] * 8)},
        known={"sales": "known_at"},
        instant=at(3),
    )


def test_a_view_that_uses_tomorrows_rows_is_named() -> None:
    """The day's own total is not known when the day starts."""

    def eager(window: Window, sales: pl.DataFrame) -> pl.DataFrame:
        return sales.filter(
            pl.col("sold_at").is_between(window.start_time, window.end_time, closed="left")
        ).select(
            "shop",
            event_time=pl.col("sold_at").dt.truncate("1d"),
            known_at=pl.col("sold_at").dt.truncate("1d"),
            total=pl.col("amount").cast(pl.Float32),
        )

    with pytest.raises(AssertionError, match=r"'totals' uses .* feature 'total' .* shop=a"):
        assert_no_future(
            SPEC,
            "totals",
            eager,
            WINDOW,
            {"sales": sales([1] * 8)},
            known={"sales": "known_at"},
            instant=at(3, 11),
        )


@pytest.mark.parametrize("by", ["value", "absence"])
def test_a_single_column_from_the_future_is_named(by: str) -> None:
    """A sale is known at once but paid a day later: neither the value nor its absence may show."""

    def leaky(window: Window, sales: pl.DataFrame) -> pl.DataFrame:
        paid = pl.col("paid") if by == "value" else pl.col("paid").is_not_null()
        return totals(window, sales.with_columns(amount=pl.col("amount") * paid.cast(pl.Int64)))

    with pytest.raises(AssertionError, match=r"uses what becomes known after .* feature 'total'"):
        assert_no_future(
            SPEC,
            "totals",
            leaky,
            WINDOW,
            {"sales": sales([1] * 8)},
            known={"sales": {"paid": "paid_at"}},
            instant=at(3, 1),
        )


@pytest.mark.parametrize(
    ("instant", "message"),
    [(at(-5), "no row is known by"), (at(25), "nothing becomes known after")],
)
def test_an_instant_that_tests_nothing_is_refused(instant: datetime, message: str) -> None:
    """A check that compares no rows or changes none would always pass."""
    with pytest.raises(AssertionError, match=message):
        assert_no_future(
            SPEC,
            "totals",
            totals,
            WINDOW,
            {"sales": sales([1] * 8)},
            known={"sales": "known_at"},
            instant=instant,
        )


def rows() -> pl.DataFrame:
    """What the view promises."""
    return totals(WINDOW, sales([1] * 8)).sort("event_time")


def test_promised_rows_pass() -> None:
    """Columns, types, keys and days are right."""
    assert_matches_spec(SPEC, "totals", rows(), WINDOW)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (rows().drop("total"), r"column 'total': expected Float32, found no column"),
        (rows().cast({"total": pl.Float64}), r"column 'total': expected Float32, found Float64"),
        (rows().with_columns(more=1), r"columns that are not in defs.yaml: \['more'\]"),
        (rows().with_columns(shop=pl.lit(None, pl.String)), r"'shop' is null in 5 rows"),
        (pl.concat([rows(), rows().head(1)]), r"two rows share shop, event_time, known_at"),
        (
            rows().with_columns(pl.col("event_time") + pl.duration(days=1)),
            r"1 rows lie outside of 2024-01-01 to 2024-01-06",
        ),
    ],
    ids=["missing", "type", "extra", "null key", "twice", "outside"],
)
def test_broken_promises_are_named(frame: pl.DataFrame, message: str) -> None:
    """Each with its view and column."""
    with pytest.raises(AssertionError, match=f"view 'totals'.*{message}"):
        assert_matches_spec(SPEC, "totals", frame, WINDOW)


def test_a_contradiction_in_defs_yaml_is_raised(tmp_path: Path) -> None:
    """load_spec gives the use case, or the first thing that is wrong with it."""
    attributes = SPEC.model_dump(mode="json", exclude_unset=True)
    path = tmp_path / "defs.yaml"
    path.write_text(str({"type": "UseCase", "attributes": attributes}).replace("None", "null"))
    assert load_spec(path).name == "sales"
    attributes["events"]["dataset"] = "visits"
    path.write_text(str({"type": "UseCase", "attributes": attributes}))
    with pytest.raises(SpecError, match=r"events.dataset: there is no dataset 'visits'"):
        load_spec(path)
