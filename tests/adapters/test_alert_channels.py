"""The channels of alerts: webhooks, files, terminals and SNS, each with its own failures."""

import io
import json
import resource
import threading
from pathlib import Path

import pytest
from alert_channels_support import (
    CASE,
    LINKS,
    POLICY,
    SECRET,
    an_alert,
    an_entry,
    everything_of,
    flushed,
    listening,
    outcomes_of,
    webhook_at,
)

from mlops_assets.adapters import alerts, ledger_tables
from mlops_assets.adapters.alerts import Console, JsonLines, Sns, Webhook
from mlops_assets.adapters.alerts import log as alert_log
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError


def test_a_busy_server_is_asked_again(lake: Lake, tmp_path: Path) -> None:
    """500, then 429, then 200: delivered in one flush, three posts with one id."""
    alerts.record(lake, [an_alert()], POLICY)
    with listening(500, 429, 200) as server:
        assert outcomes_of(flushed(lake, webhook_at(server.port, tmp_path))) == ["delivered"]
    assert len(server.bodies) == 3
    assert len({headers["Idempotency-Key"] for headers in server.headers}) == 1
    assert server.paths == [f"/services/{SECRET}"] * 3


def test_attempts_are_bounded_and_the_rest_waits(lake: Lake, tmp_path: Path) -> None:
    """Three posts of the first alert, none of the second; the next flush sends both."""
    alerts.record(lake, [an_alert("a"), an_alert("b")], POLICY)
    with listening(503, 503, 503) as server:
        channel = webhook_at(server.port, tmp_path)
        report = flushed(lake, channel)
        assert [(d.outcome, d.reason) for d in report] == [
            ("kept", "channel webhook: the server answered 503")
        ] * 2
        assert [body["subject"] for body in server.bodies] == ["a", "a", "a"]
        assert outcomes_of(flushed(lake, channel)) == ["delivered", "delivered"]


def test_a_message_that_is_refused_is_not_sent_again_and_holds_up_no_other(
    lake: Lake, tmp_path: Path
) -> None:
    """400: one post, recorded with its reason; the next alert is sent."""
    alerts.record(lake, [an_alert("a"), an_alert("b")], POLICY)
    with listening(400) as server:
        channel = webhook_at(server.port, tmp_path)
        report = flushed(lake, channel)
        assert outcomes_of(report) == ["refused", "delivered"]
        assert flushed(lake, channel) == []
    assert len(server.bodies) == 2
    refused = alert_log.deliveries(lake, CASE)[0]
    assert "answered 400: it does not take this message" in refused.reason


@pytest.mark.parametrize("status", [302, 401, 403, 404, 410])
def test_an_address_that_is_refused_is_asked_once_a_flush_until_it_is_mended(
    lake: Lake, tmp_path: Path, status: int
) -> None:
    """No retries, which would not help; and the alert is not lost by somebody's wrong URL."""
    alerts.record(lake, [an_alert("a"), an_alert("b")], POLICY)
    with listening(status) as server:
        channel = webhook_at(server.port, tmp_path)
        assert outcomes_of(flushed(lake, channel)) == ["kept", "kept"]
        assert len(server.bodies) == 1
        assert outcomes_of(flushed(lake, channel)) == ["delivered", "delivered"]


def test_a_slow_server_is_given_up(tmp_path: Path) -> None:
    """After the timeout, as a transient failure."""
    with listening(30.0) as server:
        channel = webhook_at(server.port, tmp_path, timeout_s=0.2)
        with pytest.raises(TransientError, match="no answer: "):
            channel.send(an_entry(), LINKS)


def test_slack_gets_its_own_form(lake: Lake, tmp_path: Path) -> None:
    """One text in Slack's markup."""
    alerts.record(lake, [an_alert()], POLICY)
    with listening() as server:
        flushed(lake, webhook_at(server.port, tmp_path, style="slack", name="slack"))
    (body,) = server.bodies
    assert str(body["text"]).startswith("*[warning] flight_delays: drift, weather*\n")
    assert list(body) == ["text"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"http://127.0.0.1:1/{SECRET}", "no answer"),
        (f"http://127.0.0.1:1/a b\x7f{SECRET}", "is no http"),
        (f"http://127.0.0.1:1/ü{SECRET}", "is no http"),
        (f"http://127.0.0.1:port/{SECRET}", "is no http"),
        (f"http://[::1/{SECRET}", "is no http"),
        (f"ftp://host/{SECRET}", "is no http"),
        (SECRET, "is no http"),
        (f"http://{SECRET[-10:]}.invalid/", "no answer"),
    ],
)
def test_no_error_tells_the_address(monkeypatch: pytest.MonkeyPatch, url: str, words: str) -> None:
    """Neither its words nor the errors behind it."""
    monkeypatch.setenv("ALERT_URL", url)
    with pytest.raises(PlatformError, match=words) as caught:
        Webhook("env:ALERT_URL", timeout_s=5.0).send(an_entry(), LINKS)
    assert SECRET[-10:] not in everything_of(caught.value)
    assert "ALERT_URL" in str(caught.value) or words == "no answer"


def test_nothing_that_is_kept_tells_the_address(lake: Lake, tmp_path: Path) -> None:
    """Reports and recorded deliveries, after each kind of answer."""
    alerts.record(lake, [an_alert("a"), an_alert("b"), an_alert("c")], POLICY)
    with listening(400, 200, 404) as server:
        report = flushed(lake, webhook_at(server.port, tmp_path))
    assert outcomes_of(report) == ["refused", "delivered", "kept"]
    assert SECRET not in repr(report)
    assert SECRET not in repr(
        ledger_tables.read(lake, alert_log.table(CASE, alert_log.DELIVERIES)).to_pylist()
    )


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"),
        ("file:nowhere/url", "No such file"),
        ("file:empty", "it is empty"),
        ("file:latin1", "it is no UTF-8 text"),
        (f"https://hooks.example.org/{SECRET}", "never written out"),
    ],
)
def test_a_secret_that_is_not_there_is_named_by_its_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, words: str
) -> None:
    """And one that was written out by mistake is not repeated."""
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n")
    Path("latin1").write_bytes(b"\xfc" + SECRET.encode())
    with pytest.raises(PermanentError, match=words) as caught:
        Webhook(reference).send(an_entry(), LINKS)
    assert SECRET not in everything_of(caught.value)


def test_a_secret_that_is_replaced_is_used_at_once(lake: Lake, tmp_path: Path) -> None:
    """It is read when it is used: rotation needs no restart."""
    alerts.record(lake, [an_alert()], POLICY)
    channel = Webhook(f"file:{tmp_path / 'url'}", timeout_s=5.0)
    assert outcomes_of(flushed(lake, channel)) == ["kept"]
    with listening() as server:
        webhook_at(server.port, tmp_path)
        assert outcomes_of(flushed(lake, channel)) == ["delivered"]


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    """A crash in the middle of a line leaves that line broken, and the next one whole."""
    path = tmp_path / "alerts.jsonl"
    channel = JsonLines(path)
    channel.send(an_entry(), LINKS)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    channel.send(an_entry(subject="planes"), LINKS)
    first, cut, last = path.read_text().splitlines()
    assert json.loads(first)["subject"] == "weather"
    assert whole.decode().startswith(cut)
    assert json.loads(last)["subject"] == "planes"


def test_lines_of_several_writers_stay_whole(tmp_path: Path) -> None:
    """Each in its own place, none lost."""
    channel = JsonLines(tmp_path / "alerts.jsonl")
    threads = [
        threading.Thread(
            target=lambda n=n: [
                channel.send(an_entry(subject=f"{n}/{m}"), LINKS) for m in range(10)
            ]
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "alerts.jsonl").read_text().splitlines()
    found = sorted(json.loads(line)["subject"] for line in lines)
    assert found == sorted(f"{n}/{m}" for n in range(4) for m in range(10))


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """A file that may grow by ten bytes more: a transient failure, and the file as it was."""
    path = tmp_path / "alerts.jsonl"
    channel = JsonLines(path)
    channel.send(an_entry(), LINKS)
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, hard))
    try:
        with pytest.raises(TransientError, match="File too large"):
            channel.send(an_entry(subject="planes"), LINKS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == whole


def test_a_file_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A folder in its place."""
    with pytest.raises(PermanentError, match="Is a directory"):
        JsonLines(tmp_path).send(an_entry(), LINKS)


def test_a_terminal_without_unicode_shows_what_it_can() -> None:
    """And one that is closed is a transient failure."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(stream=stream).send(an_entry(subject="Übung"), LINKS)
    assert b"[warning] flight_delays: drift, ?bung\n" in raw.getvalue()
    stream.close()
    with pytest.raises(TransientError, match="channel console: cannot write"):
        Console(stream=stream).send(an_entry(), LINKS)


@pytest.fixture
def aws(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment that reaches the AWS server on loopback."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return s3_server


def test_sns_is_sent_text_with_attributes_to_filter_by(lake: Lake, aws: str) -> None:
    """A queue that subscribes to critical alerts gets those alone."""
    import boto3

    sns = boto3.client("sns", region_name="eu-west-1", endpoint_url=aws)
    sqs = boto3.client("sqs", region_name="eu-west-1", endpoint_url=aws)
    topic = sns.create_topic(Name="alerts")["TopicArn"]
    queue = sqs.create_queue(QueueName="night")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arn["Attributes"]["QueueArn"],
        Attributes={"FilterPolicy": json.dumps({"severity": ["critical"]})},
    )
    subject = "Ü" + "x" * 200
    alerts.record(lake, [an_alert(), an_alert(subject, "critical")], POLICY)
    assert outcomes_of(flushed(lake, Sns(topic))) == ["delivered", "delivered"]
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    (message,) = [json.loads(message["Body"]) for message in messages]
    assert message["Subject"].startswith("[critical] flight_delays: drift, ?xxx")
    assert len(message["Subject"]) == 100
    assert f"drift, {subject}\n" in message["Message"]
    assert message["MessageAttributes"]["kind"]["Value"] == "drift"


def test_a_topic_that_is_not_there_has_to_be_mended(aws: str) -> None:
    """Kept and named, without retries."""
    assert aws
    topic = "arn:aws:sns:eu-west-1:123456789012:nowhere"
    with pytest.raises(PermanentError, match=r"SNS answered 404 NotFound(Exception)? for arn:aws"):
        Sns(topic).send(an_entry(), LINKS)


def test_an_sns_that_does_not_answer_is_tried_again(
    aws: str, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    """Refused connections are transient."""
    assert aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port}")
    with pytest.raises(TransientError, match="channel sns: no answer"):
        Sns("arn:aws:sns:eu-west-1:123456789012:alerts").send(an_entry(), LINKS)


@pytest.mark.parametrize("topic", ["alerts", "arn:aws:sqs:eu-west-1:1:q", "arn:aws:sns::1:t"])
def test_what_is_no_topic_is_named(topic: str) -> None:
    """Before anything is asked."""
    with pytest.raises(PermanentError, match="is no ARN of an SNS topic"):
        Sns(topic).send(an_entry(), LINKS)
