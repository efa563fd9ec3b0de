"""Several processes on one port: they come back, they end together, no request is lost."""

import http.client
import json
import os
import signal
import socket
import threading
import time
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

from mlops_assets.serving.workers import hold_back, listen

INFER = "/v2/models/flights/infer"


def workers_of(server: ServerProcess) -> set[int]:
    """The processes that the supervisor has started."""
    pid = server.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


class Traffic:
    """Clients that ask all the time, each on a connection that it keeps as long as it may."""

    def __init__(self, server: ServerProcess, clients: int = 4) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._server = server
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        body = json.dumps(infer_body()).encode()
        connection = None
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(
                        "127.0.0.1", self._server.port, timeout=20
                    )
                    connection.connect()
            except OSError:
                return  # the port is closed: there is no request to fail
            try:
                connection.request("POST", INFER, body, {"content-type": "application/json"})
                response = connection.getresponse()
                content = response.read()
                with self._lock:
                    self.answered += 1
                    if response.status != 200:
                        self.failures.append(f"{response.status} {content!r}")
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failures.append(repr(error))
                connection = None


def test_a_worker_that_is_killed_comes_back_and_the_others_answer_meanwhile(
    tmp_path: Path,
) -> None:
    """The port stays open: who connects is answered, at the latest by the successor."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    options = ["--workers", "2", "--instance", "one"]
    with running_server(tmp_path, free_port(), *options) as server:
        wait_for(lambda: len(workers_of(server)) == 2)
        before = workers_of(server)
        _, said = server.get("/v2")
        assert (said["instance"], said["pid"]) == ("one", server.process.pid)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        answers = [server.call("POST", INFER, infer_body())[0] for _ in range(30)]
        assert answers == [200] * 30
        wait_for(lambda: len(workers_of(server) - before) == 1)
        assert victim not in workers_of(server)
        assert "ended with signal 9" in server.said()
        server.process.terminate()
        assert server.process.wait(20) == 0
        # Each process writes a log of its own.
        segments = {path.stem.partition("-")[2] for path in server.log_dir.glob("*.jsonl")}
        assert segments <= {"one-0", "one-1"}
        assert segments


def test_sigterm_ends_all_workers_without_a_failed_request(tmp_path: Path) -> None:
    """Clients in the middle of their traffic are answered, and told to connect anew."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    with (
        running_server(tmp_path, free_port(), "--workers", "2") as server,
        Traffic(server) as load,
    ):
        wait_for(lambda: load.answered > 50)
        children = workers_of(server)
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert load.failures == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_port_that_is_held_back_gives_what_has_begun_and_begins_nothing() -> None:
    """Between the last look at a port and its end nobody can be connected, and then be reset."""
    with listen("127.0.0.1", 0) as port, socket.socket() as late:
        address = port.getsockname()
        with socket.create_connection(address, timeout=5) as early:
            hold_back(port)
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.connect(address)
            taken, _ = port.accept()
            with taken:
                early.sendall(b"asked")
                assert taken.recv(5) == b"asked"
                taken.sendall(b"answered")
                assert early.recv(8) == b"answered"
            port.setblocking(False)
            with pytest.raises(BlockingIOError):
                port.accept()


def test_sigterm_lets_a_single_process_drain_too(tmp_path: Path) -> None:
    """Not ready at once, answering until it ends; an idle connection does not hold it up."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    with running_server(tmp_path, free_port()) as server, Traffic(server, 2) as load:
        wait_for(lambda: load.answered > 20)
        with socket.create_connection(("127.0.0.1", server.port)):
            server.process.terminate()
            wait_for(lambda: server.process.poll() is not None or server.get("/ping")[0] == 503)
            assert server.process.wait(20) == 0
        assert load.failures == []


def test_workers_end_when_their_supervisor_is_gone(tmp_path: Path) -> None:
    """Nobody would stop them, and they would hold the port."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    with running_server(tmp_path, free_port(), "--workers", "2") as server:
        children = workers_of(server)
        server.process.kill()
        wait_for(lambda: not any(_alive(pid) for pid in children))


def test_a_server_that_cannot_start_says_why_with_workers_too(tmp_path: Path) -> None:
    """It is not started again and again: whoever deploys it is told."""
    (tmp_path / "release.json").write_text("{}")
    with running_server(tmp_path, free_port(), "--workers", "2", ready=False) as server:
        assert server.process.wait(20) == 3
        assert "is no release" in server.said()


def test_workers_do_not_join_another_servers_port(tmp_path: Path) -> None:
    """Sockets that share a port would take a part of its requests."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_release(tmp_path / folder / "release.json", make_release(tmp_path / folder))
    port = free_port()
    with (
        running_server(tmp_path / "a", port, "--workers", "2") as first,
        running_server(tmp_path / "b", port, "--workers", "2", ready=False) as second,
    ):
        assert second.process.wait(20) == 98
        assert first.get("/ping")[0] == 200


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_time_is_never_waited_for_where_nobody_is_connected(tmp_path: Path) -> None:
    """Stopping an idle server takes no grace: a deployment stops one before it starts another."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    with running_server(tmp_path, free_port()) as server:
        began = time.monotonic()
        server.process.terminate()
        server.process.wait(20)
        lines = [json.loads(line) for line in server.said().splitlines()]
        assert lines
        assert time.monotonic() - began < 20
