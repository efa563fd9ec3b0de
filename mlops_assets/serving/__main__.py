"""``python -m mlops_assets.serving``: one server process for one use case."""

import argparse
import asyncio
import contextlib
import errno
import logging
import secrets
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import uvicorn

from mlops_assets.core.errors import PlatformError, TransientError
from mlops_assets.serving.answers import Limits, Server
from mlops_assets.serving.app import build_app
from mlops_assets.serving.models import Follower
from mlops_assets.serving.prediction_log import SYNC_S, PredictionLog
from mlops_assets.serving.shipping import LAST_SHIPMENT_S, SHIP_S, Shipper

logger = logging.getLogger("mlops_assets.serving")

EXIT_NO_MODEL = 3
EXIT_NO_LOG = 4
EXIT_NO_ADDRESS = 5
EXIT_MODEL_AWAY = 75
"""The model cannot be read now, and may be readable later."""

EXIT_PORT_IN_USE = 98

POLL_S = 0.25
"""Seconds between looks at the release file."""

WORKERS = 2
"""Threads for large requests: more would only take turns at the interpreter."""

GRACE_S = 30
"""Seconds for requests in flight when the server is told to stop; a slow body ends before."""

KEEP_ALIVE_S = 75
"""Seconds for which an idle connection stays open, longer than load balancers keep theirs."""

EXAMPLE = """\
example:
  python -m mlops_assets.serving --release .mlops/endpoints/flight_delays/release.json \\
      --port 8900 --log-dir .mlops/endpoints/flight_delays/predictions
  curl http://127.0.0.1:8900/v2/models/flight_delays
"""


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Returns the exit code."""
    options = _parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    for library in ("uvicorn", "botocore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    address = f"{options.host}:{options.port}"
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            logger.error(
                "port in use: %s is taken by another process; stop it or choose another port",
                address,
            )
            return EXIT_PORT_IN_USE
        logger.error("cannot listen on %s: %s; choose another address", address, error.strerror)
        return EXIT_NO_ADDRESS
    with listener:
        try:
            log = PredictionLog(options.log_dir, options.instance)
        except PlatformError as error:
            logger.error("%s", error)
            return EXIT_NO_LOG
        with contextlib.closing(log), ThreadPoolExecutor(WORKERS) as pool:
            limits = Limits(
                int(options.max_body_mb * 1024 * 1024), options.max_rows, options.read_timeout
            )
            server = Server(
                Follower(options.release),
                log,
                limits,
                options.instance,
                version("mlops-assets"),
                pool,
            )
            shipper = Shipper(log, options.ship_to) if options.ship_to else None
            code = _run(server, listener, shipper)
            if shipper is not None:
                shipper.ship(time.monotonic() + LAST_SHIPMENT_S)
            return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mlops_assets.serving",
        description="Serve the model that a release file names, over the Open Inference Protocol "
        "V2 and /invocations. A new release is loaded without a restart.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--release", type=Path, required=True, metavar="PATH", help="release.json to follow")
    add("--log-dir", type=Path, required=True, metavar="DIR", help="where predictions are logged")
    add(
        "--ship-to",
        metavar="URL",
        help="s3://bucket/prefix to which the log is sent every minute and at the end, and then "
        "deleted here (default: it stays)",
    )
    add("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    add("--port", type=int, default=8900, help="TCP port, 0 for a free one (default: %(default)s)")
    add("--max-body-mb", type=float, default=16, help="largest body in MiB (default: %(default)s)")
    add("--max-rows", type=int, default=10_000, help="most rows a request (default: %(default)s)")
    add(
        "--read-timeout",
        type=float,
        default=10,
        metavar="S",
        help="seconds for a body to arrive (default: %(default)s)",
    )
    add(
        "--instance",
        default=secrets.token_hex(8),
        metavar="ID",
        help="identity that the server answers with (default: random)",
    )
    return parser


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of a predecessor that are still timing out do not hold the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


def _run(server: Server, listener: socket.socket, shipper: Shipper | None) -> int:
    config = uvicorn.Config(
        build_app(server),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    web = uvicorn.Server(config)

    def stop(_signal: int, _frame: object) -> None:
        web.should_exit = True

    # uvicorn raises the signal again once it has shut down; with this handler that ends in exit
    # code 0 instead of a death by signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    host, port = listener.getsockname()[:2]
    logger.info("listening on http://%s:%d as instance %s", host, port, server.instance)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(_serve(server, web, listener, shipper))


async def _serve(
    server: Server, web: uvicorn.Server, listener: socket.socket, shipper: Shipper | None
) -> int:
    async def follow() -> int:
        follower = server.follower
        try:
            await asyncio.to_thread(follower.load_first)
        except PlatformError as error:
            logger.error("cannot serve: %s", error)
            web.should_exit = True
            return EXIT_MODEL_AWAY if isinstance(error, TransientError) else EXIT_NO_MODEL
        logger.info("ready")
        while not web.should_exit:
            await asyncio.sleep(POLL_S)
            if follower.due():
                await asyncio.to_thread(follower.refresh)
        return 0

    async def sync() -> None:
        while not web.should_exit:
            await asyncio.sleep(SYNC_S)
            await asyncio.to_thread(server.log.sync)

    async def ship(to: Shipper) -> None:
        while not web.should_exit:
            await asyncio.sleep(SHIP_S)
            await asyncio.to_thread(to.ship)

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow())
        beside = [tasks.create_task(sync())]
        if shipper is not None:
            beside.append(tasks.create_task(ship(shipper)))
        await web.serve(sockets=[listener])
        for task in beside:
            task.cancel()
    return following.result()


if __name__ == "__main__":
    # XGBoost imports scikit-learn where it is installed, and pandas with it, for estimators that a
    # server does not use: without them it starts four times as fast and takes 130 MB less.
    sys.modules["sklearn"] = None  # pyright: ignore[reportArgumentType]
    sys.exit(main())
