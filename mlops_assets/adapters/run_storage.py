"""Dagster's run storage on SQLite, with connections that are kept.

Dagster's own class makes an engine, and with it every statement anew, for each question: a run
asks some fifty, of 6 ms each. What is written stays the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from dagster._core.storage.runs import SqliteRunStorage
from dagster._serdes import ConfigurableClassData

if TYPE_CHECKING:
    from dagster._core.storage.sqlite_storage import SqliteStorageConfig
    from sqlalchemy import Connection, Engine

# As Dagster's event log waits: another process may hold the write lock for a moment.
_BUSY_TIMEOUT_SECONDS = 30


class KeptConnectionsRunStorage(SqliteRunStorage):
    """The run storage of the local instance; dagster.yaml names it."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: "SqliteStorageConfig"
    ) -> "KeptConnectionsRunStorage":
        """The run storage in the folder ``base_dir`` of the configuration."""
        return cls.from_local(config_value["base_dir"], inst_data)

    @contextmanager
    def connect(self) -> "Iterator[Connection]":
        """A transaction on the database."""
        with self._engine.begin() as connection:
            yield connection

    @cached_property
    def _engine(self) -> "Engine":
        from sqlalchemy import create_engine

        return create_engine(self._conn_string, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS})

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        super().dispose()
