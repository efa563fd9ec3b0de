"""One contract for every online store: LMDB, Redis, DynamoDB."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from services import free_port, process

from mlops_assets.adapters.online_store import OnlineStore, open_store, shown
from mlops_assets.adapters.online_store.publishing import Fresh, publish
from mlops_assets.adapters.online_store.store import Reader
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.online import Entity

HOUR = 3_600_000_000
NOON = 1_700_000_000_000_000
SPACE = "flights/1f2e3d4c"
TIMEOUT_S = 5.0


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of the tests' own, without a disk."""
    binary = shutil.which("redis-server")
    if binary is None:
        # Redis is a program, no Python package. The same tests run on the other stores without it.
        pytest.skip("NOT TESTED on Redis: there is no redis-server; apt-get install redis-server")
    folder, port = tmp_path_factory.mktemp("redis"), free_port()

    def ready() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    command = [
        binary,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    with process(command, folder / "redis.log", ready):
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture(params=["lmdb", "redis", "dynamodb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store in which nothing is yet."""
    if request.param == "lmdb":
        return str(tmp_path / "store")
    if request.param == "redis":
        import redis

        place = f"{request.getfixturevalue('redis_server')}/0"
        redis.Redis.from_url(place).flushdb()
        return place
    request.getfixturevalue("s3_bucket")
    table = f"online-{uuid.uuid4().hex}"
    boto3.client("dynamodb", region_name="us-east-1").create_table(
        TableName=table,
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "B"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return f"dynamodb://{table}"


@pytest.fixture
def store(url: str) -> OnlineStore:
    """The empty store, opened."""
    return open_store(url, TIMEOUT_S)


def fresh(value: bytes, keys: Iterable[bytes] = (b"a", b"b"), version: int = 1) -> Fresh:
    """A view in which each key has ``value``."""
    return Fresh([Entity(key, value, 1) for key in keys], {"2024-03-01": "x"}, version, NOON)


def put(store: OnlineStore, value: bytes, as_of: int = NOON, views: Iterable[str] = ("v",)) -> bool:
    """Publish ``views``; whether a later lake was there."""
    new = {view: fresh(value) for view in views}
    return publish(store, "flights", SPACE, as_of, new, ()).superseded


def test_an_empty_store_has_nothing(store: OnlineStore) -> None:
    """Before the first materialization every look-up is missing, and nothing fails."""
    manifest, found = Reader(store, SPACE).look_up({"v": [b"a", b"b"], "w": []})
    assert manifest is None
    assert found == {"v": [None, None], "w": []}


def test_values_come_in_the_order_that_they_are_asked_in(store: OnlineStore) -> None:
    """Of several views at once; keys twice, missing keys and views, any bytes."""
    odd = b"\x00\xff\n" * 5
    first = Fresh([Entity(b"\x00", b"zero", 1), Entity(b"a", odd, 1)], {}, 1, None)
    second = Fresh([Entity(b"a", b"other", 1)], {}, 1, None)
    publish(store, "flights", SPACE, NOON, {"v": first, "w": second}, ())
    keys = {"w": [b"a", b"\x00"], "v": [b"a", b"nobody", b"\x00", b"a"], "never": [b"a"]}
    _, found = Reader(store, SPACE).look_up(keys)
    assert found == {
        "w": [b"other", None], "v": [odd, None, b"zero", odd], "never": [None],
    }  # fmt: skip


def test_a_new_generation_replaces_the_one_before(store: OnlineStore) -> None:
    """Also for a reader that knows the one before; a view that did not change stays."""
    reader = Reader(store, SPACE)
    put(store, b"old", views=("v", "w"))
    assert reader.look_up({"v": [b"a"], "w": [b"a"]})[1] == {"v": [b"old"], "w": [b"old"]}
    before = reader.manifest()
    done = publish(store, "flights", SPACE, NOON + HOUR, {"v": fresh(b"new")}, ["w"])
    manifest, found = reader.look_up({"v": [b"a"], "w": [b"a"]})
    assert found == {"v": [b"new"], "w": [b"old"]}
    assert before is not None
    assert manifest is not None
    assert manifest == done.manifest
    assert manifest.views["w"] == before.views["w"]
    assert manifest.revision == before.revision + 1


def test_old_generations_are_removed(store: OnlineStore) -> None:
    """What is served and what it replaced stay, nothing else."""
    for hour in range(5):
        put(store, b"%d" % hour, NOON + 2 * hour * HOUR)
    manifest = Reader(store, SPACE).manifest()
    assert manifest is not None
    assert set(store.buckets("flights")) == {manifest.views["v"].bucket, *manifest.previous}
    assert len(manifest.previous) == 1


def test_tables_of_another_layout_stay_for_servers_that_read_them(store: OnlineStore) -> None:
    """A week long, by when the server is deployed again."""
    other = "flights/00000000"
    publish(store, "flights", other, NOON, {"v": fresh(b"other")}, ())
    put(store, b"new", NOON + 24 * HOUR)
    assert Reader(store, other).look_up({"v": [b"a"]})[1] == {"v": [b"other"]}
    put(store, b"newer", NOON + 9 * 24 * HOUR)
    assert not [bucket for bucket in store.buckets("flights") if bucket.startswith(other)]


def test_readers_see_one_generation_whole_while_it_is_swapped(store: OnlineStore, url: str) -> None:
    """Never half of one and half of another, never nothing."""
    put(store, b"0", views=("v", "w"))
    seen: list[dict[str, list[bytes | None]]] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        reader = Reader(store, SPACE)
        try:
            while not stop.is_set():
                seen.append(reader.look_up({"v": [b"a", b"b"], "w": [b"a"]})[1])
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(1, 4 if url.startswith("dynamodb") else 12):
        put(store, b"%d" % n, NOON + 2 * n * HOUR, ("v", "w"))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(seen) > 2
    assert all(one["v"] == [one["w"][0]] * 2 and one["w"][0] is not None for one in seen)


KILLED = """
import os, signal, sys
from mlops_assets.adapters.online_store import open_store
from mlops_assets.adapters.online_store.publishing import Fresh, publish
from mlops_assets.core.online import Entity

def entities():
    for n in range(60_000):
        if n == 50_000 or (n == 60 and sys.argv[1].startswith("dynamodb")):
            os.kill(os.getpid(), signal.SIGKILL)
        yield Entity(b"%06d" % n, b"half", 1)

new = {"v": Fresh(entities(), {}, 2, None)}
publish(open_store(sys.argv[1], 5.0), "flights", sys.argv[2], int(sys.argv[3]), new, ())
"""


def test_a_materialization_that_is_killed_changes_nothing(store: OnlineStore, url: str) -> None:
    """Half of it was written: nobody sees it, and a later one removes it."""
    put(store, b"whole")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, url, SPACE, str(NOON + HOUR)],
        env=dict(os.environ),
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    reader = Reader(store, SPACE)
    keys = {"v": [b"a", b"000000"]}
    assert reader.look_up(keys)[1] == {"v": [b"whole", None]}
    left = set(store.buckets("flights"))
    assert len(left) == 2
    put(store, b"next", NOON + 3 * HOUR)
    assert reader.look_up(keys)[1] == {"v": [b"next", None]}
    manifest = reader.manifest()
    assert manifest is not None
    assert set(store.buckets("flights")) == {manifest.views["v"].bucket, *manifest.previous}


def test_a_writer_with_an_earlier_lake_gives_way(store: OnlineStore) -> None:
    """However long it took: what is served never goes back, and it leaves nothing."""
    assert not put(store, b"late", NOON + HOUR)
    assert put(store, b"early", NOON)
    assert Reader(store, SPACE).look_up({"v": [b"a"]})[1] == {"v": [b"late"]}
    assert len(store.buckets("flights")) == 1


def test_two_writers_at_once_leave_one_whole_generation(store: OnlineStore) -> None:
    """The one with the later lake, whichever comes first."""
    threads = [
        threading.Thread(target=put, args=(store, b"%d" % n, NOON + n, ("v", "w")))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Reader(store, SPACE).look_up({"v": [b"a"], "w": [b"b"]})[1] == {"v": [b"3"], "w": [b"3"]}


def test_a_pointer_is_swapped_only_from_what_it_was(store: OnlineStore) -> None:
    """Compare and swap: of two that saw the same, one wins."""
    assert store.swap(SPACE, None, b"one")
    assert not store.swap(SPACE, None, b"two")
    assert not store.swap(SPACE, b"other", b"two")
    assert store.swap(SPACE, b"one", b"two")
    assert store.read(SPACE, [])[0] == b"two"


def test_what_vanishes_is_missing_and_can_be_noticed(store: OnlineStore) -> None:
    """An evicted or deleted bucket: look-ups find nothing, and its count says so."""
    put(store, b"x")
    manifest = Reader(store, SPACE).manifest()
    assert manifest is not None
    generation = manifest.views["v"]
    assert store.count(generation.bucket) == generation.entities == 2
    store.drop("flights", generation.bucket)
    assert Reader(store, SPACE).look_up({"v": [b"a"]})[1] == {"v": [None]}
    assert store.count(generation.bucket) == 0


def test_a_view_that_left_meanwhile_is_not_passed_off_as_unchanged(store: OnlineStore) -> None:
    """Whoever counted on it has to look again."""
    put(store, b"x")
    with pytest.raises(TransientError, match="w left the online store"):
        publish(store, "flights", SPACE, NOON + HOUR, {}, ["v", "w"])


def test_many_entities(store: OnlineStore, url: str) -> None:
    """More than fit into one command, a transaction or a batch."""
    many = 260 if url.startswith("dynamodb") else 45_000
    keys = [b"%06d" % n for n in range(many)]
    publish(store, "flights", SPACE, NOON, {"v": fresh(b"x" * 40, keys)}, ())
    asked = keys[:: many // 130]
    manifest, found = Reader(store, SPACE).look_up({"v": asked})
    assert manifest is not None
    assert manifest.views["v"].entities == store.count(manifest.views["v"].bucket) == many
    assert found["v"] == [b"x" * 40] * len(asked)


def test_a_pointer_that_is_no_manifest_is_refused(store: OnlineStore) -> None:
    """Something else wrote into the store: the message says what to do."""
    store.swap(SPACE, None, b"nonsense")
    with pytest.raises(PermanentError, match="materialize online_features again"):
        Reader(store, SPACE).look_up({"v": [b"a"]})


def test_a_store_that_does_not_answer_is_given_up_in_time() -> None:
    """Nobody listens, or somebody does and says nothing; no password in the message."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        for port in (free_port(), deaf.getsockname()[1]):
            store = open_store(f"redis://user:secret@127.0.0.1:{port}/0", 0.2)
            with pytest.raises(TransientError, match=f"redis://127.0.0.1:{port}/0") as caught:
                store.read(SPACE, [])
            assert "secret" not in str(caught.value)


def test_a_connection_that_redis_closed_is_replaced(redis_server: str) -> None:
    """Redis was restarted, or its ``timeout`` passed: the next look-up opens another."""
    import redis

    store = open_store(f"{redis_server}/2", TIMEOUT_S)
    admin = redis.Redis.from_url(redis_server)
    admin.flushall()
    put(store, b"one")
    reader = Reader(store, SPACE)
    with ThreadPoolExecutor(4) as threads:
        together = threading.Barrier(4)

        def look_up(_: int) -> list[bytes | None]:
            together.wait()
            return list(reader.look_up({"v": [b"a"]})[1]["v"])

        assert list(threads.map(look_up, range(4))) == [[b"one"]] * 4
    admin.client_kill_filter(_type="normal", skipme=True)
    assert reader.look_up({"v": [b"a"]})[1] == {"v": [b"one"]}


def test_an_answer_that_is_an_error_does_not_shift_those_after_it(redis_server: str) -> None:
    """What was asked with it is not taken for the answers of the next look-up."""
    import redis

    store = open_store(f"{redis_server}/3", TIMEOUT_S)
    redis.Redis.from_url(redis_server).flushall()
    put(store, b"one", views=("v", "w"))
    reader = Reader(store, SPACE)
    manifest = reader.look_up({"v": [b"a"], "w": [b"b"]})[0]
    assert manifest is not None
    database = redis.Redis.from_url(f"{redis_server}/3")
    bucket = manifest.views["v"].bucket.encode()
    broken = next(key for key in database.scan_iter() if bucket in key)
    database.rename(broken, "aside")
    database.set(broken, b"no hash")
    with pytest.raises(TransientError, match="WRONGTYPE"):
        reader.look_up({"v": [b"a"], "w": [b"b"]})
    database.rename("aside", broken)
    assert reader.look_up({"w": [b"b"], "v": [b"nobody"]})[1] == {"w": [b"one"], "v": [None]}


def test_a_dynamodb_that_does_not_answer_is_given_up_in_time(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a table that is not there is no question of time."""
    with pytest.raises(PermanentError, match="check that the table is there"):
        open_store("dynamodb://nowhere", 5.0).read(SPACE, [])
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TransientError, match="cannot read DynamoDB table away"):
        open_store("dynamodb://away", 0.2).read(SPACE, [])


def test_places_that_are_no_store_are_refused(tmp_path: Path) -> None:
    """By name, without what may be secret in it."""
    with pytest.raises(PermanentError, match="ftp://host/x is no online store"):
        open_store("ftp://user:secret@host/x", 1.0)
    with pytest.raises(PermanentError, match="MLOPS_ONLINE_URL"):
        open_store("", 1.0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PermanentError, match="file"):
        open_store(str(tmp_path / "file" / "store"), 1.0)
    assert shown("rediss://user:secret@host:6379/2") == "rediss://host:6379/2"
