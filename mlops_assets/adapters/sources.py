"""Rows of a file or SQL source, as the source's description says."""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlops_assets.adapters import storage
from mlops_assets.adapters.sql import read_sql
from mlops_assets.core.errors import PermanentError, PlatformError, SchemaError
from mlops_assets.core.spec import ColumnType, FileSource
from mlops_assets.core.windows import Window

if TYPE_CHECKING:
    import pyarrow as pa

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")

_HTTP_TIMEOUT_SECONDS = 60
"""Until a connection, or a read on it, counts as lost."""


def read_source(
    source: FileSource,
    window: Window | None,
    event_time: str | None,
    where: str,
    columns: Mapping[str, ColumnType] | None = None,
) -> "pa.Table":
    """The rows of ``source``, of ``window`` alone when there is one.

    Rows of Parquet and CSV are chosen by ``event_time``; for SQL the query chooses, with ``:start``
    and ``:end`` bound to the window's UTC instants. Text becomes an instant where it is the event
    time or ``columns`` says so, and carries an offset (``Z`` or ``+01:00``).

    CSV values have the types of ``columns``, without them the types that they look like (an
    identifier ``007`` then becomes the number 7). An empty field is null, a quoted empty field is
    the empty string.

    The location may be a path, ``file://``, ``s3://``, ``http://``, ``https://`` or for SQL a
    SQLAlchemy URL; ``${NAME}`` in it is the environment variable NAME, at this moment.
    ``where`` names the dataset in messages, which never show a password or a variable's value.
    Raises PermanentError for a variable that is not set or a source that is not there, SchemaError
    for values of another type, and TransientError when a server does not answer.
    """
    location = location_of(source, where)
    table = _read_or_problem(source, location, window, event_time, where, columns)
    if isinstance(table, PlatformError):
        raise table  # out here, since a chained cause would show the location with its secrets
    times = {name for name, kind in (columns or {}).items() if kind == "timestamp"}
    for name in sorted(times | ({event_time} if event_time else set())):
        if name in table.schema.names:
            table = _with_instants(table, name, where)
    if window is None or event_time is None or source.kind == "sql":
        return table
    return _inside(table, event_time, window, where)


def location_of(source: FileSource, where: str) -> str:
    """Where ``source`` is, with the values of the environment's variables: do not show it.

    ``where`` names the dataset. Raises PermanentError for a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise PermanentError(
                f"{where}: the source's location needs the environment variable {name}, which is "
                "not set; set it where the source is read"
            )
        return os.environ[name]

    return _VARIABLE.sub(value, source.location)


def _read_or_problem(
    source: FileSource,
    location: str,
    window: Window | None,
    event_time: str | None,
    where: str,
    columns: Mapping[str, ColumnType] | None,
) -> "pa.Table | PlatformError":
    try:
        if source.kind == "sql":
            return read_sql(location, source.query or "", window, where)
        if source.kind == "csv":
            return _read_csv(location, columns)
        return _read_parquet(location, window, event_time)
    except Exception as error:  # noqa: BLE001 (any library's message may hold a secret)
        return _problem(error, source, where)


def _problem(error: Exception, source: FileSource, where: str) -> PlatformError:
    """What a failure means, with the location as written and every secret hidden."""
    import pyarrow as pa

    shown, words = _shown(source), _hide(error, source)
    if isinstance(error, PermanentError):
        return PermanentError(words)
    if isinstance(error, FileNotFoundError):
        return PermanentError(
            f"{where}: there is no {shown}; check the location and that the source exists"
        )
    if isinstance(error, pa.ArrowException) and not isinstance(error, OSError):
        return SchemaError(f"{where}: {shown} is not readable as {source.kind}: {words}")
    if isinstance(error, OSError):
        told = storage.failure(error, "read", shown, words)
        return type(told)(f"{where}: {told}")
    return PermanentError(f"{where}: cannot read {shown}: {type(error).__name__}: {words}")


def _shown(source: FileSource) -> str:
    """The location as it is written, without user, password and query string."""
    return _USER_INFO.sub("***", source.location).partition("?")[0]


def _hide(error: BaseException, source: FileSource) -> str:
    """The error's text without what may be secret: variables, passwords, query strings."""
    text = str(error)
    expanded = _VARIABLE.sub(lambda match: os.environ.get(match.group(1), ""), source.location)
    values = [os.environ.get(name, "") for name in _VARIABLE.findall(source.location)]
    values += [match.partition(":")[2] for match in _USER_INFO.findall(expanded)]
    values.append(expanded.partition("?")[2])
    for value in sorted({value for value in values if value}, key=len, reverse=True):
        text = text.replace(value, "***").replace(unquote(value), "***")
    return _USER_INFO.sub("***", text)


def _read_csv(location: str, columns: Mapping[str, ColumnType] | None) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv

    from mlops_assets.core.schema import arrow_schema

    # Instants are read as text first: Arrow's own message names neither column nor row.
    types = {
        field.name: pa.string() if pa.types.is_timestamp(field.type) else field.type
        for field in arrow_schema(columns or {})
    }
    options = csv.ConvertOptions(
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with _stream(location) as stream:
        return csv.read_csv(stream, convert_options=options)


def _read_parquet(location: str, window: Window | None, event_time: str | None) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    if _is_http(location):
        return pq.read_table(_download(location))
    files, path = storage.filesystem(location)
    dataset = ds.dataset(path, format="parquet", filesystem=files)
    names = dataset.schema.names
    kind = dataset.schema.field(event_time).type if event_time in names else pa.null()
    if window is None or not pa.types.is_timestamp(kind) or kind.tz is None:
        return dataset.to_table()
    # Skips row groups outside. Rows without a time are kept: they are refused, not lost.
    time = ds.field(event_time)
    start, end = pa.scalar(window.start_time, kind), pa.scalar(window.end_time, kind)
    return dataset.to_table(filter=((time >= start) & (time < end)) | time.is_null())


def _is_http(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _stream(location: str) -> "pa.NativeFile":
    if _is_http(location):
        return _download(location)
    files, path = storage.filesystem(location)
    return files.open_input_stream(path)


def _download(location: str) -> "pa.BufferReader":
    import http.client
    import urllib.error
    import urllib.request

    import pyarrow as pa

    if urlsplit(location).username is not None:
        # Taken for a host's name, the password would go to a name server.
        raise PermissionError("user and password are not supported in a web address")
    try:
        with urllib.request.urlopen(location, timeout=_HTTP_TIMEOUT_SECONDS) as response:  # noqa: S310 (http and https alone come here)
            return pa.BufferReader(response.read())
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError(location) from error
        if error.code in (408, 425, 429) or error.code >= 500:
            raise OSError(f"the server answered {error.code} {error.reason}") from error
        raise PermissionError(f"{error.code} {error.reason}") from error
    except http.client.InvalidURL as error:
        raise PermissionError("that is no web address") from error
    except http.client.HTTPException as error:
        raise OSError(f"the answer was cut: {type(error).__name__}") from error


def _with_instants(table: "pa.Table", name: str, where: str) -> "pa.Table":
    """``table`` with the text column ``name`` read as instants; other columns stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.column(name)
    if column.type not in (pa.string(), pa.large_string(), pa.string_view()):
        return table
    try:
        instants = column.cast(pa.string()).cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid as error:
        has_offset = pc.call_function(
            "match_substring_regex",
            [column.cast(pa.string())],
            pc.MatchSubstringOptions(r"(Z|[+-]\d\d:?\d\d)$"),
        )
        row = pc.index(has_offset, False).as_py()
        if row < 0:
            raise SchemaError(f"{where}: column {name!r} is not a time: {error}") from error
        raise SchemaError(
            f"{where}: column {name!r} has a time without offset, e.g. {column[row]!s} in row "
            f"{row}: localize it in the source, so that it ends in Z or an offset like +01:00"
        ) from error
    return table.set_column(table.schema.get_field_index(name), name, instants)


def _inside(table: "pa.Table", event_time: str, window: Window, where: str) -> "pa.Table":
    """The rows of ``window``, and those without a time: they are refused later, not lost."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from mlops_assets.core.schema import conform

    if event_time not in table.schema.names:
        raise SchemaError(
            f"{where}: the event time {event_time!r} is missing; found columns "
            f"{', '.join(table.schema.names)}"
        )
    times = conform(table.select([event_time]), {event_time: "timestamp"}, where)[event_time]
    first = pc.call_function("greater_equal", [times, pa.scalar(window.start_time, times.type)])
    before = pc.call_function("less", [times, pa.scalar(window.end_time, times.type)])
    return table.filter(pc.fill_null(pc.call_function("and", [first, before]), True))
