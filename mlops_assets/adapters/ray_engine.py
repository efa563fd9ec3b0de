"""Engine ``ray``: XGBoost on the workers of a Ray cluster, each with its share of the rows.

This process reads no rows: it asks for the training, hears of each round, and starts the training
again from its last checkpoint when workers are lost.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, cast

from mlops_assets.adapters import devices
from mlops_assets.adapters.interruption import noticed, pass_on
from mlops_assets.adapters.ray_engine_cluster import connected
from mlops_assets.adapters.ray_engine_rows import Rows
from mlops_assets.adapters.ray_engine_worker import Event, Note, Refusal, Task, train_together
from mlops_assets.core.errors import (
    InterruptedTrainingError,
    MissingPartitionsError,
    PermanentError,
    TransientError,
)
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.spec import FeatureType, ModelSpec

if TYPE_CHECKING:
    import polars as pl
    from ray.actor import ActorHandle
    from ray.train.xgboost import XGBoostTrainer

    from mlops_assets.adapters.boosting import OnRound
    from mlops_assets.adapters.checkpoints import Place
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.xgboost_engine import TrainedModel

_HEAR_SECONDS = 1.0
# Until training can be cut and is saved, with time left of the 90 s that a step's pod has to end.
_END_SECONDS = 60.0
# Ray waits a minute for room for the workers each time: new nodes come up in a few.
_PLACEMENTS = 10


def training_rows(lake: "Lake", table: str, partition: str, *, label: str, part: str) -> Rows:
    """Where the rows of one partition of a lake's table are, at the table's newest version.

    Raises MissingPartitionsError when the table is not there.
    """
    from mlops_assets.adapters.storage import join

    version = lake.version(table)
    if version < 0:
        raise MissingPartitionsError(
            f"table {table} is not in the lake at {lake.root}: materialize the training set"
        )
    return Rows(
        url=join(lake.root, table),
        storage_options=dict(lake.storage_options),
        version=version,
        partition=partition,
        label=label,
        part=part,
    )


def first_rows(rows: Rows, features: Mapping[str, FeatureType], count: int) -> "pl.DataFrame":
    """The first ``count`` rows, of which nothing but the features' columns is read."""
    from mlops_assets.adapters.ray_engine_rows import row_groups

    return next(row_groups(rows)[0].blocks(list(features), count)).head(count)


def train(
    rows: Rows,
    features: Mapping[str, FeatureType],
    *,
    spec: ModelSpec,
    output: str,
    place: "Place | None" = None,
    on_round: "OnRound | None" = None,
    note: Callable[[str], None] = lambda _: None,
) -> "TrainedModel":
    """The model that adapters.xgboost_engine.train makes of the same rows, trained on a cluster.

    One worker gives the same bytes as that engine on a CPU; more workers the same bytes as the same
    number of workers, wherever they run and however often they were lost.

    With a ``place``, checkpoints are kept there, and a training that was cut goes on from the last
    one; ``note`` hears of those that cannot be used or saved. Rounds since a checkpoint are trained
    again after a loss, and told to ``on_round`` again.

    Raises what that engine raises, PermanentError when there is no cluster or its image is
    another one, and TransientError when workers are lost more often than ``spec.ray`` allows, or
    the cluster has no room for them or for a client. On SIGTERM and SIGINT it trains on to where it
    can be cut, a few seconds at most, saves and raises InterruptedTrainingError, or for SIGINT what
    its handler raises.
    """
    from mlops_assets.adapters.environment import package_versions
    from mlops_assets.adapters.xgboost_engine import checked_parameters

    if os.environ.get(devices.ENV) == "cuda":
        raise PermanentError(
            f"{devices.ENV} is cuda, but engine ray trains on CPUs: give the model's step a "
            "compute profile without GPU, or choose engine xgboost"
        )
    inputs = tuple(FeatureField(name=name, type=kind) for name, kind in features.items())
    task = Task(
        rows=rows,
        features=dict(features),
        output=output,
        spec=spec,
        parameters=checked_parameters(spec, Signature(inputs=inputs, output=output)),
        place=place,
        versions=package_versions(),
    )
    with connected(spec.ray):
        return _until_trained(task, on_round, note)


def _until_trained(
    task: Task, on_round: "OnRound | None", note: Callable[[str], None]
) -> "TrainedModel":
    """What the workers made, after as many losses of workers as the task allows."""
    from ray.train import ControllerError, TrainingFailedError

    ray = task.spec.ray
    lost = 0
    while True:
        try:
            return _fitted(task, on_round, note)
        except ControllerError as error:
            raise TransientError(
                f"the Ray cluster could not run {ray.workers} workers of {ray.cpus_per_worker} "
                f"CPUs: {_last_line(error)}; make it larger, or lower model.ray.workers or "
                "model.ray.cpus_per_worker"
            ) from error
        except TrainingFailedError as error:
            lost += 1
            if lost > ray.lost_workers:
                raise TransientError(
                    f"workers of the Ray cluster were lost {lost} times, {ray.lost_workers} are "
                    f"allowed: {_last_line(error)}; the next attempt goes on from the last "
                    "checkpoint; raise model.ray.lost_workers where that is usual"
                ) from error
            note(f"the Ray cluster lost a worker, training starts again: {_last_line(error)}")


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


class _Line:
    """An actor between workers and this process: what they tell, and whether they are to end."""

    def __init__(self) -> None:
        self._told: list[Event] = []
        self._ending = False

    def tell(self, event: Event) -> bool:
        self._told.append(event)
        return self._ending

    def heard(self) -> list[Event]:
        told, self._told = self._told, []
        return told

    def end(self) -> None:
        self._ending = True


def _fitted(task: Task, on_round: "OnRound | None", note: Callable[[str], None]) -> "TrainedModel":
    """One go of all workers.

    Raises Ray's TrainingFailedError, PermanentError for a refusal, and InterruptedTrainingError
    when this process is told to end.
    """
    import ray

    line = cast("ActorHandle[_Line]", ray.remote(num_cpus=0)(_Line).remote())
    refusals: list[str] = []
    rounds = 0

    def hear() -> None:
        nonlocal rounds
        for event in _heard(line):
            if isinstance(event, Refusal):
                refusals.append(event.text)
            elif isinstance(event, Note):
                note(event.text)
            else:
                rounds = event.number
                if on_round is not None:
                    on_round(event.number, event.training, event.validation)

    with tempfile.TemporaryDirectory(prefix="mlops-ray-") as folder, noticed() as told:
        result = _in_thread(lambda: _trainer(task, line, folder).fit().return_value)
        while not (told.received or refusals or _is_done(result, _HEAR_SECONDS)):
            hear()
        if told.received is not None and rounds:
            line.end.remote()
            _is_done(result, _END_SECONDS)
        hear()
    if refusals:
        raise PermanentError(refusals[0])
    if told.received is not None:
        pass_on(told)
        raise InterruptedTrainingError(
            f"the process was told to end after round {rounds} of at most {task.spec.rounds}: run "
            "it again, and it goes on from the last checkpoint"
        )
    return cast("TrainedModel", result.result())


def _heard(line: "ActorHandle[_Line]") -> list[Event]:
    """What the workers told since the last time."""
    import ray
    from ray.exceptions import RayError

    try:
        return cast("list[Event]", ray.get(line.heard.remote(), timeout=_END_SECONDS))
    except RayError:
        return []  # it was on a machine that is lost, and with it a training that cannot tell


def _is_done(result: "Future[object]", seconds: float) -> bool:
    """Whether there is a result, or an error, within ``seconds``."""
    return bool(wait([result], timeout=seconds).done)


def _in_thread(call: Callable[[], object]) -> "Future[object]":
    """``call`` in a thread of its own: this one stays free to hear workers and signals."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - told to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, name="ray-train", daemon=True).start()
    return future


def _trainer(task: Task, line: "ActorHandle[_Line]", folder: str) -> "XGBoostTrainer":
    import ray.train
    from ray.train.xgboost import XGBoostTrainer

    return XGBoostTrainer(
        _work,
        train_loop_config={"task": task, "line": line},
        scaling_config=ray.train.ScalingConfig(
            num_workers=task.spec.ray.workers,
            # Ray gives a worker as many OpenMP threads as it has CPUs.
            resources_per_worker={"CPU": task.spec.ray.cpus_per_worker},
        ),
        run_config=ray.train.RunConfig(
            # Ray wants a place for checkpoints of its own; ours are in the object store.
            storage_path=folder,
            # Losses are counted here, where refusals are told apart from them.
            failure_config=ray.train.FailureConfig(
                max_failures=0,
                max_preemption_failures=0,
                controller_failure_limit=_PLACEMENTS,
            ),
            worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
        ),
    )


def _work(config: dict[str, object]) -> "TrainedModel | None":
    """What each worker runs, inside XGBoost's communicator; the first one returns the model."""
    import ray

    task, line = cast("Task", config["task"]), cast("ActorHandle[_Line]", config["line"])

    def tell(event: Event) -> bool:
        return bool(ray.get(line.tell.remote(event)))

    try:
        return train_together(task, tell)
    except PermanentError as error:
        tell(Refusal(str(error)))
        raise
