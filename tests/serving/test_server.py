"""The model server's routes, in process."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
from protocol_support import ask
from serving_support import (
    UA_AT_17,
    infer_body,
    make_model,
    make_release,
    score,
    write_release,
)

from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.core.errors import DigestMismatchError, PermanentError, TransientError
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
