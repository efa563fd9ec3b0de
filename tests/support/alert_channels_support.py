"""A log of alerts, a server that is told them, and what became of each."""

import json
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mlops_assets.adapters import alerts
from mlops_assets.adapters.alerts import Channel, Delivered, Webhook
from mlops_assets.adapters.alerts import log as alert_log
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.alert_text import Links
from mlops_assets.core.alerts import Alert, Entry, Policy, Severity

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
def listening(*answers: int | float) -> Iterator[Server]:
    """A server on loopback that gives these answers, one a request, and keeps what it was sent."""
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


def an_alert(subject: str = "weather", severity: Severity = "warning", hours: float = 0) -> Alert:
    """An alert, so many hours after NOW."""
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


def webhook_at(port: int, tmp_path: Path, **changes: object) -> Webhook:
    """A channel that posts to a server of this machine; its address is a secret in a file."""
    secret = tmp_path / "url"
    secret.write_text(f"http://127.0.0.1:{port}/services/{SECRET}\n")
    fields: dict[str, object] = {"url": f"file:{secret}", "timeout_s": 5.0, **changes}
    return Webhook(**fields)  # pyright: ignore[reportArgumentType]


def flushed(lake: Lake, *channels: Channel, now: datetime = NOW, **more: float) -> list[Delivered]:
    """What became of what waits for ``channels``."""
    return alerts.flush(
        lake, channels, POLICY, LINKS, now, use_case=CASE, pauses_s=(0.0, 0.0), **more
    )


def outcomes_of(report: list[Delivered]) -> list[str]:
    """What became of each delivery."""
    return [delivered.outcome for delivered in report]


def everything_of(error: BaseException) -> str:
    """All that an error tells, its causes included."""
    return "".join(traceback.format_exception(error)) + repr(
        (error.__context__, error.__cause__, error.args)
    )


def an_entry(severity: Severity = "warning", subject: str = "weather") -> Entry:
    """An entry of the log."""
    return Entry(
        id="0123456789abcdef", event="raised", alert=an_alert(subject, severity), reason=""
    )
