"""The lake: Delta Lake tables in a folder or an S3 bucket.

A partitioned table carries two columns of its own: ``_partition``, the Dagster partition key, and
``_digest``, the content digest of that partition's rows. The state of every partition thus stands
in the Delta log, changes in the same commit as the data, and is read without reading data. A
partition is one file, its rows sorted by the table's key.

Tables to which rows are only ever appended are ledgers (adapters.ledger_tables).

No table is kept open: opening one costs about 10 ms after a hundred commits, and an open table can
be shared neither between threads nor after a commit that lost a race.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlops_assets.adapters import delta
from mlops_assets.adapters.delta import DIGEST, PARTITION, PartitionState
from mlops_assets.adapters.storage import join
from mlops_assets.core.errors import MissingPartitionsError, PermanentError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["UNPARTITIONED", "Lake", "PartitionState", "WriteResult"]

UNPARTITIONED = "all"
"""The partition key of a table without partitions."""

# Above any partition: its rows keep their order because it is never cut into files.
_FILE_BYTES = 1 << 50


@dataclass(frozen=True)
class WriteResult:
    """A table after a write: its version and the partitions written and left as they were."""

    table: str
    version: int
    written: tuple[PartitionState, ...]
    unchanged: tuple[PartitionState, ...]


@dataclass(frozen=True)
class Lake:
    """The tables below ``root`` (a path or ``s3://bucket/prefix``).

    ``storage_options`` go to deltalake as they are; credentials and endpoint come from the
    environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``AWS_ALLOW_HTTP``, …).

    Every method raises PermanentError where the storage refuses and TransientError where it does
    not answer.
    """

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)

    def write(
        self, table: str, partitions: Mapping[str, "pa.Table"], key: Sequence[str]
    ) -> WriteResult:
        """Makes ``partitions`` (key → rows) the content of those partitions, in one commit.

        Rows are sorted by ``key``, which should identify them: rows of equal key keep the order
        in which they came. A partition whose content is there already is left alone; when all
        are, nothing is committed and the version stays. Writers of one partition take turns.

        Raises EmptyPartitionError for a partition without rows, SchemaError when the columns
        differ from the table's, and TransientError when other writers keep coming first.
        """
        from mlops_assets.core.digest import table_digest

        if not partitions or "" in partitions:
            raise PermanentError(f"table {table}: give at least one partition, each with a key")
        ordered = {
            name: delta.sort_rows(table, name, partitions[name], key) for name in sorted(partitions)
        }
        delta.check_same_schema(table, {name: rows.schema for name, rows in ordered.items()})
        digests = {name: table_digest(rows) for name, rows in ordered.items()}
        return delta.retried(table, lambda: self._write_once(table, ordered, digests))

    def _write_once(
        self, table: str, partitions: Mapping[str, "pa.Table"], digests: Mapping[str, str]
    ) -> WriteResult:
        import pyarrow as pa
        from deltalake import write_deltalake

        opened = self.opened(table, ledger=False)
        before = {} if opened is None else delta.states(table, opened)
        if opened is not None:
            schema = next(iter(partitions.values())).schema
            delta.check_schema(table, schema, delta.data_schema(opened))
        changed = [
            name
            for name in partitions
            if name not in before or before[name].digest != digests[name]
        ]
        unchanged = tuple(before[name] for name in partitions if name not in changed)
        if opened is not None and not changed:
            return WriteResult(table, opened.version(), (), unchanged)
        rows = pa.concat_tables(
            delta.stated(name, partitions[name], digests[name]) for name in changed
        )
        if opened is None:
            opened = self.create(table, rows, [PARTITION, DIGEST], {})
        else:
            with delta.storage_errors("write", self.url(table)):
                write_deltalake(
                    opened,
                    rows,
                    mode="overwrite",
                    predicate=_is_in(changed),
                    target_file_size=_FILE_BYTES,
                )
        after = delta.states(table, opened)
        written = tuple(after[name] for name in changed)
        return WriteResult(table, opened.version(), written, unchanged)

    def create(
        self,
        table: str,
        rows: "pa.Table",
        partition_by: list[str],
        configuration: Mapping[str, str | None],
    ) -> "delta.DeltaTable":
        """The new table with ``rows`` as version 0; a conflict when somebody else creates it."""
        from deltalake import CommitProperties, DeltaTable, write_deltalake

        url = self.url(table)
        delta.prepare(url)
        with delta.storage_errors("write", url):
            write_deltalake(
                url,
                rows,
                mode="error",
                partition_by=partition_by,
                # A model names the versions that it was trained on for as long as it exists, so
                # the log entries that make them readable are never cleaned up.
                # Every table is opened anew each time: with a checkpoint every 10 commits, not 100,
                # a table of 95 days opens in a quarter of the time and is written in a third.
                configuration={
                    "delta.enableExpiredLogCleanup": "false",
                    "delta.checkpointInterval": "10",
                    **configuration,
                },
                storage_options=delta.options(url, self.storage_options),
                target_file_size=_FILE_BYTES,
                # With retries, the loser of a race to create would add its rows to the winner's.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
            return DeltaTable(
                url, version=0, storage_options=delta.options(url, self.storage_options)
            )

    def remove(self, table: str, partitions: Collection[str]) -> int:
        """Takes ``partitions`` out of the table, in one commit, and returns its version.

        Those that are not there are no error; older versions keep them.
        """

        def once() -> int:
            opened = self.opened(table, ledger=False)
            if opened is None:
                return -1
            present = sorted(set(partitions) & set(delta.states(table, opened)))
            if present:
                with delta.storage_errors("write", self.url(table)):
                    opened.delete(_is_in(present))
            return opened.version()

        return delta.retried(table, once)

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
        opened = self.opened(table, ledger=False, version=version)
        if opened is None:
            raise MissingPartitionsError(
                f"table {table} is not in the lake at {self.root}: materialize it first"
            )
        if partitions is not None:
            missing = sorted(set(partitions) - set(delta.states(table, opened)))
            if missing:
                more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                raise MissingPartitionsError(
                    f"table {table} has no partition {', '.join(missing[:5])}{more}: "
                    "materialize what is missing first"
                )
        return delta.read_files(table, opened, partitions, columns)

    def read_present(
        self, table: str, partitions: Collection[str], columns: Sequence[str]
    ) -> "pa.Table | None":
        """The rows of those of ``partitions`` that are there, as :meth:`read` gives them; None
        when none is. The table is opened once.

        Raises SchemaError for an unknown column.
        """
        opened = self.opened(table, ledger=False)
        if opened is None:
            return None
        present = delta.states(table, opened).keys() & set(partitions)
        return delta.read_files(table, opened, sorted(present), columns) if present else None

    def states(self, table: str, version: int | None = None) -> dict[str, PartitionState]:
        """What each partition holds, by partition key in order; empty for an absent table."""
        opened = self.opened(table, ledger=False, version=version)
        return {} if opened is None else delta.states(table, opened)

    def version(self, table: str) -> int:
        """The table's Delta version, or -1 for an absent table."""
        opened = self._open(table)
        return -1 if opened is None else opened.version()

    def vacuum(self, table: str, keep_versions: Sequence[int], retention_hours: int) -> int:
        """Deletes files that neither the newest version nor ``keep_versions`` use and that are
        older than ``retention_hours``; returns how many.

        Also deletes what killed writers left. Choose more hours than the longest write takes: the
        files of a write under way belong to no version yet. Raises PermanentError for a ledger, of
        which nothing is ever deleted.
        """
        opened = self.opened(table, ledger=False)
        if opened is None:
            return 0
        with delta.storage_errors("write", self.url(table)):
            deleted = opened.vacuum(
                retention_hours=retention_hours,
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
                keep_versions=list(keep_versions),
            )
        return len(deleted)

    def url(self, table: str) -> str:
        """Where the table is."""
        return join(self.root, table)

    def _open(self, table: str, version: int | None = None) -> "delta.DeltaTable | None":
        return delta.open_table(self.url(table), self.storage_options, version)

    def opened(
        self, table: str, *, ledger: bool, version: int | None = None
    ) -> "delta.DeltaTable | None":
        """The table, or None for an absent one. Raises PermanentError for a ledger that should be
        a table, or the other way round.
        """
        opened = self._open(table, version)
        if opened is not None and (PARTITION not in opened.metadata().partition_columns) != ledger:
            raise PermanentError(
                f"table {table} is {'not ' if ledger else ''}a ledger; choose another table name"
            )
        return opened


def _is_in(partitions: Sequence[str]) -> str:
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in partitions)
    return f"{PARTITION} IN ({names})"
