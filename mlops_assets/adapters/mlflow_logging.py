"""What an MLflow run says about a training, in few calls: each is a round trip to the server."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mlops_assets.adapters.environment import environment, git_state, package_versions
from mlops_assets.adapters.mlflow_client import attempt, connect
from mlops_assets.adapters.pyfunc import write_data
from mlops_assets.core.records import Signature, TrainingSetRecord
from mlops_assets.core.spec import UseCaseSpec

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from mlflow.entities import Dataset, Metric, Run
    from mlflow.models import ModelSignature

    from mlops_assets.adapters.xgboost_engine import TrainedModel

_T = TypeVar("_T")

_METRICS_PER_CALL = 1000  # MLflow's limits
_PARAMS_PER_CALL = 100
_DIGEST_LENGTH = 36
_EXAMPLE_ROWS = 3
# What pyfunc.py imports.
_REQUIREMENTS = ("mlops-assets", "mlflow", "numpy", "pandas", "pydantic", "xgboost")


def log_training(
    uri: str,
    run: "Run",
    model: "TrainedModel",
    training_set: TrainingSetRecord,
    spec: UseCaseSpec,
) -> None:
    """Parameters, log-loss per round, importances, data and environment; again changes nothing."""
    from mlflow.entities import DatasetInput, InputTag, Param, RunTag

    client = connect(uri)
    run_id = run.info.run_id
    params = [Param(name, str(value)) for name, value in _params(training_set, spec).items()]
    tags = [RunTag(name, value) for name, value in _tags(model, training_set).items()]
    attempt(
        uri,
        "log tags and parameters",
        lambda: client.log_batch(run_id, params=params[:_PARAMS_PER_CALL], tags=tags),
    )
    for batch in _batches(params[_PARAMS_PER_CALL:], _PARAMS_PER_CALL):
        attempt(uri, "log parameters", lambda batch=batch: client.log_batch(run_id, params=batch))
    for batch in _batches(_metrics(run, model), _METRICS_PER_CALL):
        attempt(uri, "log metrics", lambda batch=batch: client.log_batch(run_id, metrics=batch))
    context = [InputTag("mlflow.data.context", "training")]
    inputs = [DatasetInput(dataset, context) for dataset in _datasets(training_set)]
    attempt(uri, "log the data sets", lambda: client.log_inputs(run_id, inputs))
    with tempfile.TemporaryDirectory() as folder:
        for name, document in {
            "environment": environment(),
            "importances": model.importances,
            "model_spec": spec.model.model_dump(mode="json"),
            "signature": model.signature.model_dump(mode="json"),
            "training_set": training_set.model_dump(mode="json"),
        }.items():
            Path(folder, f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
        attempt(uri, "log artifacts", lambda: client.log_artifacts(run_id, folder))


def log_model(
    uri: str, run: "Run", model: "TrainedModel", frame: "pl.DataFrame"
) -> tuple[str, str]:
    """The id and the location of ``model`` as MLflow's own pyfunc, without a pickle in it.

    ``frame`` has the inputs' columns; its first rows become the input example.
    """
    import mlflow.pyfunc
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client = connect(uri)
    run_id = run.info.run_id
    versions = package_versions()
    logged = attempt(
        uri,
        "create a model",
        lambda: client.create_logged_model(
            run.info.experiment_id,
            name="model",
            source_run_id=run_id,
            tags={"sha256": model.sha256},
        ),
    )
    with tempfile.TemporaryDirectory() as scratch:
        data, folder = Path(scratch, "data"), Path(scratch, "model")
        data.mkdir()
        write_data(data, model.data, model.sha256)
        # log_model() would use the process-wide tracking URI, and try the model in a process of
        # its own to find its requirements.
        mlflow.pyfunc.save_model(
            folder,
            loader_module="mlops_assets.adapters.pyfunc",
            data_path=str(data),
            signature=_mlflow_signature(model.signature),
            input_example=_example(frame, model.signature),
            pip_requirements=[
                f"{name}=={versions[name]}" for name in _REQUIREMENTS if name in versions
            ],
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            ),
        )
        attempt(
            uri,
            "upload a model",
            lambda: client.log_model_artifacts(logged.model_id, str(folder)),
        )
    attempt(uri, "finish a model", lambda: client.finalize_logged_model(logged.model_id, "READY"))
    output = LoggedModelOutput(logged.model_id, step=model.rounds)
    attempt(uri, "link a model", lambda: client.log_outputs(run_id, [output]))
    return logged.model_id, logged.artifact_location


def _params(training_set: TrainingSetRecord, spec: UseCaseSpec) -> dict[str, object]:
    return {
        "engine": spec.model.engine,
        "rounds": spec.model.rounds,
        "early_stopping_rounds": spec.model.early_stopping_rounds,
        "seed": spec.model.seed,
        **spec.model.parameters,
        "window.first": training_set.first,
        "window.validation_first": training_set.validation_first,
        "window.holdout_first": training_set.holdout_first,
        "window.end": training_set.end,
        "features": len(spec.feature_types),
    }


def _tags(model: "TrainedModel", training_set: TrainingSetRecord) -> dict[str, str]:
    git = git_state()
    tags = {
        "use_case": training_set.use_case,
        "sha256": model.sha256,
        # A GPU's trees are not a CPU's to the byte.
        "device": model.course.device,
        "training_set_digest": training_set.digest,
        **{f"table_version.{name}": str(n) for name, n in training_set.table_versions.items()},
    }
    if git.commit is not None:
        # MLflow's own tag, where its UI looks.
        tags |= {"git_commit": git.commit, "mlflow.source.git.commit": git.commit}
    if git.dirty is not None:
        tags["git_dirty"] = str(git.dirty).lower()
    return tags


def _metrics(run: "Run", model: "TrainedModel") -> list["Metric"]:
    from mlflow.entities import Metric

    # Times count from the run's start, not from now: a retried step then logs the same points,
    # which MLflow keeps once.
    start = run.info.start_time or 0
    points = [
        Metric(name, value, start + number, number)
        for name, values in model.history.items()
        for number, value in enumerate(values, start=1)
    ]
    return [*points, Metric("rounds", model.rounds, start, 0)]


def _datasets(training_set: TrainingSetRecord) -> Iterator["Dataset"]:
    from mlflow.entities import Dataset

    yield Dataset(
        f"{training_set.use_case}.training_set",
        training_set.digest[:_DIGEST_LENGTH],
        source_type="delta",
        source=json.dumps({"digest": training_set.digest}),
        profile=json.dumps({"rows": training_set.rows, "positives": training_set.positives}),
    )
    for name, version in training_set.table_versions.items():
        yield Dataset(
            name,
            f"version {version}",
            source_type="delta",
            source=json.dumps({"table": name, "version": version}),
        )


def _mlflow_signature(signature: Signature) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    # Every value may be null, which MLflow lets through. "Optional" is something else: a column
    # that may be absent, so that a misspelt name would pass for a missing value.
    # Doubles, because MLflow refuses pandas' float64 where a 32-bit float is declared.
    kinds = {"category": DataType.string, "float": DataType.double}
    return ModelSignature(
        inputs=Schema([ColSpec(kinds[field.type], field.name) for field in signature.inputs]),
        outputs=Schema([ColSpec(DataType.float, signature.output)]),
    )


def _example(frame: "pl.DataFrame", signature: Signature) -> "pd.DataFrame":
    """The first rows, without nulls: MLflow writes them as NaN, which is no JSON, and reads a
    column of nulls back as numbers.
    """
    import polars as pl

    rows = frame.head(_EXAMPLE_ROWS).select(
        pl.col(field.name).cast(pl.Float64).fill_null(0.0).fill_nan(0.0)
        if field.type == "float"
        else pl.col(field.name).cast(pl.String).fill_null((*field.categories, "")[0])
        for field in signature.inputs
    )
    return rows.to_pandas()


def _batches(items: Sequence[_T], size: int) -> Iterator[list[_T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
