"""The point-in-time join, against its definition."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.errors import SchemaError
from mlops_assets.core.pit import View, known_at_column, point_in_time_join

UTC_MICROSECONDS = pl.Datetime("us", "UTC")
NOON = datetime(2013, 3, 9, 12, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")

ROW = {
    "carrier": pl.String,
    "number": pl.Int64,
    "event_time": UTC_MICROSECONDS,
    "known_at": UTC_MICROSECONDS,
    "delay": pl.Float32,
    "grade": pl.String,
}
EVENT = {
    "event_id": pl.Int64,
    "event_time": UTC_MICROSECONDS,
    "asked_at": UTC_MICROSECONDS,
    "carrier": pl.String,
    "number": pl.Int64,
}


def at(hours: float) -> datetime:
    """An instant counted from noon before the night in which New York's clocks change."""
    return NOON + timedelta(hours=hours)


def view(
    *rows: tuple[str | None, float, float, float | None],
    ttl: timedelta | None = None,
    name: str = "delays",
) -> View:
    """A view of rows (carrier, hour of the event, hour known, delay)."""
    values = [(carrier, 1, at(time), at(known), delay, "g") for carrier, time, known, delay in rows]
    frame = pl.DataFrame(values, schema=ROW, orient="row")
    return View(name, frame, ("carrier",), ("delay",), ttl)


def events(*rows: tuple[str | None, float, float]) -> pl.DataFrame:
    """Events (carrier, hour of the event, hour asked)."""
    values = [(n, at(time), at(asked), carrier, 1) for n, (carrier, time, asked) in enumerate(rows)]
    return pl.DataFrame(values, schema=EVENT, orient="row")


def delays(joined: pl.DataFrame) -> list[float | None]:
    """The joined feature."""
    return joined["delay"].to_list()


def by_definition(events: pl.DataFrame, view: View) -> list[dict[str, object]]:
    """The features of each event, found by looking at every row."""
    rows = list(enumerate(view.frame.iter_rows(named=True)))
    answers: list[dict[str, object]] = []
    for event in events.iter_rows(named=True):
        candidates = [
            (row["event_time"], row["known_at"], index, row)
            for index, row in rows
            if all(row[c] is not None and row[c] == event[c] for c in view.entity)
            and row["event_time"] <= event["event_time"]
            and row["known_at"] <= event["asked_at"]
        ]
        best = max(candidates, key=lambda candidate: candidate[:3])[3] if candidates else None
        if best and view.ttl is not None and event["event_time"] - best["event_time"] > view.ttl:
            best = None
        answers.append({f: best[f] if best else None for f in view.features})
    return answers


def test_an_event_gets_the_latest_row_of_its_entity() -> None:
    """The greatest event time at or before the event's wins, of the same entity."""
    rows = view(("AA", 0, 0, 1.0), ("AA", 2, 2, 2.0), ("AA", 6, 6, 3.0), ("UA", 3, 3, 4.0))
    joined = point_in_time_join(events(("AA", 5, 5), ("UA", 5, 5), ("AA", 2, 2)), [rows])
    assert delays(joined) == [2.0, 4.0, 2.0]


def test_a_row_known_after_the_question_is_not_used() -> None:
    """A measurement that is still under way when the prediction is asked gives way to the last."""
    rows = view(("AA", 0, 1, 1.0), ("AA", 2, 6, 2.0))
    assert delays(point_in_time_join(events(("AA", 5, 5), ("AA", 7, 6)), [rows])) == [1.0, 2.0]


def test_a_row_known_in_advance_is_used_only_from_its_event_time() -> None:
    """A schedule for later does not replace the one that holds at the event."""
    rows = view(("AA", 0, -500, 1.0), ("AA", 24, -400, 2.0))
    joined = point_in_time_join(events(("AA", 23, 20), ("AA", 24, 20)), [rows])
    assert delays(joined) == [1.0, 2.0]


def test_a_correction_counts_from_when_it_is_known() -> None:
    """Two rows of the same event time: the later known one replaces the other once it is known."""
    rows = view(("AA", 0, 9, 2.0), ("AA", 0, 1, 1.0))
    joined = point_in_time_join(events(("AA", 9, 8), ("AA", 9, 9), ("AA", 9, 0)), [rows])
    assert delays(joined) == [1.0, 2.0, None]


def test_a_late_correction_of_an_old_row_does_not_hide_a_newer_row() -> None:
    """What is newest is decided by event time first, whenever it became known."""
    rows = view(("AA", 0, 1, 1.0), ("AA", 4, 5, 2.0), ("AA", 0, 6, 1.5))
    assert delays(point_in_time_join(events(("AA", 9, 8)), [rows])) == [2.0]


def test_an_expired_row_is_missing_and_no_older_row_replaces_it() -> None:
    """The TTL is judged on the chosen row, to the microsecond."""
    rows = view(("AA", 0, 0, 1.0), ("AA", 1, 1, 2.0), ttl=timedelta(hours=3))
    late = point_in_time_join(events(("AA", 4, 4)), [rows])
    tick = late.with_columns(pl.col("event_time") + pl.duration(microseconds=1)).drop("delay")
    assert delays(late) == [2.0]
    assert delays(point_in_time_join(tick, [rows])) == [None]


def test_a_missing_entity_has_no_features() -> None:
    """Null matches nothing, not even a null in the view; an unknown entity matches nothing."""
    rows = view((None, 0, 0, 1.0), ("AA", 0, 0, 2.0))
    joined = point_in_time_join(events((None, 5, 5), ("XX", 5, 5), ("AA", 5, 5)), [rows])
    assert delays(joined) == [None, None, 2.0]


def test_a_null_feature_of_the_chosen_row_stays_null() -> None:
    """A newer row without a value says that the value is missing."""
    rows = view(("AA", 0, 0, 1.0), ("AA", 1, 1, None))
    assert delays(point_in_time_join(events(("AA", 5, 5)), [rows])) == [None]


def test_every_event_is_kept_in_order_with_its_columns() -> None:
    """Repeated and unmatched events stay where they are, and nothing of theirs changes."""
    asked = events(("UA", 5, 5), ("AA", 3, 3), ("AA", 3, 3), (None, 1, 1))
    joined = point_in_time_join(asked, [view(("AA", 0, 0, 1.0))])
    assert joined.select(asked.columns).equals(asked)
    assert delays(joined) == [None, 1.0, 1.0, None]


def test_no_events_and_no_rows_give_empty_columns_of_the_right_type() -> None:
    """The schema of the result does not depend on there being data."""
    assert point_in_time_join(events(), [view(("AA", 0, 0, 1.0))]).schema["delay"] == pl.Float32
    joined = point_in_time_join(events(("AA", 5, 5)), [view()])
    assert joined.schema["delay"] == pl.Float32
    assert delays(joined) == [None]


def test_the_time_at_which_the_used_row_became_known_is_reported_on_request() -> None:
    """The leakage check reads it; it is null where no row was used."""
    rows = view(("AA", 0, 1, 1.0))
    joined = point_in_time_join(events(("AA", 5, 5), ("UA", 5, 5)), [rows], with_known_at=True)
    assert joined[known_at_column("delays")].to_list() == [at(1), None]


def test_entities_and_times_that_together_need_more_than_64_bits_are_told_apart() -> None:
    """Instants a microsecond apart, of many entities over many thousand years."""
    instants = pl.Series([-(2**60), -1, 0, 1, 2, 2**60], dtype=pl.Int64).cast(UTC_MICROSECONDS)
    names = [f"c{n}" for n in range(50)]
    frame = pl.DataFrame({"carrier": names}).join(
        pl.DataFrame({"event_time": instants, "delay": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}), how="cross"
    )
    late = pl.when(pl.col("delay") == 3).then(pl.lit("1us")).otherwise(pl.lit("0us"))
    known = frame.with_columns(known_at=pl.col("event_time").dt.offset_by(late))
    rows = View("long", known, ("carrier",), ("delay",), ttl=None)
    asked = frame.drop("delay").with_columns(asked_at="event_time")
    assert delays(point_in_time_join(asked, [rows])) == [0.0, 1.0, 2.0, 2.0, 4.0, 5.0] * 50
    before = asked.with_columns(pl.lit(-(2**60) - 1).cast(UTC_MICROSECONDS).alias("event_time"))
    assert delays(point_in_time_join(before, [rows])) == [None] * 300


@pytest.mark.parametrize("day", ["2013-03-10", "2013-11-03"])
def test_the_days_on_which_clocks_change_are_joined_by_instants(day: str) -> None:
    """Local wall-clock times that repeat or are skipped do not disturb the order of instants."""
    start = datetime.fromisoformat(day).replace(tzinfo=NEW_YORK).astimezone(UTC)
    instants = [start + timedelta(minutes=30 * n) for n in range(50)]
    frame = pl.DataFrame(
        {"carrier": "AA", "event_time": instants, "delay": range(50)},
        schema_overrides={"event_time": UTC_MICROSECONDS},
    ).with_columns(known_at="event_time")
    local = pl.Series([i + timedelta(minutes=1) for i in instants]).dt.convert_time_zone(
        "America/New_York"
    )
    asked = pl.DataFrame(
        {"carrier": "AA", "event_time": local.dt.convert_time_zone("UTC")}
    ).with_columns(asked_at="event_time")
    rows = View("delays", frame, ("carrier",), ("delay",), timedelta(minutes=30))
    assert len(set(local.dt.strftime("%H:%M").to_list())) < len(instants)
    assert delays(point_in_time_join(asked, [rows])) == list(range(50))


def test_deep_histories_of_late_rows_are_searched_back_to_the_first() -> None:
    """Hundreds of rows that are not known yet lie between the event and the row it gets."""
    rows = view(
        ("AA", -2, -1, -1.0),
        *[("UA", n / 10, n / 10, float(n)) for n in range(99)],
        *[("AA", n / 10, 1000 - (n % 7) - n / 10, float(n)) for n in range(777)],
        ("ZZ", -3, -3, 5.0),
    )
    asked = events(*[("AA", hour, 900 + hour) for hour in range(90)], ("AA", 70, 1), ("ZZ", 1, 1))
    expected = [answer["delay"] for answer in by_definition(asked, rows)]
    assert delays(point_in_time_join(asked, [rows])) == expected
    assert len(set(expected)) > 20


def test_any_view_is_joined_as_the_definition_says() -> None:
    """Ties, corrections, exact duplicates, nulls, TTLs, both orders of the two times, and instants
    so close in so wide a range of times and entities that they share a sort code.
    """
    moments = st.integers(0, 6)
    carriers = st.sampled_from(["AA", "UA", None])
    numbers = st.sampled_from([1, 2**31 - 1, None])
    lags = st.sampled_from(
        [st.integers(-6, 6), st.integers(0, 6), st.just(1), st.just(0), st.integers(-9, -7)]
    )
    units = st.sampled_from([timedelta(hours=1), timedelta(seconds=1)])
    ttls = st.sampled_from([None, 0, 2])
    entities = st.sampled_from([("carrier",), ("carrier", "number"), ("number",)])
    far = (None, None, datetime(9000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC), 0.0, "")

    @settings(max_examples=500, deadline=None, derandomize=True)
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        lag, unit = data.draw(lags), data.draw(units)
        rows = data.draw(st.lists(st.tuples(carriers, numbers, moments, lag), max_size=40))
        asked = data.draw(
            st.lists(st.tuples(carriers, numbers, moments, st.integers(-2, 2)), max_size=12)
        )
        values = [
            (carrier, number, NOON + m * unit, NOON + (m + lag) * unit, n or None, f"g{n}")
            for n, (carrier, number, m, lag) in enumerate(rows)
        ]
        frame = pl.DataFrame(
            values + data.draw(st.sampled_from([[], [far]])), schema=ROW, orient="row"
        )
        asked_frame = pl.DataFrame(
            [
                (n, NOON + m * unit, NOON + (m - lead) * unit, carrier, number)
                for n, (carrier, number, m, lead) in enumerate(asked)
            ],
            schema=EVENT,
            orient="row",
        )
        views = []
        for name, feature in (("one", "delay"), ("two", "grade")):
            ttl = data.draw(ttls)
            expiry = None if ttl is None else ttl * unit
            views.append(View(name, frame, data.draw(entities), (feature,), expiry))
        joined = point_in_time_join(asked_frame, views)
        assert joined.columns == [*asked_frame.columns, "delay", "grade"]
        assert joined.select(asked_frame.columns).equals(asked_frame)
        for each in views:
            found = joined.select(each.features).to_dicts()
            assert found == by_definition(asked_frame, each)

    law()


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.Int8, [-128, 0, 127]),
        (pl.UInt64, [0, 2**63, 2**64 - 1]),
        (pl.UInt64, [2**64 - 3, 2**64 - 2, 2**64 - 1]),
        (pl.Int64, [-(2**63), 0, 2**63 - 1]),
        (pl.Int64, [2**63 - 3, 2**63 - 2, 2**63 - 1]),
        (pl.Int64, [5, 6, 7]),
        (pl.Boolean, [True, False]),
        (pl.Date, [NOON.date(), at(24).date(), at(48).date()]),
        (UTC_MICROSECONDS, [NOON, at(1), at(2)]),
        (pl.Enum(["b", "a", "c"]), ["a", "b", "c"]),
        (pl.String, ["", "a", "-1"]),
    ],
)
@pytest.mark.parametrize("absent", [0, 1, -1], ids=["first", "second", "last"])
def test_an_entity_of_any_identifying_type_finds_its_own_rows(
    dtype: pl.DataType, values: list[object], absent: int
) -> None:
    """Extremes do not overflow; an entity that the view lacks, and null, find nothing."""
    known = [value for value in values if value != values[absent]]
    times = {"event_time": NOON, "known_at": NOON}
    frame = pl.DataFrame(
        {"a": pl.Series([*known, None], dtype=dtype), "delay": range(len(known) + 1)}
    )
    asked = pl.DataFrame({"a": pl.Series([*values, None], dtype=dtype)})
    expected = [known.index(value) if value in known else None for value in values] + [None]
    for entity in (("a",), ("a", "b"), ("b", "a", "c", "d")):
        copies = [pl.col("a").alias(name) for name in "bcd"]
        to_the_microsecond = pl.col("event_time", "known_at").cast(UTC_MICROSECONDS)
        rows = frame.with_columns(*copies, **{k: pl.lit(v) for k, v in times.items()})
        one = View("one", rows.with_columns(to_the_microsecond), entity, ("delay",), None)
        events = asked.with_columns(
            *copies,
            event_time=pl.lit(NOON, UTC_MICROSECONDS),
            asked_at=pl.lit(NOON, UTC_MICROSECONDS),
        )
        assert delays(point_in_time_join(events, [one])) == expected


def test_entities_of_many_wide_columns_are_told_apart() -> None:
    """The product of the columns' ranges is far above 64 bits."""
    wide = [0, 2**30, 2**31 - 2]
    entities = [(a, b, c, d) for a in wide for b in wide for c in wide for d in wide]
    frame = pl.DataFrame(entities, schema=["a", "b", "c", "d"], orient="row").with_columns(
        event_time=pl.lit(NOON, UTC_MICROSECONDS), delay=pl.int_range(pl.len())
    )
    rows = View(
        "wide",
        frame.with_columns(known_at="event_time")[::2],
        ("a", "b", "c", "d"),
        ("delay",),
        None,
    )
    asked = frame.drop("delay").with_columns(asked_at="event_time")
    expected = [n if n % 2 == 0 else None for n in range(len(entities))]
    assert delays(point_in_time_join(asked, [rows])) == expected


def test_an_entity_of_floats_is_refused() -> None:
    """Equality of floats is no identity."""
    rows = view(("AA", 0, 0, 1.0))
    floats = pl.col("number").cast(pl.Float64)
    by_number = View("floats", rows.frame.with_columns(floats), ("number",), ("delay",), None)
    with pytest.raises(
        SchemaError, match="view 'floats': entity column 'number' is of type Float64"
    ):
        point_in_time_join(events(("AA", 5, 5)).with_columns(floats), [by_number])


def test_the_order_of_rows_in_the_view_does_not_matter() -> None:
    """Shuffled and sliced frames give the same features."""
    rows = view(*[("AA", n, n + n % 3, float(n)) for n in range(20)])
    shuffled = View(
        rows.name,
        rows.frame.sample(fraction=1, shuffle=True, seed=7),
        ("carrier",),
        ("delay",),
        None,
    )
    asked = events(*[("AA", n, n) for n in range(25)])
    known = [second or 0 for second in delays(point_in_time_join(asked, [rows]))]
    assert point_in_time_join(asked, [rows]).equals(point_in_time_join(asked, [shuffled]))
    assert all(first <= second for first, second in pairwise(known))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("event_time").dt.replace_time_zone(None), "'event_time' is of type Datetime"),
        (pl.col("known_at").cast(pl.Datetime("ms", "UTC")), "'known_at' is of type Datetime"),
        (pl.lit(None, dtype=UTC_MICROSECONDS).alias("known_at"), "'known_at' is null in 1 rows"),
        (pl.col("carrier").cast(pl.Categorical), "entity column 'carrier' is of type Categorical"),
        (pl.lit(2**62).cast(UTC_MICROSECONDS).alias("event_time"), "70,000 years from 1970"),
    ],
)
def test_a_view_with_wrong_times_or_types_is_refused(change: pl.Expr, message: str) -> None:
    """The message names the view and the column."""
    rows = view(("AA", 0, 0, 1.0))
    wrong = View("wrong", rows.frame.with_columns(change), ("carrier",), ("delay",), None)
    with pytest.raises(SchemaError, match="view 'wrong'") as refusal:
        point_in_time_join(events(("AA", 5, 5)), [wrong])
    assert message in str(refusal.value)


def test_columns_that_are_missing_or_taken_are_refused() -> None:
    """Features do not overwrite the events' columns or each other."""
    rows = view(("AA", 0, 0, 1.0))
    other = view(("AA", 0, 0, 1.0), name="other")
    asked = events(("AA", 5, 5))
    with pytest.raises(SchemaError, match="'delay' is also in view 'delays'"):
        point_in_time_join(asked, [rows, other])
    with pytest.raises(SchemaError, match="'delay' is also in the events"):
        point_in_time_join(asked.with_columns(delay=1), [rows])
    with pytest.raises(SchemaError, match="the events: there is no column 'carrier'"):
        point_in_time_join(asked.drop("carrier"), [rows])
    with pytest.raises(SchemaError, match="'delays': there is no column 'known_at'"):
        point_in_time_join(
            asked, [View("delays", rows.frame.drop("known_at"), ("carrier",), ("delay",), None)]
        )
