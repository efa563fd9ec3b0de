"""``python -m mlops_assets.serving``: the server of one use case, in one process or several."""

import argparse
import errno
import logging
import os
import secrets
import shlex
import socket
import sys
from pathlib import Path

from mlops_assets.serving.workers import listeners, supervise

logger = logging.getLogger("mlops_assets.serving")

ARGUMENTS_VARIABLE = "MLOPS_SERVER_ARGUMENTS"
"""Environment variable with the command line of a container that cannot be given one."""

EXIT_NO_ADDRESS = 5
EXIT_PORT_IN_USE = 98

EXAMPLE = """\
example:
  python -m mlops_assets.serving --release .mlops/endpoints/flight_delays/release.json \\
      --port 8900 --log-dir .mlops/endpoints/flight_delays/predictions
  curl http://127.0.0.1:8900/v2/models/flight_delays
"""


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Returns the exit code."""
    from mlops_assets.serving.request_log import log_as_json

    arguments = sys.argv[1:] if argv is None else argv
    if arguments == ["serve"]:  # as SageMaker starts every container
        arguments = shlex.split(os.environ.get(ARGUMENTS_VARIABLE, ""))
    options = _parser().parse_args(arguments)
    log_as_json()
    if options.worker is not None:
        with socket.socket(fileno=options.listen_fd) as listener:
            return _serve(options, listener)
    try:
        with listeners(options.host, options.port, options.workers) as sockets:
            if len(sockets) == 1:
                return _serve(options, sockets[0])
            return _supervise(options, arguments, sockets)
    except OSError as error:
        address = f"{options.host}:{options.port}"
        if error.errno == errno.EADDRINUSE:
            logger.error(
                "port in use: %s is taken by another process; stop it or choose another port",
                address,
            )
            return EXIT_PORT_IN_USE
        logger.error("cannot listen on %s: %s; choose another address", address, error.strerror)
        return EXIT_NO_ADDRESS


def _serve(options: argparse.Namespace, listener: socket.socket) -> int:
    # Here and not above: a supervisor has none of it in memory.
    from mlops_assets.serving.answers import Limits
    from mlops_assets.serving.run import Place, serve
    from mlops_assets.serving.transport import Patience

    mib = 1024 * 1024
    place = Place(
        release=options.release,
        log_dir=options.log_dir,
        ship_to=options.ship_to,
        instance=options.instance,
        token_file=options.token_file,
        access_log=options.access_log,
        worker=options.worker or 0,
        workers=options.workers,
        metrics_dir=options.metrics_dir,
        supervisor=None if options.worker is None else os.getppid(),
    )
    limits = Limits(
        max_body_bytes=int(options.max_body_mb * mib),
        max_rows=options.max_rows,
        read_timeout_s=options.read_timeout,
        max_in_flight=options.max_in_flight,
        max_buffered_bytes=int(options.max_buffered_mb * mib),
    )
    patience = Patience(options.header_timeout, options.keep_alive, options.max_connections)
    return serve(place, limits, patience, listener)


def _supervise(
    options: argparse.Namespace, arguments: list[str], sockets: list[socket.socket]
) -> int:
    from mlops_assets.serving.metrics import metrics_folder

    with metrics_folder(options.log_dir, options.instance) as folder:
        common = [*arguments, "--instance", options.instance, "--metrics-dir", str(folder)]
        return supervise(sockets, lambda number: [*common, "--worker", str(number)])


def _workers(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mlops_assets.serving",
        description="Serve the models that a release names, over the Open Inference Protocol V2 "
        "and /invocations. A new release is loaded without a restart.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--release", required=True, metavar="PATH", help="release.json to follow, or its s3:// URL")
    add("--log-dir", type=Path, required=True, metavar="DIR", help="where predictions are logged")
    add(
        "--ship-to",
        metavar="URL",
        help="s3://bucket/prefix to which the log is sent every minute and at the end, and then "
        "deleted here (default: it stays)",
    )
    add("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    add("--port", type=int, default=8900, help="TCP port, 0 for a free one (default: %(default)s)")
    add(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="processes that share the port, at most one for each core (default: %(default)s)",
    )
    add(
        "--token-file",
        type=Path,
        metavar="PATH",
        help="bearer tokens, one a line, of which a request has to carry one (default: none is "
        "asked for)",
    )
    for name, default, what in (
        ("--max-body-mb", 16.0, "largest body in MiB"),
        ("--max-buffered-mb", 128.0, "bodies of all requests in flight, in MiB"),
        ("--read-timeout", 10.0, "seconds for a body to arrive"),
        ("--header-timeout", 10.0, "seconds for a request's headers to arrive"),
        ("--keep-alive", 75.0, "seconds that an idle connection stays open"),
    ):
        add(name, type=float, default=default, metavar="X", help=f"{what} (default: %(default)s)")
    for name, default, what in (
        ("--max-rows", 10_000, "most rows a request"),
        ("--max-in-flight", 256, "most requests at a time; more are answered with 503"),
        ("--max-connections", 1024, "most connections at a time"),
    ):
        add(name, type=int, default=default, metavar="N", help=f"{what} (default: %(default)s)")
    add(
        "--access-log",
        choices=("errors", "all", "none"),
        default="errors",
        help="which requests are logged to stderr (default: %(default)s)",
    )
    add(
        "--instance",
        default=secrets.token_hex(8),
        metavar="ID",
        help="identity that the server answers with (default: random)",
    )
    # How a supervisor starts its workers.
    add("--worker", type=int, help=argparse.SUPPRESS)
    add("--listen-fd", type=int, help=argparse.SUPPRESS)
    add("--metrics-dir", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    # XGBoost imports scikit-learn where it is installed, and pandas with it, for estimators that a
    # server does not use: without them it starts four times as fast and takes 130 MB less.
    sys.modules["sklearn"] = None  # pyright: ignore[reportArgumentType]
    sys.exit(main())
