"""Alerts: the laws of whatever happens."""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from alerts_support import POLICY, START, alert_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.alerts import (
    SEVERITIES,
    STORM_WINDOW,
    Alert,
    Entry,
    History,
    fold,
    judge,
    resolution,
    storm_summary,
)


@st.composite
def _stories(draw: st.DrawFn) -> list[tuple[str, list[Alert] | Alert]]:
    """Batches of observations and resolutions, at times that mostly go forward."""
    steps: list[tuple[str, list[Alert] | Alert]] = []
    hours = 0.0
    for _ in range(draw(st.integers(1, 12))):
        hours += draw(st.sampled_from([0.0, 0.3, 0.9, 2.0, 7.0, -3.0]))
        batch = [
            alert_of(
                hours,
                draw(st.sampled_from(SEVERITIES)),
                draw(st.sampled_from("abcdef")),
                cause=draw(st.sampled_from(["0.3", "0.4"])),
            )
            for _ in range(draw(st.integers(1, 6)))
        ]
        if draw(st.booleans()) and draw(st.booleans()):
            steps.append(("resolve", batch[0]))
        else:
            steps.append(("observe", batch))
    return steps


def _told(steps: list[tuple[str, list[Alert] | Alert]]) -> Iterator[tuple[History, list[Entry]]]:
    history = History(POLICY)
    for _, given_ in steps:
        if isinstance(given_, Alert):
            closed = resolution(history, given_.key, "well", given_.at)
            yield history, [] if closed is None else [closed]
        else:
            yield history, judge(given_, history)


def _rank(alert: Alert) -> int:
    return SEVERITIES.index(alert.severity)


@settings(max_examples=80, deadline=None)
@given(_stories())
def test_no_observation_is_lost(steps: list[tuple[str, list[Alert] | Alert]]) -> None:
    """Each was told now, or as severely a short while ago, or waits for the next summary, or is in
    one."""
    log: list[Entry] = []
    for (_, given_), (history, entries) in zip(steps, _told(steps), strict=True):
        log += entries
        if isinstance(given_, Alert):
            continue
        for alert in given_:
            track = history.open[alert.key]
            recently = any(
                abs(alert.at - told.at) < POLICY.repeat_after and _rank(told) >= _rank(alert)
                for told in track.raised
            )
            about = [
                n
                for n, entry in enumerate(log)
                if entry.alert.key == alert.key and entry.event != "suppressed"
            ]
            capped = log[about[-1]].event == "capped"
            waits = alert.key in [held.key for held in history.capped.get(alert.use_case, [])]
            summarized = any(entry.alert.kind == "storm" for entry in log[about[-1] :])
            assert recently or (capped and (waits or summarized))
    end = max((entry.alert.at for entry in log), default=START) + 2 * STORM_WINDOW
    history, _ = fold(log, POLICY)
    storm_summary(history, "flight_delays", end)
    assert not history.capped.get("flight_delays")


@settings(max_examples=80, deadline=None)
@given(_stories())
def test_nothing_is_told_twice_within_the_time_unless_more_severe(
    steps: list[tuple[str, list[Alert] | Alert]],
) -> None:
    """From opening to closing, in whatever order the times come."""
    since_opened: dict[object, list[Alert]] = {}
    for _, entries in _told(steps):
        for entry in entries:
            alert = entry.alert
            if entry.event == "resolved":
                since_opened.pop(alert.key, None)
            elif entry.event == "raised" and alert.kind != "storm":
                earlier = since_opened.setdefault(alert.key, [])
                for other in earlier:
                    apart = abs(alert.at - other.at) >= POLICY.repeat_after
                    assert apart or _rank(alert) > _rank(other)
                earlier.append(alert)


@settings(max_examples=80, deadline=None)
@given(_stories())
def test_no_hour_has_more_than_the_cap_and_severity_goes_first(
    steps: list[tuple[str, list[Alert] | Alert]],
) -> None:
    """Counted among the at least as severe; summaries are an hour apart; a batch is told in order
    of severity, and none is capped for the sake of a less severe one."""
    sent: list[Alert] = []
    last: datetime | None = None
    for _, entries in _told(steps):
        batch = [entry for entry in entries if entry.event != "resolved"]
        alerts = [entry.alert for entry in batch if entry.alert.kind != "storm"]
        assert all(_rank(one) >= _rank(two) for one, two in pairwise(alerts))
        for entry in batch:
            alert = entry.alert
            if alert.kind == "storm":
                assert not last or abs(alert.at - last) >= STORM_WINDOW
                last = alert.at
                continue
            rivals = [
                other
                for other in sent
                if _rank(other) >= _rank(alert) and abs(other.at - alert.at) < STORM_WINDOW
            ]
            if entry.event == "raised":
                assert len(rivals) < POLICY.most_per_hour
                sent.append(alert)
            elif entry.event == "capped":
                assert len(rivals) >= POLICY.most_per_hour


@settings(max_examples=60, deadline=None)
@given(_stories())
def test_a_log_that_is_read_again_is_the_history_that_wrote_it(
    steps: list[tuple[str, list[Alert] | Alert]],
) -> None:
    """Through JSON: what is decided next does not depend on who decides."""
    log: list[Entry] = []
    last = History(POLICY)
    for history, entries in _told(steps):
        last = history
        log += [Entry.model_validate_json(entry.model_dump_json()) for entry in entries]
    read, waiting = fold(log, POLICY)
    assert read.open == last.open
    assert read.raised == last.raised
    assert read.summarized == last.summarized
    assert {key: held for key, held in read.capped.items() if held} == {
        key: held for key, held in last.capped.items() if held
    }
    assert len({entry.id for entry in log}) == len(log)
    assert [entry for entry in waiting if entry.event == "raised"] == [
        entry for entry in log if entry.event == "raised"
    ]
