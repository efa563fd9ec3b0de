"""The model server's life as a real process: its start, a kill amid traffic, its end."""

import http.client
import json
import os
import signal
import socket
import threading
from pathlib import Path

import numpy as np
from serving_support import (
    UA_AT_17,
    infer_body,
    make_release,
    running_server,
    score,
    tiny_model,
    wait_for,
    write_release,
)

from mlops_assets.adapters.prediction_logs import read_predictions

JSON = {"content-type": "application/json"}


def test_a_server_does_not_start_with_a_cut_model(tmp_path: Path, free_port: int) -> None:
    """It ends at once, with an exit code of its own, and leaves no empty log behind."""
    release = make_release(tmp_path)
    Path(release.champion.artifact).write_bytes(tiny_model()[:-100])
    write_release(tmp_path / "release.json", release)
    with running_server(tmp_path, free_port, ready=False) as server:
        assert server.process.wait(20) == 3
        assert "it is cut" in server.said()
        assert not list(server.log_dir.iterdir())


def test_a_log_directory_that_cannot_be_written_is_named(tmp_path: Path, free_port: int) -> None:
    """A server that cannot log does not start; one that runs goes on (see above)."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    (tmp_path / "log").write_text("in the way")
    with running_server(tmp_path, free_port, ready=False) as server:
        assert server.process.wait(20) == 4
        assert str(tmp_path / "log") in server.said()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The message names the address and the exit code says which failure it is."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with running_server(tmp_path, port, ready=False) as server:
            assert server.process.wait(20) == 98
            assert f"port in use: 127.0.0.1:{port}" in server.said()


def test_a_kill_amid_traffic_loses_no_answer_that_was_given(tmp_path: Path, free_port: int) -> None:
    """What a client was told is in the log after SIGKILL, from several connections at once."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    answered: list[str] = []

    def traffic(name: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)
        try:
            for number in range(100_000):
                body = json.dumps({"id": f"{name}-{number}", **infer_body()})
                connection.request("POST", "/v2/models/flights/infer", body, JSON)
                answered.append(json.loads(connection.getresponse().read())["id"])
        except (OSError, http.client.HTTPException, ValueError):
            return

    with running_server(tmp_path, free_port) as server:
        threads = [threading.Thread(target=traffic, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answered) > 200)
        os.kill(server.process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
        logged = read_predictions(server.log_dir)
    assert set(answered) <= set(logged.table["request_id"].to_pylist())
    assert logged.torn_lines <= 1


def test_bad_requests_over_the_wire_hurt_no_other(tmp_path: Path, free_port: int) -> None:
    """Slow bodies, 100,000 rows, chunked floods and noise: each is refused, others are answered."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    with running_server(tmp_path, free_port, "--read-timeout", "0.5") as server:
        slow = socket.create_connection(("127.0.0.1", free_port), timeout=20)
        slow.sendall(
            b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 1000\r\n\r\n{"
        )
        noise = socket.create_connection(("127.0.0.1", free_port), timeout=20)
        noise.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert noise.recv(100).startswith(b"HTTP/1.1 400")
        status, content = server.call("POST", "/v2/models/flights/infer", infer_body(100_000))
        assert (status, "at most 10000" in str(content["error"])) == (413, True)

        flood = http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)
        chunks = (b"[" * 1_000_000 for _ in range(20))
        flood.request("POST", "/invocations", chunks, JSON, encode_chunked=True)
        assert flood.getresponse().status == 413
        deep = b'{"instances": ' + b"[" * 1_000_000
        assert server.call("POST", "/invocations", deep)[0] in (400, 422)

        assert server.call("POST", "/v2/models/flights/infer", infer_body())[0] == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
        for connection in (slow, noise, flood):
            connection.close()


def test_sigterm_answers_what_is_in_flight_and_ends_with_zero(
    tmp_path: Path, free_port: int
) -> None:
    """A request whose body is still on its way when the signal comes is answered and logged."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    body = json.dumps({"id": "last", **infer_body()}).encode()
    with running_server(tmp_path, free_port) as server:
        client = socket.create_connection(("127.0.0.1", free_port), timeout=20)
        head = (
            "POST /v2/models/flights/infer HTTP/1.1\r\nhost: x\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "expect: 100-continue\r\n\r\n"
        )
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100")  # the server has begun to read
        client.sendall(body[:10])
        server.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", free_port), timeout=20).close()
            except OSError:
                return True
            return False

        wait_for(refused)
        client.sendall(body[10:])
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.close()
        assert server.process.wait(20) == 0
        logged = read_predictions(server.log_dir)
    assert logged.table["request_id"].to_pylist() == ["last"]
    np.testing.assert_allclose(logged.table["score"].to_pylist(), score(UA_AT_17))
