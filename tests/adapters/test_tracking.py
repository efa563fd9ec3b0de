"""Tracking and registry, on MLflow with SQLite."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from training_support import (
    FEATURES,
    SAMPLING,
    train_on,
    training_frame,
    training_set_record,
    use_case_spec,
)

from mlops_assets.adapters import mlflow_client
from mlops_assets.adapters.mlflow_client import attempt, connect, prepare_process
from mlops_assets.adapters.tracking import (
    Tracking,
    dagster_mlflow_run,
    log_and_register,
    plain_run,
)
from mlops_assets.adapters.xgboost_engine import TrainedModel
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.inference import encode_frame, load_model, predict
from mlops_assets.core.records import ModelRecord
from mlops_assets.core.spec import ModelSpec

prepare_process()
import mlflow  # noqa: E402 - after the settings that it reads on import

USE_CASE = "late_flights"
FRAME = training_frame(1000)
MODEL_SPEC = ModelSpec(rounds=8, parameters=SAMPLING)
SPEC = use_case_spec(MODEL_SPEC)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it, once: its migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def tracking(empty_database: Path, tmp_path: Path) -> Tracking:
    """An empty registry of the test's own."""
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_database, path)
    return Tracking(f"sqlite:///{path}", str(tmp_path / "artifacts"))


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    """A small model."""
    return train_on(FRAME, MODEL_SPEC)


@pytest.fixture(scope="module")
def other_model() -> TrainedModel:
    """Another model of the same use case."""
    return train_on(FRAME, MODEL_SPEC.model_copy(update={"seed": 1}))


@pytest.fixture
def global_tracking_uri() -> Iterator[None]:
    """MLflow's process-wide settings, put back after the test."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")
    before = {name: os.environ.get(name) for name in names}
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before["MLFLOW_TRACKING_URI"])  # pyright: ignore[reportArgumentType]
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def register(tracking: Tracking, model: TrainedModel, digest: str = "a" * 64) -> ModelRecord:
    """A registration in an MLflow run of its own."""
    with plain_run(tracking, USE_CASE, "training") as run_id:
        return log_and_register(tracking, run_id, model, training_set_record(digest), SPEC, FRAME)


def aliases(tracking: Tracking) -> dict[str, int]:
    """Each alias of the use case and its version."""
    found = connect(tracking.tracking_uri).get_registered_model(USE_CASE).aliases
    return {alias: int(version) for alias, version in found.items()}


def test_a_new_model_is_a_version_with_its_file_and_the_alias_challenger(
    tracking: Tracking, model: TrainedModel
) -> None:
    """What an endpoint needs is there: the record, and the bytes that it names."""
    record = register(tracking, model)
    assert (record.version, record.unchanged, record.rounds) == (1, False, model.rounds)
    assert record.training_set == training_set_record()
    assert record.artifact.endswith(f"/{USE_CASE}/{model.sha256}.ubj")
    assert Path(record.artifact).read_bytes() == model.data
    assert aliases(tracking) == {"challenger": 1}
    assert tracking.challenger(USE_CASE) == tracking.version(USE_CASE, 1) == record
    assert tracking.champion(USE_CASE) is None
    tags = connect(tracking.tracking_uri).get_model_version(USE_CASE, "1").tags
    assert tags["sha256"] == model.sha256
    assert tags["training_set_digest"] == "a" * 64
    assert tags["artifact"] == record.artifact
    assert tags["rounds"] == str(model.rounds)


def test_the_same_bytes_again_are_the_same_version(
    tracking: Tracking, model: TrainedModel, other_model: TrainedModel
) -> None:
    """A training that changed nothing adds nothing, and its version is the challenger again."""
    first = register(tracking, model)
    register(tracking, other_model)
    again = register(tracking, model, digest="b" * 64)
    assert again == first.model_copy(
        update={"unchanged": True, "training_set": training_set_record("b" * 64)}
    )
    assert [record.version for record in tracking.versions(USE_CASE)] == [2, 1]
    assert aliases(tracking) == {"challenger": 1}


def test_the_same_bytes_as_the_champion_leave_no_challenger(
    tracking: Tracking, model: TrainedModel, other_model: TrainedModel
) -> None:
    """The newest training wants nothing new; the champion stays."""
    register(tracking, model)
    tracking.set_champion(USE_CASE, 1)
    register(tracking, other_model)
    assert register(tracking, model).unchanged
    assert aliases(tracking) == {"champion": 1}


def test_a_lost_or_cut_model_file_is_mended_by_the_next_registration(
    tracking: Tracking, model: TrainedModel
) -> None:
    """The version names the file: it has to be whole."""
    path = Path(register(tracking, model).artifact)
    path.write_bytes(model.data[:100])
    register(tracking, model)
    assert path.read_bytes() == model.data
    path.unlink()
    register(tracking, model)
    assert path.read_bytes() == model.data


def test_the_champion_moves_and_stops_being_the_challenger(
    tracking: Tracking, model: TrainedModel, other_model: TrainedModel
) -> None:
    """Moving it where it is changes nothing, and another challenger keeps waiting."""
    first, second = register(tracking, model), register(tracking, other_model)
    for _ in range(2):
        tracking.set_champion(USE_CASE, 1)
        assert tracking.champion(USE_CASE) == first
        assert tracking.challenger(USE_CASE) == second
    tracking.set_champion(USE_CASE, 2)
    assert aliases(tracking) == {"champion": 2}
    assert tracking.champion(USE_CASE) == second


def test_a_version_that_does_not_exist_cannot_be_champion(
    tracking: Tracking, model: TrainedModel
) -> None:
    """The champion stays what it was."""
    register(tracking, model)
    tracking.set_champion(USE_CASE, 1)
    with pytest.raises(PermanentError, match="late_flights has no version 7"):
        tracking.set_champion(USE_CASE, 7)
    assert aliases(tracking) == {"champion": 1}


def test_a_use_case_that_was_never_trained_has_no_champion_and_no_versions(
    tracking: Tracking,
) -> None:
    """The first run of a use case asks before it registers anything."""
    assert tracking.champion("unknown") is None
    assert tracking.versions("unknown") == []


def test_a_version_that_others_registered_is_left_out_but_cannot_serve(
    tracking: Tracking, model: TrainedModel
) -> None:
    """Without a record nobody knows its digest."""
    register(tracking, model)
    client = connect(tracking.tracking_uri)
    client.create_model_version(USE_CASE, "elsewhere")
    assert [record.version for record in tracking.versions(USE_CASE)] == [1]
    client.set_registered_model_alias(USE_CASE, "champion", "2")
    with pytest.raises(PermanentError, match="version 2 of late_flights was not registered by"):
        tracking.champion(USE_CASE)


@pytest.mark.usefixtures("global_tracking_uri")
def test_mlflows_pyfunc_gives_exactly_the_platforms_probabilities(
    tracking: Tracking, model: TrainedModel
) -> None:
    """Also for missing values and for categories that the model does not know."""
    register(tracking, model)
    rows = FRAME.select(FEATURES.keys()).vstack(
        pl.DataFrame(
            {
                "carrier": ["ZZ", None, "", "UA"],
                "delay": pl.Series([None, 1.0, float("nan"), 0.1], dtype=pl.Float32),
                "hour": pl.Series([1.0, None, 2.5, None], dtype=pl.Float32),
            }
        )
    )
    mlflow.set_tracking_uri(tracking.tracking_uri)
    pyfunc = mlflow.pyfunc.load_model(f"models:/{USE_CASE}/1")
    loaded = load_model(model.data, model.sha256)
    expected = predict(loaded, encode_frame(rows, loaded.signature))
    for frame in (rows, rows.cast({pl.Float32: pl.Float64})):
        answered = pyfunc.predict(frame.to_pandas())
        assert answered.dtype == np.float32
        np.testing.assert_array_equal(answered, expected)
    with pytest.raises(mlflow.MlflowException, match="missing inputs"):
        pyfunc.predict(rows.drop("hour").to_pandas())


def test_the_logged_model_holds_no_pickle(tracking: Tracking, model: TrainedModel) -> None:
    """Loading it runs no code but the platform's own."""
    register(tracking, model)
    folder = Path(connect(tracking.tracking_uri).get_model_version_download_uri(USE_CASE, "1"))
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    assert set(files) == {
        "MLmodel",
        "conda.yaml",
        "input_example.json",
        "model.sha256",
        "model.ubj",
        "python_env.yaml",
        "requirements.txt",
        "serving_input_example.json",
    }
    assert files["model.ubj"].read_bytes() == model.data
    description = files["MLmodel"].read_text()
    assert "loader_module: mlops_assets.adapters.pyfunc" in description
    assert "pickle" not in description + files["requirements.txt"].read_text()
    example = json.loads(files["input_example.json"].read_text(), parse_constant=pytest.fail)
    assert example["columns"] == list(FEATURES)


def test_a_run_says_how_the_model_came_about(
    tracking: Tracking, model: TrainedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Parameters, each round's losses, data, environment and commit; no environment variables."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("MLOPS_GIT_COMMIT", "abc123")
    record = register(tracking, model)
    client = connect(tracking.tracking_uri)
    run = client.get_run(record.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["subsample"] == "0.7"
    assert run.data.params["window.holdout_first"] == "2013-02-08"
    for name, losses in model.history.items():
        points = client.get_metric_history(run.info.run_id, name)
        assert [(point.step, point.value) for point in points] == list(enumerate(losses, 1))
    tags = run.data.tags
    assert tags["training_set_digest"] == "a" * 64
    assert tags["table_version.flights"] == "3"
    assert tags["git_commit"] == "abc123"
    assert tags["model_version"] == "1"
    inputs = {entry.dataset.name: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    assert inputs == {
        "late_flights.training_set": "a" * 36,
        "flights": "version 3",
        "weather": "version 4",
    }
    folder = Path(run.info.artifact_uri)
    documents = {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}
    assert documents["importances"] == model.importances
    assert documents["signature"]["inputs"][0]["categories"] == ["AA", "DL", "UA"]
    assert documents["environment"]["packages"]["xgboost"].startswith("3.2")
    assert documents["training_set"]["table_versions"] == {"flights": 3, "weather": 4}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hunter2" not in written


def test_logging_again_in_the_same_run_doubles_nothing(
    tracking: Tracking, model: TrainedModel
) -> None:
    """A step that is retried after it logged leaves one point per round."""
    with plain_run(tracking, USE_CASE, "training") as run_id:
        for _ in range(2):
            log_and_register(tracking, run_id, model, training_set_record(), SPEC, FRAME)
    client = connect(tracking.tracking_uri)
    assert len(client.get_metric_history(run_id, "validation_log_loss")) == 8
    assert len(client.get_run(run_id).inputs.dataset_inputs) == 3
    assert len(tracking.versions(USE_CASE)) == 1


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_that_breaks_says_how_it_ended(
    tracking: Tracking, error: type[BaseException], status: str
) -> None:
    """A crashed training does not look like one that still runs."""
    run_ids: list[str] = []

    def broken() -> None:
        with plain_run(tracking, USE_CASE, "training") as run_id:
            run_ids.append(run_id)
            raise error

    with pytest.raises(error):
        broken()
    assert connect(tracking.tracking_uri).get_run(run_ids[0]).info.status == status


def test_registrations_at_once_give_each_model_one_version(
    tracking: Tracking, model: TrainedModel, other_model: TrainedModel
) -> None:
    """Writers that meet wait for each other; the same bytes end as one version."""
    connect(tracking.tracking_uri)
    with ThreadPoolExecutor(4) as threads:
        models = [model, other_model, model, other_model]
        records = list(threads.map(lambda one: register(tracking, one), models))
    versions = tracking.versions(USE_CASE)
    assert {record.sha256 for record in versions} == {model.sha256, other_model.sha256}
    assert len(versions) == 2
    numbers = {record.sha256: record.version for record in versions}
    assert [record.version for record in records] == [numbers[one.sha256] for one in models]
    assert sum(not record.unchanged for record in records) == 2


def test_a_database_that_stays_locked_is_a_passing_failure(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again a bounded number of times, and works once the lock is gone."""
    monkeypatch.setattr(mlflow_client, "_PAUSES", (0.01, 0.01))
    engine = create_engine(tracking.tracking_uri, connect_args={"timeout": 0}, poolclass=NullPool)
    attempts: list[int] = []

    def write() -> None:
        attempts.append(1)
        with engine.begin() as connection:
            connection.execute(text("UPDATE experiments SET name = name"))

    holder = sqlite3.connect(tmp_path / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TransientError, match=r"mlflow\.db is busy or away \(write: .*locked"):
        attempt(tracking.tracking_uri, "write", write)
    assert len(attempts) == 3
    holder.close()
    attempt(tracking.tracking_uri, "write", write)


def test_a_server_that_is_away_is_a_passing_failure_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says where, and nobody reads the password in a log."""
    monkeypatch.setattr(mlflow_client, "_PAUSES", ())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Tracking("http://user:s3cr3t@127.0.0.1:1/", str(tmp_path))
    with pytest.raises(TransientError, match=r"http://user:\*\*\*@127\.0\.0\.1:1/") as raised:
        away.champion(USE_CASE)
    assert "s3cr3t" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Waiting does not help, and nothing of it is overwritten."""
    path = tmp_path / "mlflow.db"
    path.write_text("no database at all, " * 100)
    with pytest.raises(PermanentError, match=r"mlflow\.db refuses to open: .*not a database"):
        Tracking(f"sqlite:///{path}", str(tmp_path)).champion(USE_CASE)
    assert path.read_text().startswith("no database")


def test_a_database_in_memory_is_refused(tmp_path: Path) -> None:
    """The next process would not find the champion."""
    with pytest.raises(PermanentError, match="in memory"):
        Tracking("sqlite:///:memory:", str(tmp_path)).champion(USE_CASE)


def test_a_first_start_that_is_killed_or_raced_leaves_a_database_that_works(
    tmp_path: Path,
) -> None:
    """MLflow's migrations are neither atomic nor safe beside each other."""
    folder = tmp_path / "new"
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    command = [
        sys.executable,
        "-c",
        "import sys; from mlops_assets.adapters.mlflow_client import connect; connect(sys.argv[1])",
        uri,
    ]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    give_up = time.monotonic() + 60
    while not list(folder.glob(".mlflow.db.*/mlflow.db")) and time.monotonic() < give_up:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL
    assert not (folder / "mlflow.db").exists()
    # A lock that keeps two openers of the lock file apart does so for threads and processes.
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: Tracking(uri, "").champion(USE_CASE), range(2)))
    assert found == [None, None]
    assert Tracking(uri, "").versions(USE_CASE) == []


def materialize(
    tracking: Tracking, model: TrainedModel, failures: int, retries: int = 0
) -> tuple[dg.ExecuteInProcessResult, list[str]]:
    """A Dagster run whose asset registers ``model``, after ``failures`` that come later; and the
    MLflow run of each attempt.
    """
    run_ids: list[str] = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=retries))
    def trained(context: dg.AssetExecutionContext) -> None:
        with dagster_mlflow_run(tracking, context, USE_CASE) as run_id:
            run_ids.append(run_id)
            log_and_register(tracking, run_id, model, training_set_record(), SPEC, FRAME)
            if len(run_ids) <= failures:
                raise ValueError("broken after logging")

    return dg.materialize([trained], raise_on_error=False), run_ids


def test_the_mlflow_run_of_a_dagster_run_names_it_and_ends_with_the_step(
    tracking: Tracking, model: TrainedModel
) -> None:
    """From a version one finds the Dagster run, and the other way round."""
    result, run_ids = materialize(tracking, model, failures=0)
    assert result.success
    run = connect(tracking.tracking_uri).get_run(run_ids[0])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"{USE_CASE}-{result.run_id[:8]}"
    assert run.data.tags["dagster_run_id"] == result.run_id
    assert Path(run.info.artifact_uri).is_relative_to(tracking.artifacts_url)
    version = connect(tracking.tracking_uri).get_model_version(USE_CASE, "1")
    assert version.tags["dagster_run_id"] == result.run_id
    assert version.run_id == run_ids[0]


def test_a_retried_step_continues_the_mlflow_run(tracking: Tracking, model: TrainedModel) -> None:
    """What one attempt logged and the next one finished is one run, one version, one history."""
    result, run_ids = materialize(tracking, model, failures=1, retries=1)
    assert result.success
    assert len(run_ids) == 2
    assert len(set(run_ids)) == 1
    client = connect(tracking.tracking_uri)
    assert client.get_run(run_ids[0]).info.status == "FINISHED"
    assert len(client.get_metric_history(run_ids[0], "train_log_loss")) == 8
    assert len(tracking.versions(USE_CASE)) == 1


def test_a_step_that_fails_fails_its_mlflow_run(tracking: Tracking, model: TrainedModel) -> None:
    """The step's own error is what Dagster shows."""
    result, run_ids = materialize(tracking, model, failures=1)
    assert not result.success
    assert connect(tracking.tracking_uri).get_run(run_ids[0]).info.status == "FAILED"
    failure = result.failure_data_for_node("trained")
    assert failure is not None
    assert failure.error is not None
    assert failure.error.cause is not None
    assert "broken after logging" in failure.error.cause.message


@pytest.mark.usefixtures("global_tracking_uri")
def test_an_active_mlflow_run_of_the_process_is_not_disturbed(
    tracking: Tracking, model: TrainedModel, empty_database: Path, tmp_path: Path
) -> None:
    """dagster-mlflow would take it for its own, tag it and end it."""
    shutil.copy(empty_database, tmp_path / "mine.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mine.db'}")
    experiment = mlflow.set_experiment("mine")
    mine = mlflow.start_run()
    _, run_ids = materialize(tracking, model, failures=0)
    active = mlflow.active_run()
    assert active is not None
    assert active.info.run_id == mine.info.run_id != run_ids[0]
    assert mlflow.get_tracking_uri().endswith("mine.db")
    assert "dagster_run_id" not in mlflow.get_run(mine.info.run_id).data.tags
    assert mlflow.get_run(mine.info.run_id).info.status == "RUNNING"
    mlflow.end_run()
    with mlflow.start_run() as following:
        assert following.info.experiment_id == experiment.experiment_id
