"""Experiment tracking and the model registry, in MLflow.

A use case is one experiment and one registered model of the same name. A version's tags hold its
whole record, written with the version in one transaction, so that reading one takes one call.
Aliases: ``champion`` serves, ``challenger`` is the last one registered that does not.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.adapters import mlflow_runs
from mlops_assets.adapters.mlflow_client import attempt, connect, is_server, shown
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import ModelRecord, TrainingSetRecord
from mlops_assets.core.spec import UseCaseSpec

if TYPE_CHECKING:
    import dagster as dg
    import polars as pl
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from mlops_assets.adapters.xgboost_engine import TrainedModel

CHAMPION = "champion"
CHALLENGER = "challenger"

_RECORD_TAG = "record"
_MOST_VERSIONS = 10_000  # in one answer of the registry
_ABSENT_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Tracking:
    """MLflow at ``tracking_uri``; model files and MLflow's artifacts go below ``artifacts_url``.

    Every method raises TransientError when MLflow is busy or away.
    """

    tracking_uri: str
    artifacts_url: str

    def champion(self, use_case: str) -> ModelRecord | None:
        """The version that serves, or None."""
        found = _aliased(self, use_case, CHAMPION)
        return None if found is None else _record(found)

    def challenger(self, use_case: str) -> ModelRecord | None:
        """The last version registered that does not serve, or None."""
        found = _aliased(self, use_case, CHALLENGER)
        return None if found is None else _record(found)

    def version(self, use_case: str, number: int) -> ModelRecord:
        """Version ``number``; PermanentError when there is none."""
        for found in _search(self, use_case, f"version_number = {number}"):
            return _record(found)
        raise PermanentError(
            f"{use_case} has no version {number} in MLflow at {shown(self.tracking_uri)}: "
            "choose one that is registered"
        )

    def versions(self, use_case: str) -> list[ModelRecord]:
        """All versions, newest first; without those that were registered by other means."""
        found = _search(self, use_case, f"tags.`{_RECORD_TAG}` != ''")
        return [_record(version) for version in found]

    def set_champion(self, use_case: str, version: int) -> None:
        """Makes ``version`` the champion and no longer challenger; again changes nothing.

        PermanentError when there is no such version.
        """
        self.version(use_case, version)
        _set_alias(self, use_case, CHAMPION, version)
        waiting = _aliased(self, use_case, CHALLENGER)
        if waiting is not None and int(waiting.version) == version:
            _drop_challenger(self, use_case)

    def set_challenger(self, use_case: str, version: int) -> None:
        """Makes ``version`` the challenger; again changes nothing."""
        _set_alias(self, use_case, CHALLENGER, version)

    def drop_challenger(self, use_case: str, version: int) -> None:
        """Makes ``version`` no longer the challenger; another one stays."""
        waiting = _aliased(self, use_case, CHALLENGER)
        if waiting is not None and int(waiting.version) == version:
            _drop_challenger(self, use_case)


@contextmanager
def dagster_mlflow_run(
    tracking: Tracking, context: "dg.AssetExecutionContext", experiment: str
) -> Iterator[str]:
    """The id of the MLflow run that belongs to ``context``'s Dagster run, for the block.

    A retried step continues the run of the attempt before. The run ends FINISHED, FAILED after an
    exception, KILLED after an interruption.
    """
    with mlflow_runs.dagster_mlflow_run(
        tracking.tracking_uri, tracking.artifacts_url, context, experiment
    ) as run_id:
        yield run_id


@contextmanager
def plain_run(tracking: Tracking, experiment: str, name: str) -> Iterator[str]:
    """The id of a new MLflow run called ``name``, for the block, outside of Dagster."""
    with mlflow_runs.plain_run(
        tracking.tracking_uri, tracking.artifacts_url, experiment, name
    ) as run_id:
        yield run_id


def log_and_register(
    tracking: Tracking,
    run_id: str,
    model: "TrainedModel",
    training_set: TrainingSetRecord,
    spec: UseCaseSpec,
    frame: "pl.DataFrame",
) -> ModelRecord:
    """Log a training to the MLflow run ``run_id`` and register its model as challenger.

    The model file goes to ``<artifacts>/<use case>/<sha256>.ubj``, where endpoints load it.
    ``frame`` holds the training rows, of which a few become MLflow's input example. The model's
    export to ONNX lies beside it, where the server asks for one (adapters.models).

    Bytes that are a version of the use case already get no second one: that version's record is
    returned with ``unchanged`` (and with ``training_set``, whose holdout may be another). It
    becomes the challenger, unless it is the champion: then there is no challenger any more, since
    the newest training wants nothing new.

    Raises TransientError when MLflow is busy or away; all of it may be repeated.
    """
    from mlops_assets.adapters.mlflow_logging import log_model, log_training
    from mlops_assets.adapters.models import keep_export
    from mlops_assets.adapters.storage import join

    uri = tracking.tracking_uri
    client = connect(uri)
    run = attempt(uri, f"read run {run_id}", lambda: client.get_run(run_id))
    log_training(uri, run, model, training_set, spec)
    registered = _registered(tracking, spec.name, model.sha256)
    if registered is None:
        record = ModelRecord(
            use_case=spec.name,
            version=0,  # the registry numbers it
            sha256=model.sha256,
            artifact=join(tracking.artifacts_url, spec.name, f"{model.sha256}.ubj"),
            mlflow_run_id=run_id,
            training_set=training_set,
            rounds=model.rounds,
            unchanged=False,
        )
        # The files first: a version never names one that isn't there.
        _keep_file(record.artifact, model)
        record = record.model_copy(update=keep_export(record.artifact, model, frame))
        record = _register(tracking, record, run, *log_model(uri, run, model, frame))
    else:
        record = registered.model_copy(update={"unchanged": True, "training_set": training_set})
        _keep_file(record.artifact, model)
    champion = _aliased(tracking, spec.name, CHAMPION)
    if champion is not None and int(champion.version) == record.version:
        _drop_challenger(tracking, spec.name)
    else:
        _set_alias(tracking, spec.name, CHALLENGER, record.version)
    attempt(
        uri, "tag the run", lambda: client.set_tag(run_id, "model_version", str(record.version))
    )
    return record


def _keep_file(url: str, model: "TrainedModel") -> None:
    from mlops_assets.adapters.storage import read_bytes, write_bytes

    # Also mends a file that someone lost or cut.
    if read_bytes(url) != model.data:
        write_bytes(url, model.data)


def _register(
    tracking: Tracking, record: ModelRecord, run: "Run", model_id: str, location: str
) -> ModelRecord:
    """``record`` with its version number, once it is in the registry."""
    uri, name = tracking.tracking_uri, record.use_case
    client = connect(uri)
    tags = {
        "sha256": record.sha256,
        "training_set_digest": record.training_set.digest,
        "artifact": record.artifact,
        "rounds": str(record.rounds),
        _RECORD_TAG: record.model_dump_json(exclude={"version", "unchanged"}),
    }
    if dagster_run_id := run.data.tags.get(mlflow_runs.DAGSTER_RUN_TAG):
        tags[mlflow_runs.DAGSTER_RUN_TAG] = dagster_run_id

    def create() -> "ModelVersion":
        if not client.search_registered_models(f"name = '{name}'", max_results=1):
            client.create_registered_model(name)
        return client.create_model_version(
            name,
            # A server resolves the model's id itself; the client of a database would look for it
            # at the process-wide tracking URI, which may be another's.
            source=f"models:/{model_id}" if is_server(uri) else location,
            run_id=record.mlflow_run_id,
            tags=tags,
            model_id=model_id,
            await_creation_for=0,
        )

    created = attempt(uri, f"register a version of {name}", create)
    # Of two registrations of the same bytes at once, the lower version stays.
    first = _registered(tracking, name, record.sha256)
    if first is not None and first.version < int(created.version):
        attempt(
            uri,
            f"drop the second version {created.version} of the same bytes",
            lambda: client.delete_model_version(name, created.version),
        )
        return first.model_copy(update={"unchanged": True, "training_set": record.training_set})
    return record.model_copy(update={"version": int(created.version)})


def _registered(tracking: Tracking, use_case: str, sha256: str) -> ModelRecord | None:
    """The first version with these bytes."""
    found = _search(tracking, use_case, f"tags.sha256 = '{sha256}'")
    return _record(found[-1]) if found else None


def _search(tracking: Tracking, use_case: str, condition: str) -> "list[ModelVersion]":
    """The versions that meet ``condition``, newest first, in one call."""
    uri = tracking.tracking_uri
    client = connect(uri)
    return list(
        attempt(
            uri,
            f"search the versions of {use_case}",
            lambda: client.search_model_versions(
                f"name = '{use_case}' and {condition}",
                max_results=_MOST_VERSIONS,
                order_by=["version_number DESC"],
            ),
        )
    )


def _aliased(tracking: Tracking, use_case: str, alias: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    client = connect(tracking.tracking_uri)

    def find() -> "ModelVersion | None":
        try:
            return client.get_model_version_by_alias(use_case, alias)
        except MlflowException as error:
            if error.error_code in _ABSENT_CODES:
                return None
            raise

    return attempt(tracking.tracking_uri, f"find the {alias} of {use_case}", find)


def _set_alias(tracking: Tracking, use_case: str, alias: str, version: int) -> None:
    client = connect(tracking.tracking_uri)
    attempt(
        tracking.tracking_uri,
        f"make version {version} the {alias} of {use_case}",
        lambda: client.set_registered_model_alias(use_case, alias, str(version)),
    )


def _drop_challenger(tracking: Tracking, use_case: str) -> None:
    client = connect(tracking.tracking_uri)
    attempt(
        tracking.tracking_uri,
        f"drop the challenger of {use_case}",
        lambda: client.delete_registered_model_alias(use_case, CHALLENGER),
    )


def _record(version: "ModelVersion") -> ModelRecord:
    document = version.tags.get(_RECORD_TAG)
    if not document:
        raise PermanentError(
            f"version {version.version} of {version.name} was not registered by this platform: it "
            "has no record; move its alias to a version that has one"
        )
    try:
        return ModelRecord.model_validate(
            json.loads(document) | {"version": int(version.version), "unchanged": False}
        )
    except ValueError as error:
        raise PermanentError(
            f"the record of version {version.version} of {version.name} cannot be read: {error}; "
            "it was changed, or written by another version of the platform: train again"
        ) from error
