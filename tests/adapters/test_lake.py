import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from threading import Barrier

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.adapters import ledger_tables
from mlops_assets.adapters.lake import UNPARTITIONED, Lake
from mlops_assets.core.digest import table_digest
from mlops_assets.core.errors import (
    EmptyPartitionError,
    MissingPartitionsError,
    PermanentError,
    SchemaError,
    TransientError,
)

KEY = ["carrier", "flight"]


def flights(*numbers: int, carrier: str = "UA") -> pa.Table:
    """One row a flight number; the delay is the number halved."""
    return pa.table(
        {
            "carrier": pa.array([carrier] * len(numbers), pa.string()),
            "flight": pa.array(numbers, pa.int64()),
            "delay": pa.array([n / 2 for n in numbers], pa.float64()),
        }
    )


def numbers(rows: pa.Table) -> list[int]:
    """The flight numbers, in the order of the rows."""
    return rows["flight"].to_pylist()


@pytest.fixture
def lake(location: str) -> Lake:
    """An empty lake, on a folder and on S3."""
    return Lake(location)


def test_what_is_written_is_read_in_order(lake: Lake) -> None:
    """By partition, then by key, with the columns and types that were written."""
    result = lake.write("a/flights", {"02": flights(3, 1), "01": flights(9, 8)}, KEY)
    assert result.version == 0
    assert [(state.partition, state.rows) for state in result.written] == [("01", 2), ("02", 2)]
    assert all(state.bytes > 0 for state in result.written)
    rows = lake.read("a/flights")
    assert numbers(rows) == [8, 9, 1, 3]
    assert rows.schema == flights(1).schema
    assert numbers(lake.read("a/flights", ["02", "01", "02"])) == [8, 9, 1, 3]
    assert numbers(lake.read("a/flights", ["02"])) == [1, 3]
    picked = lake.read("a/flights", ["01"], columns=["delay", "carrier"])
    assert picked.to_pydict() == {"delay": [4.0, 4.5], "carrier": ["UA", "UA"]}
    assert len(lake.read("a/flights", [])) == 0
    assert lake.read("a/flights", []).schema == rows.schema


def test_states_tell_content_without_reading_it(lake: Lake) -> None:
    """A state's digest is that of the sorted rows, and equals that of what is read."""
    assert lake.states("t") == {}
    assert lake.version("t") == -1
    result = lake.write("t", {"a": flights(2, 1), "b": flights(5)}, KEY)
    states = lake.states("t")
    assert list(states) == ["a", "b"]
    assert tuple(states.values()) == result.written
    assert states["a"].digest == table_digest(flights(1, 2))
    assert states["b"].digest == table_digest(lake.read("t", ["b"]))


def test_the_same_content_is_not_written_again(lake: Lake) -> None:
    """Whatever the order of the rows in the source; the version stays."""
    first = lake.write("t", {"a": flights(1, 2), "b": flights(3)}, KEY)
    again = lake.write("t", {"a": flights(2, 1), "b": flights(3)}, KEY)
    assert (again.version, again.written, again.unchanged) == (0, (), first.written)
    assert lake.version("t") == 0


def test_one_commit_replaces_the_changed_partitions_alone(lake: Lake) -> None:
    """New and changed ones are written, equal ones and others are left."""
    lake.write("t", {"a": flights(1), "b": flights(2), "c": flights(3)}, KEY)
    result = lake.write("t", {"a": flights(1), "b": flights(20, 21), "d": flights(4)}, KEY)
    assert result.version == 1
    assert [state.partition for state in result.written] == ["b", "d"]
    assert [state.partition for state in result.unchanged] == ["a"]
    assert numbers(lake.read("t")) == [1, 20, 21, 3, 4]
    assert numbers(lake.read("t", version=0)) == [1, 2, 3]
    assert list(lake.states("t", version=0)) == ["a", "b", "c"]


def test_removed_partitions_are_gone_from_the_newest_version_only(lake: Lake) -> None:
    """One commit; the version before still has them, and removing nothing commits nothing."""
    lake.write("a/flights", {"01": flights(1), "02": flights(2), "it's": flights(3)}, KEY)
    assert lake.remove("a/flights", ["01", "it's", "absent"]) == 1
    assert list(lake.states("a/flights")) == ["02"]
    assert numbers(lake.read("a/flights", version=0)) == [1, 2, 3]
    assert lake.remove("a/flights", ["01"]) == 1
    assert lake.remove("a/none", ["01"]) == -1


def test_a_table_without_partitions_is_replaced_whole(lake: Lake) -> None:
    """Its rows are one partition."""
    lake.write("planes", {UNPARTITIONED: flights(1, 2)}, KEY)
    lake.write("planes", {UNPARTITIONED: flights(3)}, KEY)
    assert numbers(lake.read("planes")) == [3]


def test_text_comes_back_as_plain_strings_with_nulls_and_instants(lake: Lake) -> None:
    """However it was held, and with every type of a description."""
    rows = pa.table(
        {
            "key": pa.array(["b", "a", None]),
            "code": pa.array(["x", None, "é'\"%"]).dictionary_encode(),
            "large": pa.array(["", "y", None], pa.large_string()),
            "flag": pa.array([True, None, False]),
            "small": pa.array([1, None, -(2**31)], pa.int32()),
            "real": pa.array([1.5, float("nan"), None], pa.float32()),
            "at": pa.array([0, None, 1357034400000001], pa.timestamp("us", tz="UTC")),
        }
    )
    lake.write("t", {"p": rows}, ["key"])
    found = lake.read("t")
    assert found.schema.field("code").type == found.schema.field("large").type == pa.string()
    assert found["code"].to_pylist() == [None, "x", "é'\"%"]
    assert found["at"].type == pa.timestamp("us", tz="UTC")
    assert table_digest(found) == lake.states("t")["p"].digest
    assert lake.write("t", {"p": found}, ["key"]).written == ()


def test_a_partition_may_have_any_key(lake: Lake) -> None:
    """Quotes, slashes, blanks and signs do not end up elsewhere."""
    odd = "a b/ü'%20=x"
    lake.write("t", {odd: flights(1), "z": flights(2)}, KEY)
    lake.write("t", {odd: flights(3)}, KEY)
    assert numbers(lake.read("t", [odd])) == [3]
    assert set(lake.states("t")) == {odd, "z"}


def test_bad_writes_are_refused_and_change_nothing(lake: Lake) -> None:
    """Each message names the table and what is wrong."""
    lake.write("t", {"a": flights(1)}, KEY)
    with pytest.raises(EmptyPartitionError, match="table t: partition b has no rows"):
        lake.write("t", {"a": flights(2), "b": flights()}, KEY)
    more = flights(1).append_column("tail", pa.array(["N1"]))
    with pytest.raises(SchemaError, match=r"table t: .*'tail' is new"):
        lake.write("t", {"a": more}, KEY)
    with pytest.raises(SchemaError, match="'delay' is missing"):
        lake.write("t", {"a": flights(1).drop_columns(["delay"])}, KEY)
    other = flights(1).set_column(2, "delay", pa.array([1]))
    with pytest.raises(SchemaError, match="'delay' is int64, expected double"):
        lake.write("t", {"a": other}, KEY)
    with pytest.raises(SchemaError, match="partition b differs from partition a"):
        lake.write("t", {"a": flights(1), "b": more}, KEY)
    with pytest.raises(SchemaError, match="table t has no column 'tail'"):
        lake.write("t", {"a": flights(1)}, ["tail"])
    with pytest.raises(PermanentError, match="at least one partition"):
        lake.write("t", {}, KEY)
    with pytest.raises(SchemaError, match="'_partition' begins with an underscore"):
        lake.write("u", {"a": pa.table({"_partition": ["x"]})}, ["_partition"])
    with pytest.raises(SchemaError, match="'n' is uint64, which Delta Lake keeps as int64"):
        lake.write("u", {"a": pa.table({"n": pa.array([1], pa.uint64())})}, ["n"])
    assert (lake.version("t"), lake.version("u")) == (0, -1)


def test_missing_partitions_are_named(lake: Lake) -> None:
    """The first few, the table, and what to do."""
    with pytest.raises(MissingPartitionsError, match=r"table t is not in the lake .*materialize"):
        lake.read("t")
    lake.write("t", {"a": flights(1)}, KEY)
    with pytest.raises(
        MissingPartitionsError, match=r"table t has no partition b, c, d, e, f and 2"
    ):
        lake.read("t", list("abcdefgh"))
    with pytest.raises(SchemaError, match="table t has no column 'tail'"):
        lake.read("t", columns=["tail"])
    with pytest.raises(PermanentError, match="no readable version 7"):
        lake.read("t", version=7)


def test_a_ledger_keeps_the_order_of_its_appends(lake: Lake) -> None:
    """Across appends, compaction and a fresh reader."""
    with pytest.raises(MissingPartitionsError, match=r"ledger l .* nothing was appended"):
        ledger_tables.read(lake, "l")
    assert ledger_tables.append(lake, "l", flights(3, 1)) == 0
    assert [ledger_tables.append(lake, "l", flights(n)) for n in (9, 2, 5)] == [1, 2, 3]
    assert ledger_tables.append(lake, "l", flights()) == 3
    assert numbers(ledger_tables.read(lake, "l")) == [3, 1, 9, 2, 5]
    assert ledger_tables.compact(lake, "l") == 4
    ledger_tables.append(lake, "l", flights(0))
    assert numbers(ledger_tables.read(Lake(lake.root), "l")) == [3, 1, 9, 2, 5, 0]
    assert ledger_tables.read(lake, "l").schema == flights(1).schema
    with pytest.raises(SchemaError, match="'carrier' is missing"):
        ledger_tables.append(lake, "l", pa.table({"flight": [1]}))


def test_a_ledger_is_no_table_and_a_table_no_ledger(lake: Lake) -> None:
    """Neither can be overwritten as the other."""
    ledger_tables.append(lake, "l", flights(1))
    lake.write("t", {"a": flights(1)}, KEY)
    for act in (
        lambda: lake.write("l", {"a": flights(2)}, KEY),
        lambda: lake.read("l"),
        lambda: lake.states("l"),
    ):
        with pytest.raises(PermanentError, match="table l is a ledger"):
            act()
    with pytest.raises(PermanentError, match="table t is not a ledger"):
        ledger_tables.append(lake, "t", flights(2))
    with pytest.raises(PermanentError, match="table t is not a ledger"):
        ledger_tables.read(lake, "t")
    with pytest.raises(PermanentError, match="table t is not a ledger"):
        ledger_tables.compact(lake, "t")


def test_a_ledger_refuses_deletion(lake: Lake) -> None:
    """Also by other tools: the table itself says that rows are only appended."""
    from deltalake import DeltaTable

    ledger_tables.append(lake, "l", flights(1))
    with pytest.raises(Exception, match="append-only"):
        DeltaTable(f"{lake.root}/l", storage_options=dict(lake.storage_options)).delete()
    assert numbers(ledger_tables.read(lake, "l")) == [1]


def test_vacuum_keeps_the_versions_that_are_named(lake: Lake) -> None:
    """The newest and the named ones stay readable, the rest is said to be gone."""
    for n in range(5):
        lake.write("t", {"a": flights(n), "b": flights(100)}, KEY)
    assert lake.vacuum("t", [1, 3], retention_hours=0) == 2
    for version, expected in ((1, 1), (3, 3), (None, 4)):
        assert numbers(lake.read("t", version=version)) == [expected, 100]
    with pytest.raises(PermanentError, match=r"a data file of that version is gone"):
        lake.read("t", version=2)
    assert numbers(lake.read("t", ["b"], version=2)) == [100]
    assert lake.vacuum("absent", [], 0) == ledger_tables.compact(lake, "absent") == 0


def at_once(tasks: Sequence[Callable[[], object]]) -> list[object]:
    """Runs ``tasks`` in threads that start together; returns results and exceptions."""
    barrier = Barrier(len(tasks))

    def run(task: Callable[[], object]) -> object:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(run, task) for task in tasks]]


@pytest.mark.parametrize("existing", [False, True])
def test_writers_of_one_partition_take_turns(lake: Lake, existing: bool) -> None:
    """The table ends with the content of one writer, once, and every write is a version."""
    if existing:
        lake.write("t", {"a": flights(0), "other": flights(7)}, KEY)
    before = lake.version("t")
    results = at_once(
        [lambda n=n: lake.write("t", {"a": flights(n, n + 10)}, KEY) for n in range(1, 5)]
    )
    assert lake.version("t") == before + 4
    assert sorted(result.version for result in results) == list(range(before + 1, before + 5))  # type: ignore[attr-defined]
    found = numbers(lake.read("t", ["a"]))
    assert found in [[n, n + 10] for n in range(1, 5)]
    assert lake.states("t")["a"].rows == 2


def test_writers_of_different_partitions_all_land(lake: Lake) -> None:
    """Also when they create the table together."""
    at_once([lambda n=n: lake.write("t", {f"p{n}": flights(n)}, KEY) for n in range(6)])
    assert numbers(lake.read("t")) == list(range(6))


def test_writers_of_equal_content_write_once(lake: Lake) -> None:
    """The losers find their content there and leave it."""
    results = at_once([lambda: lake.write("t", {"a": flights(1, 2)}, KEY)] * 4)
    assert lake.version("t") == 0
    assert sorted(len(result.written) for result in results) == [0, 0, 0, 1]  # type: ignore[attr-defined]
    assert numbers(lake.read("t")) == [1, 2]


def test_appends_at_once_all_land_whole(lake: Lake) -> None:
    """Each append's rows stay together, in the order of the versions they got."""
    versions = at_once(
        [lambda n=n: ledger_tables.append(lake, "l", flights(n, n + 100)) for n in range(6)]
    )
    found = numbers(ledger_tables.read(lake, "l"))
    in_order = sorted(range(6), key=lambda n: int(str(versions[n])))
    assert sorted(versions, key=str) == list(range(6))
    assert found == [number for n in in_order for number in (n, n + 100)]


def test_a_large_partition_keeps_its_order(tmp_path: Path) -> None:
    """Rows stay sorted over many batches and row groups, beside other partitions."""
    rng = np.random.default_rng(3)
    lake = Lake(str(tmp_path))
    parts = {
        name: pa.table({"k": rng.permutation(n), "v": rng.random(n)})
        for name, n in (("a", 1_300_000), ("b", 50_000), ("c", 10))
    }
    lake.write("t", {"b": pa.table({"k": [1], "v": [1.0]})}, ["k"])
    lake.write("t", parts, ["k"])
    found = lake.read("t", columns=["k"])["k"].to_numpy()
    assert np.array_equal(found, np.concatenate([np.arange(len(p)) for p in parts.values()]))


def test_a_year_goes_into_one_commit(tmp_path: Path) -> None:
    """And each day is read with the digest that its state tells."""
    lake = Lake(str(tmp_path))
    days = {(date(2013, 1, 1) + timedelta(n)).isoformat(): flights(n, n + 400) for n in range(365)}
    assert lake.write("t", days, KEY).version == 0
    assert lake.write("t", days, KEY).version == 0
    states = lake.states("t")
    assert list(states) == sorted(days)
    rows = lake.read("t", list(days)[30:90])
    for n, day in enumerate(list(days)[30:90]):
        assert table_digest(rows.slice(2 * n, 2)) == states[day].digest


@settings(deadline=None, max_examples=15)
@given(
    writes=st.lists(
        st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(0, 3), min_size=1), min_size=1),
        min_size=1,
        max_size=5,
    )
)
def test_the_lake_is_a_dictionary_of_partitions(
    tmp_path_factory: pytest.TempPathFactory, writes: list[dict[str, set[int]]]
) -> None:
    """After any writes each partition holds what was last written, and versions count changes."""
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    model: dict[str, set[int]] = {}
    version = -1
    for write in writes:
        result = lake.write("t", {name: flights(*rows) for name, rows in write.items()}, KEY)
        changed = sorted(name for name, rows in write.items() if model.get(name) != rows)
        model |= write
        version += bool(changed)
        assert [state.partition for state in result.written] == changed
        assert result.version == lake.version("t") == version
    assert numbers(lake.read("t")) == [n for name in sorted(model) for n in sorted(model[name])]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """Both where the lake and where a table should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match=r"cannot create the folder .*file/t: Not a directory"):
        Lake(str(tmp_path / "file")).write("t", {"a": flights(1)}, KEY)
    with pytest.raises(PermanentError, match=r"/file is a file where the folder of a table"):
        ledger_tables.append(Lake(str(tmp_path)), "file", flights(1))


@pytest.mark.skipif(
    os.geteuid() == 0,
    reason="NOT TESTED as root, who may write to every folder: run it as another user",
)
def test_a_folder_that_is_not_writable_is_named(tmp_path: Path) -> None:
    """The message names the folder."""
    (tmp_path / "t").mkdir(mode=0o500)
    with pytest.raises(PermanentError, match=r"the folder .*/t is not writable"):
        Lake(str(tmp_path)).write("t", {"a": flights(1)}, KEY)


def test_a_bucket_that_is_not_there_is_permanent_and_a_server_away_transient(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that only the second is tried again."""
    with pytest.raises(PermanentError, match="s3://nowhere-at-all/t"):
        Lake("s3://nowhere-at-all").write("t", {"a": flights(1)}, KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    # The client's own retries would take minutes.
    away = Lake(s3_bucket, {"max_retries": "0"})
    with pytest.raises(TransientError, match="cannot read"):
        away.read("t")


_WRITER = """
import sys
import pyarrow as pa
from mlops_assets.adapters.lake import Lake
lake, n = Lake(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
while True:
    n += 1
    rows = pa.table({"k": range(2000), "n": pa.array([n] * 2000, pa.int64())})
    lake.write("t", {f"p{i}": rows for i in range(40)}, ["k"])
    if len(sys.argv) > 3:
        break
"""


def start_writer(root: Path, n: int, *, once: bool = False) -> "subprocess.Popen[bytes]":
    """A process that replaces all partitions by n + 1, n + 2, …, and is ready to begin."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(root), str(n), *(["once"] if once else [])],
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


@pytest.mark.parametrize("files", [1, 25, 45])
def test_a_killed_writer_leaves_a_whole_version(tmp_path: Path, files: int) -> None:
    """Killed after some of its files are there: all partitions are of one write, a retry works,
    and a vacuum removes what the dead writer left.
    """
    lake = Lake(str(tmp_path))
    zero = pa.table({"k": range(2000), "n": pa.array([0] * 2000, pa.int64())})
    lake.write("t", {f"p{i}": zero for i in range(40)}, ["k"])
    there = len(list(tmp_path.rglob("*.parquet")))
    writer = start_writer(tmp_path, 0)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.parquet"))) < there + files and time.monotonic() < deadline:
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    assert len(list(tmp_path.rglob("*.parquet"))) >= there + files
    rows = lake.read("t")
    assert len(rows) == 40 * 2000
    assert len(set(rows["n"].to_pylist())) == 1
    last = pa.table({"k": range(2000), "n": pa.array([-1] * 2000, pa.int64())})
    lake.write("t", {f"p{i}": last for i in range(40)}, ["k"])
    lake.vacuum("t", [], retention_hours=0)
    assert len(list(tmp_path.rglob("*.parquet"))) == 40
    assert set(lake.read("t")["n"].to_pylist()) == {-1}


def test_writers_in_other_processes_take_turns(tmp_path: Path) -> None:
    """Each of three processes' writes is a version of its own, whole."""
    writers = [start_writer(tmp_path, n, once=True) for n in (10, 20, 30)]
    assert [writer.wait(timeout=100) for writer in writers] == [0, 0, 0]
    lake = Lake(str(tmp_path))
    assert lake.version("t") == 2
    contents = [set(lake.read("t", version=n)["n"].to_pylist()) for n in range(3)]
    assert sorted(map(sorted, contents)) == [[11], [21], [31]]
