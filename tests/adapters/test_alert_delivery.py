"""Alerts on their way: recorded first, delivered at least once, each channel on its own."""

import io
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alert_channels_support import (
    CASE,
    NOW,
    POLICY,
    SECRET,
    an_alert,
    flushed,
    listening,
    outcomes_of,
    webhook_at,
)

from mlops_assets.adapters import alerts
from mlops_assets.adapters.alerts import Console, JsonLines
from mlops_assets.adapters.alerts import log as alert_log
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.alert_text import Links
from mlops_assets.core.alerts import Entry
from mlops_assets.core.errors import PermanentError


def test_each_alert_reaches_each_channel_once(lake: Lake, tmp_path: Path) -> None:
    """The most severe first, what is over last; the next flush has nothing to do."""
    alerts.record(lake, [an_alert("a")], POLICY)
    alerts.resolve(lake, [an_alert("a").key], "PSI 0.02", NOW, POLICY)
    alerts.record(lake, [an_alert("b", "info"), an_alert("c", "critical")], POLICY)
    stream, path = io.StringIO(), tmp_path / "out" / "alerts.jsonl"
    report = flushed(lake, Console(stream=stream), JsonLines(path))
    assert outcomes_of(report) == ["delivered"] * 8
    titles = [line for line in stream.getvalue().splitlines() if line.startswith("[")]
    assert titles == [
        "[critical] flight_delays: drift, c",
        "[warning] flight_delays: drift, a",
        "[info] flight_delays: drift, b",
        "[resolved] flight_delays: drift, a",
    ]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["title"] for line in lines] == titles
    assert flushed(lake, Console(stream=stream), JsonLines(path)) == []


def test_the_summary_of_a_storm_is_sent_by_a_later_flush(lake: Lake, tmp_path: Path) -> None:
    """What was capped after the first summary is told when the hour is over, once."""
    alerts.record(lake, [an_alert(f"{n}") for n in range(5)], POLICY)
    alerts.record(lake, [an_alert("late", hours=0.5)], POLICY)
    channel = JsonLines(tmp_path / "alerts.jsonl")
    assert len(flushed(lake, channel, now=NOW + timedelta(minutes=40))) == 4
    (told,) = flushed(lake, channel, now=NOW + timedelta(hours=2))
    assert told.entry.alert.kind == "storm"
    assert "about late" in told.entry.alert.cause
    assert flushed(lake, channel, now=NOW + timedelta(hours=4)) == []


def test_a_channel_that_is_down_blocks_no_other_and_gets_it_later(
    lake: Lake, tmp_path: Path, free_port: int
) -> None:
    """Refused connections: kept for it, delivered elsewhere, sent once it is back."""
    alerts.record(lake, [an_alert("a"), an_alert("b")], POLICY)
    stream = io.StringIO()
    away = webhook_at(free_port, tmp_path)
    report = flushed(lake, away, Console(stream=stream))
    assert sorted((d.channel, d.outcome) for d in report) == [
        ("console", "delivered"),
        ("console", "delivered"),
        ("webhook", "kept"),
        ("webhook", "kept"),
    ]
    assert "Connection refused" in report[-1].reason or "Connection refused" in report[0].reason
    with listening() as server:
        back = webhook_at(server.port, tmp_path)
        report = flushed(lake, back, Console(stream=stream))
        assert [(d.channel, d.outcome) for d in report] == [("webhook", "delivered")] * 2
        assert [body["subject"] for body in server.bodies] == ["a", "b"]


def test_an_alert_whose_sender_was_killed_is_sent_by_the_next_flush(
    lake: Lake, tmp_path: Path
) -> None:
    """Killed after recording, and killed after sending: at least once, with the same id."""
    path = tmp_path / "alerts.jsonl"
    alerts.record(lake, [an_alert()], POLICY)
    killed = subprocess.run([sys.executable, "-c", _DYING, lake.root, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert alert_log.deliveries(lake, CASE) == []
    assert outcomes_of(flushed(lake, JsonLines(path))) == ["delivered"]
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == second


_DYING = """
import os, signal, sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from mlops_assets.adapters.alerts import JsonLines, flush
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.alert_text import Links
from mlops_assets.core.alerts import Policy

@dataclass(frozen=True)
class Dying(JsonLines):
    def send(self, entry, links):
        super().send(entry, links)
        os.kill(os.getpid(), signal.SIGKILL)

lake, path = Lake(sys.argv[1]), Path(sys.argv[2])
now = datetime(2013, 4, 1, 12, tzinfo=UTC)
flush(lake, [Dying(path)], Policy(), Links(), now, use_case="flight_delays")
"""


def test_a_new_channel_is_not_sent_what_is_history(lake: Lake, tmp_path: Path) -> None:
    """What is older than a week is recorded as expired, once; the rest is sent."""
    alerts.record(lake, [an_alert("old")], POLICY)
    alerts.record(lake, [an_alert("new", hours=24 * 8)], POLICY)
    channel = JsonLines(tmp_path / "alerts.jsonl")
    later = NOW + timedelta(days=8)
    report = flushed(lake, channel, now=later)
    assert [(d.entry.alert.subject, d.outcome) for d in report] == [
        ("old", "expired"),
        ("new", "delivered"),
    ]
    assert flushed(lake, channel, now=later) == []


def test_a_flush_that_has_no_time_left_keeps_the_rest(lake: Lake, tmp_path: Path) -> None:
    """A sensor's tick is bounded; nothing is lost."""
    alerts.record(lake, [an_alert()], POLICY)
    channel = JsonLines(tmp_path / "alerts.jsonl")
    report = flushed(lake, channel, budget_s=-1)
    assert [(d.outcome, d.reason) for d in report] == [
        ("kept", "channel jsonl: no time left in this flush")
    ]
    assert outcomes_of(flushed(lake, channel)) == ["delivered"]


def test_a_defect_in_a_channel_stops_neither_the_others_nor_tells_its_words(lake: Lake) -> None:
    """An unexpected exception is kept like a failure; its text may hold a secret."""

    @dataclass(frozen=True)
    class Defect:
        name: str = "defect"

        def send(self, entry: Entry, links: Links) -> None:
            """Fail in a way that no channel should."""
            raise KeyError(SECRET)

    alerts.record(lake, [an_alert()], POLICY)
    report = {d.channel: d for d in flushed(lake, Defect(), Console(stream=io.StringIO()))}
    assert report["console"].outcome == "delivered"
    assert report["defect"].outcome == "kept"
    assert report["defect"].reason == "channel defect: KeyError in its code"


def test_two_channels_of_one_name_are_refused(lake: Lake) -> None:
    """Deliveries of one would count for the other."""
    with pytest.raises(PermanentError, match="console, console"):
        flushed(lake, Console(), Console())


def test_a_time_without_a_zone_is_refused(lake: Lake) -> None:
    """It could not be compared with the alerts'."""
    with pytest.raises(PermanentError, match="no time zone"):
        flushed(lake, Console(), now=datetime(2013, 4, 1))  # noqa: DTZ001 - what is refused
