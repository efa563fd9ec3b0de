"""A frozen training set in a lake, and workers that train on it together in threads."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from pathlib import Path
from typing import TypeVar

import polars as pl
import pyarrow.parquet as pq
from training_support import FEATURES, SAMPLING, training_frame

from mlops_assets.adapters.checkpoints import Place
from mlops_assets.adapters.lake import Lake
from mlops_assets.adapters.ray_engine import training_rows
from mlops_assets.adapters.ray_engine_rows import Rows
from mlops_assets.adapters.ray_engine_worker import Event, Task, train_together
from mlops_assets.adapters.xgboost_engine import TrainedModel
from mlops_assets.core.errors import PlatformError
from mlops_assets.core.spec import ModelSpec, RaySpec

_Made = TypeVar("_Made")

DIGEST = "d" * 64
TABLE = "late_flights/training_sets"


def frame_with_ids(rows: int = 3000) -> pl.DataFrame:
    """Rows to train on, in the order of their ids; a few have no label."""
    number = pl.int_range(pl.len())
    return training_frame(rows).with_columns(
        event_id=number.cast(pl.String).str.zfill(9),
        label=pl.when(number % 17 != 3).then(pl.col("label")).cast(pl.Int32),
    )


def frozen(folder: Path, frame: pl.DataFrame, group_rows: int | None = None) -> Rows:
    """``frame`` as a partition of a table in a lake below ``folder``, as a stage writes it.

    ``group_rows`` cuts the table's file into row groups of that many rows.
    """
    lake = Lake(str(folder / "lake"))
    lake.write(TABLE, {DIGEST: frame.to_arrow()}, ["event_id"])
    if group_rows is not None:
        (file,) = folder.rglob("*.parquet")
        pq.write_table(pq.read_table(file, partitioning=None), file, row_group_size=group_rows)
    return training_rows(lake, TABLE, DIGEST, label="label", part="part")


def place_in(folder: Path) -> Place:
    """Where a training keeps its checkpoints."""
    return Place(str(folder / "artifacts"), "late_flights", DIGEST)


def ray_spec(workers: int, **fields: object) -> ModelSpec:
    """A model with sampling that ``workers`` train in segments of five rounds."""
    return ModelSpec.model_validate(
        {
            "engine": "ray",
            "ray": RaySpec(workers=workers),
            "rounds": 30,
            "early_stopping_rounds": 8,
            "segment_rounds": 5,
            "parameters": SAMPLING,
            **fields,
        }
    )


def task_of(rows: Rows, spec: ModelSpec, place: Place | None = None) -> Task:
    """The training of ``rows`` as workers are told it."""
    parameters = {
        **spec.parameters,
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "seed": spec.seed,
    }
    return Task(
        rows=rows,
        features=FEATURES,
        output="late",
        spec=spec,
        parameters=parameters,
        place=place,
        versions={},
    )


def train_in_threads(task: Task, tell: Callable[[Event], bool] = lambda _: False) -> TrainedModel:
    """What the task's workers train together, each a thread with a communicator of its own."""
    from xgboost.collective import CommunicatorContext
    from xgboost.tracker import RabitTracker

    workers = task.spec.ray.workers
    tracker = RabitTracker(n_workers=workers, host_ip="127.0.0.1", sortby="task")
    tracker.start()

    def work(number: int) -> TrainedModel | None:
        with CommunicatorContext(**tracker.worker_args(), dmlc_task_id=f"{number:08}"):
            return train_together(task, tell)

    # One that fails leaves others waiting for it, which Ray would kill: they are daemons.
    working = [_started(work, number) for number in range(workers)]
    wait(working, return_when=FIRST_EXCEPTION)
    wait(working, timeout=2)
    errors = [each.exception() for each in working if each.done()]
    for error in sorted(filter(None, errors), key=lambda one: not isinstance(one, PlatformError)):
        raise error
    first, *others = (each.result() for each in working)
    assert first is not None
    assert others == [None] * (workers - 1)
    return first


def _started(
    work: Callable[[int], TrainedModel | None], number: int
) -> Future[TrainedModel | None]:
    future: Future[TrainedModel | None] = Future()

    def run() -> None:
        try:
            future.set_result(work(number))
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def processes_below(pid: int, name: str = "") -> list[int]:
    """The processes that descend from ``pid`` and have ``name`` in their command line."""
    children: dict[int, list[int]] = {}
    commands: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = folder.joinpath("cmdline").read_text()
        except (OSError, ValueError):
            continue  # it ended meanwhile
        children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        waiting += below
        found += [one for one in below if name in commands[one]]
    return found


def ends(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether ``condition`` comes to hold within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def unused_ports(count: int) -> list[int]:
    """TCP ports of loopback that nothing listened on a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
