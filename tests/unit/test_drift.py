"""Drift: distances with the laws they should have, decisions that need size and significance."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from mlops_assets.core.column_drift import Distances
from mlops_assets.core.daily_profiles import DailyProfiles, daily
from mlops_assets.core.day_noise import shift
from mlops_assets.core.distances import (
    jensen_shannon_distance,
    kolmogorov_smirnov,
    population_stability_index,
)
from mlops_assets.core.drift import ColumnDrift, Drift, DriftThresholds, compare
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.layouts import Layout, layout_of
from mlops_assets.core.profiles import profile
from mlops_assets.core.spec import FeatureType

FIRST = date(2024, 1, 1)
TYPES: dict[str, FeatureType] = {"x": "float", "c": "category"}

# Not next to the smallest floats, which do not survive a change of unit.
NUMBERS = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-30) | st.integers(
    -3, 3
).map(float)
ROWS = st.lists(
    st.tuples(st.none() | NUMBERS, st.none() | st.sampled_from("abcdef")), min_size=1, max_size=30
)
Rows = list[tuple[float | None, str | None]]


def frame_of(rows: Rows) -> pl.DataFrame:
    """Rows of (x, c)."""
    return pl.DataFrame(rows, schema={"x": pl.Float32, "c": pl.String}, orient="row")


def days_of(frames: Sequence[pl.DataFrame], layout: Layout) -> DailyProfiles:
    """One frame a day."""
    return daily(
        {FIRST + timedelta(days=n): profile(each, layout) for n, each in enumerate(frames)}, layout
    )


def found_in(drift: Drift) -> dict[str, ColumnDrift]:
    """The results by column."""
    return {column.column: column for column in drift.columns}


def distances(reference: pl.DataFrame, current: pl.DataFrame, layout: Layout) -> list[Distances]:
    """Of each column, each side being one day."""
    drift = compare(days_of([reference], layout), days_of([current], layout))
    return [column.distances for column in drift.columns if column.distances is not None]


def number_distances(reference: np.ndarray, current: np.ndarray, bins: int = 64) -> Distances:
    """Of one column of numbers, under the reference's layout."""
    frames = [pl.DataFrame({"x": values.astype(np.float32)}) for values in (reference, current)]
    return distances(frames[0], frames[1], layout_of(frames[0], {"x": "float"}, bins=bins))[0]


@given(ROWS)
def test_a_window_has_no_distance_from_itself(rows: Rows) -> None:
    """Each is exactly 0, and nothing has drifted."""
    window = days_of([frame_of(rows)] * 3, layout_of(frame_of(rows), TYPES, bins=4, groups=3))
    drift = compare(window, window)
    assert drift.drift == 0
    for column in drift.columns:
        assert column.verdict == "stable"
        assert column.distances is not None
        for name in ("psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein"):
            assert getattr(column.distances, name) in (0, None)
        assert column.distances.missing_change == 0
        assert column.distances.new == column.distances.lost == ()


@given(ROWS, ROWS)
def test_distances_are_symmetric_and_within_their_bounds(one: Rows, other: Rows) -> None:
    """Wasserstein apart, whose unit is the reference's; new is lost the other way round."""
    layout = layout_of(frame_of(one), TYPES, bins=4, groups=3, categories=2, others=2)
    there = distances(frame_of(one), frame_of(other), layout)
    back = distances(frame_of(other), frame_of(one), layout)
    for a, b in zip(there, back, strict=True):
        for name in ("psi", "jensen_shannon", "kolmogorov_smirnov"):
            value = getattr(a, name)
            assert value is None or (value >= 0 and value == pytest.approx(getattr(b, name)))
        assert 0 <= (a.jensen_shannon or 0) <= 1
        assert 0 <= (a.kolmogorov_smirnov or 0) <= 1
        assert (a.wasserstein or 0) >= 0
        assert a.missing_change == pytest.approx(-b.missing_change)
        assert (a.new, a.new_share) == (b.lost, b.lost_share)


@given(ROWS, ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(one: Rows, other: Rows, random: object) -> None:
    """Nor does how many times each row occurs, if all do as often."""
    layout = layout_of(frame_of(one), TYPES, bins=4, groups=3)
    expected = distances(frame_of(one), frame_of(other), layout)
    shuffled = other * 3
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = distances(frame_of(one * 2), frame_of(shuffled), layout)
    for a, b in zip(expected, found, strict=True):
        exact, again = (
            each.model_dump(exclude={"new", "lost"}, exclude_none=True) for each in (a, b)
        )
        assert exact == pytest.approx(again, rel=1e-6, abs=1e-6)


@given(ROWS, ROWS, st.integers(-10, 10))
def test_the_unit_of_a_number_does_not_matter(one: Rows, other: Rows, power: int) -> None:
    """Metres or kilometres: Wasserstein is in standard deviations."""

    def scaled(rows: Rows) -> pl.DataFrame:
        return frame_of([(None if x is None else x * 2.0**power, c) for x, c in rows])

    def each(a: pl.DataFrame, b: pl.DataFrame) -> Distances:
        return distances(a, b, layout_of(a, TYPES, bins=4, groups=3))[0]

    before = each(frame_of(one), frame_of(other))
    after = each(scaled(one), scaled(other))
    assert before.new == after.new
    exact, found = (
        side.model_dump(exclude={"new", "lost"}, exclude_none=True) for side in (before, after)
    )
    assert exact == pytest.approx(found, rel=1e-4, abs=1e-6)


def test_the_names_of_categories_do_not_matter() -> None:
    """Only which rows have the same."""
    rng = np.random.default_rng(5)
    codes = [rng.integers(0, 8, 400), rng.integers(2, 10, 300)]

    def psi(names: str) -> Distances:
        a, b = (pl.DataFrame({"c": [names[code] for code in each]}) for each in codes)
        return distances(a, b, layout_of(a, {"c": "category"}))[0]

    before, after = psi("abcdefghij"), psi("zyxwvutsrq")
    assert before.psi == pytest.approx(after.psi)
    assert before.jensen_shannon == pytest.approx(after.jensen_shannon)
    assert (before.new_share, before.lost_share) == (after.new_share, after.lost_share)


@given(st.integers(0, 2**32 - 1))
def test_distances_of_shares_equal_their_definitions(seed: int) -> None:
    """SciPy's Jensen-Shannon distance to base 2, the sum that defines PSI, cumulative shares."""
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(7, 0.5), 2)
    assert jensen_shannon_distance(p, q) == pytest.approx(jensenshannon(p, q, 2), abs=1e-7)
    assert jensen_shannon_distance(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    floored = [(max(a, 1e-4), max(b, 1e-4)) for a, b in zip(p, q, strict=True)]
    assert population_stability_index(p, q) == pytest.approx(
        sum((b - a) * np.log(b / a) for a, b in floored)
    )
    assert kolmogorov_smirnov(p, q) == pytest.approx(np.abs(np.cumsum(p) - np.cumsum(q)).max())


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 0.05,
        lambda x: x + 1,
        lambda x: x * 1.5,
        lambda x: x * 100,
        lambda x: x + 20,
        np.abs,
        np.exp,
        np.square,
    ],
)
@pytest.mark.parametrize("heavy", [False, True])
def test_binned_distances_are_close_to_those_of_values(change: object, heavy: bool) -> None:
    """Kolmogorov-Smirnov within a bin's share, Wasserstein within 2 % of its size or 0.005 standard
    deviations, also where all values are beyond the reference's.
    """
    rng = np.random.default_rng(6)
    reference = rng.standard_t(3, 20_000) if heavy else rng.normal(size=20_000)
    current = change(rng.standard_t(3, 9_000) if heavy else rng.normal(size=9_000))  # type: ignore[operator]
    found = number_distances(reference, current)
    exact = stats.ks_2samp(reference, current, method="asymp").statistic
    assert found.kolmogorov_smirnov == pytest.approx(exact, abs=1 / 64)
    exact = stats.wasserstein_distance(reference, current) / reference.std()
    assert found.wasserstein == pytest.approx(exact, abs=0.005, rel=0.02)


@given(
    st.lists(st.integers(-20, 20), min_size=2, max_size=60),
    st.lists(st.integers(-20, 20), min_size=1, max_size=60),
)
def test_distances_of_few_values_are_exact(reference: list[int], current: list[int]) -> None:
    """Where each value of the reference has a bin, and the others lie outside or between."""
    inside = [value for value in current if min(reference) <= value <= max(reference)]
    outside = [value for value in current if not min(reference) <= value <= max(reference)]
    for values in ([v for v in inside if v in reference], outside):
        if values:
            found = number_distances(np.array(reference), np.array(values))
            exact = stats.ks_2samp(reference, values, method="asymp").statistic
            assert found.kolmogorov_smirnov == pytest.approx(exact)
            if np.std(reference) > 0:
                exact = stats.wasserstein_distance(reference, values) / np.std(reference)
                assert found.wasserstein == pytest.approx(exact, rel=1e-5, abs=1e-5)


@given(st.lists(NUMBERS, min_size=2), st.lists(NUMBERS, min_size=1))
def test_kolmogorov_smirnov_misses_at_most_a_bin(
    reference: list[float], current: list[float]
) -> None:
    """Never more than that of the values, never less by more than the largest share of a bin."""
    frame = pl.DataFrame({"x": reference}, schema={"x": pl.Float32})
    layout = layout_of(frame, {"x": "float"}, bins=4, groups=2)
    now = pl.DataFrame({"x": current}, schema={"x": pl.Float32})
    found = distances(frame, now, layout)[0].kolmogorov_smirnov
    assert found is not None
    largest = max(
        max(counts) / sum(counts)
        for counts in (profile(each, layout).columns[0].counts for each in (frame, now))
    )
    exact = stats.ks_2samp(reference, current, method="asymp").statistic
    assert found <= exact + 1e-9
    assert exact <= found + largest + 1e-9


def noisy_days(
    days: int, rows: int, *, wander: float = 0.0, moved: float = 0.0, seed: int = 0
) -> list[pl.DataFrame]:
    """Days whose mean wanders by ``wander`` around ``moved``, with a category that follows."""
    rng = np.random.default_rng(seed)
    frames: list[pl.DataFrame] = []
    for _ in range(days):
        x = rng.normal(moved + wander * rng.normal(), 1, rows).astype(np.float32)
        c = np.where(rng.uniform(size=rows) < 1 / (1 + np.exp(-x)), "late", "early")
        frames.append(pl.DataFrame({"x": x, "c": c}))
    return frames


def windows(
    reference: Sequence[pl.DataFrame], current: Sequence[pl.DataFrame]
) -> tuple[DailyProfiles, DailyProfiles]:
    """Both under the reference's layout."""
    layout = layout_of(pl.concat(reference), TYPES)
    return days_of(reference, layout), days_of(current, layout)


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


def test_new_and_lost_categories_are_named_with_their_shares() -> None:
    """The most frequent first; unlisted ones too."""
    before = pl.DataFrame({"c": ["a"] * 6 + ["b"] * 3 + ["rare"]})
    now = pl.DataFrame({"c": ["a"] * 5 + ["x"] * 2 + ["y"] + ["rare", None]})
    layout = layout_of(before, {"c": "category"}, categories=2, others=5)
    found = distances(before, now, layout)[0]
    assert [(each.category, each.share) for each in found.new] == [("x", 2 / 9), ("y", 1 / 9)]
    assert found.new_share == pytest.approx(3 / 9)
    assert [(each.category, each.share) for each in found.lost] == [("b", 0.3)]
    assert found.lost_share == pytest.approx(0.3)


@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60), min_size=1))
def test_a_category_is_not_called_new_that_the_reference_may_have_had(
    before: set[int], now: set[int]
) -> None:
    """With more unlisted categories than profiles name."""
    frames = [pl.DataFrame({"c": [str(n) for n in sorted(side)]}) for side in (before, now)]
    layout = layout_of(frames[0], {"c": "category"}, categories=2, others=4)
    found = distances(frames[0], frames[1], layout)[0]
    assert {each.category for each in found.new} <= {str(n) for n in now - before}
    assert {each.category for each in found.lost} <= {str(n) for n in before - now}
    assert found.new_share <= len(now - before) / len(now) + 1e-12


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


def wandering(rng: np.random.Generator, days: int, rows: int, memory: float) -> np.ndarray:
    """Counts of (days, 6 cells) whose shares wander from day to day, and remember."""
    level = rng.normal()
    weights = np.linspace(-1, 1, 6)
    counts = np.empty((days, 6))
    for day in range(days):
        level = memory * level + np.sqrt(1 - memory**2) * rng.normal()
        shares = np.exp(0.4 * level * weights)
        counts[day] = rng.multinomial(rows, shares / shares.sum())
    return counts


@pytest.mark.parametrize(("days", "memory"), [(1, 0.0), (7, 0.4), (28, 0.4)])
def test_windows_without_drift_are_rarely_called_different(days: int, memory: float) -> None:
    """About 1 in 20 at p ≤ 0.05, where a test of independent rows calls most of them different."""
    rng = np.random.default_rng(12)
    called = naive = 0
    for _ in range(200):
        counts = wandering(rng, 90 + days, 1000, memory)
        found = shift(counts[:90], counts[90:], 7)
        assert found is not None
        called += found.p_value <= 0.05
        table = np.stack([counts[:90].sum(axis=0), counts[90:].sum(axis=0)])
        naive += stats.chi2_contingency(table).pvalue <= 0.05
    assert called <= 20
    assert naive >= 140


def test_noise_is_what_drawing_blocks_of_days_gives() -> None:
    """The closed form of the moments, against 4,000 draws."""
    rng = np.random.default_rng(13)
    reference, current = wandering(rng, 120, 1000, 0.5), wandering(rng, 28, 1000, 0.5)
    found = shift(reference, current, 7)
    assert found is not None
    sides = []
    for window in (reference, current):
        share = window.sum(axis=0) / window.sum()
        rest = (window - window.sum(axis=1, keepdims=True) * share) / window.sum(axis=1).mean()
        sides.append(np.concatenate([rest, rest[:6]]) / np.sqrt(1 - 7 / len(window)))
    blocks = np.concatenate(
        [np.stack([side[n : n + 7].sum(axis=0) for n in range(len(side) - 6)]) for side in sides]
    )
    middle = sum(window.sum(axis=0) / window.sum() for window in (reference, current)) / 2
    drawn = [
        (
            (
                blocks[rng.integers(0, len(blocks), 4)].sum(axis=0) / 28
                - blocks[rng.integers(0, len(blocks), 17)].sum(axis=0) / 119
            )
            ** 2
            / middle
        ).sum()
        for _ in range(4000)
    ]
    independent = 5 * (1 / reference.sum() + 1 / current.sum())
    assert found.design_effect == pytest.approx(np.mean(drawn) / independent, rel=0.05)
    tail = np.sqrt(np.quantile(drawn, 0.95) / (8 * np.log(2)))
    assert found.noise == pytest.approx(tail, rel=0.05)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(1, 14))
def test_p_values_and_noise_are_always_within_bounds(
    seed: int, before: int, now: int, block: int
) -> None:
    """With few days, few rows, blocks longer than a window; rows are at most independent."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.uniform(0, 2), (before + now, 4)).astype(float) + np.eye(4)[0]
    found = shift(counts[:before], counts[before:], block)
    if found is not None:
        assert 0 <= found.p_value <= 1
        assert 0 < found.noise <= 1
        assert found.design_effect >= 1 - 1e-9


def test_drift_survives_json() -> None:
    """As a record in a ledger."""
    drift = compare(*windows(noisy_days(10, 50), noisy_days(5, 50, moved=1)))
    assert Drift.model_validate_json(drift.model_dump_json()) == drift
