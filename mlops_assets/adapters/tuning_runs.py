"""MLflow's side of a study: one run for the study, and one below it for each trial.

They are tagged with the Dagster run under a name of their own: by MLflow's ``dagster_run_id``
dagster-mlflow finds the run that a training goes on with, and would find a trial's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.adapters.mlflow_client import attempt, connect
from mlops_assets.adapters.mlflow_runs import ensure_experiment

if TYPE_CHECKING:
    from mlops_assets.adapters.tracking import Tracking
    from mlops_assets.core.tuning_spec import Value

STUDY_TAG = "tuning.study"
TRIAL_TAG = "tuning.trial"
DAGSTER_TAG = "tuning.dagster_run_id"
STATE_TAG = "tuning.state"
REASON_TAG = "tuning.reason"

_METRICS_PER_CALL = 1000  # MLflow's limit


@dataclass(frozen=True)
class StudyRuns:
    """The MLflow runs of one study, for one process that goes on with it."""

    tracking: "Tracking"
    use_case: str
    study: str
    run_id: str
    dagster_run_id: str

    @contextmanager
    def trial(self, number: int, parameters: "Mapping[str, Value]") -> Iterator[str]:
        """The id of a trial's run, which ends with the block: FINISHED, FAILED after an exception,
        KILLED after an interruption.
        """
        from mlflow.entities import Param

        uri = self.tracking.tracking_uri
        client = connect(uri)
        experiment = ensure_experiment(uri, self.tracking.artifacts_url, self.use_case)
        tags = {
            "mlflow.parentRunId": self.run_id,
            **_tags(self.study, self.dagster_run_id),
            TRIAL_TAG: str(number),
        }
        run = attempt(
            uri,
            "begin a trial's run",
            lambda: client.create_run(experiment, tags=tags, run_name=f"trial {number}"),
        )
        run_id = run.info.run_id
        try:
            params = [Param(name, str(value)) for name, value in parameters.items()]
            attempt(uri, "log parameters", lambda: client.log_batch(run_id, params=params))
            yield run_id
        except BaseException as error:
            end_run(self.tracking, run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        end_run(self.tracking, run_id, "FINISHED")

    def log(
        self,
        run_id: str,
        losses: Mapping[str, Sequence[float]],
        numbers: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        """A run's ``losses`` by round, ``numbers`` and ``tags``; again changes nothing."""
        from mlflow.entities import Metric, RunTag

        uri = self.tracking.tracking_uri
        client = connect(uri)
        run = attempt(uri, "read a run", lambda: client.get_run(run_id))
        # Counted from the run's start, so that what is logged again is the same point.
        start = run.info.start_time or 0
        metrics = [
            *(Metric(name, value, start, 0) for name, value in numbers.items()),
            *(
                Metric(name, value, start + n, n)
                for name, values in losses.items()
                for n, value in enumerate(values, start=1)
            ),
        ]
        told = [RunTag(name, value) for name, value in tags.items()]
        for first in range(0, len(metrics), _METRICS_PER_CALL):
            batch = metrics[first : first + _METRICS_PER_CALL]
            attempt(
                uri,
                "log metrics",
                lambda batch=batch: client.log_batch(run_id, metrics=batch, tags=told),
            )


@contextmanager
def study_runs(
    tracking: "Tracking", use_case: str, study: str, known: str | None, dagster_run_id: str
) -> Iterator[StudyRuns]:
    """The study's MLflow run for the block: the one that is ``known``, else a new one.

    It ends with the block, as a trial's does.
    """
    from mlflow.exceptions import MlflowException

    uri = tracking.tracking_uri
    client = connect(uri)
    experiment = ensure_experiment(uri, tracking.artifacts_url, use_case)
    tags = _tags(study, dagster_run_id)
    run_id = None
    if known is not None:
        try:
            found = client.get_run(known)
        except MlflowException:
            found = None  # Somebody has deleted it.
        if found is not None and found.info.lifecycle_stage == "active":
            run_id = known
            attempt(uri, "go on with a run", lambda: client.update_run(known, status="RUNNING"))
    if run_id is None:
        name = f"tuning {study}"
        run = attempt(
            uri, "begin a run", lambda: client.create_run(experiment, tags=tags, run_name=name)
        )
        run_id = run.info.run_id
    try:
        yield StudyRuns(tracking, use_case, study, run_id, dagster_run_id)
    except BaseException as error:
        end_run(tracking, run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    end_run(tracking, run_id, "FINISHED")


def end_run(tracking: "Tracking", run_id: str, status: str) -> None:
    """End the run; one that was deleted is left alone."""
    from mlops_assets.core.errors import PlatformError

    uri = tracking.tracking_uri
    client = connect(uri)
    try:
        attempt(uri, "end a run", lambda: client.set_terminated(run_id, status))
    except PlatformError:
        if status == "FINISHED":
            raise


def _tags(study: str, dagster_run_id: str) -> dict[str, str]:
    own = {STUDY_TAG: study}
    return own | {DAGSTER_TAG: dagster_run_id} if dagster_run_id else own
