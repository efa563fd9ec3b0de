"""The Ray cluster: the one that ``RAY_ADDRESS`` names, or one of this machine's processes."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.spec import RaySpec

ADDRESS = "RAY_ADDRESS"
"""Environment variable that names the cluster, as ``ray://host:10001``."""

_CONNECT_SECONDS = 10
_LOCAL_STORE_BYTES = 80 * 1024 * 1024  # about Ray's least; rows never go through its object store


@contextmanager
def connected(spec: RaySpec) -> Iterator[None]:
    """A connection to the cluster; one of this machine is started, and ended with it.

    Raises PermanentError when Ray is not installed, nothing listens, or the cluster is of another
    version; TransientError when what listens cannot take a client now.
    """
    # Ray reads them when it is imported: nothing is reported to its makers, and a call after the
    # end of the connection is an error and not a new cluster.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    address = os.environ.get(ADDRESS)
    if address is None:
        # Everything of a cluster of this machine listens on loopback alone.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    else:
        _check_listening(address)
    try:
        import ray
    except ImportError as error:
        raise PermanentError(
            "engine ray needs Ray, which is not installed: install mlops-assets[ray], or choose "
            "engine xgboost"
        ) from error
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is not None:
            ray.init(address, logging_level=logging.WARNING)
        else:
            ray.init(
                num_cpus=spec.workers * spec.cpus_per_worker,
                include_dashboard=False,
                object_store_memory=_LOCAL_STORE_BYTES,
                logging_level=logging.WARNING,
                _node_ip_address="127.0.0.1",
            )
    except ConnectionError as error:
        raise TransientError(f"{_which(address)} did not let in: {_reason(error)}") from error
    except (RuntimeError, ValueError) as error:
        raise PermanentError(
            f"{_which(address)} cannot be used: {_reason(error)}; docs/ray.md says what it has to "
            "be like"
        ) from error
    finally:
        # Ray's own would end the process without a word.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _which(address: str | None) -> str:
    return f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"


def _reason(error: Exception) -> str:
    """The last line: before it may come the traceback of another process."""
    return str(error).strip().rpartition("\n")[2]


def _check_listening(address: str) -> None:
    """Raises PermanentError when nothing listens at ``address``: Ray tries for minutes."""
    url = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = url.hostname, url.port
    except ValueError as error:
        raise PermanentError(f"{ADDRESS}={address} is no address: {error}") from error
    if host is None or port is None:
        return  # "auto" and the like: Ray finds out by itself
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise PermanentError(
            f"no Ray cluster answers at {ADDRESS}={address} ({error}): start it, as docs/ray.md "
            "shows, or unset the variable to train on this machine"
        ) from error
