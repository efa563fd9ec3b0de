import functools
import http.server
import sqlite3
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.adapters.sources import read_source
from mlops_assets.adapters.storage import join, write_bytes
from mlops_assets.core.errors import PermanentError, SchemaError, TransientError
from mlops_assets.core.schema import conform
from mlops_assets.core.spec import ColumnType, FileSource
from mlops_assets.core.windows import Window

DAY = Window(date(2013, 3, 10), date(2013, 3, 11), "America/New_York")
INSTANT = pa.timestamp("us", tz="UTC")

CSV = """at,code,n
2013-03-10T04:59:59Z,007,1
2013-03-10T05:00:00Z,008,2
2013-03-10T23:59:59-04:00,,3
2013-03-11T00:00:00-04:00,"",4
"""
COLUMNS: dict[str, ColumnType] = {"at": "timestamp", "code": "string", "n": "int32"}


def source(kind: str, location: object, query: str | None = None) -> FileSource:
    """A source as defs.yaml would give it."""
    return FileSource.model_validate({"kind": kind, "location": str(location), "query": query})


def message(error: pytest.ExceptionInfo[BaseException]) -> str:
    """Everything that a log would show of an error, causes included."""
    return "".join(traceback.format_exception(error.value))


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """A web server on loopback that serves tmp_path."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.startswith(("/500", "/403")):
                self.send_error(int(self.path[1:4]))
            else:
                super().do_GET()

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["path", "file", "http", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Where a test writes its file, and the URL by which a source reads it."""
    path = str(tmp_path)
    match request.param:
        case "path":
            return path, path
        case "file":
            return path, tmp_path.as_uri()
        case "http":
            return path, str(request.getfixturevalue("website"))
        case _:
            bucket = str(request.getfixturevalue("s3_bucket"))
            return bucket, bucket


def test_a_csv_file_is_read_from_anywhere(place: tuple[str, str]) -> None:
    """Rows of the local day alone, with the described types."""
    write_bytes(join(place[0], "a.csv"), CSV.encode())
    found = read_source(source("csv", join(place[1], "a.csv")), DAY, "at", "flights", COLUMNS)
    assert conform(found, COLUMNS, "flights").to_pydict() == {
        "at": [datetime(2013, 3, 10, 5, tzinfo=UTC), datetime(2013, 3, 11, 3, 59, 59, tzinfo=UTC)],
        "code": ["008", None],
        "n": [2, 3],
    }


def test_a_parquet_file_is_read_from_anywhere(place: tuple[str, str]) -> None:
    """Rows of the window alone; a row without a time stays, to be refused by name later."""
    at = [DAY.start_time - timedelta(seconds=1), DAY.start_time, None, DAY.end_time]
    sink = pa.BufferOutputStream()
    rows = pa.table({"at": pa.array(at, pa.timestamp("ms", tz="UTC")), "n": [1, 2, 3, 4]})
    pq.write_table(rows, sink)
    write_bytes(join(place[0], "a.parquet"), sink.getvalue().to_pybytes())
    location = source("parquet", join(place[1], "a.parquet"))
    assert read_source(location, DAY, "at", "flights")["n"].to_pylist() == [2, 3]
    assert read_source(location, None, None, "flights").equals(rows)


def test_without_descriptions_csv_values_are_what_they_look_like(tmp_path: Path) -> None:
    """Numbers and instants are recognized; a quoted empty field is text, an empty one null."""
    (tmp_path / "a.csv").write_text(CSV)
    found = read_source(source("csv", tmp_path / "a.csv"), None, None, "flights")
    assert found["code"].to_pylist() == ["007", "008", None, ""]
    assert found["n"].to_pylist() == [1, 2, 3, 4]
    assert found.schema.field("at").type.tz == "UTC"


def test_a_time_without_offset_is_refused(tmp_path: Path) -> None:
    """Local times say so themselves; the message names the value and what to do."""
    (tmp_path / "a.csv").write_text("at\n2013-03-10T05:00:00Z\n2013-03-10T05:00:00\n")
    csv = source("csv", tmp_path / "a.csv")
    for columns in (None, {"at": "timestamp"}):
        with pytest.raises(
            SchemaError, match=r"flights: .*'at'.*2013-03-10T05:00:00 in row 1.*loc"
        ):
            read_source(csv, DAY, "at", "flights", columns)  # type: ignore[arg-type]
    (tmp_path / "a.csv").write_text("at\n2013-03-10T05:00:00\n")
    with pytest.raises(SchemaError, match=r"flights: column 'at' is timestamp.*localize"):
        read_source(csv, DAY, "at", "flights")
    (tmp_path / "a.csv").write_text("at\nyesterdayZ\n")
    with pytest.raises(SchemaError, match=r"column 'at' is not a time: .*yesterdayZ"):
        read_source(csv, DAY, "at", "flights")
    with pytest.raises(SchemaError, match="the event time 'when' is missing; found columns at"):
        read_source(csv, DAY, "when", "flights")


@pytest.mark.parametrize(
    ("kind", "content"),
    [("csv", b""), ("csv", b"at,n\n1\n"), ("csv", b"n\nx\n"), ("parquet", b"PAR1 cut")],
)
def test_a_broken_file_is_named(tmp_path: Path, kind: str, content: bytes) -> None:
    """With the dataset, the file and the reader's words."""
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(SchemaError, match=rf"flights: .*broken is not readable as {kind}: "):
        read_source(source(kind, tmp_path / "broken"), None, None, "flights", {"n": "int32"})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_missing_file_is_permanent_wherever_it_should_be(
    place: tuple[str, str], kind: str
) -> None:
    """The message names the dataset and the location."""
    with pytest.raises(PermanentError, match=r"flights: there is no .*nothing"):
        read_source(source(kind, join(place[1], "nothing")), None, None, "flights")


def test_a_server_s_answer_decides_whether_to_try_again(website: str, tmp_path: Path) -> None:
    """Its own failure and a refused connection are transient, a refusal is not."""
    with pytest.raises(TransientError, match="500"):
        read_source(source("csv", f"{website}/500"), None, None, "flights")
    with pytest.raises(PermanentError, match="403"):
        read_source(source("csv", f"{website}/403?signature=hidden"), None, None, "flights")
    with pytest.raises(TransientError, match="refused"):
        read_source(source("csv", "http://127.0.0.1:1/a"), None, None, "flights")
    with pytest.raises(PermanentError, match=r"cannot read .* is a directory"):
        read_source(source("csv", tmp_path), None, None, "flights")


def test_variables_are_read_when_the_source_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing one is named; a set one's value never shows."""
    csv = source("csv", "${DATA_FOLDER}/${DATA_FILE}.csv")
    monkeypatch.setenv("DATA_FOLDER", str(tmp_path / "hunter2"))
    with pytest.raises(PermanentError, match=r"flights: .* variable DATA_FILE, which is not set"):
        read_source(csv, None, None, "flights")
    monkeypatch.setenv("DATA_FILE", "a")
    with pytest.raises(PermanentError, match=r"there is no \$\{DATA_FOLDER\}") as caught:
        read_source(csv, None, None, "flights")
    assert "hunter2" not in message(caught)
    write_bytes(str(tmp_path / "hunter2" / "a.csv"), b"n\n1\n")
    assert read_source(csv, None, None, "flights")["n"].to_pylist() == [1]


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The URL of a SQLite database of flights: every hour of three days, in text with offset."""
    path = tmp_path / "flights.db"
    start = DAY.start_time - timedelta(days=1)
    times = [start + timedelta(hours=n) for n in range(72)]
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE flights (at TEXT, flight INTEGER, delay REAL, tail TEXT)")
        connection.executemany(
            "INSERT INTO flights VALUES (?, ?, ?, ?)",
            [(at.isoformat(), n, n / 2 if n % 3 else None, None) for n, at in enumerate(times)],
        )
    connection.close()
    return f"sqlite:///{path}"


QUERY = (
    "SELECT at, flight, delay, tail FROM flights "
    "WHERE datetime(at) >= datetime(:start) AND datetime(at) < datetime(:end)"
)


def test_a_query_is_bound_to_the_window(database: str) -> None:
    """The day on which clocks change has 23 hours; text with an offset is an instant."""
    found = read_source(source("sql", database, QUERY), DAY, "at", "flights")
    assert found["flight"].to_pylist() == list(range(24, 47))
    assert found["at"].type == INSTANT
    columns: dict[str, ColumnType] = {
        "at": "timestamp",
        "flight": "int32",
        "delay": "float64",
        "tail": "string",
    }
    assert conform(found, columns, "flights")["delay"].to_pylist()[:3] == [None, 12.5, 13.0]


def test_a_query_without_rows_has_its_columns(database: str) -> None:
    """So that an empty partition is told from a wrong query."""
    later = Window(date(2014, 1, 1), date(2014, 1, 2), "UTC")
    found = read_source(source("sql", database, QUERY), later, "at", "flights")
    assert (found.num_rows, found.schema.names) == (0, ["at", "flight", "delay", "tail"])


def test_many_rows_come_in_batches_of_one_type(tmp_path: Path) -> None:
    """A column that begins with nulls or whole numbers still has one type."""
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a REAL, b TEXT)")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?)", [(None, None)] * 60_000 + [(1.5, "x")] * 10
        )
    connection.close()
    found = read_source(source("sql", f"sqlite:///{path}", "SELECT * FROM t"), None, None, "t")
    assert found.num_rows == 60_010
    assert found.schema.types == [pa.float64(), pa.string()]
    assert found["b"].null_count == 60_000


def test_bad_queries_and_databases_are_named(database: str, tmp_path: Path) -> None:
    """Each with the dataset and what to do; a database that is not there is not made."""
    refusals = [
        (database, "SELECT * FROM none_such", "no such table: none_such"),
        (database, "SELECT :begin", "parameter :begin; only :start and :end"),
        (database, QUERY, "the dataset has no partitions"),
        (f"sqlite:///{tmp_path}/absent.db", "SELECT 1", "there is no sqlite:///"),
        ("nodialect://host/db", "SELECT 1", "no SQLAlchemy URL of a known database"),
        ("not a url", "SELECT 1", "no SQLAlchemy URL"),
        ("oracle+oracledb://host/db", "SELECT 1", "driver oracledb is not installed"),
    ]
    for location, query, words in refusals:
        with pytest.raises(PermanentError, match=words) as caught:
            read_source(source("sql", location, query), None, None, "flights")
        assert "flights" in str(caught.value)
    assert not (tmp_path / "absent.db").exists()


def test_a_locked_database_is_transient(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may let go of it."""
    from mlops_assets.adapters import sql

    monkeypatch.setitem(sql._TIMEOUTS, "sqlite", {"timeout": 0.01})
    holder = sqlite3.connect(database.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TransientError, match=r"flights: .*database is locked"):
        read_source(source("sql", database, "SELECT * FROM flights"), None, None, "flights")
    holder.close()


@pytest.mark.parametrize(
    "location",
    [
        "nodialect://user:hunter2@host/db",
        "postgresql://user:hunter2@host:port/db",
        "nodialect://user:${PASSWORD}@host/db",
        "mysql+mysqldb://user:${PASSWORD}@host/db",
        "sqlite:///${PASSWORD}/absent.db",
    ],
)
def test_a_password_never_shows(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the message nor in a cause's, written out or from the environment."""
    monkeypatch.setenv("PASSWORD", "hunter2")
    with pytest.raises(PermanentError) as caught:
        read_source(source("sql", location, "SELECT 1"), None, None, "flights")
    assert "hunter2" not in message(caught)


def test_a_web_address_with_a_password_is_refused_and_hides_it(
    website: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User, password and query string are left out of the message."""
    monkeypatch.setenv("PASSWORD", "hunter2")
    secret = "hunter" + "3"
    address = website.replace("http://", f"http://user:{secret}@")
    for location in (
        f"{address}/403",
        website + f"/403?signature={secret}",
        address + "${PASSWORD}",
    ):
        with pytest.raises(PermanentError) as caught:
            read_source(source("csv", location), None, None, "flights")
        assert secret not in message(caught)
        assert "hunter2" not in message(caught)
