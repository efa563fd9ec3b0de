"""What a channel is, and the two that need no network: a terminal and a file of JSON lines."""

import contextlib
import fcntl
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

from mlops_assets.adapters.storage import make_folder
from mlops_assets.core.alert_text import Links, as_json, as_text
from mlops_assets.core.alerts import Entry
from mlops_assets.core.errors import PermanentError, TransientError


class RefusedMessageError(PermanentError):
    """The receiver read this message and will never take it; it may take others."""


class Channel(Protocol):
    """A way to people."""

    @property
    def name(self) -> str:
        """What deliveries call it; a new name is a new channel, which nothing was sent to."""
        ...

    def send(self, entry: Entry, links: Links) -> None:
        """Send one entry, within bounded time.

        Raises TransientError when trying again soon may help; RefusedMessageError for a message
        that is never taken; another PermanentError when the channel itself has to be mended first,
        after which the entry will be sent.
        """
        ...


@dataclass(frozen=True)
class Console:
    """Alerts as text on a stream. Default: standard error as it is when something is sent."""

    name: str = "console"
    stream: TextIO | None = field(default=None, compare=False)

    def send(self, entry: Entry, links: Links) -> None:
        """Write the text and flush it. Raises TransientError when the stream fails."""
        stream = self.stream or sys.stderr
        text = as_text(entry, links) + "\n"
        encoding = stream.encoding or "utf-8"
        try:
            # A terminal without Unicode shows question marks rather than nothing.
            stream.write(text.encode(encoding, "replace").decode(encoding))
            stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            raise TransientError(f"channel {self.name}: cannot write to it: {error}") from error


@dataclass(frozen=True)
class JsonLines:
    """Alerts as lines of a local file, one JSON object each, for a log collector to follow."""

    path: Path
    name: str = "jsonl"

    def send(self, entry: Entry, links: Links) -> None:
        """Append one line, whole and on disk or not at all, also beside other writers.

        A line that a crash cut short is ended first, so that it spoils no other.
        Raises PermanentError where the file cannot be, TransientError when the disk fails.
        """
        line = as_json(entry, links).encode() + b"\n"
        make_folder(self.path.parent)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o644)
        except OSError as error:
            raise PermanentError(
                f"channel {self.name}: cannot open {self.path}: {error.strerror}; choose a file "
                "that this process may write"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # closing the file gives it back
            _append_line(descriptor, line)
        except OSError as error:
            raise TransientError(
                f"channel {self.name}: cannot write to {self.path}: {error.strerror}"
            ) from error
        finally:
            os.close(descriptor)


def _append_line(descriptor: int, line: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    try:
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # the first failure is the one to tell
            os.ftruncate(descriptor, size)
        raise
