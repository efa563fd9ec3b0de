"""``mlops train``: the step of the asset `model` by hand, on the terminal."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.core.errors import InterruptedTrainingError, PermanentError
from mlops_assets.core.records import TrainingSetRecord
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.model import train_and_register, train_on
from mlops_assets.lifecycle.platform import Platform, platform_at

if TYPE_CHECKING:
    from rich.console import Console

    from mlops_assets.adapters.xgboost_engine import TrainedModel

_BY_SIGNAL = 128
"""What a shell adds to the number of the signal that ended a command."""


def run_train(use_case: str, *, out: str | None = None) -> int:
    """Train ``use_case`` on its newest training set; returns the exit code.

    The model is registered as challenger, as the asset does it, and is what the asset `evaluation`
    judges next. With ``out`` it is written to that file and nothing else changes. What was stopped
    goes on from its last checkpoint when it is run again, here or by Dagster, on any machine that
    sees the same artifacts. MLOPS_ENV says where things are. Raises PlatformError with what is
    wrong.
    """
    from mlops_assets.definitions import environment
    from mlops_assets.demo.deployment import spec_of

    spec = spec_of(use_case)
    places = environment(os.environ.get("MLOPS_ENV", "local")).places()
    return train_by_hand(spec, platform_at(places), out)


def train_by_hand(spec: UseCaseSpec, platform: Platform, out: str | None = None) -> int:
    """As :func:`run_train`, of one use case on one platform."""
    from rich.console import Console

    from mlops_assets.adapters import documents

    console = Console()
    training_set = documents.read(
        platform.documents_url, spec.name, "training_set", TrainingSetRecord
    )
    if training_set is None:
        raise PermanentError(
            f"{spec.name} has no training set yet: materialize {spec.name}/training_set first"
        )
    console.print(
        f"{spec.name}: {training_set.rows:,} rows of {training_set.first} to before "
        f"{training_set.end} (training set {training_set.digest[:12]})"
    )
    try:
        if out is None:
            _registered(console, spec, platform, training_set)
        else:
            _written(console, spec, platform, training_set, Path(out))
    except InterruptedTrainingError as error:
        console.print(f"{spec.name}: {error}")
        return _BY_SIGNAL + signal.SIGTERM
    except KeyboardInterrupt:
        console.print(f"\nStopped. Go on with: mlops train {spec.name}", soft_wrap=True)
        return _BY_SIGNAL + signal.SIGINT
    return 0


def _registered(
    console: "Console", spec: UseCaseSpec, platform: Platform, training_set: TrainingSetRecord
) -> None:
    from mlops_assets.adapters import documents
    from mlops_assets.adapters.tracking import plain_run

    tracking = platform.tracking()
    with (
        plain_run(tracking, spec.name, f"{spec.name}-by-hand") as run_id,
        _Bar(console, spec) as bar,
    ):
        trained = train_and_register(
            spec, training_set, platform.lake(), tracking, run_id, bar.show, bar.note
        )
    record = trained.record
    # As Dagster keeps the asset's record, for the evaluation.
    documents.write(platform.documents_url, spec.name, "model", record)
    _say(console, trained.model)
    console.print(
        f"version {record.version}, "
        + ("which has these bytes already" if record.unchanged else "registered as challenger")
        + f": {record.artifact}\nMLflow run {record.mlflow_run_id}\n"
        f"Next: materialize {spec.name}/evaluation",
        soft_wrap=True,
    )


def _written(
    console: "Console",
    spec: UseCaseSpec,
    platform: Platform,
    training_set: TrainingSetRecord,
    out: Path,
) -> None:
    from mlops_assets.adapters.checkpoints import discard
    from mlops_assets.adapters.storage import make_folder, write_bytes

    make_folder(out.absolute().parent)  # where nothing can be written, nothing is trained
    with _Bar(console, spec) as bar:
        model, _ = train_on(
            spec, training_set, platform.lake(), platform.tracking(), bar.show, bar.note
        )
    write_bytes(str(out.absolute()), model.data)
    if model.course.url is not None:
        discard(model.course.url, bar.note)
    _say(console, model)
    console.print(f"written to {out.absolute()}, not registered", soft_wrap=True)


def _say(console: "Console", model: "TrainedModel") -> None:
    losses = model.history["validation_log_loss"]
    course = model.course
    begun = f", {course.resumed_from} of them before" if course.resumed_from else ""
    console.print(
        f"{model.rounds} rounds kept of {len(losses)}{begun}, on {course.device}; log-loss "
        f"{losses[model.rounds - 1]:.4f} on the validation part\nsha256 {model.sha256}",
        soft_wrap=True,
    )


class _Bar:
    """A progress bar of the rounds, with the losses beside it and warnings above it."""

    def __init__(self, console: "Console", spec: UseCaseSpec) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("rounds"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self._task = self._progress.add_task("reading the rows", total=spec.model.rounds)
        self._first: int | None = None

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, number: int, training: float, validation: float) -> None:
        """A round is done."""
        if self._first is None:
            self._first = number
            if number > 1:
                self._progress.console.print(
                    f"going on after round {number - 1}, from its checkpoint"
                )
        self._progress.update(
            self._task,
            completed=number,
            description=f"log-loss {training:.4f} training, {validation:.4f} validation",
        )

    def note(self, text: str) -> None:
        """Something to know."""
        self._progress.console.print(text, style="yellow", soft_wrap=True)
