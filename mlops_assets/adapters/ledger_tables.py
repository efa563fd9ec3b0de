"""Ledgers in the lake: tables to which rows are only ever appended, in one order for all.

The order stands in two columns of its own: ``_version``, the Delta version that a row came with,
and ``_row``, its place among those.
"""

from typing import TYPE_CHECKING

from mlops_assets.adapters import delta
from mlops_assets.core.errors import MissingPartitionsError

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake

_VERSION = "_version"
_ROW = "_row"


def append(lake: "Lake", table: str, rows: "pa.Table") -> int:
    """Adds ``rows`` to the end of a ledger, all or none, and returns its version.

    Appends of several writers all land, one after the other. No rows change nothing.
    Raises SchemaError when the columns differ from the ledger's, and TransientError when
    other writers keep coming first.
    """
    plain = delta.plain_text(rows)
    delta.check_representable(table, plain.schema)
    return delta.retried(table, lambda: _append_once(lake, table, plain))


def _append_once(lake: "Lake", table: str, rows: "pa.Table") -> int:
    import numpy as np
    import pyarrow as pa
    from deltalake import CommitProperties, write_deltalake

    opened = lake.opened(table, ledger=True)
    version = -1 if opened is None else opened.version()
    if opened is not None:
        delta.check_schema(table, rows.schema, delta.data_schema(opened))
    if rows.num_rows == 0:
        return version
    # The commit is refused unless it becomes exactly this version, so that the order of the
    # rows is the order of the commits.
    versions = np.full(rows.num_rows, version + 1, np.int64)
    placed = rows.append_column(_VERSION, pa.array(versions)).append_column(
        _ROW, pa.array(np.arange(rows.num_rows, dtype=np.int64))
    )
    if opened is None:
        return lake.create(table, placed, [], {"delta.appendOnly": "true"}).version()
    with delta.storage_errors("write", lake.url(table)):
        write_deltalake(
            opened,
            placed,
            mode="append",
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    return version + 1


def read(lake: "Lake", table: str) -> "pa.Table":
    """All rows of a ledger, in the order of their appending.

    Raises MissingPartitionsError when it is not there.
    """
    opened = lake.opened(table, ledger=True)
    if opened is None:
        raise MissingPartitionsError(
            f"ledger {table} is not in the lake at {lake.root}: nothing was appended yet"
        )
    with delta.storage_errors("read", lake.url(table)):
        rows = delta.dataset(opened).to_table()
    in_order = rows.sort_by([(_VERSION, "ascending"), (_ROW, "ascending")])
    return in_order.drop_columns([_VERSION, _ROW])


def compact(lake: "Lake", table: str) -> int:
    """Joins the small files of a ledger's appends; returns how many files were replaced.

    The content stays, the version may rise. Of a partitioned table each partition is one file
    already.
    """

    def once() -> int:
        opened = lake.opened(table, ledger=True)
        if opened is None:
            return 0
        with delta.storage_errors("write", lake.url(table)):
            removed = int(opened.optimize.compact()["numFilesRemoved"])
            # Opening a table reads each commit since the last checkpoint.
            opened.create_checkpoint()
            return removed

    return delta.retried(table, once)
