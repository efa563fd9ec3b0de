"""MLflow runs: the one that belongs to a Dagster run, and plain ones."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from mlops_assets.adapters.mlflow_client import attempt, connect

if TYPE_CHECKING:
    import dagster as dg

DAGSTER_RUN_TAG = "dagster_run_id"
"""The tag by which dagster-mlflow finds the MLflow run of a Dagster run again."""

_SETTINGS_LOCK = threading.Lock()


@contextmanager
def dagster_mlflow_run(
    uri: str, artifacts_url: str, context: "dg.AssetExecutionContext", experiment: str
) -> Iterator[str]:
    """The id of the MLflow run of ``context``'s Dagster run, made by dagster-mlflow's resource.

    A retried step finds the run of the attempt before. The run ends with the block: FINISHED,
    FAILED after an exception, KILLED after an interruption. dagster-mlflow's hook would end it
    after the first step.

    The resource makes the run the thread's active one, and takes any active run for its own: it
    lives in a thread apart, so that the caller's active run stays what it was.
    """
    import dagster as dg

    client = connect(uri)
    ensure_experiment(uri, artifacts_url, experiment)

    def begin() -> tuple[ExitStack, str]:
        stack = ExitStack()
        config = {"experiment_name": experiment, "mlflow_tracking_uri": uri}
        with _mlflow_settings(uri), warnings.catch_warnings():
            # Dagster announces each time that the library is beta.
            warnings.simplefilter("ignore")
            from dagster_mlflow import mlflow_tracking

            try:
                resources = stack.enter_context(
                    dg.build_resources(
                        {"mlflow": mlflow_tracking},
                        instance=context.instance,
                        dagster_run=context.run,
                        log_manager=context.log,
                        resource_config={"mlflow": {"config": config}},
                    )
                )
            except dg.DagsterResourceFunctionError as error:
                raise error.user_exception from None
            return stack, resources.mlflow.active_run().info.run_id

    def release(stack: ExitStack, status: str) -> None:
        import mlflow

        with _mlflow_settings(uri), stack:
            mlflow.end_run(status)

    with ThreadPoolExecutor(1, thread_name_prefix="dagster-mlflow") as thread:
        stack, run_id = thread.submit(attempt, uri, "begin a run", begin).result()

        def end(status: str) -> None:
            attempt(uri, "end a run", lambda: client.set_terminated(run_id, status))
            thread.submit(attempt, uri, "end a run", lambda: release(stack, status)).result()

        with _ended_by(end):
            # The resource names the run after Dagster's job, which for assets says nothing.
            name = f"{experiment}-{context.run.run_id[:8]}"
            attempt(uri, "name a run", lambda: client.update_run(run_id, name=name))
            yield run_id


@contextmanager
def plain_run(uri: str, artifacts_url: str, experiment: str, name: str) -> Iterator[str]:
    """The id of a new MLflow run, which ends with the block as :func:`dagster_mlflow_run`'s does.

    It is nobody's active run: MLflow's global functions don't see it.
    """
    client = connect(uri)
    experiment_id = ensure_experiment(uri, artifacts_url, experiment)
    run = attempt(uri, "begin a run", lambda: client.create_run(experiment_id, run_name=name))
    run_id = run.info.run_id
    with _ended_by(
        lambda status: attempt(uri, "end a run", lambda: client.set_terminated(run_id, status))
    ):
        yield run_id


def ensure_experiment(uri: str, artifacts_url: str, name: str) -> str:
    """The id of the experiment ``name``, created where there is none.

    Its artifacts go below ``artifacts_url``; MLflow's default is the working directory.
    """
    from mlops_assets.adapters.storage import join

    client = connect(uri)

    def ensure() -> str:
        found = client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        return client.create_experiment(name, join(artifacts_url, "mlflow", name))

    return attempt(uri, f"create the experiment {name!r}", ensure)


@contextmanager
def _ended_by(end: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        try:
            end("FAILED" if isinstance(error, Exception) else "KILLED")
        except Exception as unfinished:  # noqa: BLE001 - what broke the block says more
            error.add_note(f"its MLflow run could not be ended: {unfinished}")
        raise
    end("FINISHED")


@contextmanager
def _mlflow_settings(uri: str) -> Iterator[None]:
    """MLflow's process-wide tracking URI is ``uri`` inside, and put back with what hangs on it.

    The active experiment is put back where there was one; MLflow can't forget it otherwise, and
    nothing here relies on it.
    """
    import mlflow

    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
    with _SETTINGS_LOCK:
        before = {name: os.environ.get(name) for name in names}
        os.environ.pop("MLFLOW_RUN_ID", None)  # else a new run would continue that one
        mlflow.set_tracking_uri(uri)
        try:
            yield
        finally:
            # MLflow keeps the URI in its environment variable too, and takes None to unset both.
            mlflow.set_tracking_uri(before["MLFLOW_TRACKING_URI"])  # pyright: ignore[reportArgumentType]
            if before["MLFLOW_EXPERIMENT_ID"] and before["MLFLOW_TRACKING_URI"]:
                mlflow.set_experiment(experiment_id=before["MLFLOW_EXPERIMENT_ID"])
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
