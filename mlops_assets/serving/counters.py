"""Counters in a file that is mapped into memory, for several processes that are asked as one.

Each worker of a server writes a file of its own, so that nobody waits for anybody; whoever is
asked for the numbers reads all of them. A worker that comes after a dead one goes on in its file:
counters never go back.

A file is a header (the bytes in use) and blocks, each with a key and its counters, 64-bit floats,
which count exactly up to 2^53. A block is written before the header says that it is there.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

FILE_BYTES = 8 * 1024 * 1024
"""Room for some thousand blocks. The file is sparse: what is not written takes no memory."""

_HEADER = 8
_BLOCK = struct.Struct("<III4x")  # bytes of the block, of its key, number of counters
_SUFFIX = ".metrics"


class CounterFile:
    """The counters of one process, by key. Its methods are called under the owner's lock."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self._map = mmap.mmap(-1, FILE_BYTES)
        else:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, FILE_BYTES)
                self._map = mmap.mmap(fd, FILE_BYTES)
            finally:
                os.close(fd)
        self._used = memoryview(self._map)[:_HEADER].cast("q")
        self._views = {key: self._view(place, n) for key, place, n in _blocks(self._map)}

    def counters(self, key: bytes, number: int) -> "memoryview[float]":
        """The ``number`` counters of ``key``, writable; zeros at first.

        When the file is full they are this process's alone: others do not see them, and they end
        with it.
        """
        view = self._views.get(key)
        if view is not None and len(view) == number:
            return view
        used = max(self._used[0], _HEADER)
        padded = key + b" " * (-len(key) % 8)
        size = _BLOCK.size + len(padded) + 8 * number
        if used + size > FILE_BYTES:
            view = memoryview(bytearray(8 * number)).cast("d")
        else:
            _BLOCK.pack_into(self._map, used, size, len(padded), number)
            place = used + _BLOCK.size
            self._map[place : place + len(padded)] = padded
            view = self._view(place + len(padded), number)
            self._used[0] = used + size
        self._views[key] = view
        return view

    def items(self) -> Iterator[tuple[bytes, tuple[float, ...]]]:
        """Each key with what its counters say now, in the order in which they came."""
        for key, view in self._views.items():
            yield key, tuple(view)

    def close(self) -> None:
        """Let go of the file; the counters stay in it."""
        for view in self._views.values():
            view.release()
        self._views.clear()
        self._used.release()
        self._map.close()

    def _view(self, place: int, number: int) -> "memoryview[float]":
        return memoryview(self._map)[place : place + 8 * number].cast("d")


def counter_path(folder: Path, worker: int) -> Path:
    """The file of ``worker``."""
    return folder / f"{worker}{_SUFFIX}"


def read_counters(folder: Path, but: int) -> dict[int, list[tuple[bytes, tuple[float, ...]]]]:
    """What all workers but one have counted, by worker. A file that is just being made is empty."""
    found: dict[int, list[tuple[bytes, tuple[float, ...]]]] = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        worker = int(path.stem)
        if worker == but:
            continue
        with path.open("rb") as file:
            data = file.read(_HEADER)
            used = struct.unpack("<q", data)[0] if len(data) == _HEADER else 0
            data += file.read(max(0, used - _HEADER))
        found[worker] = [
            (key, struct.unpack_from(f"<{number}d", data, place))
            for key, place, number in _blocks(data)
        ]
    return found


def _blocks(data: "mmap.mmap | bytes") -> Iterator[tuple[bytes, int, int]]:
    """Each block's key, the place of its counters, and their number."""
    if len(data) < _HEADER:
        return
    (used,) = struct.unpack_from("<q", data, 0)
    place = _HEADER
    while place < min(used, len(data)):
        size, length, number = _BLOCK.unpack_from(data, place)
        start = place + _BLOCK.size
        yield bytes(data[start : start + length]).rstrip(b" "), start + length, number
        place += size
