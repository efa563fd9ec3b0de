"""A tiny real model, releases of it, and server processes that end with the test."""

import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import xgboost

from mlops_assets.core.inference import dump_model, encode, feature_types, load_model, predict
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.rollout_state import Release, ServedModel, first_release

SIGNATURE = Signature(
    inputs=(
        FeatureField(name="carrier", type="category", categories=("AA", "DL", "UA")),
        FeatureField(name="hour", type="float"),
        FeatureField(name="delay", type="float"),
    ),
    output="late",
)


@lru_cache
def tiny_model(seed: int = 0) -> bytes:
    """A model file of five trees; another seed gives another model."""
    rng = np.random.default_rng(seed)
    rows = 400
    carriers = [("AA", "DL", "UA", None)[n] for n in rng.integers(0, 4, rows)]
    hours, delays = rng.uniform(0, 24, rows), rng.normal(size=rows)
    columns = {"carrier": carriers, "hour": hours.tolist(), "delay": delays.tolist()}
    chance = 1 / (1 + np.exp(-(hours - 12) / 4 - np.array([c == "UA" for c in carriers])))
    data = xgboost.DMatrix(
        encode(columns, SIGNATURE),
        (rng.uniform(size=rows) < chance).astype(np.float32),
        feature_types=feature_types(SIGNATURE),
        enable_categorical=True,
    )
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": seed}
    return dump_model(xgboost.train(parameters, data, 5), SIGNATURE)


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def score(columns: dict[str, list[object]], seed: int = 0) -> list[float]:
    """What the model gives when it is asked directly."""
    data = tiny_model(seed)
    model = load_model(data, hashlib.sha256(data).hexdigest())
    return predict(model, encode(columns, SIGNATURE)).tolist()


UA_AT_17 = {"carrier": ["UA"], "hour": [17.0], "delay": [None]}


def make_model(folder: Path, version: int = 1, seed: int = 0) -> ServedModel:
    """The tiny model as ``version``, whose file is written to ``folder``."""
    data = tiny_model(seed)
    artifact = folder / f"model-{version}.ubj"
    artifact.write_bytes(data)
    return ServedModel(
        version=version, sha256=hashlib.sha256(data).hexdigest(), artifact=str(artifact)
    )


def make_release(folder: Path, version: int = 1, seed: int = 0) -> Release:
    """A first release of the tiny model, whose file is written to ``folder``."""
    return first_release("flights", make_model(folder, version, seed), NOON, "test")


def write_release(path: Path, release: Release) -> None:
    """Put ``release`` where a server follows it, in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(release.model_dump_json())
    temporary.replace(path)


def infer_body(rows: int = 1, **changes: dict[str, object]) -> dict[str, object]:
    """A V2 request; ``changes`` replace fields of the tensors that they name."""
    values: dict[str, tuple[str, object]] = {
        "carrier": ("BYTES", "UA"),
        "hour": ("FP64", 17.0),
        "delay": ("FP32", None),
    }
    return {
        "inputs": [
            {"name": name, "shape": [rows], "datatype": datatype, "data": [value] * rows}
            | changes.get(name, {})
            for name, (datatype, value) in values.items()
        ]
    }


@dataclass
class ServerProcess:
    """A server process and where it answers."""

    process: "subprocess.Popen[bytes]"
    port: int
    log_dir: Path
    stderr: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """Everything that it wrote to stderr."""
        return self.stderr.read_text()

    def get(self, path: str) -> tuple[int, dict[str, object]]:
        """Status and JSON of one GET."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
        """Status and JSON of one exchange over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def wait_for(condition: object, seconds: float = 20.0) -> None:
    """Return when ``condition()`` is true; fail when it does not become so."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextlib.contextmanager
def running_server(
    folder: Path, port: int, *options: str, ready: bool = True, release: str | None = None
) -> Iterator[ServerProcess]:
    """A server process that follows ``release``, or ``folder/release.json``; killed at the end."""
    log_dir, stderr = folder / "log", folder / "stderr.txt"
    command = [sys.executable, "-m", "mlops_assets.serving", "--port", str(port)]
    command += ["--release", release or str(folder / "release.json"), "--log-dir", str(log_dir)]
    command += options
    with stderr.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(os.environ)
        )
    server = ServerProcess(process, port, log_dir, stderr)
    try:
        if ready:
            wait_for(lambda: _answers(server))
        yield server
    finally:
        process.kill()
        process.wait()


def _answers(server: ServerProcess) -> bool:
    assert server.process.poll() is None, server.said()
    try:
        return server.get("/ping")[0] == 200
    except OSError:
        return False
