"""Removes the Jobs, with their pods, of runs that ended or do not exist."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.clock import now
from mlops_assets.core.compute_orphans import KEPT_FOR, RunState, orphaned
from mlops_assets.core.errors import PermanentError
from mlops_assets.lifecycle.switches import default_status

if TYPE_CHECKING:
    from mlops_assets.compute.cluster import Cluster

SENSOR = "reaper"
INTERVAL_SECONDS = 60

_COMPONENTS = ("step_worker", "run_worker")
_ASKED = 200
"""Runs that are asked for in one query."""


def reap(
    instance: dg.DagsterInstance,
    cluster: "Cluster",
    *,
    kept_for: timedelta = KEPT_FOR,
    dry_run: bool = False,
) -> list[str]:
    """Delete the Jobs that nobody needs; gives a line for each, with the reason.

    Every Job of Dagster's in the namespace has to be of this instance: one whose run it does not
    know counts as left behind. Finished ones are kept for ``kept_for``.
    """
    jobs = [job for component in _COMPONENTS for job in cluster.jobs(component)]
    runs = _runs(instance, {job.run_id for job in jobs if job.run_id is not None})
    at = now().astimezone(UTC)
    lines: list[str] = []
    for job in jobs:
        if job.run_id is None:
            continue
        reason = orphaned(
            created=job.created,
            finished=job.finished,
            run=runs.get(job.run_id),
            now=at,
            kept_for=kept_for,
        )
        if reason is not None and (dry_run or cluster.delete_job(job.name)):
            lines.append(f"{job.name}: {reason}")
    return lines


def cluster_of(instance: dg.DagsterInstance) -> "Cluster":
    """The cluster and namespace that the instance launches runs in.

    Raises PermanentError for an instance that launches them elsewhere.
    """
    from dagster_k8s import K8sRunLauncher

    from mlops_assets.compute.cluster import connect

    launcher = instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise PermanentError(
            f"the instance launches runs with {type(launcher).__name__}, not on Kubernetes: there "
            "is nothing to reap"
        )
    return connect(
        launcher.job_namespace,
        incluster=launcher.load_incluster_config,
        kubeconfig=launcher.kubeconfig_file,
    )


def reaper_sensor() -> dg.SensorDefinition:
    """The sensor that reaps: two lists and one query a tick, whatever the number of use cases."""

    @dg.sensor(
        name=SENSOR,
        description="Removes the Kubernetes Jobs of runs that ended or do not exist.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status(SENSOR),
    )
    def _reaper(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        lines = reap(context.instance, cluster_of(context.instance))
        for line in lines:
            context.log.info(f"deleted {line}")
        return dg.SkipReason(f"deleted {len(lines)} Jobs" if lines else "nothing was left behind")

    return _reaper


def _runs(instance: dg.DagsterInstance, ids: Iterable[str]) -> dict[str, RunState]:
    wanted, found = sorted(ids), dict[str, RunState]()
    for start in range(0, len(wanted), _ASKED):
        records = instance.get_run_records(
            dg.RunsFilter(run_ids=wanted[start : start + _ASKED]), limit=_ASKED
        )
        for record in records:
            run = record.dagster_run
            ended = None
            if run.is_finished:
                ended = (
                    datetime.fromtimestamp(record.end_time, UTC)
                    if record.end_time is not None
                    else record.update_timestamp.replace(tzinfo=UTC)
                )
            found[run.run_id] = RunState(run.status.value, ended)
    return found
