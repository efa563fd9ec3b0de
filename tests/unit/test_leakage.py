"""The leakage checks: what they refuse, what they let pass, and what they say."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from mlops_assets.core.errors import LeakageError, SchemaError
from mlops_assets.core.leakage import check_events, check_joined, check_labels, check_view
from mlops_assets.core.pit import View, known_at_column, point_in_time_join

UTC_MICROSECONDS = pl.Datetime("us", "UTC")
NOON = datetime(2013, 3, 9, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def view(known_at: list[datetime | None] | None = None) -> View:
    """A view of two rows of one carrier, an hour apart."""
    frame = pl.DataFrame(
        {
            "carrier": "AA",
            "event_time": [NOON, NOON + HOUR],
            "known_at": known_at or [NOON, NOON + HOUR],
            "delay": [1.0, 2.0],
        },
        schema_overrides={"event_time": UTC_MICROSECONDS, "known_at": UTC_MICROSECONDS},
    )
    return View("delays", frame, ("carrier",), ("delay",), None)


def joined(feature: pl.Series, label: pl.Series | None = None) -> pl.DataFrame:
    """A training set with one feature; by default every third label is a 1."""
    rows = len(feature)
    if label is None:
        label = pl.Series([int(n % 3 == 0) for n in range(rows)])
    return pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(rows)],
            "carrier": "AA",
            "asked_at": pl.Series([NOON + 9 * HOUR], dtype=UTC_MICROSECONDS).extend_constant(
                NOON + 9 * HOUR, rows - 1
            ),
            "label": label,
            "delay": feature,
            known_at_column("delays"): NOON,
        }
    )


def third(yes: object, no: object, rows: int) -> pl.Series:
    """A feature that is ``yes`` where the label is 1."""
    return pl.Series([yes if n % 3 == 0 else no for n in range(rows)])


def test_a_sound_training_set_passes_all_checks() -> None:
    """Corrections, nulls and unmatched events are no leakage."""
    corrected = view()
    frame = pl.concat(
        [corrected.frame, corrected.frame.with_columns(pl.col("known_at") + HOUR, delay=3.0)]
    )
    rows = View("delays", frame, ("carrier",), ("delay",), None)
    events = pl.DataFrame(
        {"event_id": ["a", "b"], "event_time": NOON + 3 * HOUR, "carrier": ["AA", None]},
        schema_overrides={"event_time": UTC_MICROSECONDS},
    ).with_columns(asked_at="event_time")
    labels = pl.DataFrame(
        {"event_id": ["a", "b"], "label": [1, None], "known_at": [NOON + 4 * HOUR, None]},
        schema_overrides={"known_at": UTC_MICROSECONDS},
    )
    check_view(rows)
    check_events(events)
    check_labels(events, labels)
    found = point_in_time_join(events, [rows], with_known_at=True)
    check_joined(found.join(labels.drop("known_at"), on="event_id"), [rows])
    assert found["delay"].to_list() == [3.0, None]


def test_a_row_without_a_known_at_is_refused() -> None:
    """Nobody can say whether a model could have seen it."""
    with pytest.raises(LeakageError, match=r"view 'delays': 1 rows have no 'known_at'.*delay=2.0"):
        check_view(view([NOON, None]))


def test_two_rows_of_one_entity_and_both_times_are_refused() -> None:
    """The message shows both, next to each other; equal features do not excuse them."""
    rows = view()
    twice = View("delays", pl.concat([rows.frame, rows.frame[:1]]), ("carrier",), ("delay",), None)
    with pytest.raises(LeakageError) as refusal:
        check_view(twice)
    assert "2 rows share carrier, event_time, known_at" in str(refusal.value)
    assert "2013-03-09 12:00:00+00:00" in str(refusal.value)
    assert "13:00:00" not in str(refusal.value)


@pytest.mark.parametrize(
    ("ids", "asked", "message"),
    [
        (["a", "b", "a"], [NOON] * 3, "2 rows share their 'event_id'.*event_id='a'"),
        (["a", None, "b"], [NOON] * 3, "1 rows have no 'event_id'"),
        (["a", "b", "c"], [NOON, None, NOON], "1 rows have no 'asked_at'.*event_id='b'"),
    ],
)
def test_events_that_are_not_each_one_prediction_are_refused(
    ids: list[str | None], asked: list[datetime | None], message: str
) -> None:
    """An event needs an identity of its own and an instant at which it is asked."""
    events = pl.DataFrame({"event_id": ids, "asked_at": asked})
    with pytest.raises(LeakageError, match=message):
        check_events(events)


@pytest.mark.parametrize(
    ("ids", "known", "message"),
    [
        (["a", "b"], [NOON + HOUR, NOON], r"1 outcomes were known .*event_id='b'.*label=1"),
        (["a", "b"], [NOON + HOUR, None], "1 rows have no 'known_at'"),
        (["a", "a"], [NOON + HOUR] * 2, "2 rows share their 'event_id'"),
    ],
)
def test_labels_that_were_known_when_asked_are_refused(
    ids: list[str], known: list[datetime | None], message: str
) -> None:
    """An outcome that is known at the instant of the question, or that may be, is refused."""
    events = pl.DataFrame({"event_id": ["a", "b"], "asked_at": NOON})
    labels = pl.DataFrame({"event_id": ids, "label": 1, "known_at": known})
    with pytest.raises(LeakageError, match=message):
        check_labels(events, labels)


def test_a_label_without_an_outcome_may_be_without_a_time() -> None:
    """A cancelled flight has no label and is not judged."""
    events = pl.DataFrame({"event_id": ["a"], "asked_at": [NOON]})
    none = pl.Series([None], dtype=pl.Int8)
    check_labels(
        events,
        pl.DataFrame({"event_id": ["a"], "label": none, "known_at": [NOON]}),
    )
    with pytest.raises(LeakageError):
        check_labels(events, pl.DataFrame({"event_id": ["a"], "label": [0], "known_at": [NOON]}))


def test_a_feature_known_after_the_question_is_refused() -> None:
    """The check reads the used rows' own times, whatever joined them."""
    rows = joined(pl.Series([1.0, 2.0, 3.0]))
    late = rows.with_columns(
        pl.when(pl.col("event_id") == "e1")
        .then(pl.lit(NOON + 9 * HOUR + timedelta(microseconds=1)))
        .otherwise(pl.col(known_at_column("delays")))
        .alias(known_at_column("delays"))
    )
    check_joined(rows, [view()])
    with pytest.raises(LeakageError, match=r"'delays', features delay: 1 events .*event_id='e1'"):
        check_joined(late, [view()])


@pytest.mark.parametrize(
    ("yes", "no"), [(1, 0), (0, 1), (2.5, -1.0), ("late", "on time"), (None, 7), (True, False)]
)
def test_a_feature_that_is_the_label_under_another_name_is_refused(yes: object, no: object) -> None:
    """Equal, negated, scaled, spelled out, or only missing when the label is 1."""
    with pytest.raises(LeakageError, match="feature 'delay': it is the label 'label'") as refusal:
        check_joined(joined(third(yes, no, 30)), [view()])
    assert "event_id='e0'" in str(refusal.value)
    assert "event_id='e1'" in str(refusal.value)


def test_unlabelled_rows_do_not_hide_the_label() -> None:
    """Only rows with an outcome are compared."""
    label = third(1, 0, 31).scatter(30, None)
    feature = third(1.0, 0.0, 31).scatter(30, 5.0)
    with pytest.raises(LeakageError, match="all 30 labelled rows"):
        check_joined(joined(feature, label), [view()])


def test_a_number_that_separates_the_labels_without_an_error_is_refused() -> None:
    """The outcome in minutes gives a threshold on it away, in either direction."""
    minutes = pl.Series([20.0 + n if n % 3 == 0 else 14.0 - n for n in range(1200)])
    for feature in (minutes, -minutes, minutes.clone().scatter(5, None).scatter(6, float("nan"))):
        with pytest.raises(LeakageError, match="feature 'delay': it separates") as refusal:
            check_joined(joined(feature), [view()])
        assert "label=1" in str(refusal.value)
    whole = minutes.cast(pl.Int32)
    with pytest.raises(LeakageError, match="separates the label 'label'"):
        check_joined(joined(whole), [view()])


@pytest.mark.parametrize(
    "feature",
    [
        pl.Series([3.0] * 1200),
        third(1.0, 0.0, 1200).scatter(0, 0.0),
        pl.Series([20.0 if n % 3 == 0 else 14.0 - n for n in range(1200)]).scatter(0, 13.0),
        pl.Series([f"N{n}" for n in range(1200)]),
        pl.Series([None] * 1200, dtype=pl.Float32),
    ],
    ids=["constant", "one exception", "one overlap", "identifier", "all missing"],
)
def test_a_feature_that_is_not_the_label_passes(feature: pl.Series) -> None:
    """One exception is enough to be a feature; a constant and an identifier are none of these."""
    check_joined(joined(feature), [view()])


def test_few_rows_prove_nothing() -> None:
    """Small sets, one class, and a handful of positives agree with a feature by chance."""
    check_joined(joined(third(1, 0, 9)), [view()])
    check_joined(joined(pl.Series([20.0 + n if n % 3 == 0 else -n for n in range(999)])), [view()])
    check_joined(joined(third(1, 1, 30), third(0, 0, 30)), [view()])
    four = pl.Series([int(n < 4) for n in range(2000)])
    check_joined(joined(pl.Series([-1.0 * n for n in range(2000)]), four), [view()])


def test_a_training_set_that_was_joined_without_known_at_is_refused() -> None:
    """The check cannot be passed by leaving its evidence out."""
    rows = joined(pl.Series([1.0, 2.0]))
    with pytest.raises(SchemaError, match="no column 'delays__known_at'"):
        check_joined(rows.drop(known_at_column("delays")), [view()])
    with pytest.raises(SchemaError, match="no column 'delay'"):
        check_joined(rows.drop("delay"), [view()])
