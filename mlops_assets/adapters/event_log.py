"""Dagster's event log on SQLite, with connections that are kept.

Dagster's own class opens and closes a database for each statement group, about four times for each
event, and has SQLAlchemy compile every statement again. A backfill records some events for each
partition of each asset, and spends most of its time on that. Here one engine is kept for each
database, and a batch of events (DAGSTER_EVENT_BATCH_SIZE) is one transaction on each. The database
of a new run is a copy of the first one that Dagster made, from before it had events: making it
costs 0.1 to 0.2 s. What is written stays the same.
"""

import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._serdes import ConfigurableClassData

if TYPE_CHECKING:
    from dagster._core.events.log import EventLogEntry
    from dagster._core.storage.sqlite_storage import SqliteStorageConfig
    from sqlalchemy import Connection, Engine

# Each run has a database of its own; a process writes to one and reads a few.
_MOST_ENGINES = 8
# As Dagster waits: another process may hold the write lock for a moment.
_BUSY_TIMEOUT_SECONDS = 30


def _without_sync(connection: sqlite3.Connection, _record: object) -> None:
    """Let commits wait for the write-ahead log's checkpoint to reach the disk.

    A killed process loses nothing. A machine that loses power may lose the last events, and no
    database: hundreds of waits for the disk a run are too much for that.
    """
    connection.execute("PRAGMA synchronous=NORMAL")


class _Batch(threading.local):
    """The transactions of the batch that this thread is storing."""

    def __init__(self) -> None:
        self.stack: ExitStack | None = None
        self.connections: dict[str, Connection] = {}

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Transactions that begin in the block end with it."""
        try:
            with ExitStack() as self.stack:
                yield
        finally:
            self.stack = None
            self.connections = {}


class KeptConnectionsEventLog(SqliteEventLogStorage):
    """The event log of the local instance; dagster.yaml names it."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._engines_lock = threading.RLock()
        self._tables: set[str] = set()
        self._batch = _Batch()
        self._empty_run: bytes | None = None
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: "SqliteStorageConfig"
    ) -> "KeptConnectionsEventLog":
        """The event log in the folder ``base_dir`` of the configuration."""
        return cls(config_value["base_dir"], inst_data)

    def run_connection(self, run_id: str | None = None) -> "AbstractContextManager[Connection]":
        """A transaction on the database of a run."""
        return self._kept(run_id if run_id is not None else INDEX_SHARD_NAME)

    def index_connection(self) -> "AbstractContextManager[Connection]":
        """A transaction on the database that all runs share."""
        return self._kept(INDEX_SHARD_NAME)

    def store_event_batch(self, events: "Sequence[EventLogEntry]") -> None:
        """Store ``events``, all or none of them in each database."""
        with self._batch.begun():
            for event in events:
                self.store_event(event)

    def has_table(self, table_name: str) -> bool:
        """Whether the table is there; asked once, since tables do not go."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def dispose(self) -> None:
        """Close all connections."""
        with self._engines_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()
        super().dispose()

    @contextmanager
    def _kept(self, shard: str) -> "Iterator[Connection]":
        if self._batch.stack is None:
            with self._engine(shard).begin() as connection:
                yield connection
            return
        if shard not in self._batch.connections:
            begun = self._batch.stack.enter_context(self._engine(shard).begin())
            self._batch.connections[shard] = begun
        yield self._batch.connections[shard]

    def _engine(self, shard: str) -> "Engine":
        from sqlalchemy import create_engine, event

        with self._engines_lock:
            engine = self._engines.get(shard)
            if engine is None:
                if not self._copied(shard):
                    self._create(shard)
                engine = create_engine(
                    self.conn_string_for_shard(shard),
                    connect_args={"timeout": _BUSY_TIMEOUT_SECONDS},
                )
                event.listen(engine, "connect", _without_sync)
                self._engines[shard] = engine
            self._engines.move_to_end(shard)
            while len(self._engines) > _MOST_ENGINES:
                oldest = next(name for name in self._engines if name != INDEX_SHARD_NAME)
                self._engines.pop(oldest).dispose()
            return engine

    def _copied(self, shard: str) -> bool:
        """Whether a new run's database is there now, as a copy of an empty one."""
        path = Path(self.path_for_shard(shard))
        if self._empty_run is None or shard == INDEX_SHARD_NAME or path.exists():
            return False
        partial = path.with_name(f".{shard}.{os.getpid()}.partial")
        try:
            partial.write_bytes(self._empty_run)
            # Whole or not at all, and never over one that another process has made.
            os.link(partial, path)
        except OSError:  # Dagster makes it, or says what is wrong
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _create(self, shard: str) -> None:
        """Let Dagster create the database, or migrate it if it is there."""
        path = Path(self.path_for_shard(shard))
        new = not path.exists()
        # Dagster's own connection does both.
        with super().run_connection(shard):
            pass
        if new and shard != INDEX_SHARD_NAME:
            with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS)) as connection:
                if connection.execute("SELECT NOT EXISTS (SELECT 1 FROM event_logs)").fetchone()[0]:
                    self._empty_run = connection.serialize()
