"""Alerts: how they read, as text, for Slack and as JSON."""

import json

from alerts_support import LINKS, POLICY, alert_of, entry_with

from mlops_assets.core import alert_text
from mlops_assets.core.alerts import (
    History,
    judge,
)


def test_text_says_whose_what_why_what_to_do_and_where() -> None:
    """All that somebody who is woken up needs."""
    assert alert_text.as_text(entry_with(), LINKS).splitlines() == [
        "[warning] flight_delays: drift, weather",
        "  the PSI of temp is 0.31 (limit 0.25) over 7 days",
        "  to do: " + alert_text.WHAT_TO_DO["drift"],
        "  runbook: https://docs.example.org/runbooks/drift.md",
        "  look: http://dagster:3000/assets/flight_delays/drift",
        "  2013-04-01 12:00 UTC, team:flights, new",
    ]


def test_a_resolution_reads_as_one_and_asks_for_nothing() -> None:
    """In every form."""
    entry = entry_with("resolved")
    for text in (
        alert_text.as_text(entry, LINKS),
        alert_text.as_markdown(entry, LINKS),
        alert_text.as_slack(entry, LINKS),
    ):
        assert "resolved" in text.splitlines()[0]
        assert "to do" not in text.lower()


def test_words_of_an_alert_are_never_read_as_markup() -> None:
    """Neither a link in Markdown nor a mention of everybody in Slack."""
    entry = entry_with(cause="<!channel> [x](http://evil) & *all* | `a_b`")
    markdown = alert_text.as_markdown(entry, LINKS)
    assert r"\<!channel\> \[x\](http://evil) & \*all\* \| \`a\_b\`" in markdown
    assert "[Runbook](https://docs.example.org/runbooks/drift.md)" in markdown
    slack = alert_text.as_slack(entry, LINKS)
    assert "&lt;!channel&gt;" in slack
    assert "<https://docs.example.org/runbooks/drift.md|runbook>" in slack


def test_json_is_one_line_with_every_field() -> None:
    """What a machine that follows the alerts reads."""
    line = alert_text.as_json(entry_with(), LINKS)
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
    assert alert_text.page(entry_with(page=""), LINKS) == "http://dagster:3000"


def test_what_was_suppressed_is_counted() -> None:
    """By use case and kind, in a table."""
    history = History(POLICY)
    log = [entry for n in range(3) for entry in judge([alert_of(n, cause=f"{n}")], history)]
    log += judge([alert_of(kind="promoted", use_case="churn")], history)
    assert alert_text.counts_markdown(log).splitlines()[2:] == [
        "| churn | promoted | 1 | 0 | 0 |  |",
        r"| flight\_delays | drift | 1 | 2 | 0 | 0 |",
    ]
    assert alert_text.counts_markdown([]) == "No alert has been recorded."
