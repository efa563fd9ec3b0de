"""The prediction log's writer: append-only segments that survive a kill of the process.

Each record is handed to the kernel by one ``os.write`` to a file opened with O_APPEND before the
answer is sent: what a client was told is in the log even after SIGKILL. Against loss of the
machine, the file is synced every ``SYNC_S`` seconds and when it is closed.
"""

import contextlib
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.prediction_log import PredictionRecord, encode_line

logger = logging.getLogger("mlops_assets.serving")

SYNC_S = 1.0
"""Seconds between syncs to disk: the most that a machine's loss can take."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment this large is followed by a new one, so that readers can skip old files whole."""


def now() -> datetime:
    """The wall clock, in UTC: the one time that the server records."""
    return datetime.now(UTC)


class PredictionLog:
    """Writes records to ``directory/YYYYMMDDTHHMMSS-<instance>.jsonl``, from any thread.

    When the disk fails, answers go on: ``lost`` counts the records that were not written and
    ``error`` is the last reason.
    """

    def __init__(self, directory: Path, instance: str, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.lost = 0
        self.error: str | None = None
        self._directory = directory
        self._instance = instance
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._path = directory
        self._size = 0
        self._records = 0
        self._torn = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = self._open()
        except OSError as error:
            raise PermanentError(
                f"the prediction log {directory} cannot be written: {error.strerror}; "
                "choose another --log-dir or make it writable"
            ) from error

    def write(self, record: PredictionRecord) -> None:
        """Append ``record``, or count it as lost."""
        line = encode_line(record)
        with self._lock:
            try:
                if self._fd is None:
                    self._fd = self._open()
                self._append(self._fd, line)
            except OSError as error:
                self._lose(1, f"{self._path}: {error.strerror}")
                return
            self._records += 1
            if self._size >= self._segment_bytes:
                self._close_segment()

    def sync(self) -> None:
        """Bring what was written to the disk; begin a new segment if someone deleted this one."""
        with self._lock:
            if self._fd is None:
                return
            if os.fstat(self._fd).st_nlink == 0:
                self._lose(self._records, f"{self._path} was deleted while it was written")
                self._close_segment()
                return
            copy = os.dup(self._fd)
        try:  # outside of the lock: a slow disk holds up no answer
            os.fsync(copy)
        except OSError as error:
            logger.error("the prediction log cannot be synced: %s", error)
        finally:
            os.close(copy)

    def close(self) -> None:
        """Sync and close; an empty segment is removed. A later write opens a new one."""
        with self._lock:
            empty = self._fd is not None and self._size == 0
            self._close_segment()
            if empty:
                self._path.unlink(missing_ok=True)

    def _open(self) -> int:
        self._path = self._directory / f"{now():%Y%m%dT%H%M%S}-{self._instance}.jsonl"
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size, self._records, self._torn = os.fstat(fd).st_size, 0, False
        folder = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return fd

    def _append(self, fd: int, line: bytes) -> None:
        # After a write that was cut, a line feed keeps the cut line from spoiling this one.
        rest = memoryview(b"\n" + line if self._torn else line)
        while rest:
            written = os.write(fd, rest)
            self._torn = written < len(rest)
            self._size += written
            rest = rest[written:]

    def _lose(self, records: int, reason: str) -> None:
        self.lost += records
        if reason != self.error:
            logger.error("predictions are not logged: %s", reason)
        self.error = reason

    def _close_segment(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):  # a full disk; the records are counted already
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None
