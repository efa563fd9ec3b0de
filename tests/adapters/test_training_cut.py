"""Trainings that are cut and go on: after any round, by signals, beside others, without a store."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import xgboost as xgb
from cut_training import ROWS, SPECS, train_kept
from dagster import DagsterExecutionInterruptedError
from dagster._utils.interrupts import capture_interrupts, raise_interrupts_as
from training_support import FEATURES, training_frame

from mlops_assets.adapters.checkpoints import FOLDER
from mlops_assets.adapters.xgboost_engine import train
from mlops_assets.core import segments
from mlops_assets.core.errors import InterruptedTrainingError, TransientError
from mlops_assets.core.spec import ModelSpec

SAMPLED, STOPPED = "rows, columns and categories are sampled", "it stops early"


class StopError(Exception):
    """Ends a training as a crash does: nothing is saved on the way out."""


class Heard:
    """The rounds that were told."""

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def __call__(self, number: int, training: float, validation: float) -> None:
        """A round is done."""
        self.rounds.append(number)


def at(number: int, act: Callable[[], object]) -> Callable[[int, float, float], None]:
    """Does something when a round is done."""

    def on_round(done: int, training: float, validation: float) -> None:
        if done == number:
            act()

    return on_round


def told(number: signal.Signals) -> Callable[[], None]:
    """Sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def crash() -> None:
    """Ends the training."""
    raise StopError


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows count as so many that a training can be cut after each round."""
    monkeypatch.setattr(segments, "MOST_CELL_ROUNDS", 1)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("name", SPECS)
def test_told_to_end_after_any_round_it_goes_on_to_the_same_bytes(
    name: str, size: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A small training first ends its segment. Log-losses and early stopping too."""
    if size == "large":
        request.getfixturevalue("large")
    whole = train_kept(name, None)
    done = len(whole.history["validation_log_loss"])
    segment = SPECS[name].segment_rounds
    for told_at in (1, segment, 7, done - 1) if size == "large" else (2, done - 1):
        folder = tmp_path / str(told_at)
        cut = told_at if size == "large" else min(-(-told_at // segment) * segment, done)
        with pytest.raises(InterruptedTrainingError, match=f"after round {cut} of at most"):
            train_kept(name, folder, at(told_at, told(signal.SIGTERM)))
        heard = Heard()
        again = train_kept(name, folder, heard, threads=2)
        assert heard.rounds == list(range(cut + 1, done + 1))
        assert again.course.resumed_from == cut
        assert again.course.interruptions == 1
        assert again.data == whole.data
        assert again.history == whole.history
        assert again.importances == whole.importances


@pytest.mark.usefixtures("large")
def test_a_training_that_is_cut_after_each_round_is_still_the_same(tmp_path: Path) -> None:
    """Each round in another attempt."""
    whole = train_kept(STOPPED, None)
    done = len(whole.history["validation_log_loss"])
    assert whole.rounds < done < SPECS[STOPPED].rounds
    for cut in range(1, done + 1):
        with pytest.raises(InterruptedTrainingError):
            train_kept(STOPPED, tmp_path, at(cut, told(signal.SIGTERM)))
    heard = Heard()
    last = train_kept(STOPPED, tmp_path, heard)
    assert (last.data, last.history) == (whole.data, whole.history)
    assert (heard.rounds, last.course.interruptions) == ([], done)


def test_without_sampling_the_bytes_are_those_of_plain_xgboost() -> None:
    """Neither segments nor what is done before each round is part of a model."""
    spec = ModelSpec(rounds=30, early_stopping_rounds=30, segment_rounds=7)
    frame = training_frame(ROWS)
    found: dict[str, object] = {}

    def spy(parameters: object, matrices: dict[str, xgb.QuantileDMatrix], *_: object) -> None:
        found.update(matrices)
        raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_assets.adapters.xgboost_engine.boost_until_told", spy)
        with pytest.raises(StopError):
            train(frame, FEATURES, label="label", part="part", spec=spec, output="late")
    model = train(frame, FEATURES, label="label", part="part", spec=spec, output="late")
    losses: dict[str, dict[str, list[float]]] = {}
    plain = xgb.train(
        {"objective": "binary:logistic", "eval_metric": "logloss", "seed": spec.seed},
        found["train"],  # type: ignore[arg-type]
        spec.rounds,
        evals=[(found[part], part) for part in ("train", "validation")],  # type: ignore[misc]
        evals_result=losses,  # type: ignore[arg-type]
        early_stopping_rounds=spec.early_stopping_rounds,
        verbose_eval=False,
    )
    assert model.history["validation_log_loss"] == losses["validation"]["logloss"]
    assert model.history["train_log_loss"] == losses["train"]["logloss"]
    assert model.rounds == plain.best_iteration + 1
    trees = xgb.Booster(model_file=bytearray(model.data)).get_dump()
    assert trees == plain[: plain.best_iteration + 1].get_dump()


@pytest.mark.usefixtures("large")
def test_where_each_round_can_be_cut_the_length_of_segments_may_change_on_the_way(
    tmp_path: Path,
) -> None:
    """There it is how often a training saves, and nothing else."""
    whole = train_kept(SAMPLED, None)
    with pytest.raises(StopError):
        train_kept(SAMPLED, tmp_path, at(10, crash))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPECS, SAMPLED, SPECS[SAMPLED].model_copy(update={"segment_rounds": 9}))
        again = train_kept(SAMPLED, tmp_path)
    assert (again.data, again.course.resumed_from) == (whole.data, 8)


@pytest.mark.filterwarnings("ignore:.*GPU")
def test_where_a_booster_is_read_from_its_own_bytes_it_goes_on_too(tmp_path: Path) -> None:
    """As on a GPU, whose margins depend on where they were computed anew. XGBoost takes a CPU where
    there is none; its checkpoints are still not those of a training on CPUs.
    """
    whole = train_kept(SAMPLED, tmp_path / "whole", device="cuda")
    for told_at, resumed in ((3, 4), (8, 8)):
        folder = tmp_path / str(told_at)
        with pytest.raises(InterruptedTrainingError):
            train_kept(SAMPLED, folder, at(told_at, told(signal.SIGTERM)), device="cuda")
        again = train_kept(SAMPLED, folder, device="cuda")
        assert (again.data, again.course.resumed_from) == (whole.data, resumed)
        assert again.course.device == "cuda"
        assert train_kept(SAMPLED, folder).course.resumed_from == 0


@pytest.mark.usefixtures("large")
def test_ctrl_c_saves_and_then_does_what_it_does_elsewhere(tmp_path: Path) -> None:
    """A second one is not made to wait."""
    with pytest.raises(KeyboardInterrupt):
        train_kept(SAMPLED, tmp_path, at(6, told(signal.SIGINT)))
    assert train_kept(SAMPLED, tmp_path).course.resumed_from == 6

    def twice() -> None:
        told(signal.SIGINT)()
        told(signal.SIGINT)()

    with pytest.raises(KeyboardInterrupt):
        train_kept(SAMPLED, tmp_path / "other", at(6, twice))
    assert train_kept(SAMPLED, tmp_path / "other").course.resumed_from == 4


@pytest.mark.usefixtures("large")
def test_under_dagsters_own_handlers_it_saves_too_and_leaves_them_as_they_were(
    tmp_path: Path,
) -> None:
    """Dagster makes both signals exceptions, and sets both whenever it touches one."""

    def touched() -> None:
        with capture_interrupts():
            pass
        told(signal.SIGTERM)()

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    with raise_interrupts_as(DagsterExecutionInterruptedError):
        inside = {each: signal.getsignal(each) for each in before}
        with pytest.raises(InterruptedTrainingError):
            train_kept(SAMPLED, tmp_path, at(5, touched))
        with pytest.raises(DagsterExecutionInterruptedError):
            train_kept(SAMPLED, tmp_path, at(7, told(signal.SIGINT)))
        assert {each: signal.getsignal(each) for each in before} == inside
        assert train_kept(SAMPLED, tmp_path).course.resumed_from == 7
    signal.signal(signal.SIGTERM, before[signal.SIGTERM])


def test_in_another_thread_than_the_main_one_it_trains_without_handlers(tmp_path: Path) -> None:
    """Signals are the main thread's; checkpoints between segments are kept all the same."""
    found: list[object] = []

    def run() -> None:
        try:
            train_kept(SAMPLED, tmp_path, at(10, crash))
        except StopError as stopped:
            found.append(stopped)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(found) == 1
    assert train_kept(SAMPLED, tmp_path).course.resumed_from == 8


def test_two_trainings_of_the_same_at_once_end_with_the_same_bytes(tmp_path: Path) -> None:
    """They share a folder, and one goes on where the other saved."""
    whole = train_kept(SAMPLED, None)
    found: list[bytes] = []
    start = threading.Barrier(2, timeout=60)

    def run() -> None:
        model = train_kept(SAMPLED, tmp_path, at(3, start.wait))
        found.append(model.data)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [whole.data] * 2


def test_a_damaged_checkpoint_is_never_trained_on(tmp_path: Path) -> None:
    """The one before is; without one it begins anew. Each refusal is said with its reason."""
    whole = train_kept(SAMPLED, None)
    with pytest.raises(StopError):
        train_kept(SAMPLED, tmp_path, at(10, crash))
    newest, older = sorted((tmp_path / FOLDER).rglob("*.checkpoint"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-9])
    said: list[str] = []
    with pytest.raises(StopError):
        train_kept(SAMPLED, tmp_path, at(5, crash), note=said.append)
    assert said
    assert "checkpoint of 8 rounds is not used: its digest" in said[0]
    older.write_bytes(b"mlops-checkpoint-0\n" + older.read_bytes().partition(b"\n")[2])
    again = train_kept(SAMPLED, tmp_path)
    assert [reason.partition(":")[0] for reason in again.course.refused] == [
        "checkpoint of 8 rounds is not used",
        "checkpoint of 4 rounds is not used",
    ]
    assert (again.data, again.course.resumed_from) == (whole.data, 0)


def test_a_checkpoint_whose_model_xgboost_cannot_read_is_refused(tmp_path: Path) -> None:
    """A digest says that bytes are those that were written, not that they are a model."""
    whole = train_kept(SAMPLED, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_assets.adapters.boosting._Training.raw", lambda _: b"{L no model")
        with pytest.raises(StopError):
            train_kept(SAMPLED, tmp_path, at(5, crash))
    again = train_kept(SAMPLED, tmp_path)
    assert len(again.course.refused) == 1
    assert again.data == whole.data


def test_while_nothing_can_be_saved_the_training_goes_on(tmp_path: Path) -> None:
    """And saves as soon as it can: a disk was full, somebody made room."""
    whole = train_kept(SAMPLED, None)
    said: list[str] = []
    obstacle = tmp_path / FOLDER

    def fill() -> None:
        obstacle.write_text("no folder")

    def free() -> None:
        obstacle.unlink()

    def on_round(number: int, *_: float) -> None:
        {1: fill, 10: free}.get(number, lambda: None)()

    model = train_kept(SAMPLED, tmp_path, on_round, note=said.append)
    assert (model.data, model.course.failures, model.course.checkpoints) == (whole.data, 2, 8)
    assert [line.partition(" rounds")[0] for line in said] == [
        "the checkpoint of 4",
        "the checkpoint of 8",
    ]


def test_while_the_object_store_is_away_the_training_goes_on(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    """A training that begins then does not start anew: it is tried again."""
    whole = train_kept(SAMPLED, None)
    there = os.environ["AWS_ENDPOINT_URL"]
    away = f"http://127.0.0.1:{free_port}"

    def on_round(number: int, *_: float) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", away if 6 <= number <= 10 else there)
        if number == 20:
            crash()

    said: list[str] = []
    with pytest.raises(StopError):
        train_kept(SAMPLED, s3_bucket, on_round, note=said.append)
    assert len(said) == 1
    assert "8 rounds could not be saved" in said[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", away)
    with pytest.raises(TransientError, match="cannot list s3://"):
        train_kept(SAMPLED, s3_bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", there)
    again = train_kept(SAMPLED, s3_bucket)
    assert (again.data, again.course.resumed_from) == (whole.data, 16)
