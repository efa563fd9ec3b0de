"""Alerts: known by what they are about, told once in a while, capped in a storm, never lost."""

from datetime import datetime, timedelta, timezone

import pytest
from alerts_support import POLICY, START, alert_of, events_of

from mlops_assets.core.alerts import (
    STORM_WINDOW,
    Alert,
    History,
    Severity,
    due,
    fold,
    judge,
    open_alerts,
    resolution,
    storm_summary,
)


def test_an_alert_is_known_by_what_it_is_about_and_not_by_its_numbers() -> None:
    """Another cause, time or severity is the same alert; another subject or kind is not."""
    key = alert_of().key
    assert alert_of(5, "critical", cause="the PSI of temp is 0.92").key == key
    assert alert_of(subject="planes").key != key
    assert alert_of(kind="skew").key != key
    assert alert_of(use_case="churn").key != key


def test_an_open_alert_is_told_again_only_after_a_while() -> None:
    """New, too soon, due; and what was withheld in between is counted."""
    history = History(POLICY)
    told = [judge([alert_of(h, cause=f"PSI 0.3{h}")], history) for h in (0, 2, 5, 6, 7)]
    assert [events_of(entries) for entries in told] == [
        ["raised"],
        ["suppressed"],
        ["suppressed"],
        ["raised"],
        ["suppressed"],
    ]
    assert told[3][0].withheld == 2
    assert told[3][0].reason == "still open, last told 6 h before"
    assert told[1][0].reason == "told 2 h before, repeated after 6 h"


def test_an_alert_that_becomes_more_severe_is_told_at_once() -> None:
    """Up, but not down and up again."""
    history = History(POLICY)
    severities: list[Severity] = ["info", "critical", "warning", "critical"]
    told = [judge([alert_of(n / 10, severity)], history) for n, severity in enumerate(severities)]
    assert [events_of(entries)[0] for entries in told] == [
        "raised",
        "raised",
        "suppressed",
        "suppressed",
    ]
    assert told[1][0].reason == "more severe: critical after info"


def test_what_is_open_and_says_nothing_new_leaves_no_trace() -> None:
    """A tick every half minute does not fill the log, and a repeated call adds nothing."""
    history = History(POLICY)
    judge([alert_of()], history)
    assert judge([alert_of()], history) == []
    assert judge([alert_of(1)], history) == []
    assert events_of(judge([alert_of(6)], history)) == ["raised"]


def test_a_resolved_alert_closes_and_may_open_again() -> None:
    """Whatever the time between; closing what is not open gives nothing."""
    history = History(POLICY)
    judge([alert_of()], history)
    closed = resolution(history, alert_of().key, "PSI 0.02", START + timedelta(hours=1))
    assert closed is not None
    assert (closed.event, closed.alert.cause) == ("resolved", "PSI 0.02")
    assert open_alerts(history) == []
    assert resolution(history, alert_of().key, "PSI 0.02", START) is None
    again = judge([alert_of(2)], history)
    assert events_of(again) == ["raised"]
    assert again[0].id != closed.id


def test_the_same_alert_opened_twice_at_one_instant_has_two_names() -> None:
    """A delivery of the first is not taken for one of the second."""
    history = History(POLICY)
    first = judge([alert_of()], history)
    resolution(history, alert_of().key, "well", START)
    assert judge([alert_of()], history)[0].id != first[0].id


def test_a_storm_is_told_in_a_summary() -> None:
    """Three in the hour, the rest in one summary that counts them and names subjects."""
    history = History(POLICY)
    entries = judge([alert_of(subject=f"column {n}") for n in range(10)], history)
    assert events_of(entries) == ["raised"] * 3 + ["capped"] * 7 + ["raised"]
    summary = entries[-1].alert
    assert (summary.kind, summary.severity, summary.subject) == (
        "storm",
        "warning",
        "flight_delays",
    )
    assert "held back, beyond 3 alerts an hour: 7 drift" in summary.cause
    assert summary.cause.endswith("and 2 more")
    assert summary.owners == ("team:flights",)


def test_a_storm_that_goes_on_is_summarized_again_after_an_hour() -> None:
    """Not before, and only what no summary told."""
    history = History(POLICY)
    judge([alert_of(subject=f"column {n}") for n in range(5)], history)
    assert events_of(judge([alert_of(0.5, subject="late")], history)) == ["capped"]
    assert storm_summary(history, "flight_delays", START + timedelta(minutes=59)) is None
    summary = storm_summary(history, "flight_delays", START + STORM_WINDOW)
    assert summary is not None
    assert summary.alert.cause.endswith("1 drift; about late")
    assert storm_summary(history, "flight_delays", START + 3 * STORM_WINDOW) is None


def test_a_capped_alert_is_told_when_the_storm_is_over() -> None:
    """It was never sent, so it is due; the summary that waits leaves it out."""
    history = History(POLICY)
    judge([alert_of(subject=f"column {n}") for n in range(4)], history)
    judge([alert_of(0.5, subject="late")], history)
    told = judge([alert_of(1, subject="late")], history)
    assert events_of(told) == ["raised"]
    assert told[0].withheld == 1
    assert history.capped["flight_delays"] == []


def test_a_flood_of_warnings_holds_no_critical_alert_back() -> None:
    """The cap counts what is at least as severe; the most severe of a batch come first."""
    history = History(POLICY)
    judge([alert_of(subject=f"column {n}") for n in range(20)], history)
    entries = judge([alert_of(0.1, subject="x"), alert_of(0.1, "critical", subject="y")], history)
    assert [(entry.event, entry.alert.subject) for entry in entries] == [
        ("raised", "y"),
        ("capped", "x"),
    ]


def test_a_repetition_that_a_storm_holds_back_is_in_its_summary() -> None:
    """Though it says nothing new: it was due, and nobody heard of it."""
    history = History(POLICY)
    judge([alert_of()], history)
    judge([alert_of(7, subject=f"column {n}") for n in range(3)], history)
    entries = judge([alert_of(7)], history)
    assert events_of(entries) == ["capped", "raised"]
    assert entries[1].alert.cause.endswith("1 drift; about weather")
    assert judge([alert_of(7.5)], history) == []


def test_one_use_case_does_not_use_up_the_cap_of_another() -> None:
    """Each has its own."""
    history = History(POLICY)
    judge([alert_of(subject=f"column {n}") for n in range(20)], history)
    assert events_of(judge([alert_of(use_case="churn")], history)) == ["raised"]


def test_an_alert_that_two_processes_raise_at_once_is_delivered_once() -> None:
    """Both judged the same log; the entry that comes first counts."""
    first = judge([alert_of()], History(POLICY))
    second = judge([alert_of(0.01, cause="a little later")], History(POLICY))
    history, waiting = fold([*first, *second], POLICY)
    assert waiting == first
    assert len(history.raised["flight_delays"]) == 1


def test_a_resolution_of_what_was_never_told_is_not_told() -> None:
    """People did not hear of it; the log has it."""
    history = History(POLICY)
    entries = judge([alert_of(subject=f"column {n}") for n in range(4)], history)
    closed = [resolution(history, alert_of(subject=f"column {n}").key, "ok", START) for n in (2, 3)]
    log = entries + [entry for entry in closed if entry is not None]
    _, waiting = fold(log, POLICY)
    assert [entry.alert.subject for entry in waiting if entry.event == "resolved"] == ["column 2"]


def test_a_clock_that_goes_back_neither_repeats_early_nor_silences_for_long() -> None:
    """Times count in both directions: a replay that starts again is told like the first."""
    told = [alert_of(0)]
    assert not due(alert_of(-5), told, POLICY.repeat_after).send
    assert due(alert_of(-6), told, POLICY.repeat_after).send
    history = History(POLICY)
    judge([alert_of(5000)], history)
    assert events_of(judge([alert_of(0)], history)) == ["raised"]


def test_open_alerts_are_listed_by_severity_then_age_without_notices() -> None:
    """What somebody has to do something about."""
    history = History(POLICY)
    judge([alert_of(1, subject="b"), alert_of(0, subject="a")], history)
    judge([alert_of(2, "critical", subject="c"), alert_of(2, kind="promoted")], history)
    assert [alert.subject for alert in open_alerts(history)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("two\nlines\tand  spaces", "two lines and spaces"),
        ("red \x1b[31m", "red �[31m"),
        ("half a \ud83d pair", "half a � pair"),
        ("x" * 5000, "x" * 1999 + "…"),
    ],
)
def test_an_alert_is_never_refused_for_its_words(text: str, kept: str) -> None:
    """Made one printable line, so that it can be sent anywhere and stored."""
    alert = alert_of(cause=text)
    assert alert.cause == kept
    assert Alert.model_validate_json(alert.model_dump_json()) == alert


def test_times_are_instants_in_utc() -> None:
    """A time without a zone is refused: it could not be compared."""
    zone = timezone(timedelta(hours=-5))
    assert alert_of(at=datetime(2013, 4, 1, 7, tzinfo=zone)).at.utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="timezone"):
        alert_of(at=datetime(2013, 4, 1))  # noqa: DTZ001 - what is refused
