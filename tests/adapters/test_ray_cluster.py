"""Training on real Ray clusters of this machine's processes, some of which are killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray_support import (
    ends,
    frame_with_ids,
    frozen,
    place_in,
    processes_below,
    ray_spec,
    task_of,
    train_in_threads,
    unused_ports,
)
from training_support import FEATURES

from mlops_assets.adapters import ray_engine
from mlops_assets.adapters.ray_engine import train
from mlops_assets.adapters.ray_engine_cluster import ADDRESS
from mlops_assets.adapters.ray_engine_rows import Rows
from mlops_assets.adapters.xgboost_engine import TrainedModel
from mlops_assets.core.errors import InterruptedTrainingError, TransientError
from mlops_assets.core.spec import RaySpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_SETTINGS = {
    # Losses are noticed sooner; a cluster of one machine is never told that a node will go.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # All on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_WORKER = "RayTrainWorker"
_STARTS_IN_SECONDS = 300
# Long enough that a training is under way when the test hears of its thirtieth round.
SPEC = ray_spec(2, rounds=400, early_stopping_rounds=400, segment_rounds=20)


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its address, and the process that all others descend from."""

    address: str
    pid: int


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.setattr(ray_engine, "_HEAR_SECONDS", 0.05)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster with two CPUs, of processes of this machine."""
    port, client_port = unused_ports(2)
    # Paths of sockets have to be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    command = [
        *(Path(sys.executable).with_name("ray"), "start", "--head", "--block"),
        *("--node-ip-address=127.0.0.1", f"--port={port}"),
        *(f"--ray-client-server-port={client_port}", "--include-dashboard=false"),
        *("--num-cpus=2", "--object-store-memory=80000000", f"--temp-dir={folder}"),
    ]
    log = folder / "start.log"
    with log.open("w") as output:
        head = subprocess.Popen(
            command, env={**os.environ, **_SETTINGS}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        assert ends(lambda: "runtime started" in log.read_text(), _STARTS_IN_SECONDS)
        yield Cluster(f"127.0.0.1:{port}", head.pid)
    finally:
        # Told to end, they would take half a minute.
        for pid in (*processes_below(head.pid), head.pid):
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """A frozen training set in several row groups."""
    return frozen(tmp_path_factory.mktemp("rows"), frame_with_ids(), 700)


@pytest.fixture(scope="module")
def uninterrupted(rows: Rows) -> TrainedModel:
    """What two workers make of it when nothing happens to them, without Ray."""
    return train_in_threads(task_of(rows, SPEC))


def once_after(number: int, act: Callable[[], object]) -> Callable[[int, float, float], None]:
    """Told of rounds, does something when it first hears of one that late."""
    waiting = [act]

    def on_round(done: int, _training: float, _validation: float) -> None:
        if done >= number and waiting:
            waiting.pop()()

    return on_round


def kill_a_worker_below(pid: int) -> None:
    """A machine of the cluster goes without a word, as far as its one worker can tell."""
    os.kill(max(processes_below(pid, _WORKER)), signal.SIGKILL)


def test_a_lost_worker_costs_time_and_changes_nothing(
    rows: Rows, uninterrupted: TrainedModel, tmp_path: Path
) -> None:
    """On a cluster of its own; afterwards no process of it is left."""
    notes: list[str] = []
    model = train(
        rows,
        FEATURES,
        spec=SPEC,
        output="late",
        place=place_in(tmp_path),
        on_round=once_after(30, lambda: kill_a_worker_below(os.getpid())),
        note=notes.append,
    )
    assert [note for note in notes if "lost a worker" in note] == notes
    assert len(notes) == 1
    assert model.course.interruptions == 1
    assert model.data == uninterrupted.data
    assert model.history == uninterrupted.history
    assert ends(lambda: not processes_below(os.getpid(), "ray"), 60)


def test_more_losses_than_are_allowed_end_the_step_and_the_next_attempt_goes_on(
    rows: Rows,
    uninterrupted: TrainedModel,
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster retries what may work the next time, and the rounds that are done are kept."""
    monkeypatch.setenv(ADDRESS, cluster.address)
    spec = SPEC.model_copy(update={"ray": RaySpec(workers=2, lost_workers=0)})
    with pytest.raises(TransientError, match=r"lost 1 times, 0 are allowed"):
        train(
            rows,
            FEATURES,
            spec=spec,
            output="late",
            place=place_in(tmp_path),
            on_round=once_after(30, lambda: kill_a_worker_below(cluster.pid)),
        )
    model = train_in_threads(task_of(rows, SPEC, place_in(tmp_path)))
    assert model.course.resumed_from >= 20
    assert model.data == uninterrupted.data


def test_told_to_end_it_saves_and_no_round_is_trained_again(
    rows: Rows,
    uninterrupted: TrainedModel,
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As engine xgboost; whoever had the signal before has it again."""
    monkeypatch.setenv(ADDRESS, cluster.address)
    heard: list[int] = []

    def end(number: int, _training: float, _validation: float) -> None:
        heard.append(number)
        if number == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedTrainingError, match=r"after round \d+ of at most 400"):
        train(rows, FEATURES, spec=SPEC, output="late", place=place_in(tmp_path), on_round=end)
    assert signal.getsignal(signal.SIGTERM) == before
    model = train_in_threads(task_of(rows, SPEC, place_in(tmp_path)))
    assert model.course.resumed_from == heard[-1] < 400
    assert model.data == uninterrupted.data


def test_a_process_that_is_killed_takes_its_workers_along(
    rows: Rows, uninterrupted: TrainedModel, tmp_path: Path, cluster: Cluster
) -> None:
    """Nobody trains on for a step that is gone, and the next attempt goes on."""
    code = (
        "from pathlib import Path\n"
        "from ray_support import *\n"
        "from mlops_assets.adapters.ray_engine import train\n"
        "from mlops_assets.adapters.ray_engine_rows import Rows\n"
        "from mlops_assets.core.spec import ModelSpec\n"
        f"spec = ModelSpec.model_validate_json({SPEC.model_dump_json()!r})\n"
        f"place = place_in(Path({str(tmp_path)!r}))\n"
        f"train({rows!r}, FEATURES, spec=spec, output='late', place=place)\n"
    )
    environment = {
        **os.environ,
        ADDRESS: cluster.address,
        "PYTHONPATH": os.pathsep.join(sys.path),
        # It has no time to remove its folder.
        "TMPDIR": str(tmp_path),
    }
    step = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        assert ends(lambda: any(tmp_path.rglob("*.checkpoint")), _STARTS_IN_SECONDS)
    finally:
        step.kill()
        step.wait(60)
    assert ends(lambda: not processes_below(cluster.pid, _WORKER), 60)
    model = train_in_threads(task_of(rows, SPEC, place_in(tmp_path)))
    assert 20 <= model.course.resumed_from < 400
    assert model.data == uninterrupted.data
