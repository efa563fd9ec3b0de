"""Processes of this machine: whether they live, whose they are, how they end."""

import contextlib
import os
import signal
import time
from pathlib import Path

from mlops_assets.core.errors import TransientError

STOP_TIMEOUT_S = 35.0
"""Seconds between SIGTERM and SIGKILL: the server gives requests in flight 30."""

KILL_TIMEOUT_S = 5.0
POLL_S = 0.05
LOG_LINES = 15


def end(pid: int) -> None:
    """Ask the process to end, then make it. Raises TransientError if it stays."""
    for number, patience_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, KILL_TIMEOUT_S)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not alive(pid):
                return
            time.sleep(POLL_S)
    raise TransientError(
        f"the server process {pid} does not end: look at what it waits for, then try again"
    )


def alive(pid: int) -> bool:
    """Whether the process runs; our own child is reaped by asking."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether it has ended and its parent has not asked how: in a container, nobody may ever ask
    for the children of a process that was killed.
    """
    try:
        # Behind the name, which stands in parentheses and may hold anything, comes the state.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def command_line_names(pid: int, instance: str) -> bool:
    """Whether the process is a model server that was started as ``instance`` (Linux only)."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"mlops_assets.serving" in words and instance.encode() in words


def tail(path: Path, start: int) -> str:
    """The last lines that the server wrote after ``start`` bytes of its log."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "(no log)"
    return "\n".join(lines[-LOG_LINES:])
