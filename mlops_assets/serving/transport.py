"""HTTP/1.1 over TCP: all connections of a process, their limits and their end.

The parser is httptools' (llhttp, Node's). What is here and in serving.connection is small because
little is needed: a general server makes a task, a scope and messages for each request, which took
more processor time than the rest of a small request (docs/serving.md). Small bodies are answered
with the others of their turn (serving.turns); larger ones in a thread.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from mlops_assets import clock
from mlops_assets.serving.connection import Connection
from mlops_assets.serving.turns import Turns
from mlops_assets.serving.workers import BACKLOG, hold_back

if TYPE_CHECKING:
    from mlops_assets.serving.answers import Server

HANDSHAKES_S = 0.01
"""Seconds for connections that have begun, but are not complete, when no more are taken."""

SWEEP_S = 0.5
"""Seconds between looks for connections whose time is up, at most."""


@dataclass(frozen=True)
class Patience:
    """What connections may cost; times in seconds."""

    header_s: float = 10.0
    """For a request's headers, from the first byte."""
    idle_s: float = 75.0
    """Between two requests: longer than load balancers keep their connections."""
    max_connections: int = 1024


class Transport:
    """All connections of one process."""

    def __init__(self, server: "Server", patience: Patience) -> None:
        self.server = server
        self.patience = patience
        self.body_s = server.limits.read_timeout_s
        self.open: set[Connection] = set()
        self.date = b""
        self.loop = asyncio.get_running_loop()
        self.turns = Turns(self.loop)
        self._spare: socket.socket | None = None
        """Keeps the port open until the very last connection is taken."""
        self._sweeper = self.loop.create_task(self._sweep())

    async def start(self, listener: socket.socket) -> asyncio.Server:
        """Take connections on ``listener``."""
        self._spare = listener.dup()
        return await self.loop.create_server(
            lambda: Connection(self), sock=listener, backlog=BACKLOG
        )

    async def drain(self, linger_s: float, grace_s: float, listener: asyncio.Server) -> None:
        """End without failing a request.

        For ``linger_s`` seconds, or until there are none, connections are still taken, and each is
        closed with its next answer, as which clients know not to send another request on it. Then
        the idle ones are closed, and the others after their answer, within ``grace_s`` seconds.
        """
        end = self.loop.time() + linger_s
        while self.open and self.loop.time() < end:
            await asyncio.sleep(0.02)
        if self._spare is not None:
            hold_back(self._spare)
        listener.close()
        await self._take_last()
        for connection in list(self.open):
            connection.close_when_idle()
        end = self.loop.time() + grace_s
        while self.open and self.loop.time() < end:
            await asyncio.sleep(0.02)
        for connection in list(self.open):
            connection.abort()
        self._sweeper.cancel()

    async def _take_last(self) -> None:
        """Take the connections that are complete in the kernel: closing the port resets them."""
        if self._spare is None:
            return
        await asyncio.sleep(HANDSHAKES_S)  # the loop lets go of the port in its next round
        taken: list[socket.socket] = []
        with contextlib.closing(self._spare) as port, contextlib.suppress(OSError):
            port.setblocking(False)
            while True:
                taken.append(port.accept()[0])
        for accepted in taken:
            await self.loop.connect_accepted_socket(lambda: Connection(self), accepted)

    async def _sweep(self) -> None:
        """Keep the date, and close what has waited too long: one timer for all connections."""
        times = (SWEEP_S, self.patience.header_s / 4, self.patience.idle_s / 4, self.body_s / 4)
        while True:
            self.date = b"date: %s\r\n" % formatdate(clock.now().timestamp(), usegmt=True).encode()
            now = self.loop.time()
            for connection in list(self.open):
                if connection.deadline < now:
                    connection.expire()
            await asyncio.sleep(min(times))
