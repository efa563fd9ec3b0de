"""A dataset's rows as they were known at an instant."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false
# (pyarrow ships no types, and makes its compute functions when it is imported.)

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.core.spec import DatasetSpec


def as_of(table: pa.Table, dataset: DatasetSpec, now: datetime) -> pa.Table:
    """What of ``table``, a table of ``dataset``, was known at ``now`` (an instant with a zone).

    Without ``known_later``, rows that became known after ``now`` are left out. With it, they stay:
    their ``known_later`` columns and ``known_at`` are null, and so is each ``known_since`` column
    whose own instant is after ``now``. A null instant means that it has not come yet. Without
    ``known_at``, all is known. Columns and their types stay as they are.
    """
    if dataset.known_at is None:
        return table
    if not dataset.known_later:
        known = _known(table, dataset.known_at, now)
        return table if pc.all(known).as_py() in (True, None) else table.filter(known)
    since = dict.fromkeys((*dataset.known_later, dataset.known_at), dataset.known_at)
    since |= dataset.known_since
    known_by = {column: _known(table, column, now) for column in sorted(set(since.values()))}
    columns = {name: table.column(name) for name in table.column_names}
    for name, instant in since.items():
        nothing = pa.scalar(None, columns[name].type)
        columns[name] = pc.if_else(known_by[instant], columns[name], nothing)
    return pa.Table.from_arrays(list(columns.values()), schema=table.schema)


def _known(table: pa.Table, instant: str, now: datetime) -> pa.ChunkedArray:
    column = table.column(instant)
    return pc.fill_null(pc.less_equal(column, pa.scalar(now, column.type)), False)
