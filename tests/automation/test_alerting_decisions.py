"""The sensor of alerts on decisions and endpoints: each told once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from alerting_support import (
    Desk,
    decide_on,
    promotion_of,
    record_taken,
    retraining_of,
)

from mlops_assets.core.rollout_state import EndpointRecord, ServedModel, first_release


def test_each_decision_about_a_challenger_is_noticed_once(desk: Desk) -> None:
    """Also those that came between two ticks; an evaluation of the champion itself is none."""
    decide_on(desk, promotion_of(1, "promoted"))
    assert desk.tick() == ["raised promoted version 1"]
    assert desk.tick(30) == []
    decide_on(
        desk,
        promotion_of(2, "refused"),
        promotion_of(3, "held"),
        promotion_of(4, "promoted"),
        promotion_of(1, "held", "again"),
    )
    assert sorted(desk.tick(31)) == [
        "raised promoted version 4",
        "raised refused version 2",
        "raised refused version 3, held",
    ]
    assert "version 1 serves on" in next(s for s in desk.sent() if s["kind"] == "refused")["cause"]
    assert desk.tick(60) == []


def test_each_retraining_that_starts_is_noticed_with_its_reasons(desk: Desk) -> None:
    """Also when other decisions came after it; those say nothing to people."""
    assert desk.tick() == []
    record_taken(
        desk, retraining_of("2024-03-02.v1", 1), retraining_of(None, 2), retraining_of(None, 3)
    )
    assert desk.tick(4) == ["raised retraining_started visits:2024-03-02.v1:1"]
    assert "log-loss 0.6 is over 0.5" in desk.sent()[0]["cause"]
    record_taken(desk, retraining_of(None, 5))
    assert desk.tick(6) == []
    assert desk.tick(48) == []


def test_a_retraining_without_budget_is_told_until_it_starts(desk: Desk) -> None:
    """Its start is a notice of its own."""
    record_taken(desk, retraining_of("2024-03-02.v1", 0, "budget"))
    assert desk.tick() == ["raised retraining_put_off 2024-03-02.v1"]
    assert desk.tick(1) == []
    record_taken(desk, retraining_of("2024-03-02.v1", 2))
    assert sorted(desk.tick(3)) == [
        "raised retraining_started visits:2024-03-02.v1:1",
        "resolved retraining_put_off 2024-03-02.v1",
    ]


@contextmanager
def _answering(port: int) -> Iterator[None]:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"ready": true}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Ready)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_endpoint_that_stays_silent_is_told_until_it_is_ready(
    desk: Desk, tmp_path: Path
) -> None:
    """Not at the first tick without an answer; and not when somebody has stopped it."""
    port = desk.project.spec.endpoint.port
    champion = ServedModel(version=1, sha256="0" * 64, artifact="model.ubj")
    release = first_release("visits", champion, datetime(2026, 3, 1, tzinfo=UTC), "promoted")
    record = EndpointRecord(
        use_case="visits",
        url=f"http://127.0.0.1:{port}",
        pid=1,
        instance="i",
        release=release,
        prediction_log="log",
    )
    desk.write("endpoint", record)
    assert [desk.tick(hours) for hours in (0, 1, 2)] == [
        [],
        ["raised endpoint_down endpoint"],
        [],
    ]
    with _answering(port):
        assert desk.tick(3) == ["resolved endpoint_down endpoint"]
    assert [desk.tick(hours) for hours in (4, 5)] == [[], ["raised endpoint_down endpoint"]]
    (tmp_path / "endpoints" / "visits").mkdir(parents=True)
    assert desk.tick(6) == ["resolved endpoint_down endpoint"]
