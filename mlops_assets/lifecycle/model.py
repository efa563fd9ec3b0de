"""Models: trained on a frozen training set, registered as challenger."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.records import ModelRecord, TrainingSetRecord
from mlops_assets.core.spec import LABEL, UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed, table_name
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.training_set import PART, TRAINING_SETS, read_training_set

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.boosting import Course
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.tracking import Tracking
    from mlops_assets.adapters.xgboost_engine import TrainedModel

_EXAMPLE_ROWS = 3
"""That the registry gets of a training set that no single process reads."""

OnRound = Callable[[int, float, float], None]
"""Called after each boosting round with its number, training and validation log-loss."""


@dataclass(frozen=True)
class Trained:
    """A model and its registration."""

    model: "TrainedModel"
    record: ModelRecord


def train_and_register(
    spec: UseCaseSpec,
    training_set: TrainingSetRecord,
    lake: "Lake",
    tracking: "Tracking",
    mlflow_run_id: str,
    on_round: OnRound | None = None,
    note: Callable[[str], None] = print,
) -> Trained:
    """Train on ``training_set`` and register the model as challenger, in the given MLflow run.

    A training that was cut goes on from its last checkpoint, whoever began it; they are removed
    once the model is registered. ``note`` hears what is worth a warning. Raises
    InterruptedTrainingError when the process is told to end meanwhile.
    """
    from mlops_assets.adapters.checkpoints import discard
    from mlops_assets.adapters.tracking import log_and_register

    model, frame = train_on(spec, training_set, lake, tracking, on_round, note)
    record = log_and_register(tracking, mlflow_run_id, model, training_set, spec, frame)
    if model.course.url is not None:
        discard(model.course.url, note)
    return Trained(model, record)


def train_on(
    spec: UseCaseSpec,
    training_set: TrainingSetRecord,
    lake: "Lake",
    tracking: "Tracking",
    on_round: OnRound | None,
    note: Callable[[str], None],
) -> "tuple[TrainedModel, pl.DataFrame]":
    """The model of ``training_set``, and rows of it; registers nothing, keeps checkpoints.

    The rows are all of them, or the first few where Ray's workers have read them.
    """
    from mlops_assets.adapters.checkpoints import Place
    from mlops_assets.adapters.devices import device
    from mlops_assets.adapters.xgboost_engine import train

    place = Place(tracking.artifacts_url, spec.name, training_set.digest)
    if spec.model.engine == "ray":
        from mlops_assets.adapters import ray_engine

        rows = ray_engine.training_rows(
            lake, table_name(spec, TRAINING_SETS), training_set.digest, label=LABEL, part=PART
        )
        together = ray_engine.train(
            rows,
            spec.feature_types,
            spec=spec.model,
            output=spec.label.name,
            place=place,
            on_round=on_round,
            note=note,
        )
        # No process reads the whole set; MLflow's example needs a few rows.
        return together, ray_engine.first_rows(rows, spec.feature_types, _EXAMPLE_ROWS)
    # A GPU that is demanded and missing is said before the rows are read.
    here = device(note)
    frame = read_training_set(spec, lake, training_set)
    model = train(
        frame,
        spec.feature_types,
        label=LABEL,
        part=PART,
        spec=spec.model,
        output=spec.label.name,
        on_round=on_round,
        place=place,
        device=here,
        note=note,
    )
    return model, frame


def course_lines(course: "Course") -> dict[str, int | float | str]:
    """How a training went, as metadata: numbers are charted over the asset's materializations."""
    said: dict[str, int | float | str] = {
        "device": course.device,
        "rounds_resumed_from": course.resumed_from,
        "segments": course.segments,
        "interruptions": course.interruptions,
        "checkpoints": course.checkpoints,
        "checkpoint_seconds": course.seconds,
        "checkpoint_failures": course.failures,
    }
    if course.refused:
        said["checkpoints_refused"] = "\n".join(course.refused)
    return said


def model_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that trains and registers a challenger."""

    @dg.asset(
        **common(
            spec,
            "model",
            f"Model of {spec.label.name}, trained on the training set, logged to MLflow and "
            "registered as challenger.",
            [spec.model.engine, "mlflow"],
        ),
        **placed(spec, "model"),
        ins={"training_set": dg.AssetIn(asset_key(spec, "training_set"))},
    )
    def _model(
        context: dg.AssetExecutionContext, platform: Platform, training_set: TrainingSetRecord
    ) -> dg.MaterializeResult[ModelRecord]:
        from mlops_assets.adapters.figures import markdown_image
        from mlops_assets.adapters.plots import importance_plot, training_curve
        from mlops_assets.adapters.tracking import dagster_mlflow_run

        def report(number: int, training: float, validation: float) -> None:
            if number % spec.model.segment_rounds == 0:
                context.log.info(
                    f"round {number}: log-loss {training:.4f} training, {validation:.4f} validation"
                )

        tracking = platform.tracking()
        with dagster_mlflow_run(tracking, context, spec.name) as run_id:
            trained = train_and_register(
                spec,
                training_set,
                platform.lake(),
                tracking,
                run_id,
                report,
                context.log.warning,
            )
        model, record = trained.model, trained.record
        history = model.history
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(record.sha256),
            metadata={
                "version": record.version,
                "result": "unchanged: the same bytes were registered before"
                if record.unchanged
                else "registered as challenger",
                "sha256": record.sha256,
                "size_bytes": len(model.data),
                "rounds": record.rounds,
                "training_log_loss": history["train_log_loss"][record.rounds - 1],
                "validation_log_loss": history["validation_log_loss"][record.rounds - 1],
                "training_set": training_set.digest,
                "training_rows": training_set.rows,
                **course_lines(model.course),
                "mlflow_run_id": record.mlflow_run_id,
                "artifact": dg.MetadataValue.path(record.artifact),
                "onnx": record.onnx_note,
                "training_curve": dg.MetadataValue.md(
                    markdown_image(training_curve(history, record.rounds), "training curve")
                ),
                "importances": dg.MetadataValue.md(
                    markdown_image(importance_plot(model.importances), "importances")
                ),
            },
        )

    return _model
