"""Delta tables as the lake uses them: opening, checking, reading files, and what failures mean."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mlops_assets.adapters import storage
from mlops_assets.adapters.delta_files import PARTITION, dataset
from mlops_assets.core.errors import (
    EmptyPartitionError,
    PermanentError,
    SchemaError,
    TransientError,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

Result = TypeVar("Result")

DIGEST = "_digest"

# A loser of a race reads the new state and tries again; in each round at least one writer wins.
_ATTEMPTS = 30
_LONGEST_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class PartitionState:
    """What a partition holds; ``bytes`` is the size of its file."""

    partition: str
    digest: str
    rows: int
    bytes: int


class ConflictError(Exception):
    """Another writer committed first; never leaves the lake."""


def retried(table: str, once: Callable[[], Result]) -> Result:
    """What ``once`` returns, tried again after each ConflictError.

    Raises TransientError when it keeps losing.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return once()
        except ConflictError:
            # A random pause keeps the losers of one race from meeting again in the next.
            longest = min(_LONGEST_PAUSE_SECONDS, 0.02 * 2**attempt)
            time.sleep(secrets.SystemRandom().uniform(0, longest))
    raise TransientError(
        f"table {table}: other writers came first {_ATTEMPTS} times; nothing was written, try "
        "again later"
    )


@contextmanager
def storage_errors(action: str, url: str) -> Iterator[None]:
    """Turns deltalake's failures into ConflictError, PermanentError or TransientError."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except CommitFailedError as error:
        raise ConflictError(str(error)) from error
    except FileNotFoundError as error:
        raise PermanentError(
            f"cannot {action} {url}: a data file of that version is gone, vacuumed or deleted: "
            f"{error}; use a newer version"
        ) from error
    except (DeltaError, OSError) as error:
        if "already exists" in str(error):
            raise ConflictError(str(error)) from error
        raise storage.failure(error, action, url) from error


def options(url: str, extra: Mapping[str, str]) -> dict[str, str]:
    """deltalake's storage options for ``url``, overridden by ``extra``."""
    if storage.local_path(url) is not None:
        return dict(extra)
    return {
        "connect_timeout": f"{storage.CONNECT_TIMEOUT_SECONDS}s",
        "timeout": f"{storage.REQUEST_TIMEOUT_SECONDS}s",
        # A commit creates the log entry of its version only if there is none.
        "aws_conditional_put": "etag",
        # A bucket with Object Lock takes no object without; the signature needs the digest anyway.
        "aws_checksum_algorithm": "sha256",
        **extra,
    }


def prepare(url: str) -> None:
    """Makes the folder of a new local table. Raises PermanentError where that cannot be."""
    path = storage.local_path(url)
    if path is not None:
        storage.make_folder(path)


def open_table(url: str, extra: Mapping[str, str], version: int | None) -> "DeltaTable | None":
    """The table at ``url``, or None when there is none.

    Raises PermanentError when it has no such ``version``, or something else is in its place.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    path = storage.local_path(url)
    if path is not None and path.is_file():
        raise PermanentError(
            f"{path} is a file where the folder of a table should be; remove it, or choose another "
            "place or table name"
        )
    with storage_errors("read", url):
        try:
            return DeltaTable(url, version=version, storage_options=options(url, extra))
        except TableNotFoundError:
            return None
        except DeltaError as error:
            if version is None:
                raise
            raise PermanentError(f"{url} has no readable version {version}: {error}") from error


def states(table: str, opened: "DeltaTable") -> dict[str, PartitionState]:
    """What each partition holds, by partition key in order, from the log alone.

    Raises PermanentError for a table that something else than the lake wrote to.
    """
    import pyarrow as pa

    partition, digest = f"partition.{PARTITION}", f"partition.{DIGEST}"
    files = pa.table(opened.get_add_actions(flatten=True))
    found: dict[str, PartitionState] = {}
    columns = [partition, digest, "num_records", "size_bytes"]
    rows = zip(*(files.column(name).to_pylist() for name in columns), strict=True)
    for name, content, count, size in sorted(rows):
        if name in found:
            raise PermanentError(
                f"table {table}: partition {name} has more than one file, so something else than "
                "the lake wrote it; restore an older version or materialize it into a new table"
            )
        found[name] = PartitionState(name, content, count, size)
    return found


def read_files(
    table: str,
    opened: "DeltaTable",
    partitions: Sequence[str] | None,
    columns: Sequence[str] | None,
) -> "pa.Table":
    """The rows of ``partitions`` in order, without the lake's own columns."""
    schema = data_schema(opened)
    if columns is not None:
        check_columns(table, columns, schema.names)
    chosen = schema.names if columns is None else list(columns)
    if partitions is not None and len(partitions) == 0:
        import pyarrow as pa

        return pa.schema([schema.field(name) for name in chosen]).empty_table()
    with storage_errors("read", opened.table_uri):
        return dataset(opened, partitions).to_table(columns=chosen)


def data_schema(opened: "DeltaTable") -> "pa.Schema":
    """The columns of a table without the lake's own, which begin with an underscore."""
    import pyarrow as pa

    schema = pa.schema(opened.schema().to_arrow())
    return pa.schema([field for field in schema if not field.name.startswith("_")])


def plain_text(rows: "pa.Table") -> "pa.Table":
    """``rows`` with every text column as plain strings, and without metadata."""
    import pyarrow as pa

    from mlops_assets.core.schema import decoded

    columns = [decoded(column) for column in rows.columns]
    text = (pa.large_string(), pa.string_view())
    return pa.table(
        [column.cast(pa.string()) if column.type in text else column for column in columns],
        names=rows.schema.names,
    )


def sort_rows(table: str, partition: str, rows: "pa.Table", key: Sequence[str]) -> "pa.Table":
    """``rows`` in the order of ``key``. Raises EmptyPartitionError when there are none."""
    if rows.num_rows == 0:
        raise EmptyPartitionError(
            f"table {table}: partition {partition} has no rows; check the source for that "
            "partition, or leave the partition out"
        )
    check_columns(table, key, rows.schema.names)
    return plain_text(rows).sort_by([(column, "ascending") for column in key])


def stated(partition: str, rows: "pa.Table", digest: str) -> "pa.Table":
    """``rows`` with the lake's own columns."""
    import pyarrow as pa

    return rows.append_column(PARTITION, pa.repeat(partition, rows.num_rows)).append_column(
        DIGEST, pa.repeat(digest, rows.num_rows)
    )


def check_columns(table: str, wanted: Iterable[str], known: Sequence[str]) -> None:
    """Raises SchemaError for a column that is not there."""
    for column in wanted:
        if column not in known:
            raise SchemaError(f"table {table} has no column {column!r}; it has {', '.join(known)}")


def check_same_schema(table: str, schemas: Mapping[str, "pa.Schema"]) -> None:
    """Raises SchemaError unless all partitions have the same columns and the lake can keep them."""
    first, schema = next(iter(schemas.items()))
    check_representable(table, schema)
    for partition, other in schemas.items():
        if not other.equals(schema):
            raise SchemaError(
                f"table {table}: partition {partition} differs from partition {first}: "
                f"{_difference(other, schema)}"
            )


def check_representable(table: str, schema: "pa.Schema") -> None:
    """Raises SchemaError for a column that Delta Lake would change or cannot hold."""
    import pyarrow as pa
    from deltalake import Schema

    for field in schema:
        if field.name.startswith("_"):
            raise SchemaError(
                f"table {table}: column {field.name!r} begins with an underscore, which is kept "
                "for the lake's own columns; rename it"
            )
        try:
            kept = pa.schema(Schema.from_arrow(pa.schema([field])).to_arrow()).field(0).type
        except Exception as error:  # deltalake raises bare exceptions here
            raise SchemaError(
                f"table {table}: column {field.name!r} of type {field.type} does not fit Delta "
                f"Lake: {error}; cast it in the source"
            ) from error
        if kept != field.type:
            raise SchemaError(
                f"table {table}: column {field.name!r} is {field.type}, which Delta Lake keeps as "
                f"{kept}; cast it to {kept} first"
            )


def check_schema(table: str, new: "pa.Schema", existing: "pa.Schema") -> None:
    """Raises SchemaError with the difference unless both have the same columns and types."""
    if not new.equals(existing):
        raise SchemaError(
            f"table {table}: the rows do not have the table's columns: "
            f"{_difference(new, existing)}; change the source, or write to a table of another name"
        )


def _difference(new: "pa.Schema", existing: "pa.Schema") -> str:
    found = [f"{name!r} is missing" for name in existing.names if name not in new.names]
    found += [f"{name!r} is new" for name in new.names if name not in existing.names]
    found += [
        f"{name!r} is {new.field(name).type}, expected {existing.field(name).type}"
        for name in new.names
        if name in existing.names and new.field(name).type != existing.field(name).type
    ]
    return "; ".join(found) or f"the order is {new.names}, expected {existing.names}"
