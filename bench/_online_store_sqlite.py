"""The online store on SQLite: what LMDB was chosen over, with the same interface for the reader."""

import sqlite3
import threading
from collections.abc import Iterable

from mlops_assets.adapters.online_store.store import Found, Wanted, batches

_POINTER = "select -1, null, value from pointers where space = ?"
_VALUES = " union all select ?, key, value from data where bucket = ? and key in "


class SqliteStore:
    """An online store in one file, in WAL mode: readers do not wait for a writer."""

    blocking = False

    def __init__(self, path: str) -> None:
        self._path = path
        self._connections = threading.local()
        with self._connection as connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute(
                "create table if not exists pointers (space text primary key, value blob)"
            )
            connection.execute(
                "create table if not exists data (bucket text, key blob, value blob, "
                "primary key (bucket, key)) without rowid"
            )

    @property
    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._connections, "one"):
            self._connections.one = sqlite3.connect(self._path, isolation_level=None)
        return self._connections.one

    def read(self, space: str, wanted: Wanted) -> tuple[bytes | None, Found]:
        """One statement, which sees one state without a transaction around it."""
        statement = _POINTER
        given: list[str | bytes | int] = [space]
        for n, (bucket, keys) in enumerate(wanted):
            statement += _VALUES + "(" + ",".join("?" * len(keys)) + ")"
            given += (n, bucket, *keys)
        rows = self._connection.execute(statement, given).fetchall()
        found = {(n, key): value for n, key, value in rows}
        return found.get((-1, None)), [
            [found.get((n, key)) for key in keys] for n, (_, keys) in enumerate(wanted)
        ]

    def swap(self, space: str, expected: bytes | None, pointer: bytes) -> bool:
        """In a transaction that writers take turns for."""
        execute = self._connection.execute
        execute("begin immediate")
        row = execute("select value from pointers where space = ?", (space,)).fetchone()
        same = (row[0] if row else None) == expected
        if same:
            execute("insert or replace into pointers values (?, ?)", (space, pointer))
        execute("commit")
        return same

    def begin(self, use_case: str, bucket: str) -> None:
        """Nothing: a benchmark leaves nothing behind."""

    def put(self, bucket: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Add ``items``."""

        def write(batch: list[tuple[bytes, bytes]]) -> None:
            execute = self._connection
            execute.execute("begin immediate")
            execute.executemany(
                "insert or replace into data values (?, ?, ?)",
                [(bucket, key, value) for key, value in batch],
            )
            execute.execute("commit")

        batches(items, 20_000, write)

    def count(self, bucket: str) -> int:
        """How many keys ``bucket`` has."""
        one = self._connection.execute("select count(*) from data where bucket = ?", (bucket,))
        return int(one.fetchone()[0])

    def buckets(self, use_case: str) -> list[str]:
        """None: see :meth:`begin`."""
        return []

    def drop(self, use_case: str, bucket: str) -> None:
        """Remove ``bucket``."""
        self._connection.execute("delete from data where bucket = ?", (bucket,))
