"""``mlops rollout``: what it says, and what it asks for."""

from pathlib import Path

import pytest

from mlops_assets.cli import main
from mlops_assets.core.errors import PermanentError
from mlops_assets.lifecycle.rollout.show import policy_of

ACTIONS = ("status", "start", "promote", "abort", "rollback", "history", "replay", "at")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local environment keeps its state in a folder of the test, where nothing is yet."""
    folder = tmp_path / "state"
    monkeypatch.setattr("mlops_assets.definitions.STATE", folder)
    return folder


@pytest.mark.parametrize("action", ACTIONS)
def test_each_command_has_examples(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever is on call at night has no time to read."""
    with pytest.raises(SystemExit) as ended:
        main(["rollout", action, "--help"])
    assert ended.value.code == 0
    assert f"mlops rollout {action} " in capsys.readouterr().out.split("examples:")[1]


@pytest.mark.parametrize("action", ["start", "promote", "abort", "rollback"])
def test_what_changes_something_needs_a_reason(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is recorded, with who gave it."""
    with pytest.raises(SystemExit) as ended:
        main(["rollout", action, "flight_delays"])
    assert ended.value.code == 2
    assert "--reason" in capsys.readouterr().err


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With an example of one that is."""
    with pytest.raises(SystemExit):
        main(["rollout", "at", "yesterday", "flight_delays"])
    assert "2013-05-01T12:00" in capsys.readouterr().err


def test_before_anything_was_served_each_command_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And says what to do first."""
    assert main(["rollout", "status", "flight_delays"]) == 0
    assert "flight_delays: nothing" in capsys.readouterr().out
    assert main(["rollout", "at", "2013-05-01T12:00", "flight_delays"]) == 0
    assert "flight_delays at 2013-05-01T16:00:00+00:00: nothing" in capsys.readouterr().out
    assert main(["rollout", "history", "flight_delays"]) == 0
    assert "Nothing has been decided" in capsys.readouterr().out
    assert main(["rollout", "abort", "flight_delays", "--reason", "why not"]) == 1
    assert "materialize flight_delays/endpoint first" in capsys.readouterr().err
    assert main(["rollout", "replay", "flight_delays"]) == 1
    assert "the ledger does not have any rollout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("shadow_minutes: soon", "holds no rollout policy"),
        ("[1, 2]", "holds no rollout policy"),
        ("steps: [0.5, 0.1]", "write growing shares"),
    ],
)
def test_a_policy_file_that_is_none_is_named(tmp_path: Path, text: str, says: str) -> None:
    """With what is wrong in it."""
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(PermanentError, match=says):
        policy_of(path)


def test_a_policy_file_may_be_a_part_of_a_use_case(tmp_path: Path) -> None:
    """Fields alone, or below ``rollout``."""
    for text in ("shadow_minutes: 5", "rollout:\n  shadow_minutes: 5"):
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        assert policy_of(path).shadow_minutes == 5
