"""The servers that are compared: each as a folder of files, a command, and the bodies it takes.

Every peer runs as its documentation starts it, with one worker, in a virtual environment of its
own; it is sent the numbers that XGBoost takes (codes for categories), which saves it the encoding.
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench._serving_model import Problem
from mlops_assets.core.inference import Matrix

START_S = 90.0
BIG = 100
"""Rows of a batch."""

VARIANTS = 32
"""Different bodies that are sent in turn, so that no branch of a tree is learnt by heart."""


@dataclass(frozen=True)
class Candidate:
    """A server: how to start it on a port, and what to send where.

    ``scores`` finds the probabilities in an answer.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    folder: Path
    path: str
    body: Callable[[int, int], str]
    """The JSON that asks for the rows from the first on, up to the second."""
    scores: Callable[[bytes], list[float]] | None


@dataclass
class Running:
    """A server that answers."""

    candidate: Candidate
    port: int
    process: "subprocess.Popen[bytes]"

    def bodies(self, rows: int) -> list[str]:
        """What to send for requests of ``rows`` rows."""
        return [self.candidate.body(n * rows, n * rows + rows) for n in range(VARIANTS)]

    def family(self) -> list[int]:
        """Its processes."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                continue
            found.append(pid)
            waiting += map(int, children)
        return found

    def cpu_s(self) -> float:
        """Processor time of all of its processes until now, in seconds."""
        ticks = 0
        for pid in self.family():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Memory that is its own (proportional set size), in MiB."""
        total = 0
        for pid in self.family():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1024


def ours(problem: Problem, folder: Path) -> Candidate:
    """The platform's server, with its log, validation and metrics as they are in production."""
    from mlops_assets.adapters.models import keep_export
    from mlops_assets.adapters.xgboost_engine import TrainedModel
    from mlops_assets.core.rollout_state import ServedModel, first_release

    folder.mkdir(parents=True)
    artifact = folder / "model.ubj"
    artifact.write_bytes(problem.data)
    trained = TrainedModel(problem.data, problem.sha256, problem.signature, 0, {}, {})
    export = keep_export(str(artifact), trained, problem.frame)
    served = ServedModel(
        version=1,
        sha256=problem.sha256,
        artifact=str(artifact),
        onnx=export.get("onnx"),
        onnx_sha256=export.get("onnx_sha256"),
    )
    release = first_release("flights", served, datetime.now(UTC), "benchmark")
    (folder / "release.json").write_text(release.model_dump_json())
    names = [field.name for field in problem.signature.inputs]
    kinds = {"category": "BYTES", "float": "FP32"}

    def body(first: int, end: int) -> str:
        frame = problem.frame[first:end]
        return json.dumps(
            {
                "inputs": [
                    {
                        "name": name,
                        "shape": [frame.height],
                        "datatype": kinds[field.type],
                        "data": frame[name].to_list(),
                    }
                    for name, field in zip(names, problem.signature.inputs, strict=True)
                ]
            }
        )

    command = [sys.executable, "-m", "mlops_assets.serving", "--release", "release.json"]
    command += ["--log-dir", "log"]
    return Candidate(
        "ours",
        lambda port: [*command, "--port", str(port)],
        folder,
        "/v2/models/flights/infer",
        body,
        lambda answer: json.loads(answer)["outputs"][0]["data"],
    )


def floor(problem: Problem, folder: Path) -> Candidate:
    """What no server in Python is faster than: HTTP in, a prediction for rows that are matrices
    already, HTTP out; nothing is read, checked or logged.
    """
    ours_body = ours(problem, folder)
    command = [sys.executable, "-m", "bench._serving_floor", str(folder)]
    return Candidate(
        "floor",
        lambda port: [*command, str(port)],
        Path.cwd(),
        "/infer",
        ours_body.body,
        None,
    )


def peers(problem: Problem, folder: Path, environments: Path) -> Iterator[Candidate | str]:
    """Each peer, or its name where it is not installed below ``environments``."""
    folder.mkdir(parents=True)
    booster = problem.booster.copy()
    booster.feature_names, booster.feature_types = None, None
    booster.set_attr(mlops_signature=None)
    booster.set_param({"nthread": 1})
    model = folder / "model.ubj"
    booster.save_model(model)
    for make in (_mlflow, _mlserver, _bentoml, _fastapi):
        name = make.__name__.removeprefix("_")
        python = environments / name / "bin" / "python"
        if not python.exists():
            yield name
            continue
        place = folder / name
        place.mkdir()
        yield make(python.parent, place, model, problem.matrix)


def _numbers(matrix: Matrix, first: int, end: int) -> list[list[float | None]]:
    return [
        [None if math.isnan(value) else value for value in row]
        for row in matrix[first:end].tolist()
    ]


def _mlflow(binaries: Path, folder: Path, model: Path, matrix: Matrix) -> Candidate:
    script = (
        "import sys, mlflow, xgboost\n"
        "booster = xgboost.Booster(model_file=sys.argv[1])\n"
        "mlflow.xgboost.save_model(booster, sys.argv[2], model_format='ubj')\n"
    )
    saved = folder / "saved"
    subprocess.run(
        [binaries / "python", "-c", script, model, saved],
        check=True,
        capture_output=True,
        env=_environment(binaries),
    )
    names = [f"f{n}" for n in range(matrix.shape[1])]

    def body(first: int, end: int) -> str:
        return json.dumps(
            {"dataframe_split": {"columns": names, "data": _numbers(matrix, first, end)}}
        )

    command = [str(binaries / "mlflow"), "models", "serve", "--env-manager", "local"]
    command += ["--workers", "1", "--model-uri", str(saved)]
    return Candidate(
        "mlflow models serve",
        lambda port: [*command, "--port", str(port)],
        folder,
        "/invocations",
        body,
        lambda answer: json.loads(answer)["predictions"],
    )


def _mlserver(binaries: Path, folder: Path, model: Path, matrix: Matrix) -> Candidate:
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": "flights",
                "implementation": "mlserver_xgboost.XGBoostModel",
                "parameters": {"uri": str(model)},
            }
        )
    )
    columns = matrix.shape[1]

    def start(port: int) -> Sequence[str]:
        settings = {
            "http_port": port,
            "grpc_port": port + 1000,
            "metrics_port": port + 2000,
            # In its own process: faster than the worker that it starts by default.
            "parallel_workers": 0,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        return [str(binaries / "mlserver"), "start", "."]

    def body(first: int, end: int) -> str:
        flat = [value for row in _numbers(matrix, first, end) for value in row]
        tensor = {"name": "x", "shape": [end - first, columns], "datatype": "FP32", "data": flat}
        return json.dumps({"inputs": [tensor]})

    return Candidate(
        "MLServer",
        start,
        folder,
        "/v2/models/flights/infer",
        body,
        lambda answer: json.loads(answer)["outputs"][0]["data"],
    )


_BENTO = """
import bentoml
import numpy as np
import xgboost


@bentoml.service(workers=1)
class Flights:
    def __init__(self) -> None:
        self.booster = xgboost.Booster({{"nthread": 1}}, model_file={model!r})

    @bentoml.api
    def infer(self, rows: np.ndarray) -> np.ndarray:
        return self.booster.inplace_predict(rows.astype(np.float32))
"""

_FASTAPI = """
import numpy as np
import xgboost
from fastapi import FastAPI
from pydantic import BaseModel


class Question(BaseModel):
    rows: list[list[float | None]]


app = FastAPI()
booster = xgboost.Booster({{"nthread": 1}}, model_file={model!r})


@app.post("/infer")
async def infer(question: Question) -> list[float]:
    return booster.inplace_predict(np.array(question.rows, dtype=np.float32)).tolist()
"""


def _bentoml(binaries: Path, folder: Path, model: Path, matrix: Matrix) -> Candidate:
    (folder / "service.py").write_text(_BENTO.format(model=str(model)))
    command = [str(binaries / "bentoml"), "serve", "service:Flights"]
    return Candidate(
        "BentoML",
        lambda port: [*command, "--port", str(port)],
        folder,
        "/infer",
        # Its codec takes no nulls in an array.
        lambda first, end: json.dumps({"rows": matrix[first:end].tolist()}),
        json.loads,
    )


def _fastapi(binaries: Path, folder: Path, model: Path, matrix: Matrix) -> Candidate:
    (folder / "app.py").write_text(_FASTAPI.format(model=str(model)))
    command = [str(binaries / "uvicorn"), "app:app", "--no-access-log"]
    return Candidate(
        "minimal FastAPI",
        lambda port: [*command, "--port", str(port)],
        folder,
        "/infer",
        lambda first, end: json.dumps({"rows": _numbers(matrix, first, end)}),
        json.loads,
    )


def _environment(binaries: Path | None) -> dict[str, str]:
    # More threads than one wait for each other on a busy machine, and slow every server down.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {"BENTOML_DO_NOT_TRACK": "true", "DO_NOT_TRACK": "1"}
    environment.pop("PYTHONPATH", None)
    if binaries is not None:
        environment["PATH"] = f"{binaries}:{environment['PATH']}"
    return environment


@contextmanager
def started(candidate: Candidate, problem: Problem) -> Iterator[Running]:
    """The server, once it gives the scores that XGBoost gives; ended after the block."""
    port = _free_port()
    command = candidate.command(port)
    binaries = None if command[0] == sys.executable else Path(command[0]).parent
    log = candidate.folder / "server.log" if binaries else Path(os.devnull)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=candidate.folder,
            env=_environment(binaries)
            | ({"PYTHONPATH": str(Path(__file__).parents[1])} if binaries is None else {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    running = Running(candidate, port, process)
    try:
        _wait(running, problem)
        yield running
    finally:
        family = running.family()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in family:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            time.sleep(0.5)
        process.wait()


def _wait(running: Running, problem: Problem) -> None:
    """Until it answers, with the right scores."""
    import http.client

    expected = [float(p) for p in problem.booster.inplace_predict(problem.matrix[:3])]
    deadline = time.monotonic() + START_S
    said = "it does not answer"
    while time.monotonic() < deadline and running.process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        try:
            body = running.candidate.body(0, 3)
            connection.request(
                "POST", running.candidate.path, body, {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200:
                if running.candidate.scores is None:
                    return
                found = running.candidate.scores(content)
                if max(abs(a - b) for a, b in zip(found, expected, strict=True)) > 1e-5:
                    raise RuntimeError(f"{running.candidate.name} gives {found}, not {expected}")
                return
            said = f"{answer.status}: {content[:300]!r}"
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise RuntimeError(f"{running.candidate.name} does not serve: {said}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
