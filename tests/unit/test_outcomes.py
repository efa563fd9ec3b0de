"""Outcomes: which answer counts, what is known of how an event ended, and what a day adds up to."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.outcomes import (
    COLUMNS,
    ORDER,
    last_answers,
    paired,
    summary,
    unknown_events,
    with_labels,
)
from mlops_assets.core.windows import Window

NOON = datetime(2024, 3, 6, 12, tzinfo=UTC)
WINDOW = Window(date(2024, 3, 6), date(2024, 3, 7), "UTC")
INSTANT = pl.Datetime("us", "UTC")


def events_of(*ids: str) -> pl.DataFrame:
    """Events at noon."""
    return pl.DataFrame(
        {"event_id": ids, "event_time": [NOON] * len(ids)},
        schema={"event_id": pl.String, "event_time": INSTANT},
    )


def answers_of(*answers: tuple[str | None, int, str]) -> pl.DataFrame:
    """Answers to (event, minutes before noon, request)."""
    return pl.DataFrame(
        {
            "event_id": [event for event, _, _ in answers],
            "asked_at": [NOON - timedelta(minutes=early) for _, early, _ in answers],
            "request_id": [request for _, _, request in answers],
            "row": [0] * len(answers),
            "role": ["champion"] * len(answers),
            "returned": [True] * len(answers),
            "model_version": [1] * len(answers),
            "model_sha256": ["a" * 64] * len(answers),
            "score": [0.5] * len(answers),
        },
        schema_overrides={
            "event_id": pl.String,
            "asked_at": INSTANT,
            "request_id": pl.String,
            "row": pl.Int32,
            "returned": pl.Boolean,
            "model_version": pl.Int64,
            "score": pl.Float32,
        },
    )


def labels_of(*labels: tuple[str, int | None, int | None]) -> pl.DataFrame:
    """Labels as (event, label, hours after noon at which it was known)."""
    return pl.DataFrame(
        {
            "event_id": [event for event, _, _ in labels],
            "label": [label for _, label, _ in labels],
            "known_at": [
                None if hours is None else NOON + timedelta(hours=hours) for _, _, hours in labels
            ],
        },
        schema={"event_id": pl.String, "label": pl.Int8, "known_at": INSTANT},
    )


def test_the_last_answer_by_the_time_of_the_event_counts() -> None:
    """Not the first, not one from after it, not one about another event or about none."""
    answers = answers_of(
        ("a", 60, "first"), ("a", 0, "last"), ("a", -1, "after"), ("z", 5, "other"), (None, 5, "no")
    )
    found = last_answers(events_of("a", "b"), answers)
    assert found.select("event_id", "request_id").rows() == [("a", "last")]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", None, "x"]), st.integers(-2, 3), st.text(max_size=2)),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_answers_come_does_not_matter(answers, random) -> None:
    """Each event has at most one, and always the same."""
    shuffled = list(answers)
    random.shuffle(shuffled)
    events = events_of("a", "b")
    found = last_answers(events, answers_of(*answers))
    assert found.equals(last_answers(events, answers_of(*shuffled)))
    in_time = {event: [] for event, early, _ in answers if event in ("a", "b") and early >= 0}
    for event, early, request in answers:
        if event in in_time and early >= 0:
            in_time[event].append((-early, request))
    expected = {event: max(given_at) for event, given_at in in_time.items()}
    assert dict(found.select("event_id", "request_id").rows()) == {
        event: request for event, (_, request) in expected.items()
    }


def test_an_outcome_is_known_from_its_time_on_and_may_have_no_label() -> None:
    """A cancelled event has ended; one whose time is unknown has not, whatever its label says."""
    answers = last_answers(
        events_of("a", "b", "c", "d", "e"), answers_of(*((e, 5, e) for e in "abcde"))
    )
    labels = labels_of(("a", 1, 1), ("b", 0, 3), ("c", None, 2), ("d", 1, None))
    found = with_labels(answers, labels, NOON + timedelta(hours=2))
    assert found.columns == list(COLUMNS)
    assert found["label"].to_list() == [1, None, None, None, None]
    assert found["outcome_known"].to_list() == [True, False, True, False, False]
    assert found["label_known_at"].null_count() == 3


def test_a_day_adds_up() -> None:
    """Cancelled events keep no day from becoming complete."""
    answers = last_answers(events_of("a", "b", "c"), answers_of(*((e, 60, e) for e in "abc")))
    labels = labels_of(("a", 1, 1), ("b", None, 1))
    now = NOON + timedelta(hours=30)
    day = summary(4, with_labels(answers, labels, now), 7, WINDOW, now)
    assert (day.events, day.answered, day.known, day.labelled, day.unknown_events) == (
        4,
        3,
        2,
        1,
        7,
    )
    assert (day.unanswered_share, day.mean_score, day.base_rate) == (0.25, 0.5, 1)
    assert day.labels is not None
    assert day.labels.complete == 0.5
    assert {part.hours: part.share for part in day.labels.after}[24] == 0.5
    assert "| 1 | champion | 3 | 1 | 0.5000 | 1.0000 |" in day.models_markdown()


def test_a_day_on_which_everything_was_cancelled_awaits_no_label() -> None:
    """There is nothing of which a share could be late."""
    answers = last_answers(events_of("a"), answers_of(("a", 60, "r")))
    now = NOON + timedelta(hours=30)
    day = summary(1, with_labels(answers, labels_of(("a", None, 1)), now), 0, WINDOW, now)
    assert day.labels is None
    assert day.base_rate is None
    assert day.models_markdown().endswith("| 1 | champion | 1 | 0 | 0.5000 |  |")


@pytest.mark.parametrize(("lead", "unknown"), [(0, 3), (12 * 60 + 10, 1)])
def test_answers_about_no_event_are_counted_on_the_day_that_they_are_due(
    lead: float, unknown: int
) -> None:
    """Asked twelve hours ahead, those from the afternoon on are about the next day."""
    answers = answers_of(("a", 5, "r"), ("x", 5, "x"), (None, 5, "no"), ("y", 700, "y"))
    assert unknown_events(events_of("a"), answers, WINDOW, lead) == unknown


def test_answers_have_what_their_order_needs() -> None:
    """The order names columns of the table."""
    assert set(ORDER) <= set(answers_of().columns)


def compared(answers: pl.DataFrame, role: str, version: int, score: float | None) -> pl.DataFrame:
    """``answers`` as another model scored them, which nobody got."""
    return answers.with_columns(
        pl.lit(role).alias("role"),
        pl.lit(False).alias("returned"),
        pl.lit(version, dtype=pl.Int64).alias("model_version"),
        pl.lit(score, dtype=pl.Float32).alias("score"),
    )


def test_a_score_that_nobody_got_is_no_answer() -> None:
    """However late it came: the outcome is of what was returned."""
    answers = answers_of(("a", 60, "r"), (None, 5, "no"))
    shadow = compared(answers, "challenger", 2, 0.9).with_columns(
        pl.col("asked_at") + timedelta(minutes=1)
    )
    both = pl.concat([answers, shadow])
    assert last_answers(events_of("a"), both)["model_version"].to_list() == [1]
    assert unknown_events(events_of("a"), both, WINDOW, 0) == 1


def test_scores_of_both_models_stand_side_by_side() -> None:
    """Once for each row of a request; a model that failed has none; one side alone is no pair."""
    answers = answers_of(("a", 60, "r"), ("b", 50, "s"), ("c", 40, "t"), ("d", 30, "alone"))
    second = answers.head(3)
    other = pl.concat(
        [
            compared(second[:2], "challenger", 2, 0.75),
            compared(second[2:], "challenger", 2, None),
        ]
    )
    twice = pl.concat([answers, other, answers[:1], other[:1]])
    found = paired(twice.sample(fraction=1, shuffle=True, seed=1))
    assert found.select(
        "event_id", "champion_score", "challenger_score", "returned_role"
    ).rows() == [
        ("a", 0.5, 0.75, "champion"),
        ("b", 0.5, 0.75, "champion"),
        ("c", 0.5, None, "champion"),
    ]
    assert set(found["challenger_version"]) == {2}
    canary = pl.concat(
        [
            compared(answers[:1], "champion", 1, 0.25),
            compared(answers[:1], "challenger", 2, 0.75).with_columns(returned=pl.lit(True)),
        ]
    )
    assert paired(canary)["returned_role"].to_list() == ["challenger"]
