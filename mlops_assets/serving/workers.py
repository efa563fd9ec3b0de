"""Several server processes that share a port, and the one that watches over them.

Each worker has a listening socket of its own on the one port (SO_REUSEPORT), so that the kernel
spreads connections over them. The supervisor opened the sockets and keeps them open: connections
that a dead worker had not taken yet wait for its successor.
"""

import contextlib
import ctypes
import logging
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

logger = logging.getLogger("mlops_assets.serving")

MODULE = "mlops_assets.serving"

EXIT_NO_MODEL = 3
EXIT_NO_LOG = 4
EXIT_MODEL_AWAY = 75
"""The model cannot be read now, and may be readable later."""

_CANNOT_START = frozenset({EXIT_NO_MODEL, EXIT_NO_LOG, EXIT_MODEL_AWAY})

BACKLOG = 2048
"""Connections that wait to be taken, of each socket."""

POLL_S = 0.1
"""Seconds between looks at the workers."""

LEAST_PAUSE_S, MOST_PAUSE_S = 0.2, 10.0
"""Seconds until a dead worker is started again: twice as long each time that it dies young."""

YOUNG_S = 30.0
"""A worker that dies before it is this old may do so again."""

PATIENCE_S = 35.0
"""Seconds for workers to drain, then they are killed: longer than they take themselves."""


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket; ``shared`` lets others of this user listen on the same port.

    Raises OSError where the address is taken or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of a predecessor that are still timing out do not hold the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


_ATTACH_FILTER = 26
"""Linux's SO_ATTACH_FILTER, which Python's socket does not name."""

# Classic BPF on the TCP header: code, jump if true, jump if false, operand.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFF),  # let it pass
)


def hold_back(listener: socket.socket) -> None:
    """Let no new connection begin on ``listener``; those that have begun can still be taken.

    A port that closes resets the connections that came between the last look at it and its end,
    and their clients have sent a request by then. From now on their first packet is dropped
    instead: it comes again after a second, and finds another server or is refused, so that there is
    no request to fail. Where the kernel is not Linux nothing happens.
    """
    code = b"".join(struct.pack("HBBI", *each) for each in _DROP_SYN)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


@contextlib.contextmanager
def listeners(host: str, port: int, number: int) -> Iterator[list[socket.socket]]:
    """``number`` listening sockets on one port, closed after the block. Raises as :func:`listen`.

    Port 0 is a free one.
    """
    if number == 1:
        with listen(host, port) as alone:
            yield [alone]
        return
    # Sockets that share a port would also join those of another server.
    with listen(host, port) as probe:
        port = probe.getsockname()[1]
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(listen(host, port, shared=True)) for _ in range(number)]


@dataclass
class _Worker:
    number: int
    process: "subprocess.Popen[bytes]"
    started: float
    deaths: int = 0
    due: float | None = None
    """When it is started again, while it is dead."""


def supervise(
    sockets: Sequence[socket.socket],
    command: Callable[[int], Sequence[str]],
) -> int:
    """Run a worker for each socket until SIGTERM or SIGINT; returns the exit code.

    ``command`` gives the arguments of worker n, to which its socket's number is added as
    ``--listen-fd``. A worker that dies is started again. One whose first exit code says that it
    cannot serve ends them all with that code.
    """
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())

    def start(number: int) -> "subprocess.Popen[bytes]":
        descriptor = sockets[number].fileno()
        return subprocess.Popen(
            [sys.executable, "-m", MODULE, *command(number), "--listen-fd", str(descriptor)],
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
        )

    workers = [_Worker(n, start(n), time.monotonic()) for n in range(len(sockets))]
    code = 0
    while code == 0 and not told.wait(POLL_S):
        for worker in workers:
            code = _look_after(worker, start)
            if code:
                break
    for listener in sockets:
        listener.close()  # what waits there is a worker's, and nobody's once it has ended
    return _end(workers) or code


def _look_after(worker: _Worker, start: Callable[[int], "subprocess.Popen[bytes]"]) -> int:
    """Start ``worker`` again if it is dead, and time; the exit code where nobody can serve."""
    now = time.monotonic()
    if worker.due is not None:
        if now >= worker.due:
            worker.process, worker.started, worker.due = start(worker.number), now, None
        return 0
    ended = worker.process.poll()
    if ended is None:
        return 0
    if ended in _CANNOT_START and worker.deaths == 0:
        return ended
    young = now - worker.started < YOUNG_S
    worker.deaths = worker.deaths + 1 if young else 1
    pause = min(MOST_PAUSE_S, LEAST_PAUSE_S * 2 ** (worker.deaths - 1))
    logger.error(
        "worker %d ended with %s; it is started again in %.1f s",
        worker.number,
        f"signal {-ended}" if ended < 0 else f"exit code {ended}",
        pause,
    )
    worker.due = now + pause
    return 0


def _end(workers: Sequence[_Worker]) -> int:
    """Let all drain; 0 unless one had to be killed."""
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            worker.process.terminate()
    deadline = time.monotonic() + PATIENCE_S
    code = 0
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.error("worker %d does not end and is killed", worker.number)
            worker.process.kill()
            worker.process.wait()
            code = 1
    return code
