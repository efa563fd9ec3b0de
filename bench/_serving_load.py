"""A load generator for HTTP on loopback: one process, few connections, little work per request.

``python -m bench._serving_load`` reads a :class:`Load` as JSON from stdin and writes a
:class:`Measured` to stdout. It waits on sockets itself (epoll) and sends bytes that are made
beforehand, so that it takes a fraction of what any server does with them.
"""

import json
import math
import random
import re
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"
_READ = 256 * 1024
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Load:
    """What to send: the bodies in ``bodies`` in turn, as POST requests to ``path``.

    With a ``rate`` (requests a second) they come at random times at that rate, however fast the
    server is, and a time counts from when its request was due. Without, each connection sends its
    next request as soon as it has the answer to the last.
    """

    port: int
    path: str
    bodies: list[str]
    connections: int
    seconds: float
    rate: float | None = None
    content_type: str = "application/json"


@dataclass(frozen=True)
class Measured:
    """What came of it; times in milliseconds."""

    requests: int
    failed: int
    per_second: float
    p50_ms: float
    p99_ms: float
    client_cpu: float
    """Processor time of the load generator per second."""


def run(load: Load) -> Measured:
    """Send ``load`` from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench._serving_load"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        check=True,
        timeout=load.seconds + 4 * _TIMEOUT_S,
    )
    return Measured(**json.loads(done.stdout))


class _Connection:
    """One connection, with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.due = 0.0
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        self.waiting, self.wanted, self.size, self.status = False, -1, 0, b""
        self.head = b""
        connection = socket.create_connection(("127.0.0.1", self.port), _TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def reconnect(self) -> None:
        self.socket.close()
        self.socket = self._connect()

    def send(self, request: bytes, due: float) -> None:
        self.due, self.waiting, self.wanted, self.head, self.size = due, True, -1, b"", 0
        self.socket.sendall(request)

    def received(self) -> bool | None:
        """Whether the answer is complete; None where the connection broke."""
        data = self.socket.recv(_READ)
        if not data:
            return None
        self.size += len(data)
        if self.wanted < 0:
            self.head += data
            end = self.head.find(_END)
            if end < 0:
                return False
            self.status = self.head[9:12]
            found = _LENGTH.search(self.head, 0, end + 2)
            # Without a length it is chunked, and ends with an empty chunk.
            self.wanted = end + len(_END) + int(found[1]) if found else sys.maxsize
        if self.wanted == sys.maxsize:
            self.head += data if self.head is not data and self.size > len(self.head) else b""
            done = self.head.endswith(b"\r\n0\r\n\r\n") or data.endswith(b"\r\n0\r\n\r\n")
        else:
            done = self.size >= self.wanted
        if done:
            self.waiting = False
        return done


def _generate(load: Load) -> Measured:  # noqa: PLR0915 - one loop, whose calls would cost more
    requests = [
        (
            f"POST {load.path} HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\n"
            f"content-type: {load.content_type}\r\ncontent-length: {len(body.encode())}\r\n\r\n"
        ).encode()
        + body.encode()
        for body in load.bodies
    ]
    poll = select.epoll()
    connections: dict[int, _Connection] = {}
    for _ in range(load.connections):
        connection = _Connection(load.port)
        connections[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN)
    arrivals = random.Random(7)  # noqa: S311
    seconds: list[float] = []
    failed = sent = 0
    began, cpu = time.perf_counter(), time.process_time()
    end = began + load.seconds
    free = deque(connections.values())
    due = began
    clock = time.perf_counter
    waiting = 0
    while True:
        now = clock()
        open_ = now < end
        while open_ and free and (load.rate is None or due <= now):
            connection = free.popleft()
            connection.send(requests[sent % len(requests)], now if load.rate is None else due)
            sent += 1
            waiting += 1
            if load.rate is not None:
                due += -math.log(1 - arrivals.random()) / load.rate
        if not open_ and (not waiting or now > end + _TIMEOUT_S):
            break
        # A timer of epoll is a millisecond coarse: requests that are due soon are waited for here.
        soon = load.rate is not None and open_ and free and due - now < 0.002
        for descriptor, _ in poll.poll(0 if soon else 0.001 if load.rate else 0.1):
            connection = connections[descriptor]
            try:
                answered = connection.received()
            except OSError:
                answered = None
            if answered is None:
                poll.unregister(descriptor)
                del connections[descriptor]
                was_waiting = connection.waiting
                connection.reconnect()
                connections[connection.socket.fileno()] = connection
                poll.register(connection.socket, select.EPOLLIN)
                if was_waiting:
                    failed, waiting = failed + 1, waiting - 1
                    free.append(connection)
            elif answered:
                waiting -= 1
                if connection.status == b"200":
                    seconds.append(clock() - connection.due)
                else:
                    failed += 1
                free.append(connection)
    took = clock() - began
    cpu = time.process_time() - cpu
    failed += waiting
    seconds.sort()

    def quantile(share: float) -> float:
        if not seconds:
            return math.nan
        return 1000 * seconds[min(len(seconds) - 1, int(share * len(seconds)))]

    return Measured(
        len(seconds), failed, len(seconds) / took, quantile(0.5), quantile(0.99), cpu / took
    )


if __name__ == "__main__":
    json.dump(asdict(_generate(Load(**json.load(sys.stdin)))), sys.stdout)
