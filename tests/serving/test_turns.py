"""Requests of one turn of the loop: scored together, and yet each on its own."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from serving_support import NOON, infer_body, make_model, make_release, write_release

from mlops_assets.core.inference import Matrix, Model
from mlops_assets.core.prediction_log import decode_line
from mlops_assets.core.rollout_state import start_rollout
from mlops_assets.serving import turns as turns_module
from mlops_assets.serving.answers import Limits, Server
from mlops_assets.serving.app import Exchange, open_exchange
from mlops_assets.serving.models import Follower, Served, joined, load
from mlops_assets.serving.prediction_log import PredictionLog
from mlops_assets.serving.predictor import Predictor
from mlops_assets.serving.protocol import Response
from mlops_assets.serving.turns import TURN_BYTES, Turns, answer_together

UNLUCKY = 13.0
"""An hour at which the model fails."""


class Counting(Predictor):
    """Notes how many rows each call has, and fails on an unlucky one."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.calls: list[int] = []

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """As the model does."""
        self.calls.append(len(matrix))
        if (matrix == UNLUCKY).any():
            raise RuntimeError("out of luck")
        return super().predict(matrix)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server in this process, with one model that counts its calls."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    log = PredictionLog(tmp_path / "log", "one")
    with ThreadPoolExecutor(1) as pool:
        server = Server(Follower(str(tmp_path / "release.json")), log, Limits(), "one", "1", pool)
        server.follower.load_first()
        served = served_by(server)
        counting = replace(served.champion, predictor=Counting(served.champion.predictor.model))
        server.follower.served = replace(served, champion=counting)
        yield server
        server.background.close()
        log.close()
        server.metrics.close()


def served_by(server: Server) -> Served:
    """What is served."""
    assert server.follower.served is not None
    return server.follower.served


def calls(server: Server) -> list[int]:
    """Rows of each call of the champion."""
    predictor = served_by(server).champion.predictor
    assert isinstance(predictor, Counting)
    return predictor.calls


def opened(server: Server) -> Exchange:
    """A request whose headers came."""
    headers = [(b"content-type", b"application/json")]
    exchange = open_exchange(server, "POST", "/v2/models/flights/infer", headers)
    assert isinstance(exchange, Exchange)
    return exchange


def body(hour: object, name: str, rows: int = 1) -> bytes:
    """A request's body."""
    content = infer_body(rows, hour={"data": [hour] * rows})
    return json.dumps({"id": name, **content}).encode()


def together(server: Server, *bodies: bytes) -> list[Response]:
    """The answers to ``bodies``, which came in one turn."""
    asked = [(opened(server), each) for each in bodies]
    answers = answer_together(asked)
    for exchange, _ in asked:
        exchange.close()
    return answers


def scores(response: Response) -> list[float]:
    """Those in an answer."""
    assert response.status == 200, response.body
    return json.loads(response.body)["outputs"][0]["data"]


def logged(server: Server, folder: Path) -> dict[str, list[float]]:
    """The scores in the prediction log, by request."""
    server.log.sync()
    lines = [line for path in (folder / "log").glob("*.jsonl") for line in path.open("rb")]
    records = [decode_line(line) for line in lines]
    assert len(records) == len({record.request for record in records})
    return {record.request: record.scores for record in records}


def test_one_call_scores_all_of_a_turn(server: Server, tmp_path: Path) -> None:
    """Each gets what it would get alone, and has its own id, record and count."""
    hours = [float(n) for n in range(8)]
    sizes = [1, 1, 3, 1, 2, 1, 1, 5]
    bodies = [body(h, f"r{h:.0f}", n) for h, n in zip(hours, sizes, strict=True)]
    answers = together(server, *bodies)
    assert calls(server) == [sum(sizes)]
    found = [scores(each) for each in answers]
    assert [len(each) for each in found] == sizes
    assert len({each[0] for each in found}) > 1
    alone = [scores(together(server, each)[0]) for each in bodies]
    assert found == alone
    ids = [json.loads(each.body)["id"] for each in answers]
    assert ids == [f"r{hour:.0f}" for hour in hours]
    (totals,) = server.metrics.totals()
    assert (totals.requests, totals.rows, totals.errors) == (16, 2 * sum(sizes), 0)
    assert sum(totals.latency) == totals.requests


def test_what_was_answered_is_logged(server: Server, tmp_path: Path) -> None:
    """Before the answers leave, each as a record of its own."""
    answers = together(server, *(body(float(n), f"r{n}") for n in range(5)))
    assert logged(server, tmp_path) == {f"r{n}": scores(each) for n, each in enumerate(answers)}


def test_a_bad_request_fails_alone(server: Server, tmp_path: Path) -> None:
    """No JSON, a value that no model takes: the others of the turn are answered."""
    answers = together(
        server, body(1.0, "a"), b"{", body(1e39, "b"), body("soon", "c"), body(2.0, "d")
    )
    assert [each.status for each in answers] == [200, 400, 422, 422, 200]
    assert calls(server) == [2]
    assert logged(server, tmp_path).keys() == {"a", "d"}


def test_a_request_that_the_model_fails_on_fails_alone(server: Server, tmp_path: Path) -> None:
    """Its failure is recorded, and nobody else's."""
    answers = together(server, body(1.0, "a"), body(UNLUCKY, "b"), body(2.0, "c"))
    assert [each.status for each in answers] == [200, 500, 200]
    assert calls(server) == [3, 1, 1, 1]
    found = logged(server, tmp_path)
    assert found["b"] == []
    assert found["a"] == scores(answers[0])
    (totals,) = server.metrics.totals()
    assert (totals.requests, totals.errors) == (2, 1)


def test_while_models_are_compared_each_request_is_scored_alone(
    server: Server, tmp_path: Path
) -> None:
    """The other model's latencies are of single requests too."""
    served = served_by(server)
    two = load("flights", make_model(tmp_path, 2, seed=2))
    release = start_rollout(served.release, two.served, "r1", NOON, "test")
    server.follower.served = joined(release, served.champion, two)
    answers = together(server, *(body(float(n), f"r{n}") for n in range(4)))
    assert [each.status for each in answers] == [200] * 4
    assert calls(server) == [1] * 4


def test_a_model_that_changes_between_requests_answers_those_that_came_with_it(
    server: Server, tmp_path: Path
) -> None:
    """A turn that saw both: each is answered by what was served when it came."""
    first = served_by(server)
    before = [opened(server), opened(server)]
    two = load("flights", make_model(tmp_path, 2, seed=2))
    server.follower.served = joined(
        first.release.model_copy(update={"champion": two.served}), two, None
    )
    asked = [before[0], opened(server), before[1], opened(server)]
    answers = answer_together([(each, body(17.0, f"r{n}")) for n, each in enumerate(asked)])
    versions = [json.loads(each.body)["model_version"] for each in answers]
    assert versions == ["1", "2", "1", "2"]
    assert scores(answers[0]) == scores(answers[2]) != scores(answers[1]) == scores(answers[3])


def test_a_turn_is_bounded_and_keeps_the_order(server: Server) -> None:
    """What is more than a turn's bytes waits for the next, so that answers go out in between."""
    large = body(1.0, "large", 1000)
    number = 3 * TURN_BYTES // len(large)

    async def ask() -> list[int]:
        turns = Turns(asyncio.get_running_loop())
        done: list[int] = []
        for n in range(number):
            turns.add(opened(server), large, lambda _, n=n: done.append(n))
        assert done == []
        while len(done) < number:
            await asyncio.sleep(0)
        return done

    assert asyncio.run(ask()) == list(range(number))
    assert len(calls(server)) > 1
    assert max(calls(server)) * len(large) <= 1000 * TURN_BYTES


def test_a_body_larger_than_a_turn_is_answered_alone(server: Server) -> None:
    """A bound does not keep anybody waiting for ever."""
    large = body(1.0, "large", 9000)
    assert len(large) > TURN_BYTES

    async def ask() -> list[Response | None]:
        turns = Turns(asyncio.get_running_loop())
        done: list[Response | None] = []
        for _ in range(2):
            turns.add(opened(server), large, done.append)
        while len(done) < 2:
            await asyncio.sleep(0)
        return done

    for response in asyncio.run(ask()):
        assert response is not None
        assert len(scores(response)) == 9000


def test_a_bug_leaves_nobody_waiting(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the turn hear that there is no answer, and the next turn is answered."""
    right = turns_module.answer_together

    def wrong(asked: object) -> list[Response]:
        raise RuntimeError("a bug")

    async def ask() -> list[Response | None]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        turns = Turns(loop)
        done: list[Response | None] = []
        monkeypatch.setattr(turns_module, "answer_together", wrong)
        for n in range(3):
            turns.add(opened(server), body(1.0, f"r{n}"), done.append)
        await asyncio.sleep(0)
        monkeypatch.setattr(turns_module, "answer_together", right)
        turns.add(opened(server), body(1.0, "r"), done.append)
        await asyncio.sleep(0)
        return done

    *lost, answered = asyncio.run(ask())
    assert lost == [None] * 3
    assert answered is not None
    assert answered.status == 200
