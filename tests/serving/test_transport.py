"""The server on the wire: clients that are slow, wrong or hostile, and those beside them."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import free_port
from serving_support import (
    ServerProcess,
    infer_body,
    make_release,
    running_server,
    wait_for,
    write_release,
)

INFER = "/v2/models/flights/infer"
HOST = b"host: x\r\n"
JSON = b"content-type: application/json\r\n"
BODY = json.dumps(infer_body()).encode()
TOKEN = "a-token-of-enough-length"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server process with short times and low limits."""
    folder: Path = tmp_path_factory.mktemp("server")
    write_release(folder / "release.json", make_release(folder))
    options = "--header-timeout 0.5 --read-timeout 0.5 --keep-alive 1 --max-connections 40"
    with running_server(folder, free_port(), *options.split(), "--max-body-mb", "1") as server:
        yield server


@contextlib.contextmanager
def client(server: ServerProcess, data: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which ``data`` was sent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        yield connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def statuses(answers: bytes) -> list[int]:
    """The status of each answer in ``answers``."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def post(body: bytes = BODY, *headers: bytes, path: str = INFER) -> bytes:
    """A request that ends its connection."""
    head = b"POST %s HTTP/1.1\r\n" % path.encode() + HOST + JSON + b"connection: close\r\n"
    return head + b"".join(headers) + b"content-length: %d\r\n\r\n" % len(body) + body


def in_flight(server: ServerProcess) -> int:
    """How many requests the server says are being read or answered."""
    with client(server, b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") as asking:
        return int(re.findall(rb"\nmlops_endpoint_in_flight (\d+)", received(asking))[0])


def chunked(*parts: bytes) -> bytes:
    """``parts`` in the chunked coding, with a trailer."""
    coded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return coded + b"0\r\nx-trailer: 1\r\n\r\n"


def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    """Small, large and refused ones, whether an answer is computed in a thread or in place."""
    large = json.dumps({"id": "large", **infer_body(3000)}).encode()
    assert len(large) > 32 * 1024
    requests = b""
    for name, body in (("a", BODY), ("b", large), ("c", b"{"), ("d", BODY)):
        own = json.dumps({"id": name, **json.loads(body)}).encode() if body == BODY else body
        requests += b"POST %s HTTP/1.1\r\n" % INFER.encode() + HOST + JSON
        requests += b"content-length: %d\r\n\r\n" % len(own) + own
    requests += b"GET /v2/health/live HTTP/1.1\r\nconnection: close\r\n\r\n"
    with client(server, requests) as connection:
        answers = received(connection)
    assert statuses(answers) == [200, 200, 400, 200, 200]
    assert re.findall(rb'"id":"(\w+)"', answers) == [b"a", b"large", b"d"]


def test_a_flood_of_pipelined_requests_takes_no_memory(server: ServerProcess) -> None:
    """A client that asks for much and reads nothing is waited for, and gets all in the end."""
    before = rss(server)
    number = 5000
    flood = b"GET /openapi.json HTTP/1.1\r\n\r\n" * number + b"GET /v2 HTTP/1.0\r\n\r\n"
    with client(server) as connection:
        sending = threading.Thread(target=connection.sendall, args=(flood,))
        sending.start()
        time.sleep(1)
        assert rss(server) - before < 25
        answers = received(connection)
        sending.join()
    assert statuses(answers) == [200] * (number + 1)
    assert len(answers) > 40_000_000
    assert server.call("POST", INFER, infer_body())[0] == 200


def test_a_head_that_comes_in_parts_is_not_taken_for_a_large_one(server: ServerProcess) -> None:
    """What comes with its end counts to the body, or to the requests that follow."""
    large = json.dumps(infer_body(4000)).encode()
    assert len(large) > 40 * 1024
    many = b"GET /v2 HTTP/1.1\r\n\r\n" * 2000 + b"GET /v2 HTTP/1.0\r\n\r\n"
    for whole, expected in ((post(large), [200]), (many, [200] * 2001)):
        with client(server, whole[:9]) as connection:
            time.sleep(0.2)
            sending = threading.Thread(target=connection.sendall, args=(whole[9:],))
            sending.start()
            assert statuses(received(connection)) == expected
            sending.join()


def rss(server: ServerProcess) -> float:
    """Resident memory of the server in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


@pytest.mark.parametrize(
    "parts", [[BODY], [BODY[:10], BODY[10:]], [bytes([byte]) for byte in BODY]]
)
def test_a_chunked_body_is_a_body(server: ServerProcess, parts: list[bytes]) -> None:
    """However it is cut, and whatever follows it."""
    head = b"POST %s HTTP/1.1\r\n" % INFER.encode() + HOST + JSON
    with client(server, head + b"transfer-encoding: chunked\r\n\r\n") as connection:
        connection.sendall(chunked(*parts))
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert statuses(received(connection)) == [200, 200]


def test_a_client_that_waits_for_leave_to_send_gets_it_or_the_reason(server: ServerProcess) -> None:
    """100 when the request is let in; what is refused by its headers is not sent."""
    head = b"POST %s HTTP/1.1\r\n" % INFER.encode() + HOST + JSON + b"expect: 100-continue\r\n"
    with client(server, head + b"content-length: %d\r\n\r\n" % len(BODY)) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(BODY)
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
    with client(server, head + b"content-length: 2000000\r\n\r\n") as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_head_has_no_body_and_an_old_client_is_answered_once(server: ServerProcess) -> None:
    """HTTP/1.0 without keep-alive closes; HEAD says the length of what GET would send."""
    with client(server, b"HEAD /v2 HTTP/1.1\r\nconnection: close\r\n\r\n") as connection:
        head, _, body = received(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b""
    assert int(re.findall(rb"content-length: (\d+)", head)[0]) > 0
    with client(server, b"GET /v2 HTTP/1.0\r\n\r\n") as connection:
        assert statuses(received(connection)) == [200]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n", {400}),
        (b"GET /v2 HTTP/9.9\r\n\r\n", {400}),
        (b"GET /v2 HTTP/1.1\r\nbad header\r\n\r\n", {400}),
        (b"GET /v2 HTTP/1.1\r\nx: " + b"x" * 100_000, {400, 431}),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", {400, 414, 431}),
        (b"GET /v2 HTTP/1.1\r\n" + b"x: y\r\n" * 2000 + b"\r\n", {400, 431}),
        (b"POST /invocations HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", {400}),
        (
            b"POST /invocations HTTP/1.1\r\ncontent-length: 1\r\n"
            b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            {400},
        ),
        (b"POST /invocations HTTP/1.1\r\ncontent-length: -1\r\n\r\nx", {400}),
        (
            b"POST /invocations HTTP/1.1\r\ntransfer-encoding: chunked\r\n" + JSON + b"\r\nzz\r\n",
            {400},
        ),
    ],
)
def test_what_is_no_http_is_refused_and_the_connection_closed(
    server: ServerProcess, data: bytes, expected: set[int]
) -> None:
    """Nothing that two readers could read in two ways is read at all."""
    with client(server, data) as connection:
        answers = received(connection)
    assert set(statuses(answers)) <= expected
    # Who is still sending when its connection closes may see the end before the reason.
    assert len(statuses(answers)) == 1 or len(data) > 10_000
    assert in_flight(server) == 0


@pytest.mark.parametrize(
    "data", [b"", b"G", b"GET /v2 HTTP/1.1\r\nhost: x\r\n", b"GET /v2 HTTP/1.1\r\nx: " + b"y" * 100]
)
def test_headers_that_do_not_come_end_the_connection(server: ServerProcess, data: bytes) -> None:
    """Slow headers, and none at all; drop by drop does not buy more time."""
    with client(server, data) as connection:
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while data and not stop.wait(0.1):
                    connection.sendall(b"x" if b"x: " in data else b"")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert set(statuses(received(connection))) <= {408}
        finally:
            stop.set()
            dripping.join()


def test_a_slow_body_is_a_408_and_holds_up_nobody(server: ServerProcess) -> None:
    """Thirty of them are read at once; who asks beside them is answered."""
    with contextlib.ExitStack() as stack:
        head = (
            b"POST %s HTTP/1.1\r\n" % INFER.encode() + HOST + JSON + b"content-length: 500\r\n\r\n{"
        )
        slow = [stack.enter_context(client(server, head)) for _ in range(30)]
        wait_for(lambda: in_flight(server) == 30, 5)
        assert server.call("POST", INFER, infer_body())[0] == 200
        for connection in slow:
            assert statuses(received(connection)) == [408]
    assert in_flight(server) == 0


def test_an_idle_connection_ends_and_one_in_use_goes_on(server: ServerProcess) -> None:
    """Keep-alive has an end; each request begins it anew."""
    ask = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    with client(server) as connection:
        for _ in range(4):
            connection.sendall(ask)
            assert statuses(connection.recv(10_000)) == [200]
            time.sleep(0.5)
        assert received(connection) == b""


def test_one_connection_too_many_is_refused_at_once(server: ServerProcess) -> None:
    """And those that are there go on."""
    with contextlib.ExitStack() as stack:
        wait_for(lambda: in_flight(server) == 0)
        kept = [stack.enter_context(client(server)) for _ in range(50)]
        refused = 0
        for connection in kept:
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1000)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 503")
                refused += 1
            if refused == 0:
                connection.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
                connection.settimeout(20)
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert refused >= 10
    wait_for(lambda: server.get("/ping")[0] == 200)


@pytest.mark.parametrize("sent", [b"", BODY[:10], b"x" * 60_000])
def test_a_client_that_goes_away_leaves_nothing_behind(server: ServerProcess, sent: bytes) -> None:
    """Amid a body: its place is free again."""
    head = b"POST %s HTTP/1.1\r\n" % INFER.encode() + HOST + JSON + b"content-length: 90000\r\n\r\n"
    for _ in range(5):
        with client(server, head + sent):
            pass
    wait_for(lambda: in_flight(server) == 0, 5)
    assert server.call("POST", INFER, infer_body())[0] == 200


def test_a_client_that_ends_its_side_is_still_answered(server: ServerProcess) -> None:
    """Some send all, close for writing, and read: in place and from a thread."""
    for body in (BODY, json.dumps(infer_body(3000)).encode()):
        with client(server, post(body)) as connection:
            connection.shutdown(socket.SHUT_WR)
            assert statuses(received(connection)) == [200]


def test_many_large_bodies_are_refused_in_bounded_memory(server: ServerProcess) -> None:
    """Announced, chunked, and of far too many values: memory does not grow with their number."""
    for _ in range(2):
        refuse_large(server)
    before = rss(server)
    for _ in range(10):
        refuse_large(server)
    assert rss(server) - before < 30


def refuse_large(server: ServerProcess) -> None:
    """One large body of each kind."""
    values = b'{"inputs": [{"name": "hour", "data": [' + b"0," * 500_000
    deep = b'{"instances": ' + b"[" * 1_000_000
    strings = b'{"instances": [' + b'"",' * 300_000
    for body in (values, deep, strings):
        assert server.call("POST", "/invocations", body)[0] in (400, 413, 422)
        assert server.call("POST", INFER, body)[0] in (400, 413, 422)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    parts = (b"[" * 100_000 for _ in range(20))
    head = {"content-type": "application/json"}
    with contextlib.suppress(ConnectionError):
        connection.request("POST", "/invocations", parts, head, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    status, _ = server.call("POST", "/invocations", b"x" * 5_000_000)
    assert status == 413


def test_tokens_limits_and_the_log_on_the_wire(tmp_path: Path) -> None:
    """The flags reach the server; its log is JSON, line by line, without a token in it."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    options = ("--token-file", str(tokens), "--max-in-flight", "1", "--access-log", "all")
    with running_server(tmp_path, free_port(), *options) as server:
        assert server.call("POST", INFER, infer_body())[0] == 401
        good = b"authorization: Bearer %s\r\n" % TOKEN.encode()
        with client(server, post(BODY, good)) as connection:
            assert statuses(received(connection)) == [200]
        slow = b"POST %s HTTP/1.1\r\n" % INFER.encode() + JSON + good
        with client(server, slow + b"content-length: 100\r\n\r\n{"):
            wait_for(lambda: busy(server, good) == [503])
            with client(server, post(BODY, good)) as connection:
                answer = received(connection)
            assert statuses(answer) == [503]
            assert b"retry-after: 1\r\n" in answer
        # The model answers a moment before the process has said that it is ready.
        wait_for(lambda: '"ready"' in server.said())
        lines = [json.loads(line) for line in server.said().splitlines()]
    assert {"answered", "refused", "ready"} <= {line["message"] for line in lines}
    assert TOKEN not in server.said()


def busy(server: ServerProcess, good: bytes) -> list[int]:
    """The statuses of one more request."""
    with client(server, post(BODY, good)) as connection:
        return statuses(received(connection))
