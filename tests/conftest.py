"""What all tests share."""

import os
import signal
import socket

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
# With it, instances of tests would write beside the repository's own files.
os.environ.pop("DAGSTER_HOME", None)


def pytest_configure() -> None:
    """Shells make the processes that they start in the background deaf to Ctrl-C, and Dagster makes
    SIGTERM what that is: the processes that tests start could not be told to end.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def free_port() -> int:
    """A TCP port of loopback that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
