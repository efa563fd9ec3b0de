"""A server follows its release, in a folder and on S3, and keeps what works."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from serving_support import NOON, infer_body, make_model, running_server, wait_for

from mlops_assets.adapters.endpoints import conditional, release_store
from mlops_assets.adapters.storage import join, write_bytes
from mlops_assets.core.errors import ConflictError, PermanentError, TransientError
from mlops_assets.core.replica_reports import ModelTotals, ReplicaReport
from mlops_assets.core.rollout_state import (
    Release,
    ServedModel,
    first_release,
    promote,
    serve_only,
    start_rollout,
)
from mlops_assets.serving import models
from mlops_assets.serving.models import Follower


def put(place: str, release: Release) -> None:
    """Make it what a server is told to serve, whatever was there."""
    write_bytes(join(place, release_store.RELEASE), release.model_dump_json().encode())


def first(folder: Path) -> Release:
    """Version 1 alone."""
    return first_release("flights", make_model(folder, 1, seed=1), NOON, "test")


@pytest.fixture
def follower(location: str, tmp_path: Path) -> Follower:
    """What follows a place that holds the first release."""
    put(location, first(tmp_path))
    made = Follower(join(location, release_store.RELEASE))
    made.load_first()
    return made


def serving(follower: Follower) -> tuple[int, int, int | None]:
    """Revision, and the versions that are loaded."""
    served = follower.served
    assert served is not None
    challenger = served.challenger
    return (
        served.release.revision,
        served.champion.served.version,
        None if challenger is None else challenger.served.version,
    )


def test_a_change_is_followed_and_no_change_is_none(
    follower: Follower, location: str, tmp_path: Path
) -> None:
    """As a whole, with what was loaded already."""
    assert serving(follower) == (1, 1, None)
    assert not follower.poll()
    shadow = start_rollout(first(tmp_path), make_model(tmp_path, 2, seed=2), "r1", NOON, "")
    put(location, shadow)
    champion = follower.served and follower.served.champion.predictor
    assert follower.poll()
    assert serving(follower) == (2, 1, 2)
    assert follower.served is not None
    assert follower.served.champion.predictor is champion
    assert not follower.poll()
    put(location, promote(shadow, NOON, ""))
    assert follower.poll()
    assert serving(follower) == (3, 2, None)
    assert follower.error is None


def test_a_rollback_needs_no_model_file(follower: Follower, location: str, tmp_path: Path) -> None:
    """The former champion is kept: it may be wanted when the store is away."""
    second = serve_only(first(tmp_path), make_model(tmp_path, 2, seed=2), NOON, "")
    put(location, second)
    follower.poll()
    back = serve_only(second, make_model(tmp_path, 1, seed=1), NOON, "worse")
    for artifact in tmp_path.glob("*.ubj"):
        artifact.unlink()
    put(location, back)
    assert follower.poll()
    assert serving(follower) == (3, 1, None)


def test_what_is_damaged_or_of_another_use_case_changes_nothing(
    follower: Follower, location: str, tmp_path: Path
) -> None:
    """It is told, until it is right again."""
    write_bytes(join(location, release_store.RELEASE), b'{"revision":')
    assert follower.poll()
    assert "is no release" in str(follower.error)
    assert not follower.poll()
    assert "is no release" in str(follower.error)
    other = first(tmp_path).model_copy(update={"use_case": "trains", "revision": 2})
    put(location, other)
    assert follower.poll()
    assert "names trains, this server serves flights" in str(follower.error)
    assert (serving(follower), follower.refused) == ((1, 1, None), 2)
    put(location, first(tmp_path))
    assert follower.poll()
    assert (follower.error, follower.refused) == (None, None)


def broken(model: ServedModel) -> ServedModel:
    """A model whose file is another one."""
    return model.model_copy(update={"sha256": "0" * 64})


def test_a_champion_that_does_not_load_changes_nothing(
    follower: Follower, location: str, tmp_path: Path
) -> None:
    """The whole release is refused."""
    put(location, serve_only(first(tmp_path), broken(make_model(tmp_path, 2)), NOON, ""))
    assert follower.poll()
    assert (serving(follower), follower.refused) == ((1, 1, None), 2)
    assert "model-2.ubj" in str(follower.error)


def test_a_challenger_that_does_not_load_is_left_out_and_tried_again(
    follower: Follower, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file may still be on its way; the champion goes on."""
    monkeypatch.setattr(models, "RETRY_S", 0.0)
    challenger = make_model(tmp_path, 2, seed=2)
    content = Path(challenger.artifact).read_bytes()
    Path(challenger.artifact).unlink()
    put(location, start_rollout(first(tmp_path), challenger, "r1", NOON, ""))
    assert follower.poll()
    assert (serving(follower), follower.refused) == ((2, 1, None), 2)
    assert "model-2.ubj: cannot be read" in str(follower.error)
    Path(challenger.artifact).write_bytes(content)
    assert follower.poll()
    assert (serving(follower), follower.refused) == ((2, 1, 2), None)
    assert follower.error is None


def test_a_server_does_not_start_without_a_release(location: str, tmp_path: Path) -> None:
    """What is not there, is damaged, or names a broken champion."""
    follower = Follower(join(location, release_store.RELEASE))
    with pytest.raises((PermanentError, TransientError), match=r"release.json"):
        follower.load_first()
    write_bytes(join(location, release_store.RELEASE), b"{")
    with pytest.raises(PermanentError, match="is no release"):
        follower.load_first()
    put(location, first_release("flights", broken(make_model(tmp_path)), NOON, ""))
    with pytest.raises(PermanentError, match="sha256"):
        Follower(follower.source).load_first()


def test_the_swap_is_of_what_was_read(location: str) -> None:
    """Of two writers one is refused, where there was nothing and where there was something."""
    where = join(location, "state.json")
    assert conditional.get(where) is None
    conditional.swap(where, b"1", "")
    with pytest.raises(ConflictError, match="changed by somebody else"):
        conditional.swap(where, b"2", "")
    found = conditional.get(where)
    assert found is not None
    conditional.swap(where, b"3", found[1])
    with pytest.raises(ConflictError, match="changed by somebody else"):
        conditional.swap(where, b"4", found[1])
    again = conditional.get(where)
    assert again is not None
    assert again[0] == b"3"
    assert conditional.listed(location, ".json") == [where]
    conditional.delete(where)
    with pytest.raises(ConflictError, match="changed by somebody else"):
        conditional.swap(where, b"5", again[1])
    assert conditional.listed(location, ".json") == []


def test_what_was_refused_is_taken_back_unless_somebody_changed_it(
    location: str, tmp_path: Path
) -> None:
    """A first one leaves nothing."""
    one = first(tmp_path)
    second = serve_only(one, make_model(tmp_path, 2), NOON, "")
    release_store.change(location, lambda _: one)
    release_store.change(location, lambda _: second)
    release_store.restore(location, one, None, NOON)
    assert release_store.read(location) == second
    release_store.restore(location, second, one, NOON)
    back = release_store.read(location)
    assert back is not None
    assert (back.revision, back.champion) == (3, one.champion)
    release_store.restore(location, back, None, NOON)
    assert release_store.read(location) is None


def test_reports_of_replicas_that_are_gone_are_removed(location: str, tmp_path: Path) -> None:
    """A day later, and not while a rollout needs their counts."""
    shadow = start_rollout(first(tmp_path), make_model(tmp_path, 2), "r1", NOON, "")
    put(location, shadow)
    counts = ModelTotals(
        rollout_id="r1",
        version=1,
        role="champion",
        requests=1,
        rows=1,
        returned=1,
        errors=0,
        skipped=0,
        seconds=0.1,
        latency=(1,),
    )
    for name, totals in (("counted", (counts,)), ("gone", ())):
        report = ReplicaReport(
            replica=name,
            instance=name,
            workers=1,
            use_case="flights",
            revision=2,
            refused=None,
            champion=1,
            challenger=2,
            ready=True,
            error=None,
            at=NOON,
            ended=False,
            lost_log_records=0,
            totals=totals,
        )
        where = join(location, release_store.REPLICAS, f"{name}.json")
        write_bytes(where, report.model_dump_json().encode())
    write_bytes(join(location, release_store.REPLICAS, "foreign.json"), b"{}")

    def names() -> list[str]:
        return [report.replica for report in release_store.read_reports(location)]

    release_store.prune(location, NOON + timedelta(hours=23))
    assert names() == ["counted", "gone"]
    release_store.prune(location, NOON + timedelta(hours=25))
    assert names() == ["counted"]
    put(location, promote(shadow, NOON, ""))
    release_store.prune(location, NOON + timedelta(hours=25))
    assert names() == []


@contextmanager
def store(port: int) -> Iterator[None]:
    """S3 on a port, with what was stored before."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield
    finally:
        server.stop()


def test_answers_go_on_while_the_store_is_away(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last good state stays, the error is told, and what was written meanwhile is followed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        s3_port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{s3_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    place = "s3://releases/endpoints/flights"
    release = f"{place}/{release_store.RELEASE}"
    with ExitStack() as running:
        with store(s3_port):
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="releases")
            release_store.change(place, lambda _: first(tmp_path))
            server = running.enter_context(
                running_server(tmp_path, free_port, "--instance", "pod-1", release=release)
            )

        def answered() -> str:
            status, content = server.call("POST", "/v2/models/flights/infer", infer_body())
            assert status == 200
            return str(content["model_version"])

        wait_for(lambda: "cannot read" in str(server.get("/ping")[1].get("release_error")))
        assert answered() == "1"
        with store(s3_port):
            second = make_model(tmp_path, 2, seed=2)
            release_store.change(place, lambda _: serve_only(first(tmp_path), second, NOON, ""))
            wait_for(lambda: answered() == "2")
            wait_for(lambda: "release_error" not in server.get("/ping")[1])

            def reports() -> list[tuple[str, int]]:
                return [(r.replica, r.revision) for r in release_store.read_reports(place)]

            wait_for(lambda: reports() == [("pod-1", 2)])
