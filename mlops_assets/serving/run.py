"""One server process, from its socket to its last report."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mlops_assets.core.errors import PlatformError, TransientError
from mlops_assets.serving.answers import Limits, Server
from mlops_assets.serving.auth import Tokens
from mlops_assets.serving.metrics import Metrics
from mlops_assets.serving.models import Follower
from mlops_assets.serving.objects import beside
from mlops_assets.serving.online_features import OnlineFollower
from mlops_assets.serving.prediction_log import SYNC_S, PredictionLog
from mlops_assets.serving.reports import REPORT_S, Reporter
from mlops_assets.serving.request_log import Mode, RequestLog
from mlops_assets.serving.shipping import LAST_SHIPMENT_S, SHIP_S, Shipper
from mlops_assets.serving.transport import Patience, Transport
from mlops_assets.serving.workers import EXIT_MODEL_AWAY, EXIT_NO_LOG, EXIT_NO_MODEL

logger = logging.getLogger("mlops_assets.serving")

THREADS = 2
"""For large requests: more would only take turns at the interpreter."""

LINGER_S = 2.0
"""Seconds for which a server that was told to end still takes connections, and closes each with its
next answer: clients and balancers go elsewhere meanwhile."""

GRACE_S = 28.0
"""Seconds for requests in flight after that; a slow body ends before."""

LOOK_S = 0.05
"""Seconds between looks at whether the process was told to end."""

GARBAGE = (50_000, 20, 50)
"""Allocations, and collections of younger generations, between two looks for cycles of references:
requests leave none."""


@dataclass(frozen=True)
class Place:
    """What a process serves, and where it writes."""

    release: str
    log_dir: Path
    ship_to: str | None
    instance: str
    token_file: Path | None
    access_log: Mode
    worker: int = 0
    workers: int = 1
    metrics_dir: Path | None = None
    supervisor: int | None = None
    """The process that started this one, where there is one."""


def serve(place: Place, limits: Limits, patience: Patience, listener: socket.socket) -> int:
    """Serve on ``listener`` until SIGTERM or SIGINT. Returns the exit code."""
    replica = place.instance if place.workers == 1 else f"{place.instance}-{place.worker}"
    try:
        tokens = Tokens(place.token_file) if place.token_file else None
        log = PredictionLog(place.log_dir, replica)
    except PlatformError as error:
        logger.error("%s", error)
        return EXIT_NO_LOG
    with contextlib.closing(log), ThreadPoolExecutor(THREADS) as pool:
        server = Server(
            Follower(place.release),
            log,
            limits,
            place.instance,
            version("mlops-assets"),
            pool,
            replica=replica,
            workers=place.workers,
            metrics=Metrics(place.metrics_dir, place.worker),
            online=OnlineFollower(beside(place.release, "")),
            tokens=tokens,
            request_log=RequestLog(place.access_log),
            pid=place.supervisor or os.getpid(),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.drain.set())
        shipper = Shipper(log, place.ship_to) if place.ship_to else None
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            code = runner.run(_Process(server, place, shipper).run(patience, listener))
        server.background.close()
        server.metrics.close()
        if shipper is not None:
            shipper.ship(time.monotonic() + LAST_SHIPMENT_S)
        return code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed: it answers half as many requests again."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Process:
    """A server with what it does beside answering."""

    def __init__(self, server: Server, place: Place, shipper: Shipper | None) -> None:
        self._server = server
        self._place = place
        self._shipper = shipper
        self._reporter = Reporter(server)

    async def run(self, patience: Patience, listener: socket.socket) -> int:
        """Answer until the process is told to end."""
        server = self._server
        transport = Transport(server, patience)
        host, port = listener.getsockname()[:2]
        logger.info("listening on http://%s:%d as instance %s", host, port, server.replica)
        # Alone, it answers that it is alive while it loads. Of several, one that loads leaves its
        # connections waiting: to their clients, the server has been ready for long.
        web = await transport.start(listener) if server.workers == 1 else None
        code = 0
        tasks: list[asyncio.Task[None]] = []
        try:
            await asyncio.to_thread(self._load)
        except PlatformError as error:
            logger.error("cannot serve: %s", error)
            await asyncio.to_thread(self._reporter.write, ended=True, error=str(error))
            code = EXIT_MODEL_AWAY if isinstance(error, TransientError) else EXIT_NO_MODEL
        else:
            logger.info("ready")
            web = web or await transport.start(listener)
            tasks = [asyncio.create_task(work) for work in self._beside()]
            while not server.draining:
                await asyncio.sleep(LOOK_S)
                if self._place.supervisor not in (None, os.getppid()):
                    logger.error("the supervisor is gone; this worker ends too")
                    server.drain.set()
            # A balancer that asks is told to send nothing more before the port closes.
            await asyncio.to_thread(self._reporter.write)
        if web is not None:
            await transport.drain(0.0 if code else LINGER_S, GRACE_S, web)
        for task in tasks:
            task.cancel()
        if code == 0:
            self._reporter.write(ended=True)
        return code

    def _load(self) -> None:
        """Load and warm what the server begins with. Raises PlatformError without a model."""
        # What requests may leave out first: with a model the server is ready.
        if self._server.online is not None:
            self._server.online.poll()
        self._server.follower.load_first()
        # Everything until here stays: looking through it for garbage takes milliseconds each time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE)

    def _beside(self) -> list[Coroutine[None, None, None]]:
        server, reporter = self._server, self._reporter
        follower, online = server.follower, server.online

        def poll() -> None:
            if online is not None:
                online.poll()
            if follower.poll():
                reporter.write()

        def sync() -> None:
            server.log.sync()
            served = follower.served
            server.metrics.update(
                revision=0 if served is None else served.release.revision,
                lost=server.log.lost,
                ready=served is not None and not server.draining,
            )

        work = [(poll, follower.poll_s), (sync, SYNC_S), (reporter.write, REPORT_S)]
        if self._shipper is not None:
            work.append((self._shipper.ship, SHIP_S))
        return [_each(seconds, action) for action, seconds in work]


async def _each(seconds: float, action: Callable[[], object]) -> None:
    """Run ``action`` in a thread, now and then ``seconds`` after it ended, for ever."""
    while True:
        await asyncio.to_thread(action)
        await asyncio.sleep(seconds)
