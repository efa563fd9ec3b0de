"""The executor of staging and production: a small run worker, and pods where profiles ask for them.

The run worker watches; it is on on-demand capacity. Locally the same definitions run in one
process, with Dagster's own executor.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import DagsterEvent
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import StepDelegatingExecutor

from mlops_assets.core.compute import PLACE_TAG
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.plan.state import KnownExecutionState
    from dagster_shared.error import SerializableErrorInfo

    from mlops_assets.compute.step_handler import PlacingStepHandler

HEALTH_SECONDS = 5
"""Between two looks at a step's pod: two small requests to the cluster's API."""


class PlacingExecutor(StepDelegatingExecutor):
    """Executes each step where its profile says, and asks the spot policy when one is lost."""

    def __init__(self, handler: "PlacingStepHandler", health_seconds: int) -> None:
        super().__init__(
            handler,
            retries=RetryMode.ENABLED,
            check_step_health_interval_seconds=health_seconds,
            # Their output is captured process-wide: two at a time would have each other's.
            tag_concurrency_limits=[{"key": PLACE_TAG, "value": "worker", "limit": 1}],
            # A pod that replaces another one then leaves a step alone that was started.
            should_verify_step=True,
        )
        self._handler = handler

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Generator[DagsterEvent, Any, None]:
        """Execute the plan's steps; the Jobs of a run that was canceled do not outlive it."""
        steps = {step.key: step for step in execution_plan.steps}
        try:
            for event in super().execute(plan_context, execution_plan):
                if (event.is_step_success or event.is_step_failure) and event.step_key in steps:
                    context = plan_context.for_step(steps[event.step_key])  # type: ignore[arg-type]
                    self._handler.finished(context, succeeded=event.is_step_success)
                yield event
        finally:
            self._leave(plan_context)

    def log_failure_or_retry_event_after_error(
        self,
        step_context: "IStepContext",
        err_info: "SerializableErrorInfo",
        known_state: "KnownExecutionState",
    ) -> DagsterEvent:
        """What follows from a step that was lost: its retry, elsewhere maybe, or its failure."""
        if self._handler.knows(step_context):
            return self._handler.after_loss(step_context)
        return super().log_failure_or_retry_event_after_error(step_context, err_info, known_state)

    def _leave(self, plan_context: "PlanOrchestrationContext") -> None:
        # A run that will be resumed by another run worker keeps its Jobs. Dagster takes a run that
        # somebody cancels for one of those, as long as it has resumptions left.
        run = plan_context.instance.get_run_by_id(plan_context.run_id)
        canceled = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
        if run is not None and run.status in canceled:
            self._handler.forget_run(run.run_id)


@dg.executor(
    name="mlops",
    requirements=multiple_process_executor_requirements(),
    config_schema={
        "service_account_name": dg.Field(
            dg.StringSource,
            default_value="mlops-step",
            description="Service account of steps' pods. Default: mlops-step.",
        ),
        "job_namespace": dg.Field(
            dg.Noneable(dg.StringSource),
            default_value=None,
            description="Namespace of steps' pods. Default: the run launcher's.",
        ),
        "health_seconds": dg.Field(
            dg.IntSource,
            default_value=HEALTH_SECONDS,
            description=f"Seconds between two looks at a step's pod. Default: {HEALTH_SECONDS}.",
        ),
    },
)
def mlops_executor(init_context: dg.InitExecutorContext) -> PlacingExecutor:
    """Steps in pods of their own where their compute profile asks for it, else in the run worker.

    Needs the K8sRunLauncher, whose configuration the pods of steps have too.
    """
    from dagster_k8s import K8sRunLauncher

    from mlops_assets.compute.cluster import connect
    from mlops_assets.compute.pods import StepPods
    from mlops_assets.compute.step_handler import PlacingStepHandler

    launcher = init_context.instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise PermanentError(
            f"the executor 'mlops' needs the K8sRunLauncher, not {type(launcher).__name__}: set it "
            "in dagster.yaml, or MLOPS_ENV=local"
        )
    config = init_context.executor_config
    namespace = config.get("job_namespace") or launcher.job_namespace
    cluster = connect(
        str(namespace),
        incluster=launcher.load_incluster_config,
        kubeconfig=launcher.kubeconfig_file,
    )
    pods = StepPods(cluster, launcher, str(config["service_account_name"]))
    return PlacingExecutor(PlacingStepHandler(pods), int(str(config["health_seconds"])))
