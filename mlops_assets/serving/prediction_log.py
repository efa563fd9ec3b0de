"""The prediction log's writer: append-only segments that survive a kill of the process.

A segment holds the records of one hour of the clock, so that a reader of a few hours opens only
their files, whatever the files' own times say: a replay's hours are not the machine's.

Each record is handed to the kernel by one ``os.write`` to a file opened with O_APPEND before the
answer is sent: what a client was told is in the log even after SIGKILL. Against loss of the
machine, files are synced every ``SYNC_S`` seconds, those that are full too: who answers never waits
for the disk.
"""

import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from mlops_assets import clock
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.prediction_log import PredictionRecord, encode_line, segment_name

logger = logging.getLogger("mlops_assets.serving")

CLOSED = "closed"
"""Folder of the segments that nobody writes to any more, for those who take them away."""

SYNC_S = 1.0
"""Seconds between syncs to disk: the most that a machine's loss can take."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment this large is followed by another of the same hour, so that no file grows for ever."""


class PredictionLog:
    """Writes records to ``directory/YYYYMMDDTHH-<instance>.jsonl``, from any thread.

    The hour is that of the record's time, which may go back; no two writers share an instance.

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
        self._hour: datetime | None = None
        self._size = 0
        self._records = 0
        self._torn = False
        self._retired: list[int] = []
        """Files that nobody writes to any more, to be synced and closed."""
        self._unsynced_name = False
        """Whether a file was made whose name may not be on the disk."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = self._open(clock.now())
        except OSError as error:
            raise PermanentError(
                f"the prediction log {directory} cannot be written: {error.strerror}; "
                "choose another --log-dir or make it writable"
            ) from error

    def write(
        self, record: PredictionRecord, written: Mapping[str, msgspec.Raw] | None = None
    ) -> None:
        """Append ``record``, or count it as lost; ``written`` as for :func:`encode_line`."""
        line = encode_line(record, written)
        with self._lock:
            try:
                if self._fd is not None and (
                    self._size >= self._segment_bytes or _hour(record.time) != self._hour
                ):
                    self._retire()
                if self._fd is None:
                    self._fd = self._open(record.time)
                self._append(self._fd, line)
            except OSError as error:
                self._lose(1, f"{self._path}: {error.strerror}")
                return
            self._records += 1

    def cut(self) -> list[Path]:
        """Close what was written until now, and all closed segments that lie there, oldest first.

        Each has a name that no other segment had or will have, and no writer.
        """
        closed = self._directory / CLOSED
        closed.mkdir(exist_ok=True)
        with self._lock:
            self._retire()
            for path in self._directory.glob("*.jsonl"):
                path.rename(closed / f"{path.stem}.{secrets.token_hex(8)}.jsonl")
        self.sync()
        return sorted(closed.glob("*.jsonl"))

    def lose(self, records: int, reason: str) -> None:
        """Count ``records`` that were written, and that will not be kept."""
        with self._lock:
            self._lose(records, reason)

    def sync(self) -> None:
        """Bring what was written to the disk; begin a new segment if someone deleted this one."""
        with self._lock:
            if self._fd is not None:
                if os.fstat(self._fd).st_nlink == 0:
                    self._lose(self._records, f"{self._path} was deleted while it was written")
                    self._retire()
                else:
                    self._retired.append(os.dup(self._fd))
            files, self._retired = self._retired, []
            if self._unsynced_name:
                with contextlib.suppress(OSError):  # a folder that is gone has no names
                    files.append(os.open(self._directory, os.O_RDONLY))
                self._unsynced_name = False
        for file in files:  # outside of the lock: a slow disk holds up no answer
            try:
                os.fsync(file)
            except OSError as error:
                logger.error("the prediction log cannot be synced: %s", error)
            finally:
                os.close(file)

    def close(self) -> None:
        """Sync and close; an empty segment is removed. A later write opens a new one."""
        with self._lock:
            self._retire()
        self.sync()

    def _open(self, time: datetime) -> int:
        """The segment that takes a record of ``time``; it may be there, when time went back."""
        number = 0
        while True:
            path = self._directory / segment_name(time, self._instance, number)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            size = os.fstat(fd).st_size
            if size < self._segment_bytes:
                break
            os.close(fd)
            number += 1
        self._path, self._hour, self._size, self._records = path, _hour(time), size, 0
        self._torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        self._unsynced_name |= size == 0
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

    def _retire(self) -> None:
        """Write no more to the segment."""
        if self._fd is not None:
            self._retired.append(self._fd)
            self._fd = None
            if self._size == 0:
                self._path.unlink(missing_ok=True)


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)
