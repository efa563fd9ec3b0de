"""Parity: planted differences between what an endpoint used and the lake are found and named."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from mlops_assets.core.answer_features import encoded
from mlops_assets.core.online import (
    KeyValue,
    Lookups,
    ViewLookup,
    bucket_name,
    row_lookups,
)
from mlops_assets.core.parity import find_mismatches
from mlops_assets.core.parity_causes import FormerView
from mlops_assets.core.parity_records import CAUSES, Parity, parity_markdown
from mlops_assets.core.pit import View
from mlops_assets.core.spec import FeatureType

_UTC = pl.Datetime("us", "UTC")
_START = datetime(2024, 3, 30, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES: dict[str, FeatureType] = {"share": "float", "kind": "category"}
_ASKED = _START + timedelta(hours=30, minutes=20)
"""When the event is asked about: at its own time."""


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _rows(rows: list[tuple[str, datetime, datetime, float | None, str | None]]) -> View:
    frame = pl.DataFrame(
        rows,
        schema={
            "shop": pl.String,
            "event_time": _UTC,
            "known_at": _UTC,
            "share": pl.Float32,
            "kind": pl.String,
        },
        orient="row",
    )
    return View("hourly", frame, ("shop",), ("share", "kind"), timedelta(hours=6))


HOURLY = _rows(
    [
        (shop, _START + n * _HOUR, _START + n * _HOUR, n / 10 + base, f"{shop}{n}")
        for shop, base in (("north", 0.0), ("south", 50.0))
        for n in range(40)
    ]
)


def _event(shop: str = "north") -> pl.DataFrame:
    return pl.DataFrame(
        {"event_id": ["e"], "event_time": [_ASKED], "shop": [shop]},
        schema={"event_id": pl.String, "event_time": _UTC, "shop": pl.String},
    )


def _answer(share: float | None, kind: str | None, lookups: Lookups | None = None) -> pl.DataFrame:
    features = encoded(pl.DataFrame({"share": [share], "kind": [kind]}), _TYPES)
    return pl.DataFrame(
        {
            "event_id": ["e"],
            "request_id": ["r"],
            "asked_at": [_ASKED],
            "model_sha256": ["a"],
            "looked_up": row_lookups(lookups) if lookups else [None],
        },
        schema_overrides={"asked_at": _UTC, "looked_up": pl.String},
    ).hstack(features)


def _lookups(
    state: str = "f",
    hour: int | None = 30,
    *,
    shop: KeyValue | None = "north",
    event_time: datetime = _ASKED,
    version: int = 1,
) -> Lookups:
    at = None if hour is None else _us(_START + hour * _HOUR)
    bucket = bucket_name("shop/1", "hourly", version, _us(_START + 30 * _HOUR), "x")
    return Lookups(
        [_us(event_time)], {"shop": [shop]}, {"hourly": ViewLookup(state, [at], [at], bucket)}
    )


def _find(
    answer: pl.DataFrame, view: View = HOURLY, former: FormerView = lambda name, version: None
) -> Parity:
    return find_mismatches(answer, _event(), [view], _TYPES, former, "Europe/Berlin")


def _cause(found: Parity) -> str:
    (mismatch,) = found.mismatches
    assert mismatch.detail
    return mismatch.cause


def test_an_honest_answer_differs_in_nothing() -> None:
    """Sent or looked up: the row of the hour that was known by then."""
    for lookups in (None, _lookups()):
        found = _find(_answer(3.0, "north30", lookups))
        assert (found.answers, found.compared, found.mismatches) == (1, 1, ())
        assert found.share == 0


def test_an_answer_is_judged_as_of_when_it_was_given() -> None:
    """What became known after it, before or after the event, is not held against it."""
    later = _START + 31 * _HOUR
    corrected = pl.concat(
        [HOURLY.frame, _rows([("north", _START + 30 * _HOUR, later, 9.0, "corrected")]).frame]
    )
    assert not _find(_answer(3.0, "north30"), replace(HOURLY, frame=corrected)).mismatches


def test_a_late_correction_is_named() -> None:
    """The row was corrected in place after the store was materialized."""
    changed = HOURLY.frame.with_columns(
        pl.when(pl.col("kind") == "north30").then(9.0).otherwise("share").alias("share")
    ).cast({"share": pl.Float32})
    found = _find(
        _answer(3.0, "north30", _lookups()), replace(HOURLY, frame=changed), lambda *_: HOURLY
    )
    assert _cause(found) == "late_correction"
    assert found.mismatches[0].features == ("share",)
    assert (found.mismatches[0].served, found.mismatches[0].lake) == ("3", "9")


def test_a_value_from_the_future_is_named_as_a_correction() -> None:
    """Whoever sent it knew the row as it was corrected after the answer."""
    later = _START + 31 * _HOUR
    corrected = pl.concat(
        [HOURLY.frame, _rows([("north", _START + 30 * _HOUR, later, 9.0, "corrected")]).frame]
    )
    found = _find(_answer(9.0, "corrected"), replace(HOURLY, frame=corrected))
    assert _cause(found) == "late_correction"
    assert "known later" in found.mismatches[0].detail


def test_a_correction_that_was_known_and_not_used_is_named() -> None:
    """A second row of the same event time, known an hour before the answer."""
    known = _START + 30 * _HOUR + timedelta(minutes=5)
    corrected = pl.concat(
        [HOURLY.frame, _rows([("north", _START + 30 * _HOUR, known, 9.0, "corrected")]).frame]
    )
    found = _find(_answer(3.0, "north30"), replace(HOURLY, frame=corrected))
    assert _cause(found) == "late_correction"


def test_an_expired_row_that_was_used_is_named() -> None:
    """Older than the TTL: training would have had nothing."""
    old = replace(HOURLY, frame=HOURLY.frame.filter(pl.col("event_time") <= _START + 20 * _HOUR))
    found = _find(_answer(2.0, "north20"), old)
    assert _cause(found) == "expired_ttl"
    assert found.mismatches[0].lake == "null"


def test_a_row_that_was_wrongly_taken_for_expired_is_named() -> None:
    """The endpoint has another TTL than the use case."""
    old = replace(HOURLY, frame=HOURLY.frame.filter(pl.col("event_time") <= _START + 28 * _HOUR))
    found = _find(_answer(None, None, _lookups("e", 28)), old)
    assert _cause(found) == "expired_ttl"


@pytest.mark.parametrize("hours", [-2, -1, 1, 2])
def test_a_clock_change_is_named(hours: int) -> None:
    """The request named a time that is off by the zone's distance from UTC, or by an hour."""
    taken = _ASKED + hours * _HOUR
    hour = min(30 + hours, 30)
    lookups = _lookups(hour=hour, event_time=taken)
    served = _answer(hour / 10, f"north{hour}", lookups)
    found = _find(served)
    if hours > 0:
        # The row that holds later was not known: the same row was used.
        assert not found.mismatches
        return
    assert _cause(found) == "clock"
    assert f"{-hours} h earlier" in found.mismatches[0].detail


def test_features_that_were_sent_as_of_another_zone_are_named() -> None:
    """Nothing was looked up: the client read its clock as UTC, two hours off in summer."""
    # Berlin is two hours from UTC from the morning of the 31st on.
    found = _find(_answer(2.8, "north28"))
    assert _cause(found) == "clock"
    assert found.mismatches[0].detail == "as of 2 h earlier"


def test_a_missing_entity_is_named() -> None:
    """The request named none, or the store lost it though it had the row."""
    found = _find(_answer(None, None, _lookups("m", None, shop=None)))
    assert _cause(found) == "missing_entity"
    assert "shop was null" in found.mismatches[0].detail
    assert _cause(_find(_answer(None, None, _lookups("m", None)))) == "missing_entity"
    assert _cause(_find(_answer(None, None))) == "missing_entity"


def test_another_entity_is_named() -> None:
    """The request named another shop than the event's."""
    found = _find(_answer(53.0, "south30", _lookups(shop="south")))
    assert _cause(found) == "other_entity"
    assert "shop was south, the event's is north" in found.mismatches[0].detail


def test_a_stale_store_is_named() -> None:
    """The newest row was in the lake's view only after the store was materialized."""
    before = replace(HOURLY, frame=HOURLY.frame.filter(pl.col("event_time") <= _START + 29 * _HOUR))
    found = _find(_answer(2.9, "north29", _lookups(hour=29)), former=lambda *_: before)
    assert _cause(found) == "stale_store"
    assert "2024-03-31T06:00" in found.mismatches[0].detail
    # The store's version of the table is not readable any more: the row before tells.
    assert _cause(_find(_answer(2.9, "north29", _lookups(hour=29)))) == "stale_store"


def test_an_entity_that_was_new_to_the_store_is_stale() -> None:
    """It had no row when the store was materialized."""
    before = replace(HOURLY, frame=HOURLY.frame.filter(pl.col("shop") == "south"))
    found = _find(_answer(None, None, _lookups("m", None)), former=lambda *_: before)
    assert _cause(found) == "stale_store"


def test_a_time_out_is_named() -> None:
    """The store did not answer, and the use case goes on with missing values."""
    assert _cause(_find(_answer(None, None, _lookups("t", None)))) == "timeout"


def test_other_code_is_what_nothing_explains() -> None:
    """A value that no row ever had."""
    found = _find(_answer(7.25, "north30", _lookups()), former=lambda *_: HOURLY)
    assert _cause(found) == "code"


def test_what_the_model_did_not_have_is_not_compared() -> None:
    """A model from before the feature was not asked with it."""
    answer = _answer(None, "north30").with_columns(floats=pl.lit("{}"))
    assert not _find(answer).mismatches


def test_events_that_the_lake_does_not_have_are_left_out() -> None:
    """Nothing can be said about them."""
    found = _find(_answer(1.0, "x").with_columns(event_id=pl.lit("other")))
    assert (found.answers, found.mismatches) == (0, ())


def test_the_table_for_people_names_each_cause() -> None:
    """What a caller sent cannot break it, and every cause has a meaning of its own."""
    found = _find(_answer(7.25, "nor|th\n", _lookups()))
    text = parity_markdown(found.mismatches)
    assert "| code | hourly | share, kind | 7.25 |" in text
    assert len(text.splitlines()) == 3
    assert found.causes == {"code": 1}
    assert len(set(CAUSES)) == 8
