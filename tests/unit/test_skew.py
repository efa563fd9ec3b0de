"""Skew: differences are found, counted by cause and named; equal answers have none."""

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.answer_features import decoded, encoded, types_of
from mlops_assets.core.skew import Skew, find_skew, skew_markdown
from mlops_assets.core.spec import FeatureType

TYPES: dict[str, FeatureType] = {"carrier": "category", "delay": "float"}
SCHEMA = {"carrier": pl.String, "delay": pl.Float32}

texts = st.none() | st.text(max_size=6)
numbers = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)
rows_of_features = st.lists(st.tuples(texts, numbers), max_size=8)


def frame_of(rows) -> pl.DataFrame:
    """Rows of (carrier, delay)."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def answers_of(sent: pl.DataFrame, types: dict[str, FeatureType] = TYPES, sha256: str = "a"):
    """One answer about each event e0, e1 … with these features."""
    n = sent.height
    return pl.DataFrame(
        {
            "event_id": [f"e{row}" for row in range(n)],
            "request_id": [f"r{row}" for row in range(n)],
            "model_sha256": [sha256] * n,
            "score": pl.Series([0.25] * n, dtype=pl.Float32),
        },
        schema_overrides={
            "event_id": pl.String,
            "request_id": pl.String,
            "model_sha256": pl.String,
        },
    ).with_columns(encoded(sent, types))


def lake_of(features: pl.DataFrame) -> pl.DataFrame:
    """The events e0, e1 … with what the lake has."""
    return features.with_columns(
        pl.Series("event_id", [f"e{row}" for row in range(features.height)], dtype=pl.String)
    )


def skew_of(sent, lake, batch: pl.DataFrame | None = None) -> Skew:
    """The skew between rows of features."""
    return find_skew(answers_of(frame_of(sent)), lake_of(frame_of(lake)), TYPES, batch)


@given(rows_of_features)
def test_features_come_back_from_text_exactly(rows) -> None:
    """Quotes, unknown letters, the smallest and the largest number, nulls."""
    frame = frame_of(rows)
    found = decoded(encoded(frame, TYPES), TYPES)
    assert found.schema == frame.schema
    assert found["carrier"].to_list() == frame["carrier"].to_list()
    assert np.array_equal(found["delay"].to_numpy(), frame["delay"].to_numpy(), equal_nan=True)


@given(rows_of_features)
def test_equal_features_have_no_skew(rows) -> None:
    """Whatever they are, nulls included."""
    found = skew_of(rows, rows)
    assert found == Skew(len(rows), 0, 0, ())
    assert found.share == 0


@given(st.lists(st.tuples(texts, numbers, texts, numbers), min_size=1, max_size=8))
def test_every_difference_is_counted_with_its_cause(rows) -> None:
    """As a loop over the values counts them."""
    found = skew_of([row[:2] for row in rows], [row[2:] for row in rows])
    expected = {
        "carrier": [(row[0], row[2]) for row in rows if row[0] != row[2]],
        "delay": [(row[1], row[3]) for row in rows if row[1] != row[3]],
    }
    assert {each.name: each.differing for each in found.differences} == {
        name: len(pairs) for name, pairs in expected.items() if pairs
    }
    for each in found.differences:
        pairs = expected[each.name]
        assert each.not_sent == sum(sent is None for sent, _ in pairs)
        assert each.not_in_lake == sum(lake is None for _, lake in pairs)
        assert each.other_value == sum(None not in pair for pair in pairs)
    assert found.skewed == sum(row[:2] != row[2:] for row in rows)


def test_a_difference_has_an_example() -> None:
    """The event, the request and both values."""
    found = skew_of([("UA", 1), ("UA", 0.1)], [("UA", 1), ("UA", None)])
    (each,) = found.differences
    assert (each.event_id, each.request_id) == ("e1", "r1")
    assert (each.served, each.lake) == ("0.100000001", "null")
    assert (found.share, found.answers) == (0.5, 2)


def test_numbers_are_compared_as_the_model_sees_them() -> None:
    """32 bits, NaN as null, and no negative zero."""
    lake = lake_of(frame_of([("UA", 0.1), ("UA", math.nan), ("UA", -0.0)]))
    answers = answers_of(frame_of([("UA", np.float32(0.1)), ("UA", None), ("UA", 0.0)]))
    assert find_skew(answers, lake, TYPES, None).skewed == 0


def test_answers_about_events_that_the_lake_does_not_have_are_left_out() -> None:
    """They are nothing to compare with."""
    assert skew_of([("UA", 1), ("AA", 2)], [("UA", 1)]) == Skew(1, 0, 0, ())


def test_a_feature_is_compared_where_the_model_had_it_as_that_type() -> None:
    """Another version of the model had no delay, a third had it as a category."""
    sent = frame_of([("UA", 1)])
    lake = lake_of(frame_of([("UA", 1), ("UA", 1), ("UA", 1)]))
    parts = [
        answers_of(sent, sha256="a"),
        answers_of(sent, {"carrier": "category"}, sha256="b"),
        answers_of(
            sent.with_columns(pl.lit("9").alias("delay")),
            {"carrier": "category", "delay": "category"},
            sha256="c",
        ),
    ]
    answers = pl.concat(parts).with_columns(pl.Series("event_id", ["e0", "e1", "e2"]))
    assert find_skew(answers, lake, TYPES, None).skewed == 0
    assert types_of(answers.row(2, named=True)) == {"carrier": "category", "delay": "category"}
    moved = lake.with_columns((pl.col("delay") + 1).alias("delay"))
    (each,) = find_skew(answers, moved, TYPES, None).differences
    assert (each.name, each.differing, each.compared) == ("delay", 1, 1)


def test_a_score_is_compared_with_the_same_model_in_batch_alone() -> None:
    """Another model's score of the event says nothing; the last bits may differ."""
    batch = pl.DataFrame(
        {
            "event_id": ["e0", "e1", "e2"],
            "model_sha256": ["a", "b", "a"],
            "score": pl.Series([0.2500003, 0.9, 0.3], dtype=pl.Float32),
        }
    )
    rows = [("UA", 1.0)] * 4
    found = skew_of(rows, rows, batch)
    assert found.scores_compared == 2
    (each,) = found.differences
    assert (each.name, each.differing, each.compared, each.event_id) == ("score", 1, 2, "e2")


def test_what_a_caller_sent_cannot_break_the_table() -> None:
    """Bars and line feeds in a category, and a very long one."""
    found = skew_of([("a|b\nc" + "x" * 90, 1)], [("UA", 1)])
    table = skew_markdown(found.differences)
    assert len(table.splitlines()) == 3
    assert "a\\|b c" in table
    assert "…" in table
    assert skew_markdown(()) == "nothing differs"


@pytest.mark.parametrize("types", [{}, {"carrier": "category"}, {"delay": "float"}])
def test_a_model_may_have_features_of_one_type_alone(types: dict[str, FeatureType]) -> None:
    """The other column is an object without names."""
    columns = encoded(frame_of([("UA", 1)]), types)
    names = {name for column in columns.row(0) for name in json.loads(column)}
    assert names == set(types)
