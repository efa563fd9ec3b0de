"""The server as SageMaker starts and asks it: one argument, a command line in the environment."""

import http.client
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from serving_support import ServerProcess, make_release, wait_for, write_release

from mlops_assets.adapters.endpoints.sagemaker import ARGUMENTS_VARIABLE
from mlops_assets.serving import __main__ as server


def ask(port: int, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
    """Status and body of what SageMaker asks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {"content-type": kind} if kind else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_container_answers_as_sagemaker_asks(tmp_path: Path, free_port: int) -> None:
    """`/ping` once it is ready, and `/invocations` of CSV and JSON."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    options = ["--port", str(free_port), "--release", str(tmp_path / "release.json")]
    arguments = shlex.join([*options, "--log-dir", str(tmp_path / "predictions of the container")])
    stderr = tmp_path / "stderr.txt"
    with stderr.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops_assets.serving", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, ARGUMENTS_VARIABLE: arguments},
        )
    started = ServerProcess(process, free_port, tmp_path, stderr)

    def ready() -> bool:
        assert process.poll() is None, started.said()
        try:
            return ask(free_port, "GET", "/ping")[0] == 200
        except OSError:
            return False

    try:
        wait_for(ready)
        csv = b"carrier,hour,delay\nUA,17.0,3.0\n"
        status, scores = ask(free_port, "POST", "/invocations", csv, "text/csv")
        assert status == 200, scores
        instances = b'{"instances": [{"carrier": "UA", "hour": 17.0, "delay": 3.0}]}'
        status, same = ask(free_port, "POST", "/invocations", instances, "application/json")
        assert status == 200, same
    finally:
        process.kill()
        process.wait()


def test_the_target_and_the_server_mean_the_same_variable() -> None:
    """The server cannot import the target."""
    assert server.ARGUMENTS_VARIABLE == ARGUMENTS_VARIABLE


def test_a_container_without_a_command_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when somebody starts the image by hand."""
    monkeypatch.delenv(ARGUMENTS_VARIABLE, raising=False)
    with pytest.raises(SystemExit):
        server.main(["serve"])
    assert "--release" in capsys.readouterr().err
