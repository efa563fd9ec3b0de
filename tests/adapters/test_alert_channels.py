"""Alerts on their way: recorded first, delivered at least once, each channel on its own."""

import io
import json
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.adapters import alerts
from mlops_assets.adapters.alerts import Channel, Console, Delivered, JsonLines, Sns, Webhook
from mlops_assets.adapters.alerts import log as alert_log
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.alert_text import Links
from mlops_assets.core.alerts import Alert, Entry, Policy, Severity
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError

NOW = datetime(2013, 4, 1, 12, tzinfo=UTC)
LINKS = Links()
POLICY = Policy(most_per_hour=3)
CASE = "flight_delays"
TABLE = alert_log.table(CASE)
SECRET = "T0000/B0000/XXsecretXX"


@dataclass
class Server:
    """What an HTTP server on loopback was sent, and what it answers next."""

    port: int = 0
    answers: list[int | float] = field(default_factory=list[int | float])
    """Statuses; a float is a status-less pause in seconds. Empty: 200."""
    bodies: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    paths: list[str] = field(default_factory=list[str])
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _serving(*answers: int | float) -> Iterator[Server]:
    state = Server(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.bodies.append(json.loads(body))
            state.headers.append(dict(self.headers))
            state.paths.append(self.path)
            answer = state.answers.pop(0) if state.answers else 200
            if isinstance(answer, float):
                state.released.wait(answer)
                return
            self.send_response(answer)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake where nothing is yet."""
    return Lake(str(tmp_path / "lake"))


def _alert(subject: str = "weather", severity: Severity = "warning", hours: float = 0) -> Alert:
    return Alert(
        kind="drift",
        severity=severity,
        use_case="flight_delays",
        subject=subject,
        owners=("team:flights",),
        cause="the PSI of temp is 0.31 (limit 0.25)",
        page="/assets/flight_delays/drift",
        at=NOW + timedelta(hours=hours),
    )


def _webhook(port: int, tmp_path: Path, **changes: object) -> Webhook:
    secret = tmp_path / "url"
    secret.write_text(f"http://127.0.0.1:{port}/services/{SECRET}\n")
    fields: dict[str, object] = {"url": f"file:{secret}", "timeout_s": 5.0, **changes}
    return Webhook(**fields)  # pyright: ignore[reportArgumentType]


def _flush(lake: Lake, *channels: Channel, now: datetime = NOW, **more: float) -> list[Delivered]:
    return alerts.flush(
        lake, channels, POLICY, LINKS, now, use_case=CASE, pauses_s=(0.0, 0.0), **more
    )


def _outcomes(report: list[Delivered]) -> list[str]:
    return [delivered.outcome for delivered in report]


def _everything_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(
        (error.__context__, error.__cause__, error.args)
    )


# The log


def test_what_is_recorded_comes_back_in_order(lake: Lake) -> None:
    """Alerts, what was suppressed, and resolutions; nothing from an empty log."""
    assert alerts.entries(lake, CASE) == []
    first = alerts.record(lake, [_alert("a"), _alert("b", "critical")], POLICY)
    again = _alert("a", hours=1).model_copy(update={"cause": "PSI 0.4"})
    second = alerts.record(lake, [again], POLICY)
    closed = alerts.resolve(lake, [_alert("a").key, _alert("x").key], "PSI 0.02", NOW, POLICY)
    log = alerts.entries(lake, CASE)
    assert log == [*first, *second, *closed]
    assert [(entry.event, entry.alert.subject) for entry in log] == [
        ("raised", "b"),
        ("raised", "a"),
        ("suppressed", "a"),
        ("resolved", "a"),
    ]


def test_what_says_nothing_new_commits_nothing(lake: Lake) -> None:
    """A tick of every half minute does not grow the table."""
    alerts.record(lake, [_alert()], POLICY)
    version = lake.version(TABLE)
    assert alerts.record(lake, [_alert(hours=1)], POLICY) == []
    assert alerts.record(lake, [], POLICY) == []
    assert alerts.resolve(lake, [_alert("x").key], "well", NOW, POLICY) == []
    assert lake.version(TABLE) == version


def test_the_log_can_be_queried_without_its_documents(lake: Lake) -> None:
    """Columns for whoever measures precision and recall elsewhere."""
    alerts.record(lake, [_alert()], POLICY)
    (row,) = lake.read_log(TABLE).to_pylist()
    assert json.loads(row.pop("record"))["alert"]["owners"] == ["team:flights"]
    assert len(row.pop("id")) == 16
    assert row == {
        "event": "raised",
        "use_case": "flight_delays",
        "kind": "drift",
        "subject": "weather",
        "severity": "warning",
        "at": NOW,
    }


def test_an_entry_of_another_release_is_named(lake: Lake) -> None:
    """Never taken for an empty history, which would tell everything again."""
    alerts.record(lake, [_alert()], POLICY)
    rows = lake.read_log(TABLE)
    at = rows.schema.get_field_index("record")
    foreign = rows.set_column(at, rows.schema.field(at), pa.array(['{"a": 1}']))
    lake.append(TABLE, foreign)
    with pytest.raises(PermanentError, match="alerts' of the lake has an entry that is no Entry"):
        alerts.entries(lake, CASE)


def test_a_log_of_many_appends_is_compacted_and_keeps_its_order(lake: Lake) -> None:
    """Reading it does not take longer with each alert."""
    for n in range(66):
        alert_log.append_entries(
            lake,
            [Entry(id=f"{n}", event="raised", alert=_alert(f"{n}"), reason="new")],
        )
    files = list(Path(lake.root, TABLE).glob("*.parquet"))
    assert [entry.id for entry in alerts.entries(lake, CASE)] == [f"{n}" for n in range(66)]
    lake.vacuum(TABLE, [], 0)
    assert len(list(Path(lake.root, TABLE).glob("*.parquet"))) < 10 < len(files)


# Delivery


def test_each_alert_reaches_each_channel_once(lake: Lake, tmp_path: Path) -> None:
    """The most severe first, what is over last; the next flush has nothing to do."""
    alerts.record(lake, [_alert("a")], POLICY)
    alerts.resolve(lake, [_alert("a").key], "PSI 0.02", NOW, POLICY)
    alerts.record(lake, [_alert("b", "info"), _alert("c", "critical")], POLICY)
    stream, path = io.StringIO(), tmp_path / "out" / "alerts.jsonl"
    report = _flush(lake, Console(stream=stream), JsonLines(path))
    assert _outcomes(report) == ["delivered"] * 8
    titles = [line for line in stream.getvalue().splitlines() if line.startswith("[")]
    assert titles == [
        "[critical] flight_delays: drift, c",
        "[warning] flight_delays: drift, a",
        "[info] flight_delays: drift, b",
        "[resolved] flight_delays: drift, a",
    ]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["title"] for line in lines] == titles
    assert _flush(lake, Console(stream=stream), JsonLines(path)) == []


def test_the_summary_of_a_storm_is_sent_by_a_later_flush(lake: Lake, tmp_path: Path) -> None:
    """What was capped after the first summary is told when the hour is over, once."""
    alerts.record(lake, [_alert(f"{n}") for n in range(5)], POLICY)
    alerts.record(lake, [_alert("late", hours=0.5)], POLICY)
    channel = JsonLines(tmp_path / "alerts.jsonl")
    assert len(_flush(lake, channel, now=NOW + timedelta(minutes=40))) == 4
    (told,) = _flush(lake, channel, now=NOW + timedelta(hours=2))
    assert told.entry.alert.kind == "storm"
    assert "about late" in told.entry.alert.cause
    assert _flush(lake, channel, now=NOW + timedelta(hours=4)) == []


def test_a_channel_that_is_down_blocks_no_other_and_gets_it_later(
    lake: Lake, tmp_path: Path, free_port: int
) -> None:
    """Refused connections: kept for it, delivered elsewhere, sent once it is back."""
    alerts.record(lake, [_alert("a"), _alert("b")], POLICY)
    stream = io.StringIO()
    away = _webhook(free_port, tmp_path)
    report = _flush(lake, away, Console(stream=stream))
    assert sorted((d.channel, d.outcome) for d in report) == [
        ("console", "delivered"),
        ("console", "delivered"),
        ("webhook", "kept"),
        ("webhook", "kept"),
    ]
    assert "Connection refused" in report[-1].reason or "Connection refused" in report[0].reason
    with _serving() as server:
        back = _webhook(server.port, tmp_path)
        report = _flush(lake, back, Console(stream=stream))
        assert [(d.channel, d.outcome) for d in report] == [("webhook", "delivered")] * 2
        assert [body["subject"] for body in server.bodies] == ["a", "b"]


def test_an_alert_whose_sender_was_killed_is_sent_by_the_next_flush(
    lake: Lake, tmp_path: Path
) -> None:
    """Killed after recording, and killed after sending: at least once, with the same id."""
    path = tmp_path / "alerts.jsonl"
    alerts.record(lake, [_alert()], POLICY)
    killed = subprocess.run([sys.executable, "-c", _DYING, lake.root, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert alert_log.deliveries(lake, CASE) == []
    assert _outcomes(_flush(lake, JsonLines(path))) == ["delivered"]
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
    alerts.record(lake, [_alert("old")], POLICY)
    alerts.record(lake, [_alert("new", hours=24 * 8)], POLICY)
    channel = JsonLines(tmp_path / "alerts.jsonl")
    later = NOW + timedelta(days=8)
    report = _flush(lake, channel, now=later)
    assert [(d.entry.alert.subject, d.outcome) for d in report] == [
        ("old", "expired"),
        ("new", "delivered"),
    ]
    assert _flush(lake, channel, now=later) == []


def test_a_flush_that_has_no_time_left_keeps_the_rest(lake: Lake, tmp_path: Path) -> None:
    """A sensor's tick is bounded; nothing is lost."""
    alerts.record(lake, [_alert()], POLICY)
    channel = JsonLines(tmp_path / "alerts.jsonl")
    report = _flush(lake, channel, budget_s=-1)
    assert [(d.outcome, d.reason) for d in report] == [
        ("kept", "channel jsonl: no time left in this flush")
    ]
    assert _outcomes(_flush(lake, channel)) == ["delivered"]


def test_a_defect_in_a_channel_stops_neither_the_others_nor_tells_its_words(lake: Lake) -> None:
    """An unexpected exception is kept like a failure; its text may hold a secret."""

    @dataclass(frozen=True)
    class Defect:
        name: str = "defect"

        def send(self, entry: Entry, links: Links) -> None:
            """Fail in a way that no channel should."""
            raise KeyError(SECRET)

    alerts.record(lake, [_alert()], POLICY)
    report = {d.channel: d for d in _flush(lake, Defect(), Console(stream=io.StringIO()))}
    assert report["console"].outcome == "delivered"
    assert report["defect"].outcome == "kept"
    assert report["defect"].reason == "channel defect: KeyError in its code"


def test_two_channels_of_one_name_are_refused(lake: Lake) -> None:
    """Deliveries of one would count for the other."""
    with pytest.raises(PermanentError, match="console, console"):
        _flush(lake, Console(), Console())


def test_a_time_without_a_zone_is_refused(lake: Lake) -> None:
    """It could not be compared with the alerts'."""
    with pytest.raises(PermanentError, match="no time zone"):
        _flush(lake, Console(), now=datetime(2013, 4, 1))  # noqa: DTZ001 - what is refused


# Webhooks


def test_a_busy_server_is_asked_again(lake: Lake, tmp_path: Path) -> None:
    """500, then 429, then 200: delivered in one flush, three posts with one id."""
    alerts.record(lake, [_alert()], POLICY)
    with _serving(500, 429, 200) as server:
        assert _outcomes(_flush(lake, _webhook(server.port, tmp_path))) == ["delivered"]
    assert len(server.bodies) == 3
    assert len({headers["Idempotency-Key"] for headers in server.headers}) == 1
    assert server.paths == [f"/services/{SECRET}"] * 3


def test_attempts_are_bounded_and_the_rest_waits(lake: Lake, tmp_path: Path) -> None:
    """Three posts of the first alert, none of the second; the next flush sends both."""
    alerts.record(lake, [_alert("a"), _alert("b")], POLICY)
    with _serving(503, 503, 503) as server:
        channel = _webhook(server.port, tmp_path)
        report = _flush(lake, channel)
        assert [(d.outcome, d.reason) for d in report] == [
            ("kept", "channel webhook: the server answered 503")
        ] * 2
        assert [body["subject"] for body in server.bodies] == ["a", "a", "a"]
        assert _outcomes(_flush(lake, channel)) == ["delivered", "delivered"]


def test_a_message_that_is_refused_is_not_sent_again_and_holds_up_no_other(
    lake: Lake, tmp_path: Path
) -> None:
    """400: one post, recorded with its reason; the next alert is sent."""
    alerts.record(lake, [_alert("a"), _alert("b")], POLICY)
    with _serving(400) as server:
        channel = _webhook(server.port, tmp_path)
        report = _flush(lake, channel)
        assert _outcomes(report) == ["refused", "delivered"]
        assert _flush(lake, channel) == []
    assert len(server.bodies) == 2
    refused = alert_log.deliveries(lake, CASE)[0]
    assert "answered 400: it does not take this message" in refused.reason


@pytest.mark.parametrize("status", [302, 401, 403, 404, 410])
def test_an_address_that_is_refused_is_asked_once_a_flush_until_it_is_mended(
    lake: Lake, tmp_path: Path, status: int
) -> None:
    """No retries, which would not help; and the alert is not lost by somebody's wrong URL."""
    alerts.record(lake, [_alert("a"), _alert("b")], POLICY)
    with _serving(status) as server:
        channel = _webhook(server.port, tmp_path)
        assert _outcomes(_flush(lake, channel)) == ["kept", "kept"]
        assert len(server.bodies) == 1
        assert _outcomes(_flush(lake, channel)) == ["delivered", "delivered"]


def test_a_slow_server_is_given_up(tmp_path: Path) -> None:
    """After the timeout, as a transient failure."""
    with _serving(30.0) as server:
        channel = _webhook(server.port, tmp_path, timeout_s=0.2)
        with pytest.raises(TransientError, match="no answer: "):
            channel.send(_entry(), LINKS)


def test_slack_gets_its_own_form(lake: Lake, tmp_path: Path) -> None:
    """One text in Slack's markup."""
    alerts.record(lake, [_alert()], POLICY)
    with _serving() as server:
        _flush(lake, _webhook(server.port, tmp_path, style="slack", name="slack"))
    (body,) = server.bodies
    assert str(body["text"]).startswith("*[warning] flight_delays: drift, weather*\n")
    assert list(body) == ["text"]


def _entry(severity: Severity = "warning", subject: str = "weather") -> Entry:
    return Entry(id="0123456789abcdef", event="raised", alert=_alert(subject, severity), reason="")


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
        Webhook("env:ALERT_URL", timeout_s=5.0).send(_entry(), LINKS)
    assert SECRET[-10:] not in _everything_of(caught.value)
    assert "ALERT_URL" in str(caught.value) or words == "no answer"


def test_nothing_that_is_kept_tells_the_address(lake: Lake, tmp_path: Path) -> None:
    """Reports and recorded deliveries, after each kind of answer."""
    alerts.record(lake, [_alert("a"), _alert("b"), _alert("c")], POLICY)
    with _serving(400, 200, 404) as server:
        report = _flush(lake, _webhook(server.port, tmp_path))
    assert _outcomes(report) == ["refused", "delivered", "kept"]
    assert SECRET not in repr(report)
    assert SECRET not in repr(
        lake.read_log(alert_log.table(CASE, alert_log.DELIVERIES)).to_pylist()
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
        Webhook(reference).send(_entry(), LINKS)
    assert SECRET not in _everything_of(caught.value)


def test_a_secret_that_is_replaced_is_used_at_once(lake: Lake, tmp_path: Path) -> None:
    """It is read when it is used: rotation needs no restart."""
    alerts.record(lake, [_alert()], POLICY)
    channel = Webhook(f"file:{tmp_path / 'url'}", timeout_s=5.0)
    assert _outcomes(_flush(lake, channel)) == ["kept"]
    with _serving() as server:
        _webhook(server.port, tmp_path)
        assert _outcomes(_flush(lake, channel)) == ["delivered"]


# Files and terminals


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    """A crash in the middle of a line leaves that line broken, and the next one whole."""
    path = tmp_path / "alerts.jsonl"
    channel = JsonLines(path)
    channel.send(_entry(), LINKS)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    channel.send(_entry(subject="planes"), LINKS)
    first, cut, last = path.read_text().splitlines()
    assert json.loads(first)["subject"] == "weather"
    assert whole.decode().startswith(cut)
    assert json.loads(last)["subject"] == "planes"


def test_lines_of_several_writers_stay_whole(tmp_path: Path) -> None:
    """Each in its own place, none lost."""
    channel = JsonLines(tmp_path / "alerts.jsonl")
    threads = [
        threading.Thread(
            target=lambda n=n: [channel.send(_entry(subject=f"{n}/{m}"), LINKS) for m in range(10)]
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
    channel.send(_entry(), LINKS)
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, hard))
    try:
        with pytest.raises(TransientError, match="File too large"):
            channel.send(_entry(subject="planes"), LINKS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == whole


def test_a_file_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A folder in its place."""
    with pytest.raises(PermanentError, match="Is a directory"):
        JsonLines(tmp_path).send(_entry(), LINKS)


def test_a_terminal_without_unicode_shows_what_it_can() -> None:
    """And one that is closed is a transient failure."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(stream=stream).send(_entry(subject="Übung"), LINKS)
    assert b"[warning] flight_delays: drift, ?bung\n" in raw.getvalue()
    stream.close()
    with pytest.raises(TransientError, match="channel console: cannot write"):
        Console(stream=stream).send(_entry(), LINKS)


# SNS


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
    alerts.record(lake, [_alert(), _alert(subject, "critical")], POLICY)
    assert _outcomes(_flush(lake, Sns(topic))) == ["delivered", "delivered"]
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
        Sns(topic).send(_entry(), LINKS)


def test_an_sns_that_does_not_answer_is_tried_again(
    aws: str, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    """Refused connections are transient."""
    assert aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port}")
    with pytest.raises(TransientError, match="channel sns: no answer"):
        Sns("arn:aws:sns:eu-west-1:123456789012:alerts").send(_entry(), LINKS)


@pytest.mark.parametrize("topic", ["alerts", "arn:aws:sqs:eu-west-1:1:q", "arn:aws:sns::1:t"])
def test_what_is_no_topic_is_named(topic: str) -> None:
    """Before anything is asked."""
    with pytest.raises(PermanentError, match="is no ARN of an SNS topic"):
        Sns(topic).send(_entry(), LINKS)
