"""The model's step when it is cut: Dagster's run, the registry, and `mlops train` by hand."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from lifecycle_support import Project, make_project

from mlops_assets.adapters import boosting, documents
from mlops_assets.adapters.checkpoints import FOLDER
from mlops_assets.adapters.tracking import Tracking
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.records import ModelRecord, TrainingSetRecord
from mlops_assets.lifecycle.platform import Places, Platform
from mlops_assets.train import train_by_hand

DATA = ("2024-03-01", "2024-04-10")
STEP = 12
"""A round in the middle: of the tests' use case, at most 60 in segments of 20."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A frozen training set, with nothing trained on it."""
    folder = tmp_path_factory.mktemp("interrupted")
    made = make_project(folder, dg.DagsterInstance.ephemeral(), 8931)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISITS_FAULTS", str(folder / "faults.json"))
        assert made.run(["visits", "shops", "visit", "shop_returns", "shop_sizes"], DATA).success
        assert made.run(["training_set"]).success
    return made


def _place(project: Project, folder: Path) -> Project:
    """The project with artifacts and registry of a test."""
    places = Places(
        **{
            **vars(Places.under(folder)),
            "lake": project.places.lake,
            "documents": project.places.documents,
        }
    )
    return Project(project.spec, places, project.instance, project.faults_file, project.functions)


@pytest.fixture
def here(project: Project, tmp_path: Path) -> Project:
    """The project, with artifacts and registry of the test."""
    return _place(project, tmp_path)


def _signals(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> Callable[[], None]:
    """This process gets a signal in the middle of each training, until the answer is called."""
    begin = boosting._Training.add_round

    def add_round(training: boosting._Training) -> None:
        begin(training)
        if training.done == STEP:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(boosting._Training, "add_round", add_round)
    return lambda: monkeypatch.setattr(boosting._Training, "add_round", begin)


def _checkpoints(project: Project) -> list[Path]:
    return list(Path(project.places.artifacts, FOLDER).rglob("*.checkpoint"))


def _numbers(result: dg.ExecuteInProcessResult, project: Project) -> dict[str, object]:
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert event.asset_key == project.key("model")
    return {name: value.value for name, value in metadata.items()}


def test_a_run_that_was_told_to_end_is_continued_by_the_next_to_the_same_model(
    project: Project, here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metadata says so, and its checkpoints are gone once the model is registered."""
    whole = _place(project, tmp_path / "whole")
    before = _numbers(whole.run(["model"]), whole)
    heal = _signals(monkeypatch, signal.SIGTERM)
    cut = here.run(["model"])
    assert not cut.success
    assert "InterruptedTrainingError" in str(cut.get_step_failure_events()[0].step_failure_data)
    assert [path.name for path in _checkpoints(here)] == ["round-000020.checkpoint"]
    heal()
    after = _numbers(here.run(["model"]), here)
    assert after["sha256"] == before["sha256"]
    assert (before["rounds_resumed_from"], before["interruptions"]) == (0, 0)
    assert (after["rounds_resumed_from"], after["interruptions"]) == (20, 1)
    assert after["segments"] == before["segments"] - 1  # type: ignore[operator]
    assert (after["device"], after["checkpoint_failures"]) == ("cpu", 0)
    assert _checkpoints(here) == _checkpoints(whole) == []


def test_a_model_that_could_not_be_registered_is_not_trained_again(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt finds it finished."""

    def away(*_: object) -> None:
        raise TransientError("MLflow is away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_assets.adapters.tracking.log_and_register", away)
        assert not here.run(["model"]).success
    assert _checkpoints(here)

    def trained(_: object) -> None:
        raise AssertionError("a round was trained")

    monkeypatch.setattr(boosting._Training, "add_round", trained)
    numbers = _numbers(here.run(["model"]), here)
    assert numbers["segments"] == 0
    assert numbers["rounds_resumed_from"] >= numbers["rounds"]  # type: ignore[operator]
    assert _checkpoints(here) == []


def test_a_training_by_hand_goes_on_after_ctrl_c_and_registers_as_the_asset_does(
    here: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evaluation judges it next, and says where everything is."""
    platform = Platform.at(here.places)
    heal = _signals(monkeypatch, signal.SIGINT)
    assert train_by_hand(here.spec, platform) == 130
    assert "Go on with: mlops train visits" in capsys.readouterr().out
    heal()
    assert train_by_hand(here.spec, platform) == 0
    said = capsys.readouterr().out
    assert "going on after round 20" in said
    assert "version 1, registered as challenger" in said
    challenger = Tracking(here.places.tracking, here.places.artifacts).challenger("visits")
    assert challenger is not None
    assert challenger.artifact in said
    record = documents.read(here.places.documents, "visits", "model", ModelRecord)
    assert record == challenger
    assert _checkpoints(here) == []
    assert _numbers(here.run(["model"]), here)["sha256"] == challenger.sha256


def test_a_training_by_hand_may_be_written_to_a_file_alone(
    here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registry and documents stay as they were; SIGTERM has the exit code that shells expect."""
    platform = Platform.at(here.places)
    out = tmp_path / "models" / "visits.ubj"
    heal = _signals(monkeypatch, signal.SIGTERM)
    assert train_by_hand(here.spec, platform, str(out)) == 143
    assert not out.exists()
    heal()
    assert train_by_hand(here.spec, platform, str(out)) == 0
    assert out.stat().st_size > 1000
    assert not Path(tmp_path, "mlflow").exists()
    assert _checkpoints(here) == []


def test_a_gpu_that_is_demanded_and_missing_fails_the_step_with_what_to_do(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read or trained."""
    monkeypatch.setenv("MLOPS_DEVICE", "cuda")
    monkeypatch.setattr("mlops_assets.adapters.devices.xgboost_sees_gpu", lambda: False)
    failed = here.run(["model"])
    assert not failed.success
    assert "XGBoost sees no GPU here" in str(failed.get_step_failure_events()[0].step_failure_data)
    assert not Path(here.places.artifacts).exists()


def test_without_a_training_set_a_training_by_hand_says_what_to_do(
    here: Project, tmp_path: Path
) -> None:
    """Instead of making one: that would be another step."""
    empty = Platform.at(Places.under(tmp_path / "empty"))
    with pytest.raises(PermanentError, match="materialize visits/training_set first"):
        train_by_hand(here.spec, empty)
    assert documents.read(here.places.documents, "visits", "training_set", TrainingSetRecord)
