"""What the online store keeps of a view, and which row of it a request gets."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import isnan

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core import online
from mlops_assets.core.online import (
    MAX_KEY_BYTES,
    Lookups,
    OnlineConfig,
    OnlineInputs,
    OnlineView,
    ViewLookup,
    bucket_name,
    decode_row_lookup,
    decode_rows,
    entity_key,
    floats_format,
    inputs_of,
    layout_of,
    made_of,
    row_lookups,
    row_used,
)
from mlops_assets.core.online_rows import entities, still_needed
from mlops_assets.core.pit import View, point_in_time_join

_UTC = pl.Datetime("us", "UTC")
_START = datetime(2024, 3, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)

VIEW = OnlineView(
    name="shops", keys={"shop": "string", "floor": "int32"}, floats=("share", "size"),
    categories=("kind",), ttl=6 * 3_600_000_000,
)  # fmt: skip


def _frame(rows: Sequence[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={
            "shop": pl.String, "floor": pl.Int32, "event_time": _UTC, "known_at": _UTC,
            "share": pl.Float32, "size": pl.Float32, "kind": pl.String,
        },
        orient="row",
    )  # fmt: skip


def _served(
    rows: pl.DataFrame, view: OnlineView, key: bytes, event_time: datetime, asked_at: datetime
) -> tuple[float | None, float | None, str | None]:
    """The features that a look-up in ``rows``, as the store keeps them, finds."""
    stored = {entity.key: entity.value for entity in entities(rows, view)}
    found = decode_rows(stored[key]) if key in stored else []
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    micro = timedelta(microseconds=1)
    state, row = row_used(
        found, (event_time - epoch) // micro, (asked_at - epoch) // micro, view.ttl
    )
    if state != online.FOUND or row is None:
        return None, None, None
    share, size = floats_format(view).unpack(row[2])
    return (None if isnan(share) else share), (None if isnan(size) else size), row[3][0]


_HOURS = st.integers(0, 14)
_ROW = st.tuples(
    st.sampled_from(["north", "south", None]),
    st.sampled_from([1, 2]),
    _HOURS,
    st.integers(-5, 9),
    st.one_of(st.none(), st.floats(-100, 100, width=32)),
)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(_ROW, max_size=25),
    as_of=_HOURS,
    history=st.integers(0, 3),
    asked_later=st.integers(0, 4),
    event_later=st.integers(-3, 6),
    ttl=st.sampled_from([None, 3, 6]),
)
def test_a_look_up_finds_what_the_point_in_time_join_finds(
    rows: list[tuple[str | None, int, int, int, float | None]],
    as_of: int,
    history: int,
    asked_later: int,
    event_later: int,
    ttl: int | None,
) -> None:
    """Law: whatever the store leaves out, no request from then on would have got."""
    made = [
        (shop, floor, _START + at * _HOUR, _START + (at + lag) * _HOUR, value, float(n), f"k{n}")
        for n, (shop, floor, at, lag, value) in enumerate(rows)
    ]
    frame = _frame(made).unique(["shop", "floor", "event_time", "known_at"], maintain_order=True)
    view = OnlineView(
        VIEW.name, VIEW.keys, VIEW.floats, VIEW.categories,
        None if ttl is None else ttl * 3_600_000_000,
    )  # fmt: skip
    now = _START + as_of * _HOUR
    kept = still_needed(frame, view, now, history * _HOUR)
    asked_at = now + asked_later * _HOUR
    event_time = now + max(event_later, -history) * _HOUR
    for shop in ("north", "south"):
        for floor in (1, 2):
            events = pl.DataFrame(
                {
                    "shop": [shop], "floor": [floor],
                    "event_time": [event_time], "asked_at": [asked_at],
                },
                schema={
                    "shop": pl.String, "floor": pl.Int32, "event_time": _UTC, "asked_at": _UTC,
                },
            )  # fmt: skip
            joined = point_in_time_join(
                events,
                [
                    View(
                        "shops", frame, ("shop", "floor"), ("share", "size", "kind"),
                        None if ttl is None else timedelta(hours=ttl),
                    )
                ],
            ).row(0, named=True)  # fmt: skip
            found = _served(kept, view, entity_key([shop, floor]), event_time, asked_at)
            assert found == (joined["share"], joined["size"], joined["kind"])


def test_of_many_past_rows_one_is_kept() -> None:
    """A store does not grow with history: an entity has one row of the past, and all to come."""
    frame = _frame(
        [
            ("north", 1, _START + n * _HOUR, _START + n * _HOUR, float(n), 0.0, "a")
            for n in range(100)
        ]
    )
    kept = still_needed(frame, VIEW, _START + 90 * _HOUR, timedelta(0))
    assert kept["share"].to_list() == [float(n) for n in range(90, 100)]


def test_a_correction_replaces_the_row_that_it_corrects() -> None:
    """Of two known rows of one event time the later known one is kept alone."""
    frame = _frame(
        [
            ("north", 1, _START, _START, 1.0, 0.0, "a"),
            ("north", 1, _START, _START + _HOUR, 2.0, 0.0, "a"),
        ]
    )
    assert still_needed(frame, VIEW, _START + 2 * _HOUR, _HOUR)["share"].to_list() == [2.0]


def test_rows_keep_their_values() -> None:
    """32-bit floats come back exactly, nulls and NaN as null, categories as they were."""
    tenth = float(np.float32(0.1))
    frame = _frame(
        [
            ("north", 1, _START, _START, 0.1, None, "ünïcode"),
            ("south", 1, _START, _START, float("nan"), 1e38, None),
        ]
    )
    kept = still_needed(frame, VIEW, _START, timedelta(0))
    at = (_START, _START)
    assert _served(kept, VIEW, entity_key(["north", 1]), *at) == (tenth, None, "ünïcode")
    assert _served(kept, VIEW, entity_key(["south", 1]), *at) == (
        None,
        float(np.float32(1e38)),
        None,
    )


def test_a_view_without_floats_or_without_categories_is_kept_too() -> None:
    """A row may be categories alone, or numbers alone."""
    frame = _frame([("north", 1, _START, _START, 0.5, 1.0, "a")])
    for floats, categories in (((), ("kind",)), (("share",), ())):
        view = OnlineView("v", VIEW.keys, floats, categories, None)
        (entity,) = entities(still_needed(frame, view, _START, timedelta(0)), view)
        ((_, _, packed, texts),) = decode_rows(entity.value)
        assert (len(packed), texts) == (4 * len(floats), ["a"] * len(categories))


def test_an_instant_as_entity_is_a_number() -> None:
    """A timestamp column as part of a key is in microseconds, as the server reads it."""
    frame = pl.DataFrame(
        {"slot": [_START], "event_time": [_START], "known_at": [_START], "share": [1.0]},
        schema_overrides=dict.fromkeys(("slot", "event_time", "known_at"), _UTC),
    )
    view = OnlineView("v", {"slot": "timestamp"}, ("share",), (), None)
    (entity,) = entities(still_needed(frame, view, _START, timedelta(0)), view)
    assert entity.key == entity_key([1_709_251_200_000_000])


@given(st.lists(st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=3))
def test_keys_are_bounded_and_their_own(values: list[str | int]) -> None:
    """Law: a key fits every store, and other entities have other keys."""
    key = entity_key(values)
    assert len(key) <= MAX_KEY_BYTES
    assert entity_key([*values, "x"]) != key
    assert entity_key([str(values[0]) + "x", *values[1:]]) != key


def test_long_keys_do_not_collide() -> None:
    """What does not fit is hashed, whole."""
    assert entity_key(["x" * 4000 + "a"]) != entity_key(["x" * 4000 + "b"])


def test_a_bucket_says_what_it_was_made_of() -> None:
    """The parity asset finds the table's version in the name."""
    assert made_of(bucket_name("flights/1f2e", "weather", 12, 1_700_000_000, "ab-cd")) == (
        12,
        1_700_000_000,
    )


def test_look_ups_are_kept_row_by_row() -> None:
    """One JSON text per row of a request, and back."""
    lookups = Lookups(
        event_times=[1, 2],
        keys={"shop": ["north", None]},
        views={"shops": ViewLookup("fm", [0, None], [0, None], "b")},
    )
    first, second = (decode_row_lookup(text) for text in row_lookups(lookups))
    assert first.views == {"shops": ("f", 0, 0, "b")}
    assert (second.keys, second.views["shops"]) == ({"shop": None}, ("m", None, None, "b"))


def _config(views: tuple[OnlineView, ...]) -> OnlineConfig:
    return OnlineConfig("shop", layout_of(views), "", views, None, 0, "default", 0.05)


def test_a_feature_is_missing_unless_its_key_is_there() -> None:
    """A request has the feature, or every entity column of its view."""
    inputs: OnlineInputs = inputs_of(_config((VIEW,)))
    features = ["minutes", "share", "kind"]
    assert inputs.missing({"minutes", "shop", "floor"}, features) == []
    assert inputs.missing({"minutes", "shop"}, features) == ["share", "kind"]
    assert inputs.missing({"shop", "floor", "share"}, features) == ["minutes"]


@pytest.mark.parametrize("change", [{"ttl": 1}, {"floats": ("size", "share")}, {"name": "other"}])
def test_other_views_have_another_layout(change: dict[str, object]) -> None:
    """A server never reads rows of another shape, or under another TTL, as its own."""
    fields = {name: getattr(VIEW, name) for name in VIEW.__struct_fields__}
    assert layout_of([OnlineView(**fields)]) == layout_of([VIEW])
    assert layout_of([OnlineView(**{**fields, **change})]) != layout_of([VIEW])
