"""The `mlops` command: what it prints, its exit codes, and that it makes nothing by the way."""

import subprocess
import sys
from pathlib import Path

import pytest
from serving_support import make_model

from mlops_assets.adapters.endpoints import local
from mlops_assets.cli import main
from mlops_assets.core.spec import EndpointSpec


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local environment keeps its state in a folder of the test, where nothing is yet."""
    folder = tmp_path / "state"
    monkeypatch.setattr("mlops_assets.definitions.STATE", folder)
    return folder


def _usage(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out + said.err


def test_help_shows_each_command_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever forgot a command finds it."""
    code, text = _usage(capsys, "--help")
    assert code == 0
    assert {"demo", "endpoint", "lake"} <= set(text.split())
    assert "mlops endpoint stop flight_delays" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("endpoint",), "ACTION"),
        (("endpoints",), "invalid choice: 'endpoints'"),
        (("endpoint", "stop"), "or give --all"),
        (("lake", "vacuum"), "use_case"),
        (("lake", "vacuum", "visits", "--retention-hours", "-1"), "'-1' is no whole number"),
        (("lake", "vacuum", "visits", "--retention-hours", "week"), "'week' is no whole number"),
    ],
)
def test_a_wrong_command_ends_with_two_and_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    """As other commands do."""
    code, text = _usage(capsys, *arguments)
    assert code == 2
    assert says in text


def test_without_endpoints_status_and_stop_say_so_and_make_nothing(
    capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    """Looking leaves no traces, and a mistyped name does not become an endpoint."""
    assert main(["endpoint", "status"]) == 0
    assert main(["endpoint", "stop", "--all"]) == 0
    assert capsys.readouterr().out.splitlines() == ["no endpoint was started yet"] * 2
    assert main(["endpoint", "status", "vists"]) == 0
    assert main(["endpoint", "stop", "vists"]) == 0
    assert capsys.readouterr().out.splitlines() == ["vists: not running"] * 2
    assert not state.exists()


def test_a_running_endpoint_is_shown_and_stopped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, state: Path, free_port: int
) -> None:
    """With its address and what it serves; stopping it again is no error."""
    model = make_model(tmp_path)
    endpoints = str(state / "endpoints")
    local.deploy("flights", model, EndpointSpec(port=free_port), endpoints, 60, "test")
    try:
        assert main(["endpoint", "status"]) == 0
        line = f"flights: http://127.0.0.1:{free_port} version 1 {model.sha256[:12]}\n"
        assert capsys.readouterr().out == line
        assert main(["endpoint", "stop", "flights"]) == 0
        assert main(["endpoint", "stop", "--all"]) == 0
        assert main(["endpoint", "status"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "flights: stopped",
            "flights: not running",
            "flights: not running",
        ]
    finally:
        local.stop("flights", endpoints)


def test_vacuuming_a_use_case_without_models_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing would say which versions to keep; the message is one line, not a traceback."""
    assert main(["lake", "vacuum", "visits"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mlops: visits has no registered models")
    assert len(error.splitlines()) == 1


def test_the_command_is_installed() -> None:
    """By its name, beside the Python of the environment."""
    done = subprocess.run(
        [Path(sys.executable).parent / "mlops", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("usage: mlops")
