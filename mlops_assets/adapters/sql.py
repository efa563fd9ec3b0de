"""Rows of a SQL query."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.windows import Window

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.sql.elements import TextClause

# Until a database that does not answer counts as lost, in the words of each driver.
_TIMEOUTS: dict[str, dict[str, object]] = {
    "sqlite": {"timeout": 30},
    "postgresql": {"connect_timeout": 10, "options": "-c statement_timeout=600000"},
    "mysql": {"connect_timeout": 10, "read_timeout": 600},
}
_BATCH_ROWS = 50_000

# What drivers say about a database that may answer the next time, in lower case.
_AWAY = (
    "could not connect",
    "can't connect",
    "connection refused",
    "connection to server",
    "server closed",
    "terminating connection",
    "timed out",
    "timeout",
    "is locked",
)


def read_sql(location: str, query: str, window: Window | None, where: str) -> "pa.Table":
    """The rows of ``query`` on the database at the SQLAlchemy URL ``location``.

    ``:start`` and ``:end`` are bound to the window's UTC instants. Raises PermanentError for a
    parameter, URL or driver that is not known, FileNotFoundError for a missing SQLite file,
    PermissionError with the driver's words when the database refuses, OSError when it is away.
    """
    import pyarrow as pa
    import sqlalchemy as sa
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        url = sa.make_url(location)
        backend = url.get_backend_name()
        file = url.database
        if backend == "sqlite" and file not in (None, "", ":memory:") and not Path(file).exists():
            raise FileNotFoundError(file)  # SQLite would make an empty database of that name
        engine = sa.create_engine(
            url, poolclass=sa.NullPool, connect_args=_TIMEOUTS.get(backend, {})
        )
        statement = _bind(query, window, where)
        with engine.connect().execution_options(stream_results=True) as connection:
            result = connection.execute(statement)
            names = list(result.keys())
            tables = [pa.table([pa.nulls(0)] * len(names), names=names)]
            for rows in result.partitions(_BATCH_ROWS):
                values = zip(*rows, strict=True)
                tables.append(pa.table([pa.array(list(column)) for column in values], names=names))
        return pa.concat_tables(tables, promote_options="permissive")
    except ModuleNotFoundError as error:
        raise PermanentError(
            f"{where}: the database's driver {error.name} is not installed; install it where the "
            "source is read"
        ) from None
    except DBAPIError as error:
        raise _sql_failure(error) from error
    except (SQLAlchemyError, ValueError) as error:
        # Its text may hold parts of the URL, its kind says enough.
        raise PermanentError(
            f"{where}: the location is no SQLAlchemy URL of a known database "
            f"({type(error).__name__}); write dialect+driver://user:${{PASSWORD}}@host/database"
        ) from None


def _bind(query: str, window: Window | None, where: str) -> "TextClause":
    import sqlalchemy as sa

    statement = sa.text(query)
    names = set(statement.compile().params)
    if unknown := sorted(names - {"start", "end"}):
        raise PermanentError(
            f"{where}: the query has the parameter :{unknown[0]}; only :start and :end are known "
            "(write \\: for a colon)"
        )
    if not names:
        return statement
    if window is None:
        raise PermanentError(
            f"{where}: the query has :{min(names)}, but the dataset has no partitions; drop the "
            "condition or make the dataset partitioned"
        )
    values = {"start": window.start_time, "end": window.end_time}
    instant = sa.DateTime(timezone=True)
    return statement.bindparams(*(sa.bindparam(n, values[n], type_=instant) for n in names))


def _sql_failure(error: "DBAPIError") -> OSError:
    """The driver's own words, as a database that is away or one that refuses."""
    words = str(error.orig).strip()
    if error.connection_invalidated or any(word in words.lower() for word in _AWAY):
        return OSError(words)
    return PermissionError(words)
