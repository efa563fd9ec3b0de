"""Channels from configuration, and the alert log brought to what is observed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_assets.adapters import alerts
from mlops_assets.adapters.alerts import Console, JsonLines, Sns, Webhook, channels_of
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.alert_text import Links
from mlops_assets.core.alerts import Alert, Policy, Severity
from mlops_assets.core.errors import PermanentError

NOW = datetime(2013, 4, 1, 12, tzinfo=UTC)
POLICY = Policy()


def _alert(subject: str, use_case: str = "a", severity: Severity = "warning") -> Alert:
    return Alert(
        kind="drift",
        severity=severity,
        use_case=use_case,
        subject=subject,
        owners=("team:a",),
        cause="it drifted",
        at=NOW,
    )


def test_each_kind_of_channel_can_be_named() -> None:
    """White space and empty parts do not matter."""
    config = (
        "console, jsonl:/var/alerts.jsonl, slack:env:SLACK_URL, oncall=webhook:file:/run/url,"
        "sns:env:TOPIC, pager=sns:arn:aws:sns:eu-west-1:123456789012:alerts,"
    )
    assert channels_of(config.split(",")) == (
        Console(),
        JsonLines(Path("/var/alerts.jsonl")),
        Webhook("env:SLACK_URL", "slack", style="slack"),
        Webhook("file:/run/url", "oncall"),
        Sns("env:TOPIC"),
        Sns("arn:aws:sns:eu-west-1:123456789012:alerts", "pager"),
    )
    assert channels_of([""]) == ()


@pytest.mark.parametrize(
    "text", ["pigeon", "jsonl", "webhook:https://hooks.example.org/T0/XXsecretXX", "sns:alerts"]
)
def test_what_is_no_channel_is_refused_without_its_address(text: str) -> None:
    """Somebody may have written the secret itself there."""
    with pytest.raises(PermanentError, match="is not understood: write console, jsonl:PATH") as bad:
        channels_of([text])
    assert "XXsecretXX" not in str(bad.value)


def test_two_channels_of_one_name_are_refused() -> None:
    """A name in front tells them apart."""
    with pytest.raises(PermanentError, match="two alert channels are called webhook"):
        channels_of(["webhook:env:A", "webhook:env:B"])
    assert len(channels_of(["webhook:env:A", "other=webhook:env:B"])) == 2


def test_a_topic_by_reference_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """And named by its reference when it is not there."""
    (channel,) = channels_of(["sns:env:NO_TOPIC_ANYWHERE"])
    entry = alerts.record(Lake("memory"), [], POLICY)
    assert entry == []
    monkeypatch.setenv("NO_TOPIC_ANYWHERE", "no topic")
    assert isinstance(channel, Sns)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(str(tmp_path / "lake"))


def test_the_log_is_brought_to_what_is_observed_in_one_commit(lake: Lake) -> None:
    """What is new is raised, what is gone is resolved with its cause, again changes nothing."""
    alerts.settle(lake, "a", [_alert("x"), _alert("y")], {}, POLICY, NOW)
    before = lake.version("a/alerts")
    ended = {_alert("x").key: "mended"}
    for _ in range(2):
        history = alerts.settle(lake, "a", [_alert("y"), _alert("z")], ended, POLICY, NOW)
        assert {key[2] for key in history.open} == {"y", "z"}
        assert lake.version("a/alerts") == before + 1
    resolved = [entry.alert for entry in alerts.entries(lake, "a") if entry.event == "resolved"]
    assert [(alert.subject, alert.cause) for alert in resolved] == [("x", "mended")]


def test_use_cases_leave_each_other_alone(lake: Lake, tmp_path: Path) -> None:
    """Neither are another's alerts closed, nor is its mail sent."""
    alerts.settle(lake, "a", [_alert("x")], {}, POLICY, NOW)
    alerts.settle(lake, "b", [_alert("x", "b")], {}, POLICY, NOW)
    history = alerts.settle(lake, "a", [], {}, POLICY, NOW)
    assert not history.open
    assert [entry.alert.use_case for entry in alerts.entries(lake, "b")] == ["b"]
    channel = JsonLines(tmp_path / "b.jsonl")
    later = NOW + timedelta(minutes=1)
    report = alerts.flush(lake, [channel], POLICY, Links(), later, use_case="b")
    assert [delivered.entry.alert.use_case for delivered in report] == ["b"]
    rest = alerts.flush(lake, [channel], POLICY, Links(), later, use_case="a")
    assert {delivered.entry.alert.use_case for delivered in rest} == {"a"}
