"""Drift is decided by size and by significance."""

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl
import pytest
from drift_support import days_of, found_in, noisy_days, windows
from scipy import stats

from mlops_assets.core.drift import Drift, DriftThresholds, compare
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.layouts import layout_of
from mlops_assets.core.spec import FeatureType


def test_much_data_does_not_make_a_small_shift_drift() -> None:
    """Significant beyond doubt, and too small to matter."""
    drift = compare(*windows(noisy_days(20, 20_000), noisy_days(10, 20_000, moved=0.05, seed=1)))
    column = found_in(drift)["x"]
    assert column.p_value is not None
    assert column.p_value < 1e-3
    assert column.verdict == "stable"
    assert column.reason == "too small to matter"
    assert (drift.drift, drift.verdict) == (0, "stable")


def test_a_shift_that_days_make_by_themselves_is_unclear() -> None:
    """Large, of thousands of rows, and no larger than between any few of these days."""
    reference = noisy_days(60, 500, wander=0.6)
    drift = compare(*windows(reference, noisy_days(2, 500, wander=0.6, seed=8)))
    column = found_in(drift)["x"]
    assert column.effect is not None
    assert column.effect > 0.1
    assert column.verdict == "unclear"
    assert column.noise is not None
    assert column.noise > column.effect
    assert column.design_effect is not None
    assert column.design_effect > 10
    assert (drift.drift, drift.verdict) == (0, "unclear")


def test_a_large_shift_beyond_what_days_do_is_drift() -> None:
    """The model's drift weighs it by its importance."""
    reference = noisy_days(60, 500, wander=0.1)
    sides = windows(reference, noisy_days(14, 500, wander=0.1, moved=0.8, seed=9))
    drift = compare(*sides, importance={"x": 3, "c": 1})
    columns = found_in(drift)
    assert {column.verdict for column in drift.columns} == {"drift"}
    assert (columns["x"].importance, columns["c"].importance) == (0.75, 0.25)
    x, c = columns["x"].effect, columns["c"].effect
    assert x is not None
    assert c is not None
    assert drift.drift == pytest.approx(0.75 * x + 0.25 * c)
    assert drift.verdict == "drift"
    only = compare(*sides, importance={"c": 1})
    assert found_in(only)["x"].importance == 0
    assert only.drift == pytest.approx(c)


def test_thresholds_are_the_callers() -> None:
    """What matters to one model is noise to another."""
    sides = windows(noisy_days(60, 500), noisy_days(14, 500, moved=0.8, seed=9))
    assert compare(*sides, thresholds=DriftThresholds(distance=0.9, model=0.9)).drift == 0
    assert compare(*sides, thresholds=DriftThresholds(model=0.9)).verdict == "stable"
    few = noisy_days(14, 500, moved=0.02, seed=9)
    strict = DriftThresholds(distance=1e-4, false_discoveries=0.9)
    assert compare(*windows(noisy_days(60, 500), few), thresholds=strict).drift > 0


def test_one_bad_day_is_found() -> None:
    """A feature in another unit, a category swapped, a feed that has stopped."""
    good = noisy_days(30, 500, wander=0.1)
    bad = noisy_days(1, 500, wander=0.1, seed=4)[0]
    swapped = {"late": "early", "early": "late"}
    for change in (
        pl.col("x") * 10,
        pl.lit(0.3).cast(pl.Float32).alias("x"),
        pl.lit(None, dtype=pl.Float32).alias("x"),
        (pl.col("x") + 2),
    ):
        sides = windows(good, [bad.with_columns(change)])
        assert found_in(compare(*sides))["x"].verdict == "drift"
        assert found_in(compare(*sides))["c"].verdict != "drift"
    skewed = [
        frame.with_columns(
            c=pl.when(pl.col("x") < 1).then(pl.lit("early")).otherwise(pl.lit("late"))
        )
        for frame in (*good, bad)
    ]
    wrong = skewed[-1].with_columns(pl.col("c").replace(swapped))
    assert found_in(compare(*windows(skewed[:-1], [wrong])))["c"].verdict == "drift"


def test_a_change_in_missing_rows_is_drift_of_its_own() -> None:
    """Infinities have no value either; what is left may look as before."""
    good = noisy_days(30, 500)
    bad = [
        frame.with_columns(
            x=pl.when(pl.int_range(500) % 5 == 0)
            .then(None)
            .when(pl.int_range(500) % 5 == 1)
            .then(float("inf"))
            .otherwise(pl.col("x"))
            .cast(pl.Float32)
        )
        for frame in noisy_days(7, 500, seed=3)
    ]
    column = found_in(compare(*windows(good, bad)))["x"]
    assert column.verdict == "drift"
    assert column.effect == pytest.approx(0.4)
    assert column.distances is not None
    assert column.distances.missing_reference == 0
    assert "share of rows without a value changed by +0.400" in column.reason
    assert column.distances.jensen_shannon is not None
    assert column.distances.jensen_shannon < 0.1


def column_of(values: Mapping[str, object], days: int = 10, rows: int = 50) -> list[pl.DataFrame]:
    """Days of one value each."""
    return [pl.DataFrame({k: [v] * rows for k, v in values.items()}) for _ in range(days)]


def test_constants_are_stable_until_they_change() -> None:
    """Without spread there is no unit for Wasserstein, and every other distance is at its most."""
    good = column_of({"x": 5.0, "c": "a"})
    same = compare(*windows(good, good))
    assert {column.verdict for column in same.columns} == {"stable"}
    changed = found_in(compare(*windows(good, column_of({"x": 7.0, "c": "b"}))))
    assert {column.verdict for column in changed.values()} == {"drift"}
    x = changed["x"].distances
    assert x is not None
    assert (x.jensen_shannon, x.kolmogorov_smirnov, x.wasserstein) == (1, 1, None)


def test_columns_without_values_are_defined() -> None:
    """In both windows stable; where they appear or vanish, that is the drift."""
    nothing = [
        frame.cast({"x": pl.Float32, "c": pl.String}) for frame in column_of({"x": None, "c": None})
    ]
    values = noisy_days(10, 50)
    for column in compare(*windows(nothing, nothing)).columns:
        assert (column.verdict, column.effect) == ("stable", 0)
        assert column.reason == "there are no values to compare"
    for sides in (windows(nothing, values), windows(values, nothing)):
        for column in compare(*sides).columns:
            assert (column.verdict, column.effect) == ("drift", 1)
            assert column.distances is not None
            assert column.distances.jensen_shannon is None


def test_a_window_without_rows_is_unclear() -> None:
    """Also one without days; never stable, never drift."""
    reference, current = windows(noisy_days(10, 50), noisy_days(3, 50))
    nothing = current.between(date.max, date.max)
    no_rows = days_of([noisy_days(1, 0)[0]], reference.layout)
    for sides in ((reference, nothing), (nothing, current), (no_rows, no_rows)):
        drift = compare(*sides)
        assert (drift.verdict, drift.drift) == ("unclear", 0)
        assert {column.verdict for column in drift.columns} == {"unclear"}
        assert "has no rows" in drift.columns[0].reason


def test_days_without_rows_do_no_harm() -> None:
    """A closed day among others."""
    reference = [*noisy_days(10, 50), noisy_days(1, 0)[0]]
    drift = compare(*windows(reference, reference))
    assert min(column.p_value or 0 for column in drift.columns) > 0.99


def test_columns_that_one_window_lacks_are_defined() -> None:
    """A feature that the current window has lost is drift; one that is new is unclear."""
    frames = noisy_days(10, 50)
    both = windows(frames, frames)
    one = days_of(frames, layout_of(pl.concat(frames), {"x": "float"}))
    lost = found_in(compare(both[0], one))["c"]
    assert (lost.verdict, lost.effect, lost.type) == ("drift", 1, "category")
    new = found_in(compare(one, both[1]))
    assert (new["c"].verdict, new["c"].effect) == ("unclear", None)
    assert new["x"].verdict == "stable"


def test_too_few_days_decide_nothing() -> None:
    """A single day against a single day: distances, and no p-value."""
    drift = compare(*windows(noisy_days(1, 500), noisy_days(1, 500, moved=3)))
    for column in drift.columns:
        assert column.verdict == "unclear"
        assert column.p_value is None
        assert "too few days to judge by" in column.reason


def test_different_bins_are_refused() -> None:
    """By the column's name."""
    frames = noisy_days(6, 50)
    one = windows(frames, frames)[0]
    other = windows(noisy_days(6, 50, seed=1), frames)[0]
    with pytest.raises(PermanentError, match="column 'x' has different bins"):
        compare(one, other)


@pytest.mark.parametrize("importance", [{"z": 1.0}, {"x": -1.0}, {"x": float("nan")}])
def test_importances_that_make_no_sense_are_refused(importance: dict[str, float]) -> None:
    """Unknown, negative, not a number."""
    frames = noisy_days(6, 50)
    with pytest.raises(PermanentError, match="importance"):
        compare(*windows(frames, frames), importance=importance)
    assert compare(*windows(frames, frames), importance={"x": 0.0}).drift == 0


def test_p_values_are_adjusted_for_the_number_of_columns() -> None:
    """As SciPy's Benjamini-Hochberg; missing rows that never change are no comparison."""
    rng = np.random.default_rng(11)
    names = [f"x{n}" for n in range(12)]
    types: dict[str, FeatureType] = dict.fromkeys(names, "float")

    def days(count: int, moved: float) -> list[pl.DataFrame]:
        return [
            pl.DataFrame({name: rng.normal(moved * n, 1, 60) for n, name in enumerate(names)})
            for _ in range(count)
        ]

    before, now = days(20, 0), days(10, 0.01)
    layout = layout_of(pl.concat(before), types)
    sides = days_of(before, layout), days_of(now, layout)
    drift = compare(*sides)
    raw = [found_in(compare(sides[0].select([n]), sides[1].select([n])))[n].p_value for n in names]
    expected = stats.false_discovery_control([p for p in raw if p is not None])
    assert [column.p_value for column in drift.columns] == pytest.approx(list(expected))
    assert {column.missing_p_value for column in drift.columns} == {None}


def test_drift_survives_json() -> None:
    """As a record in a ledger."""
    drift = compare(*windows(noisy_days(10, 50), noisy_days(5, 50, moved=1)))
    assert Drift.model_validate_json(drift.model_dump_json()) == drift
