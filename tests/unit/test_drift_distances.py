"""Distances between windows, with the laws that they should have."""

import numpy as np
import polars as pl
import pytest
from drift_support import TYPES, days_of
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from mlops_assets.core.column_drift import Distances
from mlops_assets.core.distances import (
    jensen_shannon_distance,
    kolmogorov_smirnov,
    population_stability_index,
)
from mlops_assets.core.drift import compare
from mlops_assets.core.layouts import Layout, layout_of
from mlops_assets.core.profiles import profile

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
