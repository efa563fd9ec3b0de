"""The model server: its routes in process, its life as a real process."""

import hashlib
import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from protocol_support import ask
from serving_support import (
    SIGNATURE,
    infer_body,
    make_model,
    make_release,
    running_server,
    tiny_model,
    wait_for,
    write_release,
)

from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.clock import now
from mlops_assets.core.errors import DigestMismatchError, PermanentError, TransientError
from mlops_assets.core.inference import encode, load_model, predict
from mlops_assets.core.prediction_log import PredictionRecord
from mlops_assets.serving.answers import Limits, Server
from mlops_assets.serving.app import INLINE_BYTES
from mlops_assets.serving.models import Follower, load, parse_release
from mlops_assets.serving.prediction_log import PredictionLog

JSON = {"content-type": "application/json"}
RECORD = {"carrier": "UA", "hour": 17.0, "delay": None}


@dataclass
class InProcess:
    """The application without a socket."""

    server: Server
    log_dir: Path
    release_file: Path

    def call(
        self,
        method: str,
        path: str,
        body: object = b"",
        headers: dict[str, str] | None = None,
        *,
        chunks: list[bytes] | None = None,
    ) -> tuple[int, dict[str, object], dict[str, str]]:
        """Status, JSON and headers of one exchange."""
        said = ask(self.server, method, path, body, headers, chunks)
        return said.status, said.json, said.headers

    def infer(self, body: object) -> tuple[int, dict[str, object]]:
        """Status and JSON of one V2 request."""
        status, content, _ = self.call("POST", "/v2/models/flights/infer", body)
        return status, content

    def logged(self) -> pa.Table:
        """What the prediction log holds."""
        return read_predictions(self.log_dir).table


@pytest.fixture
def app(tmp_path: Path) -> Iterator[InProcess]:
    """The application with the tiny model in version 1."""
    release_file = tmp_path / "release.json"
    write_release(release_file, make_release(tmp_path))
    follower = Follower(str(release_file))
    follower.load_first()
    log = PredictionLog(tmp_path / "log", "i1")
    limits = Limits(max_body_bytes=200_000, max_rows=5000, read_timeout_s=0.05)
    with ThreadPoolExecutor(1) as pool:
        server = Server(follower, log, limits, "i1", "0", pool)
        yield InProcess(server, tmp_path / "log", release_file)
    log.close()


def score(columns: dict[str, list[object]], seed: int = 0) -> list[float]:
    """What the model gives when it is asked directly."""
    data = tiny_model(seed)
    model = load_model(data, hashlib.sha256(data).hexdigest())
    return predict(model, encode(columns, SIGNATURE)).tolist()


UA_AT_17 = {"carrier": ["UA"], "hour": [17.0], "delay": [None]}


def test_health_and_metadata_follow_the_protocol(app: InProcess) -> None:
    """A peer's client finds what it looks for, with and without a version in the path."""
    assert app.call("GET", "/v2/health/live")[:2] == (200, {"live": True})
    assert app.call("GET", "/v2/health/ready")[:2] == (200, {"ready": True})
    assert app.call("GET", "/ping")[0] == 200
    status, server, _ = app.call("GET", "/v2")
    assert (status, server["instance"], server["pid"]) == (200, "i1", os.getpid())
    assert server["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/flights", "/v2/models/flights/versions/1"):
        status, model, _ = app.call("GET", path)
        assert status == 200
        assert model["versions"] == ["1"]
        assert model["inputs"] == [
            {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
            {"name": "hour", "datatype": "FP32", "shape": [-1]},
            {"name": "delay", "datatype": "FP32", "shape": [-1]},
        ]
        assert model["outputs"] == [{"name": "late", "datatype": "FP32", "shape": [-1]}]
        assert app.call("GET", f"{path}/ready")[:2] == (200, {"name": "flights", "ready": True})
        assert app.call("POST", f"{path}/infer", infer_body())[0] == 200


def test_nothing_is_ready_before_a_model_is_loaded(app: InProcess) -> None:
    """Live is not ready: a server that loads is not restarted and not asked."""
    empty = replace(app.server, follower=Follower(str(app.release_file)))
    bare = InProcess(empty, app.log_dir, app.release_file)
    assert bare.call("GET", "/v2/health/live")[0] == 200
    for path in ("/ping", "/v2/health/ready", "/v2/models/flights/ready", "/v2/models/flights"):
        assert bare.call("GET", path)[0] == 503
    assert bare.infer(infer_body())[0] == 503


def test_every_form_gives_the_models_own_scores(app: InProcess) -> None:
    """The server adds nothing to the numbers, to the last bit of the float."""
    expected = score(UA_AT_17)
    status, answer = app.infer({"id": "r1", **infer_body()})
    assert status == 200
    assert answer["outputs"] == [
        {"name": "late", "datatype": "FP32", "shape": [1], "data": expected}
    ]
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("r1", "flights", "1")
    for body in (
        {"instances": [RECORD]},
        {"dataframe_records": [RECORD]},
        {"dataframe_split": {"columns": list(RECORD), "data": [list(RECORD.values())]}},
    ):
        assert app.call("POST", "/invocations", body)[:2] == (200, {"predictions": expected})
    text = {"content-type": "text/csv; charset=utf-8"}
    answer = app.call("POST", "/invocations", b"hour,delay,carrier\n17,,UA\n", text)
    assert answer[:2] == (200, {"predictions": expected})


def test_unknown_categories_count_as_missing_and_are_reported(app: InProcess) -> None:
    """A new carrier is answered, as one that is not known, and the client is told."""
    _, answer = app.infer(infer_body(2, carrier={"data": ["ZZ", None]}))
    first, second = answer["outputs"][0]["data"]  # type: ignore[index]
    assert first == second
    assert answer["parameters"]["unknown_categories"] == 1  # type: ignore[index]
    assert answer["parameters"]["unknown_categories.carrier"] == 1  # type: ignore[index]
    _, answer, _ = app.call("POST", "/invocations", {"instances": [{**RECORD, "carrier": "ZZ"}]})
    assert answer == {"predictions": [first], "unknown_categories": {"carrier": 1}}
    assert app.logged()["features.carrier"].to_pylist() == ["ZZ", None, "ZZ"]


def test_each_prediction_is_logged_with_its_ids_features_and_model(app: InProcess) -> None:
    """What an auditor asks: when, who asked, with which values, answered by which bytes."""
    events = {"name": "event_id", "shape": [2], "datatype": "BYTES", "data": ["e1", None]}
    inputs = infer_body(2, hour={"data": [1, 2.5]})["inputs"]
    _, answer = app.infer({"id": "r1", "inputs": [*inputs, events]})  # type: ignore[misc]
    app.call("POST", "/invocations", {"instances": [RECORD]})
    app.infer({"inputs": []})
    table = app.logged()
    champion = app.server.follower.served.champion.served  # type: ignore[union-attr]
    assert table["request_id"].to_pylist()[:2] == ["r1", "r1"]
    assert table["request_id"].to_pylist()[2]
    assert table["row"].to_pylist() == [0, 1, 0]
    assert table["event_id"].to_pylist() == ["e1", None, None]
    assert table["score"].to_pylist()[:2] == answer["outputs"][0]["data"]  # type: ignore[index]
    assert table["features.hour"].to_pylist() == [1.0, 2.5, 17.0]
    assert table["features.delay"].type == pa.float64()
    assert table["features.delay"].null_count == 3
    assert set(table["sha256"].to_pylist()) == {champion.sha256}
    assert set(table["model_version"].to_pylist()) == {1}
    assert table["time"].type == pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v3", 404),
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/flights/versions/2/infer", 404),
        ("POST", "/v2/models/flights/versions/1/infer/x", 404),
        ("GET", "/v2/models/flights/infer", 405),
        ("GET", "/invocations", 405),
        ("DELETE", "/v2/models/flights", 405),
        ("POST", "/ping", 405),
        ("HEAD", "/v2/health/ready", 200),
    ],
)
def test_paths_and_methods_are_refused_by_their_status(
    app: InProcess, method: str, path: str, status: int
) -> None:
    """404 for what is not there, 405 with what is allowed, always with the error body."""
    found, content, headers = app.call(method, path)
    assert found == status
    assert ("error" in content) == (status != 200)
    assert ("allow" in headers) == (status == 405)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v2/models/flights/infer", {"content-type": "text/csv"}),
        ("/v2/models/flights/infer", {"content-type": "application/octet-stream"}),
        ("/v2/models/flights/infer", {**JSON, "content-encoding": "gzip"}),
        ("/v2/models/flights/infer", {"content-type": "application/json; charset=utf-16"}),
        ("/invocations", {"content-type": "application/x-npy"}),
        ("/invocations", {}),
    ],
)
def test_another_content_type_is_a_415(app: InProcess, path: str, headers: dict[str, str]) -> None:
    """A body that would be misread is not read."""
    assert app.call("POST", path, b"x", headers)[0] == 415


def test_a_body_that_does_not_fit_names_the_field(app: InProcess) -> None:
    """422 for content, 400 for JSON that is none; infinity beyond float32 names feature and row."""
    status, content = app.infer(infer_body(hour={"data": ["NaN"]}))
    assert (status, "'hour'" in str(content["error"])) == (422, True)
    status, content = app.infer(infer_body(2, hour={"data": [1, 1e39]}))
    assert (status, "'hour'" in str(content["error"])) == (422, True)
    status, content = app.infer(b'{"inputs": [}')
    assert (status, "byte 12" in str(content["error"])) == (400, True)
    assert app.logged().num_rows == 0


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_a_413(app: InProcess, announced: bool) -> None:
    """Counted while it comes: a chunked body has no length to look at."""
    headers = {
        **JSON,
        **({"content-length": "300000"} if announced else {"transfer-encoding": "chunked"}),
    }
    status, content, answer = app.call(
        "POST", "/invocations", headers=headers, chunks=[b"x" * 100_000] * 3
    )
    assert (status, answer["connection"]) == (413, "close")
    assert "200000 bytes" in str(content["error"])


def test_a_large_request_is_answered_in_a_thread_with_the_same_numbers(app: InProcess) -> None:
    """The path that keeps small requests quick changes nothing else."""
    body = json.dumps(infer_body(4000)).encode()
    assert len(body) > INLINE_BYTES
    _, answer = app.infer(body)
    assert set(answer["outputs"][0]["data"]) == set(score(UA_AT_17))  # type: ignore[index]
    assert app.logged().num_rows == 4000


def test_answers_go_on_when_the_log_cannot_be_written(app: InProcess) -> None:
    """Lost records are counted in the metadata; when the disk is back, so is the log."""
    log = app.server.log
    log.close()
    app.log_dir.rmdir()
    app.log_dir.write_text("in the way")
    for _ in range(3):
        assert app.infer(infer_body())[0] == 200
    parameters = app.call("GET", "/v2/models/flights")[1]["parameters"]
    assert parameters["lost_log_records"] == 3  # type: ignore[index]
    assert "log" in parameters["log_error"]  # type: ignore[index]
    app.log_dir.unlink()
    app.log_dir.mkdir()
    assert app.infer(infer_body())[0] == 200
    assert app.logged().num_rows == 1


def record(number: int, rows: int = 1) -> PredictionRecord:
    """A record whose request id is its number."""
    return PredictionRecord(
        time=now(),
        request=str(number),
        use_case="flights",
        version=1,
        sha256="0" * 64,
        categories={"carrier": ["UA"] * rows},
        floats={"hour": [1.5] * rows},
        scores=[0.5] * rows,
    )


def test_a_log_that_is_cut_anywhere_keeps_every_whole_record(tmp_path: Path) -> None:
    """A torn line costs itself alone, and is counted."""
    log = PredictionLog(tmp_path, "a")
    for number in range(3):
        log.write(record(number))
    log.close()
    (segment,) = tmp_path.glob("*.jsonl")
    whole = segment.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (*range(0, len(whole), 97), *ends, ends[1] - 1):
        segment.write_bytes(whole[:cut])
        found = read_predictions(tmp_path)
        kept = sum(end - 1 <= cut for end in ends)
        assert found.table["request_id"].to_pylist() == [str(n) for n in range(kept)]
        assert found.torn_lines == (cut not in ends and cut + 1 not in ends and cut > 0)


def test_a_write_that_is_cut_by_a_full_disk_spoils_no_other_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next record begins on a line of its own."""
    log = PredictionLog(tmp_path, "a")
    log.write(record(0))
    whole_write = os.write

    def full(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", refuse)
        return whole_write(fd, data[:20])

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write(record(1))
    monkeypatch.setattr(os, "write", whole_write)
    log.write(record(2))
    log.close()
    assert log.lost == 1
    found = read_predictions(tmp_path)
    assert (found.table["request_id"].to_pylist(), found.torn_lines) == (["0", "2"], 1)


def test_the_log_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    """When one is full, and when someone deletes the one that is written."""
    log = PredictionLog(tmp_path, "a", segment_bytes=1)
    log.write(record(0))
    log.write(record(1))
    log.close()
    assert read_predictions(tmp_path).table.num_rows == 2
    log = PredictionLog(tmp_path, "b")
    log.write(record(2))
    for path in tmp_path.glob("*-b.jsonl"):
        path.unlink()
    log.sync()
    log.write(record(3))
    log.close()
    assert log.lost == 1
    assert sorted(read_predictions(tmp_path).table["request_id"].to_pylist()) == ["0", "1", "3"]


def test_reading_since_an_instant_keeps_what_came_at_or_after_it(tmp_path: Path) -> None:
    """A reader goes on where it stopped; a folder that is not there yet has no predictions."""
    log = PredictionLog(tmp_path / "log", "a")
    records = [record(number, rows=number) for number in range(3)]
    for one in records:
        log.write(one)
    log.close()
    found = read_predictions(tmp_path / "log", since=records[1].time).table
    assert found["request_id"].to_pylist() == ["1", "2", "2"]
    assert read_predictions(tmp_path / "log", since=now()).table.num_rows == 0
    none = read_predictions(tmp_path / "nowhere")
    assert (none.table.num_rows, none.torn_lines) == (0, 0)
    assert none.table.schema.field("score").type == pa.float32()


def test_a_feature_that_changes_its_type_is_read_as_text(tmp_path: Path) -> None:
    """Models of two versions share a log."""
    log = PredictionLog(tmp_path, "a")
    log.write(record(0))
    values = {"categories": {"hour": ["late"]}, "floats": {"age": [2.0]}}
    other = {name: getattr(record(1), name) for name in record(1).__struct_fields__} | values
    log.write(PredictionRecord(**other))
    log.close()
    table = read_predictions(tmp_path).table
    assert table["features.hour"].to_pylist() == ["1.5", "late"]
    assert table["features.carrier"].to_pylist() == ["UA", None]
    assert table["features.age"].to_pylist() == [None, 2.0]


def test_a_wrong_model_is_refused_by_name(tmp_path: Path) -> None:
    """A wrong digest, a cut file, a missing file and a broken release each say which file."""
    model = make_model(tmp_path)
    artifact = Path(model.artifact)
    with pytest.raises(
        DigestMismatchError, match=r"flights version 1.*model-1.ubj.*was registered"
    ):
        load("flights", model.model_copy(update={"sha256": "0" * 64}))
    artifact.write_bytes(artifact.read_bytes()[:-100])
    with pytest.raises(DigestMismatchError, match=r"model-1.ubj.*it is cut"):
        load("flights", model)
    artifact.unlink()
    with pytest.raises(TransientError, match=r"model-1.ubj.*cannot be read"):
        load("flights", model)
    with pytest.raises(PermanentError, match=r"release.json is no release"):
        parse_release(b"{", "release.json")


def test_a_server_does_not_start_with_a_cut_model(tmp_path: Path, free_port: int) -> None:
    """It ends at once, with an exit code of its own, and leaves no empty log behind."""
    release = make_release(tmp_path)
    Path(release.champion.artifact).write_bytes(tiny_model()[:-100])
    write_release(tmp_path / "release.json", release)
    with running_server(tmp_path, free_port, ready=False) as server:
        assert server.process.wait(20) == 3
        assert "it is cut" in server.said()
        assert not list(server.log_dir.iterdir())


def test_a_log_directory_that_cannot_be_written_is_named(tmp_path: Path, free_port: int) -> None:
    """A server that cannot log does not start; one that runs goes on (see above)."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    (tmp_path / "log").write_text("in the way")
    with running_server(tmp_path, free_port, ready=False) as server:
        assert server.process.wait(20) == 4
        assert str(tmp_path / "log") in server.said()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The message names the address and the exit code says which failure it is."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with running_server(tmp_path, port, ready=False) as server:
            assert server.process.wait(20) == 98
            assert f"port in use: 127.0.0.1:{port}" in server.said()


def test_a_kill_amid_traffic_loses_no_answer_that_was_given(tmp_path: Path, free_port: int) -> None:
    """What a client was told is in the log after SIGKILL, from several connections at once."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    answered: list[str] = []

    def traffic(name: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)
        try:
            for number in range(100_000):
                body = json.dumps({"id": f"{name}-{number}", **infer_body()})
                connection.request("POST", "/v2/models/flights/infer", body, JSON)
                answered.append(json.loads(connection.getresponse().read())["id"])
        except (OSError, http.client.HTTPException, ValueError):
            return

    with running_server(tmp_path, free_port) as server:
        threads = [threading.Thread(target=traffic, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answered) > 200)
        os.kill(server.process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
        logged = read_predictions(server.log_dir)
    assert set(answered) <= set(logged.table["request_id"].to_pylist())
    assert logged.torn_lines <= 1


def test_bad_requests_over_the_wire_hurt_no_other(tmp_path: Path, free_port: int) -> None:
    """Slow bodies, 100,000 rows, chunked floods and noise: each is refused, others are answered."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    with running_server(tmp_path, free_port, "--read-timeout", "0.5") as server:
        slow = socket.create_connection(("127.0.0.1", free_port), timeout=20)
        slow.sendall(
            b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 1000\r\n\r\n{"
        )
        noise = socket.create_connection(("127.0.0.1", free_port), timeout=20)
        noise.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert noise.recv(100).startswith(b"HTTP/1.1 400")
        status, content = server.call("POST", "/v2/models/flights/infer", infer_body(100_000))
        assert (status, "at most 10000" in str(content["error"])) == (413, True)

        flood = http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)
        chunks = (b"[" * 1_000_000 for _ in range(20))
        flood.request("POST", "/invocations", chunks, JSON, encode_chunked=True)
        assert flood.getresponse().status == 413
        deep = b'{"instances": ' + b"[" * 1_000_000
        assert server.call("POST", "/invocations", deep)[0] in (400, 422)

        assert server.call("POST", "/v2/models/flights/infer", infer_body())[0] == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
        for connection in (slow, noise, flood):
            connection.close()


def test_sigterm_answers_what_is_in_flight_and_ends_with_zero(
    tmp_path: Path, free_port: int
) -> None:
    """A request whose body is still on its way when the signal comes is answered and logged."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    body = json.dumps({"id": "last", **infer_body()}).encode()
    with running_server(tmp_path, free_port) as server:
        client = socket.create_connection(("127.0.0.1", free_port), timeout=20)
        head = (
            "POST /v2/models/flights/infer HTTP/1.1\r\nhost: x\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "expect: 100-continue\r\n\r\n"
        )
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100")  # the server has begun to read
        client.sendall(body[:10])
        server.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", free_port), timeout=20).close()
            except OSError:
                return True
            return False

        wait_for(refused)
        client.sendall(body[10:])
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.close()
        assert server.process.wait(20) == 0
        logged = read_predictions(server.log_dir)
    assert logged.table["request_id"].to_pylist() == ["last"]
    np.testing.assert_allclose(logged.table["score"].to_pylist(), score(UA_AT_17))
