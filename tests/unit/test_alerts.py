"""Alerts: known by what they are about, told once in a while, capped in a storm, never lost."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets import cli
from mlops_assets.core import alert_text
from mlops_assets.core.alert_text import Links
from mlops_assets.core.alerts import (
    KINDS,
    SEVERITIES,
    STORM_WINDOW,
    Alert,
    Entry,
    History,
    Kind,
    Policy,
    Severity,
    due,
    fold,
    judge,
    open_alerts,
    resolution,
    storm_summary,
)
from mlops_assets.core.monitoring_spec import MonitoringSpec
from mlops_assets.core.spec import STAGES, DatasetSpec, TrainingSetSpec

REPOSITORY = Path(__file__).parents[2]
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
START = datetime(2013, 4, 1, 12, tzinfo=UTC)
POLICY = Policy(repeat_after=timedelta(hours=6), most_per_hour=3)
LINKS = Links("http://dagster:3000/", "https://docs.example.org/runbooks/")


def _alert(
    hours: float = 0, severity: Severity = "warning", subject: str = "weather", **changes: object
) -> Alert:
    fields: dict[str, object] = {
        "kind": "drift",
        "severity": severity,
        "use_case": "flight_delays",
        "subject": subject,
        "owners": ("team:flights",),
        "cause": "the PSI of temp is 0.31 (limit 0.25) over 7 days",
        "page": "/assets/flight_delays/drift",
        "at": START + timedelta(hours=hours),
    }
    return Alert.model_validate({**fields, **changes})


def _events(entries: list[Entry]) -> list[str]:
    return [entry.event for entry in entries]


def test_an_alert_is_known_by_what_it_is_about_and_not_by_its_numbers() -> None:
    """Another cause, time or severity is the same alert; another subject or kind is not."""
    key = _alert().key
    assert _alert(5, "critical", cause="the PSI of temp is 0.92").key == key
    assert _alert(subject="planes").key != key
    assert _alert(kind="skew").key != key
    assert _alert(use_case="churn").key != key


def test_an_open_alert_is_told_again_only_after_a_while() -> None:
    """New, too soon, due; and what was withheld in between is counted."""
    history = History(POLICY)
    told = [judge([_alert(h, cause=f"PSI 0.3{h}")], history) for h in (0, 2, 5, 6, 7)]
    assert [_events(entries) for entries in told] == [
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
    told = [judge([_alert(n / 10, severity)], history) for n, severity in enumerate(severities)]
    assert [_events(entries)[0] for entries in told] == [
        "raised",
        "raised",
        "suppressed",
        "suppressed",
    ]
    assert told[1][0].reason == "more severe: critical after info"


def test_what_is_open_and_says_nothing_new_leaves_no_trace() -> None:
    """A tick every half minute does not fill the log, and a repeated call adds nothing."""
    history = History(POLICY)
    judge([_alert()], history)
    assert judge([_alert()], history) == []
    assert judge([_alert(1)], history) == []
    assert _events(judge([_alert(6)], history)) == ["raised"]


def test_a_resolved_alert_closes_and_may_open_again() -> None:
    """Whatever the time between; closing what is not open gives nothing."""
    history = History(POLICY)
    judge([_alert()], history)
    closed = resolution(history, _alert().key, "PSI 0.02", START + timedelta(hours=1))
    assert closed is not None
    assert (closed.event, closed.alert.cause) == ("resolved", "PSI 0.02")
    assert open_alerts(history) == []
    assert resolution(history, _alert().key, "PSI 0.02", START) is None
    again = judge([_alert(2)], history)
    assert _events(again) == ["raised"]
    assert again[0].id != closed.id


def test_the_same_alert_opened_twice_at_one_instant_has_two_names() -> None:
    """A delivery of the first is not taken for one of the second."""
    history = History(POLICY)
    first = judge([_alert()], history)
    resolution(history, _alert().key, "well", START)
    assert judge([_alert()], history)[0].id != first[0].id


def test_a_storm_is_told_in_a_summary() -> None:
    """Three in the hour, the rest in one summary that counts them and names subjects."""
    history = History(POLICY)
    entries = judge([_alert(subject=f"column {n}") for n in range(10)], history)
    assert _events(entries) == ["raised"] * 3 + ["capped"] * 7 + ["raised"]
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
    judge([_alert(subject=f"column {n}") for n in range(5)], history)
    assert _events(judge([_alert(0.5, subject="late")], history)) == ["capped"]
    assert storm_summary(history, "flight_delays", START + timedelta(minutes=59)) is None
    summary = storm_summary(history, "flight_delays", START + STORM_WINDOW)
    assert summary is not None
    assert summary.alert.cause.endswith("1 drift; about late")
    assert storm_summary(history, "flight_delays", START + 3 * STORM_WINDOW) is None


def test_a_capped_alert_is_told_when_the_storm_is_over() -> None:
    """It was never sent, so it is due; the summary that waits leaves it out."""
    history = History(POLICY)
    judge([_alert(subject=f"column {n}") for n in range(4)], history)
    judge([_alert(0.5, subject="late")], history)
    told = judge([_alert(1, subject="late")], history)
    assert _events(told) == ["raised"]
    assert told[0].withheld == 1
    assert history.capped["flight_delays"] == []


def test_a_flood_of_warnings_holds_no_critical_alert_back() -> None:
    """The cap counts what is at least as severe; the most severe of a batch come first."""
    history = History(POLICY)
    judge([_alert(subject=f"column {n}") for n in range(20)], history)
    entries = judge([_alert(0.1, subject="x"), _alert(0.1, "critical", subject="y")], history)
    assert [(entry.event, entry.alert.subject) for entry in entries] == [
        ("raised", "y"),
        ("capped", "x"),
    ]


def test_a_repetition_that_a_storm_holds_back_is_in_its_summary() -> None:
    """Though it says nothing new: it was due, and nobody heard of it."""
    history = History(POLICY)
    judge([_alert()], history)
    judge([_alert(7, subject=f"column {n}") for n in range(3)], history)
    entries = judge([_alert(7)], history)
    assert _events(entries) == ["capped", "raised"]
    assert entries[1].alert.cause.endswith("1 drift; about weather")
    assert judge([_alert(7.5)], history) == []


def test_one_use_case_does_not_use_up_the_cap_of_another() -> None:
    """Each has its own."""
    history = History(POLICY)
    judge([_alert(subject=f"column {n}") for n in range(20)], history)
    assert _events(judge([_alert(use_case="churn")], history)) == ["raised"]


def test_an_alert_that_two_processes_raise_at_once_is_delivered_once() -> None:
    """Both judged the same log; the entry that comes first counts."""
    first = judge([_alert()], History(POLICY))
    second = judge([_alert(0.01, cause="a little later")], History(POLICY))
    history, waiting = fold([*first, *second], POLICY)
    assert waiting == first
    assert len(history.raised["flight_delays"]) == 1


def test_a_resolution_of_what_was_never_told_is_not_told() -> None:
    """People did not hear of it; the log has it."""
    history = History(POLICY)
    entries = judge([_alert(subject=f"column {n}") for n in range(4)], history)
    closed = [resolution(history, _alert(subject=f"column {n}").key, "ok", START) for n in (2, 3)]
    log = entries + [entry for entry in closed if entry is not None]
    _, waiting = fold(log, POLICY)
    assert [entry.alert.subject for entry in waiting if entry.event == "resolved"] == ["column 2"]


def test_a_clock_that_goes_back_neither_repeats_early_nor_silences_for_long() -> None:
    """Times count in both directions: a replay that starts again is told like the first."""
    told = [_alert(0)]
    assert not due(_alert(-5), told, POLICY.repeat_after).send
    assert due(_alert(-6), told, POLICY.repeat_after).send
    history = History(POLICY)
    judge([_alert(5000)], history)
    assert _events(judge([_alert(0)], history)) == ["raised"]


def test_open_alerts_are_listed_by_severity_then_age_without_notices() -> None:
    """What somebody has to do something about."""
    history = History(POLICY)
    judge([_alert(1, subject="b"), _alert(0, subject="a")], history)
    judge([_alert(2, "critical", subject="c"), _alert(2, kind="promoted")], history)
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
    alert = _alert(cause=text)
    assert alert.cause == kept
    assert Alert.model_validate_json(alert.model_dump_json()) == alert


def test_times_are_instants_in_utc() -> None:
    """A time without a zone is refused: it could not be compared."""
    zone = timezone(timedelta(hours=-5))
    assert _alert(at=datetime(2013, 4, 1, 7, tzinfo=zone)).at.utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="timezone"):
        _alert(at=datetime(2013, 4, 1))  # noqa: DTZ001 - what is refused


# Laws


@st.composite
def _stories(draw: st.DrawFn) -> list[tuple[str, list[Alert] | Alert]]:
    """Batches of observations and resolutions, at times that mostly go forward."""
    steps: list[tuple[str, list[Alert] | Alert]] = []
    hours = 0.0
    for _ in range(draw(st.integers(1, 12))):
        hours += draw(st.sampled_from([0.0, 0.3, 0.9, 2.0, 7.0, -3.0]))
        batch = [
            _alert(
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


# How alerts read


def _entry(event: str = "raised", **changes: object) -> Entry:
    return Entry.model_validate(
        {
            "id": "0123456789abcdef",
            "event": event,
            "alert": _alert(**changes),  # pyright: ignore[reportArgumentType]
            "reason": "new",
        }
    )


def test_text_says_whose_what_why_what_to_do_and_where() -> None:
    """All that somebody who is woken up needs."""
    assert alert_text.as_text(_entry(), LINKS).splitlines() == [
        "[warning] flight_delays: drift, weather",
        "  the PSI of temp is 0.31 (limit 0.25) over 7 days",
        "  to do: " + alert_text.WHAT_TO_DO["drift"],
        "  runbook: https://docs.example.org/runbooks/drift.md",
        "  look: http://dagster:3000/assets/flight_delays/drift",
        "  2013-04-01 12:00 UTC, team:flights, new",
    ]


def test_a_resolution_reads_as_one_and_asks_for_nothing() -> None:
    """In every form."""
    entry = _entry("resolved")
    for text in (
        alert_text.as_text(entry, LINKS),
        alert_text.as_markdown(entry, LINKS),
        alert_text.as_slack(entry, LINKS),
    ):
        assert "resolved" in text.splitlines()[0]
        assert "to do" not in text.lower()


def test_words_of_an_alert_are_never_read_as_markup() -> None:
    """Neither a link in Markdown nor a mention of everybody in Slack."""
    entry = _entry(cause="<!channel> [x](http://evil) & *all* | `a_b`")
    markdown = alert_text.as_markdown(entry, LINKS)
    assert r"\<!channel\> \[x\](http://evil) & \*all\* \| \`a\_b\`" in markdown
    assert "[Runbook](https://docs.example.org/runbooks/drift.md)" in markdown
    slack = alert_text.as_slack(entry, LINKS)
    assert "&lt;!channel&gt;" in slack
    assert "<https://docs.example.org/runbooks/drift.md|runbook>" in slack


def test_json_is_one_line_with_every_field() -> None:
    """What a machine that follows the alerts reads."""
    line = alert_text.as_json(_entry(), LINKS)
    assert "\n" not in line
    assert json.loads(line) == {
        "id": "0123456789abcdef",
        "event": "raised",
        "kind": "drift",
        "severity": "warning",
        "use_case": "flight_delays",
        "subject": "weather",
        "owners": ["team:flights"],
        "cause": "the PSI of temp is 0.31 (limit 0.25) over 7 days",
        "at": "2013-04-01T12:00:00Z",
        "title": "[warning] flight_delays: drift, weather",
        "reason": "new",
        "withheld": 0,
        "what_to_do": alert_text.WHAT_TO_DO["drift"],
        "runbook": "https://docs.example.org/runbooks/drift.md",
        "link": "http://dagster:3000/assets/flight_delays/drift",
    }


def test_pages_of_dagster_are_named_safely() -> None:
    """A key's parts and a partition may hold any character."""
    assert alert_text.asset_page(["a b", "c/d"]) == "/assets/a%20b/c%2Fd"
    assert (
        alert_text.asset_page(["uc", "t"], "2013-01-01")
        == "/assets/uc/t?view=partitions&partition=2013-01-01"
    )
    assert alert_text.run_page("a?b") == "/runs/a%3Fb"
    assert alert_text.page(_entry(page=""), LINKS) == "http://dagster:3000"


def test_what_was_suppressed_is_counted() -> None:
    """By use case and kind, in a table."""
    history = History(POLICY)
    log = [entry for n in range(3) for entry in judge([_alert(n, cause=f"{n}")], history)]
    log += judge([_alert(kind="promoted", use_case="churn")], history)
    assert alert_text.counts_markdown(log).splitlines()[2:] == [
        "| churn | promoted | 1 | 0 | 0 |  |",
        r"| flight\_delays | drift | 1 | 2 | 0 | 0 |",
    ]
    assert alert_text.counts_markdown([]) == "No alert has been recorded."


# Runbooks


def test_each_kind_has_a_runbook_and_each_runbook_a_kind() -> None:
    """The links of alerts lead somewhere, with the sections that people look for."""
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == sorted(KINDS)
    assert set(alert_text.WHAT_TO_DO) == set(KINDS)
    sections = ["What it means", "How to look", "Likely causes", "What to do", "How it ends"]
    for path in RUNBOOKS.glob("*.md"):
        assert re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE) == sections, path.name


def _dg_knows(words: list[str]) -> bool:
    from dagster_dg_cli.cli import create_dg_cli

    command: click.Command = create_dg_cli()
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0]) if words else None
        if found is None:
            return False
        command, words = found, words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if word.startswith("-")} <= options


def _mlops_knows(words: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    capsys.readouterr()
    return stopped.value.code == 0


def _names() -> set[str]:
    """Names that exist in the platform: assets, fields, checks, tables, metadata."""
    from mlops_assets.adapters import decisions, ledger
    from mlops_assets.adapters.alerts import log
    from mlops_assets.core.spec import KNOWN_AT
    from mlops_assets.lifecycle import publish

    return {
        *STAGES,
        *(f"USE_CASE/{stage}" for stage in STAGES),
        decisions.table("USE_CASE"),
        *(f"training_set.{field}" for field in TrainingSetSpec.model_fields),
        *(f"monitoring.{field}" for field in MonitoringSpec.model_fields),
        *DatasetSpec.model_fields,
        *(publish.EXPECTATIONS_CHECK, publish.WARNINGS_CHECK, "quarantined_rows"),
        *(KNOWN_AT, ledger.table("USE_CASE"), log.TABLE, "capped", "champion", "dagster/row_count"),
    }


def _is_place(span: str) -> bool:
    from mlops_assets.adapters.endpoints.state import paths_of
    from mlops_assets.lifecycle.platform import Places

    if span == "defs.yaml":
        return any((REPOSITORY / "mlops_assets" / "defs").glob("*/defs.yaml"))
    state = paths_of("USE_CASE", Places.under(REPOSITORY / ".mlops").endpoints)
    return REPOSITORY / span in (state.server_log, state.predictions) or (
        not span.startswith((".", "/")) and (REPOSITORY / span).exists()
    )


def _is_said(span: str) -> bool:
    """Whether a stage or a record says ``span``: a check, a column, a key of metadata."""
    package = REPOSITORY / "mlops_assets"
    sources = [*(package / "lifecycle").glob("*.py"), *(package / "core").glob("*.py")]
    # In quotes, as a field, or as the heading of a table.
    word = re.escape(span)
    said = re.compile(rf"""["']{word}["']|^    {word}: |\| {word} \|""", re.MULTILINE)
    return any(said.search(source.read_text()) for source in sources)


KUBERNETES = REPOSITORY / "deployments" / "kubernetes"


@pytest.mark.parametrize("kind", KINDS)
def test_a_runbook_names_only_what_exists(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, options, targets, paths, assets, fields; links lead to files."""
    text = (RUNBOOKS / f"{kind}.md").read_text()
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", text)
    assert spans
    for span in spans:
        program, *words = span.split()
        if program == "mlops":
            known = _mlops_knows(words, capsys)
        elif program == "make":
            known = words[0] in targets
        elif program == "dg":
            known = _dg_knows(words)
        elif program == "kubectl":
            namespaces = (KUBERNETES / "base" / "namespaces.yaml").read_text()
            known = words[0] in {"get", "logs", "delete"} and f"name: {words[-1]}\n" in namespaces
        elif program == "GET":
            routes = (REPOSITORY / "mlops_assets" / "serving" / "routes.py").read_text()
            known = f'"{words[0].strip("/")}"' in routes
        else:
            known = span in _names() or _is_place(span) or _is_said(span)
        assert known, f"{kind}.md names `{span}`, which does not exist"
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (RUNBOOKS / link).exists(), f"{kind}.md links to {link}, which does not exist"


def test_the_check_of_runbooks_sees_what_does_not_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It would pass anything otherwise."""
    assert not _mlops_knows(["endpoint", "explode", "USE_CASE"], capsys)
    assert not _mlops_knows(["fly"], capsys)
    assert not _dg_knows(["fly"])
    assert not _dg_knows(["launch", "--everything"])
    assert not _is_place("mlops_assets/nowhere.py")
    assert not _is_place("/")
    assert not _is_said("said by nobody")
    assert "training_set.nothing" not in _names()
