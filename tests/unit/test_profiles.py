"""Profiles: exact under merging, and right about the rows."""

import math
from datetime import date, timedelta
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.daily_profiles import daily
from mlops_assets.core.errors import PermanentError, SchemaError
from mlops_assets.core.layouts import ColumnLayout, Layout, layout_of
from mlops_assets.core.profiles import SUM_EXPONENT, Profile, merge, merged_others, profile, rank
from mlops_assets.core.spec import FeatureType

TYPES: dict[str, FeatureType] = {"x": "float", "y": "float", "c": "category"}
SCHEMA = {"x": pl.Float32, "y": pl.Float64, "c": pl.String}
FIRST = date(2024, 1, 1)

ANY_FLOAT = st.none() | st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 3.4e38, 1e-45])
ROWS = st.lists(
    st.tuples(
        ANY_FLOAT,
        st.none() | st.floats(),
        st.none() | st.sampled_from("abcdefghij") | st.text(max_size=3),
    ),
    max_size=40,
)


def frame_of(rows: list[tuple[float | None, float | None, str | None]]) -> pl.DataFrame:
    """Rows of (x, y, c)."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@given(reference=ROWS, rows=ROWS, parts=st.lists(st.integers(0, 2), min_size=40, max_size=40))
def test_merged_profiles_equal_the_profile_of_all_rows(
    reference: list[tuple[float, float, str]],
    rows: list[tuple[float, float, str]],
    parts: list[int],
) -> None:
    """To the last bit, for any split, in any order and grouping, with few categories named."""
    layout = layout_of(frame_of(reference), TYPES, bins=4, groups=2, categories=2, others=3)
    split = [frame_of([r for r, p in zip(rows, parts, strict=False) if p == n]) for n in range(3)]
    a, b, c = (profile(part, layout) for part in split)
    whole = profile(frame_of(rows), layout)
    assert merge([a, b, c]) == whole
    assert merge([c, a, b]) == whole
    assert merge([a, merge([b, c])]) == merge([merge([a, b]), c]) == whole
    assert merge([whole]) == whole


@given(reference=ROWS, rows=ROWS)
def test_profiles_and_layouts_survive_json(
    reference: list[tuple[float, float, str]], rows: list[tuple[float, float, str]]
) -> None:
    """Sums of any length too."""
    layout = layout_of(frame_of(reference), TYPES)
    found = profile(frame_of(rows), layout)
    assert Profile.model_validate_json(found.model_dump_json()) == found
    again = Layout.model_validate_json(layout.model_dump_json())
    assert again == layout
    assert again.digest == layout.digest


@given(rows=ROWS)
def test_every_row_is_counted_once(rows: list[tuple[float, float, str]]) -> None:
    """In a bin, as missing or as infinite."""
    frame = frame_of(rows)
    for column in profile(frame, layout_of(frame, TYPES, bins=3, groups=2, categories=2)).columns:
        assert sum(column.counts) + column.missing + column.infinite == len(rows)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_sums_are_exact(values: list[float]) -> None:
    """Equal to those of rational numbers, over the whole range of 32-bit floats."""
    frame = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float32)})
    layout = layout_of(frame, {"x": "float"})
    found = profile(frame, layout).columns[0]
    unit = Fraction(2) ** SUM_EXPONENT
    assert found.total * unit == sum(map(Fraction, values))
    assert found.squares * unit**2 == sum(Fraction(value) ** 2 for value in values)
    assert (found.least, found.most) == (min(values), max(values))


def test_sums_of_many_rows_are_exact() -> None:
    """A hundred thousand rows with exponents far apart, where adding floats loses digits."""
    rng = np.random.default_rng(1)
    values = (rng.normal(size=100_000) * 10.0 ** rng.integers(-30, 30, 100_000)).astype(np.float32)
    frame = pl.DataFrame({"x": values})
    found = profile(frame, layout_of(frame, {"x": "float"})).columns[0]
    scale = -SUM_EXPONENT
    assert found.total == sum(int(math.ldexp(float(v), scale)) for v in values)
    assert found.squares == sum(int(math.ldexp(float(v), scale)) ** 2 for v in values)


@given(
    st.lists(st.floats(-50, 50, width=32) | st.integers(-3, 3).map(float), min_size=1),
    st.lists(st.floats(-60, 60, width=32) | st.integers(-4, 4).map(float)),
)
def test_values_are_counted_in_the_bin_whose_upper_edge_they_do_not_exceed(
    reference: list[float], values: list[float]
) -> None:
    """As one by one by hand; what was not there before is in the first or the last bin."""
    frame = pl.DataFrame({"x": reference}, schema={"x": pl.Float32})
    layout = layout_of(frame, {"x": "float"}, bins=5, groups=2)
    edges = [*layout.columns[0].edges, math.inf]
    found = profile(pl.DataFrame({"x": values}, schema={"x": pl.Float32}), layout).columns[0]
    expected = [0] * len(edges)
    for value in values:
        expected[next(n for n, edge in enumerate(edges) if value <= edge)] += 1
    assert list(found.counts) == expected
    training = profile(frame, layout).columns[0]
    assert training.counts[0] == training.counts[-1] == 0


def test_bins_have_equally_many_training_rows() -> None:
    """Between the open ones, which have none; groups likewise."""
    values = np.random.default_rng(2).lognormal(size=64_000)
    frame = pl.DataFrame({"x": values})
    column = (layout := layout_of(frame, {"x": "float"})).columns[0]
    counts = np.array(profile(frame, layout).columns[0].counts)
    assert len(counts) == len(column.groups)
    assert counts.max() <= 1001
    groups = np.bincount(column.groups, weights=counts)
    assert groups[1:-1].min() > 6000
    assert groups[1:-1].max() <= 6401
    assert len(groups) == 12


def test_a_frequent_value_has_a_bin_of_its_own() -> None:
    """Zeros among amounts, e.g. of rain: neighbours do not hide in their bin."""
    rain = np.concatenate([np.zeros(700), np.linspace(-1, 1, 300)])
    frame = pl.DataFrame({"x": rain})
    layout = layout_of(frame, {"x": "float"}, bins=8, groups=4)
    edges = np.array(layout.columns[0].edges)
    place = int(np.searchsorted(edges, 0.0))
    assert edges[place] == 0
    assert -1e-30 < edges[place - 1] < 0
    assert profile(frame, layout).columns[0].counts[place] == 700


def test_each_of_few_values_has_a_bin_and_so_has_what_lies_between() -> None:
    """A label that is 0.5 is told from 0 and 1."""
    layout = layout_of(pl.DataFrame({"x": [0, 1, 1]}), {"x": "float"})
    found = profile(pl.DataFrame({"x": [0.0, 0.5, 1.0, 2.0, -1.0]}), layout).columns[0]
    assert found.counts == (1, 1, 1, 1, 1)
    assert layout.columns[0].groups == (0, 1, 2, 3, 4)


@given(
    st.lists(st.dictionaries(st.text(max_size=2), st.integers(1, 5)), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_counts_of_named_others_are_exact_when_parts_named_few(
    parts: list[dict[str, int]], limit: int
) -> None:
    """What a part left out cannot be among the smallest of all."""
    cut = [merged_others([part], limit) for part in parts]
    assert merged_others(cut, limit) == merged_others(parts, limit)
    everything = {
        value: sum(part.get(value, 0) for part in parts) for part in parts for value in part
    }
    expected = sorted(everything, key=rank)[:limit]
    assert merged_others(parts, limit) == {value: everything[value] for value in expected}


def test_the_most_frequent_categories_are_listed() -> None:
    """In order of frequency, then of the value; the others are named and counted together."""
    frame = pl.DataFrame({"c": ["b", "a", "b", "d", "c", None]})
    layout = layout_of(frame, {"c": "category"}, categories=2, others=5)
    assert layout.columns[0].categories == ("b", "a")
    found = profile(frame, layout).columns[0]
    assert found.counts == (2, 1, 2)
    assert found.missing == 1
    assert found.others == {"c": 1, "d": 1}


@pytest.mark.parametrize(
    ("kind", "series"),
    [
        ("float", pl.Series([1, None, 3], dtype=pl.Int64)),
        ("float", pl.Series([True, None, False])),
        ("float", pl.Series(["1.5", None, "2"]).cast(pl.Decimal(10, 2))),
        ("float", pl.Series([None, None, None], dtype=pl.Null)),
        ("category", pl.Series(["a", None, "b"], dtype=pl.Categorical)),
        ("category", pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"]))),
        ("category", pl.Series([None, None, None], dtype=pl.Null)),
    ],
)
def test_every_type_of_a_feature_is_taken(kind: FeatureType, series: pl.Series) -> None:
    """Null is missing in each of them."""
    frame = pl.DataFrame({"x": series})
    found = profile(frame, layout_of(frame, {"x": kind})).columns[0]
    assert found.missing == series.null_count()
    assert sum(found.counts) == 3 - series.null_count()


def test_numbers_beyond_floats_of_32_bits_are_infinite() -> None:
    """The model cannot take them either."""
    frame = pl.DataFrame({"x": [1e39, -math.inf, math.nan, None, 1.0]})
    found = profile(frame, layout_of(frame, {"x": "float"})).columns[0]
    assert (found.infinite, found.missing, sum(found.counts)) == (2, 2, 1)


def test_a_table_that_does_not_fit_is_refused_by_column() -> None:
    """The message names it."""
    layout = layout_of(pl.DataFrame({"x": [1.0], "c": ["a"]}), {"x": "float", "c": "category"})
    with pytest.raises(SchemaError, match="columns c"):
        profile(pl.DataFrame({"x": [1.0]}), layout)
    with pytest.raises(SchemaError, match="columns z"):
        layout_of(pl.DataFrame({"x": [1.0]}), {"z": "float"})
    with pytest.raises(SchemaError, match="'x' has type String"):
        profile(pl.DataFrame({"x": ["1"], "c": ["a"]}), layout)
    with pytest.raises(SchemaError, match="'c' has type Int64"):
        profile(pl.DataFrame({"x": [1.0], "c": [1]}), layout)
    with pytest.raises(PermanentError, match="bins=1"):
        layout_of(pl.DataFrame({"x": [1.0]}), {"x": "float"}, bins=1)


def test_profiles_of_different_layouts_do_not_merge() -> None:
    """Nor does nothing."""
    one, two = (pl.DataFrame({"x": values}) for values in ([1.0, 2.0], [1.0, 3.0]))
    a, b = (profile(frame, layout_of(frame, {"x": "float"})) for frame in (one, two))
    with pytest.raises(PermanentError, match="2 different layouts"):
        merge([a, b])
    with pytest.raises(PermanentError, match="no profiles"):
        merge([])
    layout = layout_of(one, {"x": "float"})
    with pytest.raises(PermanentError, match="2024-01-02 has another layout"):
        daily({FIRST: a, FIRST + timedelta(days=1): b}, layout)


@settings(max_examples=30)
@given(days=st.lists(ROWS, min_size=1, max_size=5), data=st.data())
def test_a_window_of_days_is_their_merged_profile(
    days: list[list[tuple[float, float, str]]], data: st.DataObject
) -> None:
    """In counts, and in the moments that are computed from those of days."""
    layout = layout_of(frame_of(days[0]), TYPES, bins=4, groups=2, categories=2, others=3)
    profiles = {FIRST + timedelta(days=n): profile(frame_of(d), layout) for n, d in enumerate(days)}
    first = data.draw(st.integers(0, len(days) - 1))
    end = data.draw(st.integers(first + 1, len(days)))
    window = daily(profiles, layout).between(
        FIRST + timedelta(days=first), FIRST + timedelta(days=end)
    )
    merged = merge(list(profiles.values())[first:end])
    assert window.days == tuple(profiles)[first:end]
    assert window.rows.sum() == merged.rows
    assert window.counts.sum(axis=0).tolist() == [n for c in merged.columns for n in c.counts]
    assert window.missing.sum(axis=0).tolist() == [c.missing for c in merged.columns]
    assert window.named_others("c") == merged.columns[2].others
    only = window.select(["c", "x"])
    assert [column.name for column in only.layout.columns] == ["c", "x"]
    assert only.counts.sum(axis=0).tolist() == [
        n for c in (merged.columns[2], merged.columns[0]) for n in c.counts
    ]


def test_moments_of_days_keep_their_digits() -> None:
    """Values far from zero that differ little, where naive variances are noise."""
    rng = np.random.default_rng(3)
    values = (1e7 + rng.integers(0, 5, 1000)).astype(np.float32)
    frame = pl.DataFrame({"x": values})
    layout = layout_of(frame, {"x": "float"})
    found = daily({FIRST: profile(frame, layout)}, layout)
    exact = values.astype(np.float64)
    assert found.mean[0, 0] == pytest.approx(exact.mean(), rel=1e-15)
    assert found.deviations[0, 0] == pytest.approx(exact.var() * 1000, rel=1e-12)


def test_days_outside_leave_an_empty_window() -> None:
    """Which has columns and no days."""
    frame = pl.DataFrame({"x": [1.0]})
    layout = layout_of(frame, {"x": "float"})
    window = daily({FIRST: profile(frame, layout)}, layout).between(date(2030, 1, 1), date.max)
    assert window.days == ()
    assert window.counts.shape == (0, len(layout.columns[0].groups))


def test_a_layout_names_its_content() -> None:
    """Another edge, another digest."""
    column = ColumnLayout(name="x", type="float", edges=(1.0,), groups=(0, 1))
    other = column.model_copy(update={"edges": (2.0,)})
    assert Layout(columns=(column,)).digest != Layout(columns=(other,)).digest
