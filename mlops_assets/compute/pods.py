"""The Job of a step: made by dagster-k8s from the run launcher's configuration and the profile."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagster import DagsterEvent
from dagster._core.executor.step_delegating import StepHandlerContext

from mlops_assets.compute.cluster import Cluster
from mlops_assets.core.compute import POD_TAG, ComputeProfile, pod_additions, pod_config
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from dagster_k8s import K8sRunLauncher

_REFUSED = range(400, 500)
_TRY_AGAIN = (408, 409, 429)


class _Placed(StepHandlerContext):
    """The same context, with the pod of the profile that this attempt was placed with."""

    def __init__(self, context: StepHandlerContext, pod: Mapping[str, object]) -> None:
        self.__dict__.update(context.__dict__)
        self._pod = pod

    @property
    def step_tags(self) -> Mapping[str, Mapping[str, str]]:
        """The op's tags by step, the pod's replaced."""
        from dagster._utils.tags import normalize_tags

        return {
            key: {**tags, **normalize_tags({POD_TAG: self._pod}, warning_stacklevel=2)}
            for key, tags in super().step_tags.items()
        }


@dataclass(frozen=True)
class StepPods:
    """Makes and deletes the Jobs of steps."""

    cluster: Cluster
    launcher: "K8sRunLauncher"
    service_account: str | None

    def job_name(self, run_id: str, step_key: str, number: int) -> str:
        """The name of the Job of a step's attempt, as dagster-k8s gives it."""
        from dagster_k8s.job import get_k8s_job_name

        name = f"dagster-step-{get_k8s_job_name(run_id, step_key)}"
        return f"{name}-{number}" if number else name

    def launch(
        self, context: StepHandlerContext, name: str, profile: ComputeProfile
    ) -> Iterator[DagsterEvent]:
        """Make the Job of an attempt with the profile ``name``.

        Raises PermanentError when the cluster refuses it. A Job that is there already is left.
        """
        from dagster_k8s.client import DagsterK8sUnrecoverableAPIError
        from dagster_k8s.container_context import K8sContainerContext
        from dagster_k8s.executor import K8sStepHandler
        from dagster_k8s.job import UserDefinedDagsterK8sConfig

        handler = K8sStepHandler(
            image=os.environ.get(profile.image_variable) if profile.image_variable else None,
            container_context=K8sContainerContext(
                namespace=self.cluster.namespace,
                service_account_name=self.service_account,
                run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(pod_additions(name, profile)),
            ),
            load_incluster_config=self.launcher.load_incluster_config,
            kubeconfig_file=self.launcher.kubeconfig_file,
            k8s_client_batch_api=self.cluster.batch,
            k8s_client_core_api=self.cluster.core,
        )
        try:
            yield from handler.launch_step(_Placed(context, pod_config(profile)))
        except DagsterK8sUnrecoverableAPIError as error:
            status = error.k8s_api_exception.status
            if status == 409:
                return
            raise PermanentError(
                f"the cluster refuses the Job of profile {name!r}: {error.k8s_api_exception.body}"
            ) from error

    def last_words(self, run_id: str, step_key: str, number: int) -> str:
        """The end of the attempt's output; empty where there is none to be had."""
        pods = self.cluster.job(self.job_name(run_id, step_key, number)).pods
        return self.cluster.last_lines(pods[-1].name) if pods else ""

    def delete_all(self, run_id: str) -> list[str]:
        """Delete the Jobs of all steps of the run; gives their names."""
        names = [job.name for job in self.cluster.jobs("step_worker", run_id) if not job.finished]
        return [name for name in names if self.cluster.delete_job(name)]
