"""The lake: Delta Lake tables in a folder or an S3 bucket.

A partitioned table carries two columns of its own: ``_partition``, the Dagster partition key, and
``_digest``, the content digest of that partition's rows. The state of every partition thus stands
in the Delta log, changes in the same commit as the data, and is read without reading data. A
partition is one file, its rows sorted by the table's key.

A ledger is a table to which rows are only ever appended, in a total order (``_version``, ``_row``).

Nothing keeps a table open: opening one costs 10 ms after a hundred commits, and an open table may
be shared neither between threads nor with a commit that lost a race.
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.adapters import storage
from mlops_assets.core.errors import (
    EmptyPartitionError,
    MissingPartitionsError,
    PermanentError,
    SchemaError,
    TransientError,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset
    from deltalake import DeltaTable

UNPARTITIONED = "all"
"""The partition key of a table without partitions."""

PARTITION = "_partition"
DIGEST = "_digest"
_VERSION = "_version"
_ROW = "_row"

# A loser of a race reads the new state and tries again; each round, at least one writer wins.
_ATTEMPTS = 30
_LONGEST_PAUSE_SECONDS = 1.0

# Above any partition: rows keep their order because a partition is never cut into files.
_FILE_BYTES = 1 << 50

# A model names the table versions that it was trained on for as long as it exists, so the log
# that makes them readable is never cleaned up.
_KEEP_LOG = {"delta.enableExpiredLogCleanup": "false"}


@dataclass(frozen=True)
class PartitionState:
    """What a partition holds: ``bytes`` is the size of its file."""

    partition: str
    digest: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class WriteResult:
    """A table after a write: its version and the partitions written and left as they were."""

    table: str
    version: int
    written: tuple[PartitionState, ...]
    unchanged: tuple[PartitionState, ...]


class _ConflictError(Exception):
    """Another writer committed first."""


@dataclass(frozen=True)
class Lake:
    """The tables below ``root`` (a path or ``s3://bucket/prefix``).

    ``storage_options`` go to deltalake as they are; credentials and endpoint come from the
    environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``AWS_ALLOW_HTTP``, …).
    """

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    def write(
        self, table: str, partitions: Mapping[str, "pa.Table"], key: Sequence[str]
    ) -> WriteResult:
        """Makes ``partitions`` (key → rows) the content of those partitions, in one commit.

        Rows are sorted by ``key``, which should identify them: rows of equal key keep the order
        in which they came. A partition whose content is there already is left alone; when all
        are, nothing is committed and the version stays. Writers of the same partition take turns.

        Raises EmptyPartitionError for a partition without rows, SchemaError when the columns differ
        from the table's, PermanentError where nothing may be written, and TransientError when
        other writers keep coming first or the storage does not answer.
        """
        from mlops_assets.core.digest import table_digest

        ordered = {name: _sorted(table, name, partitions[name], key) for name in sorted(partitions)}
        if not ordered:
            raise PermanentError(f"table {table}: no partitions were given to write")
        schema = _common_schema(table, ordered)
        digests = {name: table_digest(rows) for name, rows in ordered.items()}
        for _ in _attempts(table):
            delta = self._open(table)
            before: dict[str, PartitionState] = {}
            if delta is not None:
                _check_schema(table, schema, _data_schema(delta))
                before = _states(table, delta)
            changed = [
                name for name in ordered if name not in before or before[name].digest != digests[name]
            ]
            try:
                if changed:
                    rows = _with_state({name: ordered[name] for name in changed}, digests)
                    delta = self._replace(table, delta, rows, changed)
            except _ConflictError:
                continue
            assert delta is not None  # noqa: S101 (an absent table has every partition changed)
            after = _states(table, delta) if changed else before
            return WriteResult(
                table,
                delta.version(),
                tuple(after[name] for name in changed),
                tuple(before[name] for name in ordered if name not in set(changed)),
            )
        raise AssertionError  # _attempts raises when it is exhausted

    def read(
        self,
        table: str,
        partitions: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        version: int | None = None,
    ) -> "pa.Table":
        """The rows of ``partitions`` (default: all), ordered by partition, then by the table's key.

        ``columns`` selects and orders columns; ``version`` is one of the table's Delta versions.
        Raises MissingPartitionsError when a partition or the table is not there, SchemaError for
        an unknown column, PermanentError for a version that is not readable any more.
        """
        import pyarrow.dataset as ds

        delta = self._open(table, version)
        if delta is None:
            raise MissingPartitionsError(
                f"table {table} is not in the lake at {self.root}: materialize it first"
            )
        if partitions is not None:
            states = _states(table, delta)
            if missing := sorted(set(partitions) - set(states)):
                more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                raise MissingPartitionsError(
                    f"table {table} has no partition {', '.join(missing[:5])}{more}: "
                    "materialize them first"
                )
        chosen = _choose_columns(table, columns, _data_schema(delta).names)
        wanted = None if partitions is None else [(PARTITION, "in", sorted(set(partitions)))]
        with _storage_errors("read", self._url(table)):
            dataset = self._dataset(table, delta, wanted if partitions else None)
            fragments = [] if partitions == [] else dataset.get_fragments()
            in_order = sorted(
                fragments,
                key=lambda f: (ds.get_partition_keys(f.partition_expression)[PARTITION], f.path),
            )
            return ds.FileSystemDataset(
                in_order, dataset.schema, dataset.format, dataset.filesystem
            ).to_table(columns=chosen)

    def states(self, table: str, version: int | None = None) -> dict[str, PartitionState]:
        """What each partition holds, by partition key in order; empty for an absent table."""
        delta = self._open(table, version)
        return {} if delta is None else _states(table, delta)

    def version(self, table: str) -> int:
        """The table's Delta version, or -1 for an absent table."""
        delta = self._open(table)
        return -1 if delta is None else delta.version()

    def append(self, table: str, rows: "pa.Table") -> int:
        """Adds ``rows`` to the end of a ledger, all or none, and returns its version.

        Appends of several writers all land, one after the other. No rows change nothing.
        Raises SchemaError, PermanentError and TransientError as :meth:`write`.
        """
        import numpy as np
        import pyarrow as pa
        from deltalake import CommitProperties, write_deltalake

        rows = _plain_text(rows)
        _check_representable(table, rows.schema)
        for _ in _attempts(table):
            delta = self._open(table)
            if delta is not None:
                _check_schema(table, rows.schema, _data_schema(delta))
            version = -1 if delta is None else delta.version()
            if rows.num_rows == 0:
                return version
            # The commit is refused unless it becomes exactly this version, so that the order of
            # the rows is the order of the commits.
            place = rows.append_column(
                _VERSION, pa.array(np.full(rows.num_rows, version + 1, np.int64))
            ).append_column(_ROW, pa.array(np.arange(rows.num_rows, dtype=np.int64)))
            try:
                if delta is None:
                    return self._create(table, place, [], {"delta.appendOnly": "true"}).version()
                with _storage_errors("write", self._url(table)):
                    write_deltalake(
                        delta,
                        place,
                        mode="append",
                        commit_properties=CommitProperties(max_commit_retries=0),
                    )
                return version + 1
            except _ConflictError:
                continue
        raise AssertionError  # _attempts raises when it is exhausted

    def read_log(self, table: str) -> "pa.Table":
        """All rows of a ledger, in the order of their appending.

        Raises MissingPartitionsError when it is not there.
        """
        delta = self._open(table)
        if delta is None:
            raise MissingPartitionsError(
                f"ledger {table} is not in the lake at {self.root}: nothing was appended yet"
            )
        with _storage_errors("read", self._url(table)):
            rows = self._dataset(table, delta, None).to_table()
        in_order = rows.sort_by([(_VERSION, "ascending"), (_ROW, "ascending")])
        return in_order.drop_columns([_VERSION, _ROW])

    def compact(self, table: str) -> int:
        """Joins the small files of a ledger's appends; returns how many files were replaced.

        The content stays, the version may rise. A partition of a table is one file already.
        """
        for _ in _attempts(table):
            delta = self._open(table)
            if delta is None:
                return 0
            try:
                with _storage_errors("write", self._url(table)):
                    return int(delta.optimize.compact()["numFilesRemoved"])
            except _ConflictError:
                continue
        raise AssertionError  # _attempts raises when it is exhausted

    def vacuum(self, table: str, keep_versions: Sequence[int], retention_hours: float) -> int:
        """Deletes files that neither the newest version nor ``keep_versions`` use and that are
        older than ``retention_hours``; returns how many.

        Also deletes what killed writers left. Choose more hours than the longest write takes: the
        files of a write under way belong to no version yet.
        """
        import math

        delta = self._open(table)
        if delta is None:
            return 0
        with _storage_errors("write", self._url(table)):
            return len(
                delta.vacuum(
                    retention_hours=math.ceil(retention_hours),
                    dry_run=False,
                    enforce_retention_duration=False,
                    full=True,
                    keep_versions=list(keep_versions),
                )
            )

    def _url(self, table: str) -> str:
        return storage.join(self.root, table)

    def _options(self) -> dict[str, str]:
        if storage.local_path(self.root) is not None:
            return dict(self.storage_options)
        return {
            "connect_timeout": f"{storage.CONNECT_TIMEOUT_SECONDS}s",
            "timeout": f"{storage.REQUEST_TIMEOUT_SECONDS}s",
            # A commit creates its log entry only if there is none of that version.
            "aws_conditional_put": "etag",
            **self.storage_options,
        }

    def _open(self, table: str, version: int | None = None) -> "DeltaTable | None":
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        url = self._url(table)
        with _storage_errors("read", url):
            try:
                delta = DeltaTable(url, storage_options=self._options())
            except TableNotFoundError:
                return None
            if version is not None and version != delta.version():
                if not 0 <= version < delta.version():
                    raise PermanentError(
                        f"table {table} has no version {version}: the newest is {delta.version()}"
                    )
                delta.load_as_version(version)
            return delta
