"""What one of several workers does to train a model together with the others.

All workers run :func:`train_together` inside XGBoost's communicator; it knows nothing of Ray. They
do the same in the same order, since each waits for what the others contribute.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeVar, cast

from mlops_assets.adapters.ray_engine_rows import (
    GroupSummary,
    Rows,
    quantised,
    read_share,
    row_groups,
    share_of,
    summarise,
)
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import Signature
from mlops_assets.core.segments import PARTS, Plan
from mlops_assets.core.spec import FeatureType, ModelSpec

if TYPE_CHECKING:
    import xgboost

    from mlops_assets.adapters.checkpoints import Keeper, Place
    from mlops_assets.adapters.xgboost_engine import TrainedModel

Told = TypeVar("Told")


@dataclass(frozen=True)
class Task:
    """A training, as every worker is told it."""

    rows: Rows
    features: Mapping[str, FeatureType]
    output: str
    spec: ModelSpec
    parameters: Mapping[str, object]
    place: "Place | None"
    """Where checkpoints are kept, if anywhere."""
    versions: Mapping[str, str]
    """Versions of the packages where the training was asked for."""


@dataclass(frozen=True)
class Round:
    """A round is done, by all workers: its number from 1, and log-losses over all rows."""

    number: int
    training: float
    validation: float


@dataclass(frozen=True)
class Note:
    """What somebody should know of a checkpoint."""

    text: str


@dataclass(frozen=True)
class Refusal:
    """Why no worker will ever finish: rows, parameters or packages have to change."""

    text: str


Event = Round | Note | Refusal


def check_versions(task: Task) -> None:
    """Raises PermanentError when a worker's packages are others than those that the task names."""
    from mlops_assets.adapters.environment import package_versions

    here = package_versions()
    differing = [
        f"{name} {here.get(name)} instead of {version}"
        for name, version in task.versions.items()
        if here.get(name) != version
    ]
    if differing:
        raise PermanentError(
            f"the Ray cluster's image has {', '.join(differing)}: a model would not be the same "
            "there; run the cluster with the image of the code location"
        )


def gathered(mine: Told) -> list[Told]:
    """What each worker told, in the order of the workers; all of them have to call it."""
    from xgboost import collective

    return [collective.broadcast(mine, worker) for worker in range(collective.get_world_size())]


def summaries_of_all(task: Task) -> list[GroupSummary]:
    """The summary of each row group, in order, of which every worker reads its part."""
    from xgboost import collective

    from mlops_assets.adapters.xgboost_engine import MAX_CATEGORIES

    worker, workers = collective.get_rank(), collective.get_world_size()
    categories = [name for name, kind in task.features.items() if kind == "category"]
    groups = row_groups(task.rows)
    mine = [
        summarise(task.rows, group, categories, MAX_CATEGORIES) for group in groups[worker::workers]
    ]
    told = gathered(mine)
    return [told[number % workers][number // workers] for number in range(len(groups))]


def signature_of(task: Task, summaries: Sequence[GroupSummary], workers: int) -> Signature:
    """The model's inputs, with the categories of the train part.

    Raises PermanentError for a part without rows for each worker or with one class, and for too
    many categories; SchemaError for labels that are not 0 and 1.
    """
    import polars as pl

    from mlops_assets.adapters.xgboost_engine import check_labels, field_of

    for part in PARTS:
        labels = set(chain.from_iterable(one["labels"][part] for one in summaries))
        check_labels(pl.Series(task.rows.label, sorted(labels), pl.Float64), part)
        total = sum(one["rows"][part] for one in summaries)
        if total < workers:
            raise PermanentError(
                f"the {part} part of the training set has {total} rows for {workers} workers: "
                "lower model.ray.workers"
            )

    def column(name: str, kind: FeatureType) -> pl.Series:
        values = (one["categories"][name] for one in summaries if kind == "category")
        return pl.Series(name, sorted(set(chain.from_iterable(values))), pl.String)

    return Signature(
        inputs=tuple(field_of(column(name, kind), kind) for name, kind in task.features.items()),
        output=task.output,
    )


def matrices(
    task: Task, summaries: Sequence[GroupSummary], signature: Signature
) -> "dict[str, xgboost.QuantileDMatrix]":
    """This worker's share of each part, quantised by the quantiles of all workers' rows."""
    from xgboost import collective

    worker, workers = collective.get_rank(), collective.get_world_size()
    found: dict[str, xgboost.QuantileDMatrix] = {}
    for part in PARTS:
        total = sum(one["rows"][part] for one in summaries)
        share = share_of(part, total, worker, workers)
        found[part] = quantised(
            lambda share=share: read_share(task.rows, summaries, share, list(task.features)),
            signature,
            task.rows.label,
            where=f"{part} part, share {worker + 1} of {workers}",
            max_bin=cast("int | None", task.parameters.get("max_bin")),
            reference=found.get("train"),
        )
    return found


def train_together(
    task: Task, tell: Callable[[Event], bool] = lambda _: False
) -> "TrainedModel | None":
    """Trains with the other workers; the first one keeps checkpoints and returns the model.

    ``tell`` hears of each round of the first worker, and of notes; it answers whether the training
    is to end. Where it can be cut next, InterruptedTrainingError is raised then, with a ``place``
    saved. Raises PermanentError where
    a row, a label or the worker's packages are not as they have to be.
    """
    import numpy as np
    from xgboost import collective

    from mlops_assets.adapters.boosting import boost, course_of, plan_of
    from mlops_assets.adapters.interruption import Interruption
    from mlops_assets.adapters.xgboost_engine import trained_model

    check_versions(task)
    first, workers = collective.get_rank() == 0, collective.get_world_size()
    summaries = summaries_of_all(task)
    signature = signature_of(task, summaries, workers)
    rows = sum(one["rows"]["train"] for one in summaries)
    plan = plan_of(task.spec, rows, len(task.features))
    keeper = task.place and _keeper(task, task.place, signature, plan, tell)
    told = Interruption()

    def on_round(number: int, training: float, validation: float) -> None:
        ending = first and tell(Round(number, training, validation))
        # All of them end after the same round: one that trained on would wait for the others.
        if collective.allreduce(np.array([ending], np.int32), collective.Op.MAX)[0]:
            told.received = signal.SIGTERM

    boosted = boost(
        dict(task.parameters) | {"device": "cpu"},
        matrices(task, summaries, signature),
        plan,
        keeper=keeper,
        interruption=told,
        on_round=on_round,
        saves=first,
    )
    if not first:
        return None
    return trained_model(boosted, signature, course_of(boosted, plan, "cpu", keeper))


def _keeper(
    task: Task, place: "Place", signature: Signature, plan: Plan, tell: Callable[[Event], bool]
) -> "Keeper":
    """The keeper of the checkpoints that the first worker finds, for every worker.

    The number of workers is one of the parameters that name a training, but for a single one,
    which trains what engine xgboost does.
    """
    from xgboost import collective

    from mlops_assets.adapters.checkpoints import Keeper, keeper_of
    from mlops_assets.core.checkpoints import Checkpoint, dump_checkpoint, load_checkpoint

    first, workers = collective.get_rank() == 0, collective.get_world_size()

    class Shared(Keeper):
        def found(self) -> Iterator[Checkpoint]:
            mine = [dump_checkpoint(one) for one in super().found()] if first else []
            for data in collective.broadcast(mine, 0):
                yield load_checkpoint(data, self.key)

    def note(text: str) -> None:
        if first:
            tell(Note(text))

    key = keeper_of(
        place,
        signature=signature,
        parameters=dict(task.parameters) | ({"workers": workers} if workers > 1 else {}),
        plan=plan,
        device="cpu",
        note=note,
    ).key
    return Shared(place, key, note)
