"""Two models in one server: who answers, who is compared, and what becomes of failures."""

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import xgboost
from serving_support import (
    NOON,
    SIGNATURE,
    infer_body,
    make_model,
    running_server,
    tiny_model,
    wait_for,
    write_release,
)

from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.inference import (
    Matrix,
    dump_model,
    encode,
    feature_types,
    load_model,
    predict,
)
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.requests import PredictionRequest, RequestError
from mlops_assets.core.rollout_state import (
    Release,
    ServedModel,
    abort,
    first_release,
    promote,
    set_share,
    side,
    start_rollout,
)
from mlops_assets.serving.answers import Answer, Limits, Server, answer
from mlops_assets.serving.background import Background
from mlops_assets.serving.models import Follower, Loaded, Served, joined, load
from mlops_assets.serving.prediction_log import PredictionLog
from mlops_assets.serving.predictor import Predictor

JSON = {"content-type": "application/json"}


def score(seed: int, carrier: str = "UA", hour: float = 17.0) -> float:
    """What the model of ``seed`` says."""
    data = tiny_model(seed)
    model = load_model(data, hashlib.sha256(data).hexdigest())
    columns = {"carrier": [carrier], "hour": [hour], "delay": [None]}
    return float(predict(model, encode(columns, SIGNATURE))[0])


class Failing(Predictor):
    """A model that fails on every request."""

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """It does."""
        raise RuntimeError("out of order")


class Stuck(Predictor):
    """A model that waits until it is let go."""

    def __init__(self, like: Predictor) -> None:
        super().__init__(like.model)
        self.asked = threading.Event()
        self.go = threading.Event()

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """When it may."""
        self.asked.set()
        assert self.go.wait(20)
        return super().predict(matrix)


@dataclass
class Desk:
    """A server in this process, and what it serves."""

    folder: Path
    server: Server
    models: dict[int, Loaded] = field(default_factory=dict)

    def model(self, version: int) -> Loaded:
        """The tiny model of that seed, loaded once."""
        if version not in self.models:
            self.models[version] = load("flights", make_model(self.folder, version, seed=version))
        return self.models[version]

    def served(self, mode: str = "shadow", share: float = 0.5) -> Served:
        """Version 1 with version 2 as its challenger."""
        one, two = self.model(1), self.model(2)
        release = start_rollout(
            first_release("flights", one.served, NOON, "test"), two.served, "r1", NOON, "test"
        )
        if mode == "canary":
            release = set_share(release, share, NOON, "test")
        return joined(release, one, two)

    def ask(self, served: Served, request: str = "q", **more: object) -> Answer:
        """One row."""
        asked = PredictionRequest(
            1, {"carrier": ["UA"]}, {"hour": [17.0], "delay": [None]}, ["e1"], request
        )
        return answer(self.server, served, asked, **more)  # type: ignore[arg-type]

    def logged(self) -> pl.DataFrame:
        """Everything in the log, once the background is done."""
        self.server.background.close()
        self.server.log.close()
        return pl.DataFrame(read_predictions(self.folder / "log").table).sort("request_id", "role")

    def counts(self) -> dict[tuple[int, str], tuple[int, int, int, int]]:
        """Requests, returned, errors, skipped by version and role."""
        return {
            (t.version, t.role): (t.requests, t.returned, t.errors, t.skipped)
            for t in self.server.metrics.totals()
            if t.rollout_id == "r1"
        }


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A server without a socket."""
    log = PredictionLog(tmp_path / "log", "i1")
    with ThreadPoolExecutor(1) as pool:
        follower = Follower(str(tmp_path / "release.json"))
        yield Desk(tmp_path, Server(follower, log, Limits(), "i1", "0", pool))
    log.close()


def with_challenger(served: Served, predictor: Predictor) -> Served:
    """``served`` with another challenger."""
    assert served.challenger is not None
    return joined(served.release, served.champion, Loaded(served.challenger.served, predictor))


def test_in_shadow_both_score_and_the_champion_answers(desk: Desk) -> None:
    """Both are in the log; the features stand once."""
    found = desk.ask(desk.served())
    assert (found.scores, found.role) == ([score(1)], "champion")
    logged = desk.logged()
    assert logged.select("role", "returned", "model_version", "rollout_id").rows() == [
        ("challenger", False, 2, "r1"),
        ("champion", True, 1, "r1"),
    ]
    assert logged["score"].to_list() == [score(2), score(1)]
    assert logged["features.carrier"].to_list() == [None, "UA"]
    assert logged["event_id"].to_list() == ["e1", "e1"]
    assert logged["time"].n_unique() == 1
    assert desk.counts() == {(1, "champion"): (1, 1, 0, 0), (2, "challenger"): (1, 0, 0, 0)}


def test_a_challenger_that_fails_in_shadow_reaches_no_caller(desk: Desk) -> None:
    """It is recorded and counted, with what it said."""
    served = desk.served()
    failing = with_challenger(served, Failing(desk.model(2).predictor.model))
    assert desk.ask(failing).scores == [score(1)]
    logged = desk.logged()
    assert logged.select("role", "returned", "score", "error").rows() == [
        ("challenger", False, None, "RuntimeError: out of order"),
        ("champion", True, score(1), None),
    ]
    assert desk.counts()[2, "challenger"] == (0, 0, 1, 0)


def test_a_challenger_that_is_slow_in_shadow_keeps_nobody_waiting(desk: Desk) -> None:
    """What it is behind with is bounded; the rest is left out and counted."""
    stuck = Stuck(desk.model(2).predictor)
    served = with_challenger(desk.served(), stuck)
    desk.server.background = Background(most_jobs=3)
    for n in range(5):
        assert desk.ask(served, f"q{n}").scores == [score(1)]
        assert stuck.asked.wait(20)  # the first one is under way, not only queued
    stuck.go.set()
    logged = desk.logged()
    compared = logged.filter(role="challenger")
    assert compared["request_id"].to_list() == ["q0", "q1", "q2"]
    assert desk.counts() == {(1, "champion"): (5, 5, 0, 0), (2, "challenger"): (3, 0, 0, 2)}


def test_a_server_that_ends_does_not_wait_for_a_stuck_challenger(desk: Desk) -> None:
    """Longer than its patience."""
    stuck = Stuck(desk.model(2).predictor)
    desk.ask(with_challenger(desk.served(), stuck))
    desk.server.background.close(patience_s=0.01)
    assert desk.ask(desk.served()).scores == [score(1)]
    assert desk.counts()[2, "challenger"] == (0, 0, 0, 1)
    stuck.go.set()


def test_many_rows_wait_alone(desk: Desk) -> None:
    """The queue is bounded in rows, and takes a request of any size when it is empty."""
    background = Background(most_rows=10)
    go, done = threading.Event(), []
    assert background.submit(lambda: done.append(go.wait(20)), 1000)
    assert not background.submit(lambda: done.append(False), 1)
    go.set()
    wait_for(lambda: background.submit(lambda: done.append(True), 1))
    background.close()
    assert done == [True, True]


def test_a_canary_is_split_by_key_and_both_score(desk: Desk) -> None:
    """The key is the caller's, else the event, else the request."""
    served = desk.served("canary", 0.5)
    for n in range(40):
        key = f"caller {n}"
        found = desk.ask(served, f"q{n}", key=key)
        expected = side(served.release, key)
        assert found.role == expected
        assert found.scores == [score(1 if expected == "champion" else 2)]
    by_event = side(served.release, "e1")
    assert {desk.ask(served, f"r{n}").role for n in range(5)} == {by_event}
    without = PredictionRequest(
        1, {"carrier": ["UA"]}, {"hour": [17.0], "delay": [None]}, None, "own"
    )
    assert answer(desk.server, served, without).role == side(served.release, "own")
    logged = desk.logged()
    assert logged.height == 2 * 46
    each = logged.group_by("request_id").agg(pl.col("returned").sum())["returned"]
    assert each.to_list() == [1] * 46
    returned = logged.filter("returned")
    assert returned["features.carrier"].null_count() == 0


@pytest.mark.parametrize(("key", "role"), [("a", "champion"), ("b", "challenger")])
def test_in_canary_the_other_model_stands_in_for_one_that_fails(
    desk: Desk, key: str, role: str
) -> None:
    """The caller gets an answer, and the failure is on record."""
    served = desk.served("canary", 0.999 if role == "challenger" else 0.001)
    assert side(served.release, key) == role
    broken = Loaded(
        (served.champion if role == "champion" else desk.model(2)).served,
        Failing(desk.model(1).predictor.model),
    )
    if role == "champion":
        served = joined(served.release, broken, served.challenger)
    else:
        served = joined(served.release, served.champion, broken)
    found = desk.ask(served, key=key)
    other = "challenger" if role == "champion" else "champion"
    assert (found.role, found.scores) == (other, [score(1 if other == "champion" else 2)])
    logged = desk.logged()
    assert logged.filter(role=role).select("returned", "error").rows() == [
        (False, "RuntimeError: out of order")
    ]
    assert logged.filter(role=other)["returned"].to_list() == [True]


def test_a_champion_that_fails_in_shadow_is_an_error(desk: Desk) -> None:
    """The challenger's answer is never returned."""
    served = desk.served()
    broken = Loaded(served.champion.served, Failing(served.champion.predictor.model))
    with pytest.raises(RuntimeError, match="out of order"):
        desk.ask(joined(served.release, broken, served.challenger))
    assert desk.counts() == {(1, "champion"): (0, 0, 1, 0)}


def test_a_request_at_fault_is_no_failure_of_a_model(desk: Desk) -> None:
    """It is refused, whoever would have answered it."""
    for served in (desk.served(), desk.served("canary", 0.999)):
        wrong = PredictionRequest(
            1, {"carrier": ["UA"]}, {"hour": [1e39], "delay": [None]}, None, "q"
        )
        with pytest.raises(RequestError, match="'hour'"):
            answer(desk.server, served, wrong)
    assert desk.counts() == {}
    assert desk.logged().height == 0


def test_a_version_that_is_asked_for_answers_in_canary_only(desk: Desk) -> None:
    """In shadow the challenger is not there for anybody."""
    canary, shadow = desk.served("canary", 0.001), desk.served()
    assert desk.ask(canary, version="2").scores == [score(2)]
    assert desk.ask(canary, version="1").scores == [score(1)]
    assert desk.ask(shadow, version="1").scores == [score(1)]
    with pytest.raises(RequestError, match="version 2 is not served"):
        desk.ask(shadow, version="2")


def model_with(
    folder: Path, version: int, *fields: FeatureField, output: str = "late"
) -> ServedModel:
    """A model of two rows with other inputs."""
    signature = Signature(inputs=fields, output=output)
    columns = {
        f.name: [f.categories[0], None] if f.type == "category" else [1.0, 2.0] for f in fields
    }
    data = xgboost.DMatrix(
        encode(columns, signature),
        np.array([0, 1], np.float32),
        feature_types=feature_types(signature),
        enable_categorical=True,
    )
    content = dump_model(xgboost.train({"objective": "binary:logistic"}, data, 1), signature)
    (folder / f"other-{version}.ubj").write_bytes(content)
    return ServedModel(
        version=version,
        sha256=hashlib.sha256(content).hexdigest(),
        artifact=str(folder / f"other-{version}.ubj"),
    )


def test_a_challenger_may_have_other_inputs(desk: Desk) -> None:
    """What only it has may be sent; without that it fails, and the champion does not."""
    wind = FeatureField(name="wind", type="float")
    hour = FeatureField(name="hour", type="float")
    new = load("flights", model_with(desk.folder, 2, hour, wind))
    served = joined(desk.served("canary", 0.999).release, desk.model(1), new)
    assert not served.same_inputs
    assert [f.name for f in served.schema.inputs] == ["carrier", "hour", "delay", "wind"]
    assert served.schema.required == {"carrier", "hour", "delay"}
    assert side(served.release, "e1") == "challenger"
    assert desk.ask(served, "without").role == "champion"
    complete = PredictionRequest(
        1, {"carrier": ["UA"]}, {"hour": [17.0], "delay": [1.0], "wind": [3.0]}, ["e1"], "with"
    )
    assert answer(desk.server, served, complete).role == "challenger"
    logged = desk.logged()
    assert (
        logged.filter(request_id="without", role="challenger")["error"]
        .item()
        .endswith("the table lacks the model's inputs wind: add them")
    )
    [returned] = logged.filter(request_id="with", returned=True).to_dicts()
    assert (returned["features.wind"], returned["features.carrier"]) == (3.0, None)
    compared = logged.filter(request_id="with", role="champion")
    assert compared["score"].to_list() == pytest.approx([champion_score(desk, 17.0, 1.0)])


def champion_score(desk: Desk, hour: float, delay: float) -> float:
    """What version 1 says."""
    columns = {"carrier": ["UA"], "hour": [hour], "delay": [delay]}
    return float(desk.model(1).predictor.predict(encode(columns, SIGNATURE))[0])


def test_a_challenger_that_reads_a_feature_as_another_type_is_refused(desk: Desk) -> None:
    """No request could be right for both."""
    text = FeatureField(name="hour", type="category", categories=("late",))
    other = load("flights", model_with(desk.folder, 2, text))
    with pytest.raises(PermanentError, match="takes 'hour' as category, version 1 as float"):
        joined(desk.served().release, desk.model(1), other)


def stages(folder: Path) -> list[Release]:
    """A rollout that is promoted, and one that is aborted."""
    first = first_release("flights", make_model(folder, 1, seed=1), NOON, "first")
    shadow = start_rollout(first, make_model(folder, 2, seed=2), "r1", NOON, "")
    canary = set_share(shadow, 0.5, NOON, "")
    done = promote(canary, NOON, "")
    again = start_rollout(done, make_model(folder, 3, seed=3), "r2", NOON, "")
    return [first, shadow, canary, done, again, abort(again, NOON, "")]


def test_a_rollout_under_load_fails_no_request(tmp_path: Path, free_port: int) -> None:
    """Each answer is wholly of one model, and of the side that its key has."""
    states = stages(tmp_path)
    write_release(tmp_path / "release.json", states[0])
    expected = {str(n): score(n) for n in (1, 2)}
    answers: list[tuple[int, str, float]] = []
    stop = threading.Event()

    def traffic() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)
        while not stop.is_set():
            body = json.dumps(infer_body())
            connection.request("POST", "/v2/models/flights/infer", body, JSON)
            response = connection.getresponse()
            content = json.loads(response.read())
            output = content["outputs"][0]["data"][0] if "outputs" in content else content
            answers.append((response.status, str(content.get("model_version")), output))
        connection.close()

    with running_server(tmp_path, free_port, "--instance", "i1") as server:
        threads = [threading.Thread(target=traffic) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for release in states[1:]:
                write_release(tmp_path / "release.json", release)
                wait_for(lambda revision=release.revision: reported(tmp_path) == revision)
                seen = len(answers)
                wait_for(lambda seen=seen: len(answers) > seen + 20)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert server.process.poll() is None
    assert {(version, value) for _, version, value in answers} == set(expected.items())
    assert {status for status, _, _ in answers} == {200}


def reported(folder: Path) -> object:
    """The revision that the server says it serves; None before its first report."""
    report = folder / "replicas" / "i1.json"
    return json.loads(report.read_text())["revision"] if report.exists() else None


def test_two_servers_split_by_key_alike(tmp_path: Path, free_port: int) -> None:
    """Wherever a caller's request goes, the same model answers it."""
    canary = stages(tmp_path)[2]
    keys = [f"caller {n}" for n in range(30)]
    expected = [str(1 if side(canary, key) == "champion" else 2) for key in keys]
    assert set(expected) == {"1", "2"}
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        write_release(folder / "release.json", canary)
        with running_server(folder, free_port) as server:
            for send in (in_body, in_header):
                assert [send(server.port, key) for key in keys] == expected


def in_body(port: int, key: str) -> str:
    """Who answers a request with the parameter ``key``; the header does not count then."""
    return _version(port, {**infer_body(), "parameters": {"key": key}}, {"x-request-key": "-"})


def in_header(port: int, key: str) -> str:
    """Who answers a request with the key in its header."""
    return _version(port, infer_body(), {"x-request-key": key})


def _version(port: int, body: object, headers: dict[str, str]) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v2/models/flights/infer", json.dumps(body), {**JSON, **headers})
    content = json.loads(connection.getresponse().read())
    connection.close()
    return str(content["model_version"])
