"""A step as the executor sees it, and what is said about it in the run's log."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import DagsterEvent
from dagster._core.events import EngineEventData
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.executor.step_delegating import StepHandlerContext
from dagster_shared.error import SerializableErrorInfo

from mlops_assets.adapters.compute_profiles import profile_named
from mlops_assets.clock import now
from mlops_assets.core.compute import PROFILE_TAG, ComputeProfile
from mlops_assets.core.compute_pods import RUNS, End, Limits, Standing
from mlops_assets.core.compute_policy import Attempt, Placement

if TYPE_CHECKING:
    from dagster._core.execution.context.system import IStepContext


@dataclass
class Watched:
    """What the run worker remembers about an attempt that it watches."""

    attempt: Attempt
    profile: ComputeProfile
    last: Standing = RUNS
    since: float = field(default_factory=time.monotonic)
    """When it began to stand like that."""
    told: str = ""
    """What the run's log was told about its waiting."""
    settled: bool = False


def ended(
    attempt: Attempt, begun: datetime | None, at: datetime | None, end: str, reason: str
) -> Attempt:
    """``attempt`` with its end, now where nothing says when."""
    return attempt.model_copy(
        update={"begun": begun, "ended": at or utc_now(), "end": end, "reason": reason}
    )


def step_of(handler_context: StepHandlerContext) -> "tuple[str, IStepContext]":
    """The one step of the context, and what events about it need."""
    keys = handler_context.execute_step_args.step_keys_to_execute or []
    return keys[0], handler_context.get_step_context(keys[0])


def attempt_number(handler_context: StepHandlerContext, key: str) -> int:
    """The attempt that the context is about, from 0."""
    state = handler_context.execute_step_args.known_state
    return state.get_retry_state().get_attempt_count(key) if state else 0


def profile_name_of(context: "IStepContext") -> str:
    """The profile that the asset names; an op of somebody else's runs inside the run worker."""
    return context.step.tags.get(PROFILE_TAG, "cpu")


def limits_of(profile: ComputeProfile) -> Limits:
    """What the profile allows a pod."""
    return Limits(
        schedule_seconds=profile.schedule_seconds,
        grace_seconds=profile.grace_seconds,
        memory=profile.limits.get("memory", "none"),
    )


def placed_message(key: str, attempt: Attempt, decided: Placement) -> str:
    """Where an attempt runs, for the run's log."""
    profile = profile_named(attempt.profile)
    where = "in a pod of its own" if profile.pod == "own" else "inside the run worker"
    return (
        f"attempt {attempt.number + 1} of {key}: {attempt.profile}, {attempt.capacity}, {where} "
        f"({decided.reason})"
    )


def failure(context: "IStepContext", reason: str, end: End) -> DagsterEvent:
    """Say that the step has failed."""
    return DagsterEvent.step_failure_event(
        context,
        StepFailureData(
            error=error_info(f"{context.step.key}: {reason}", end), user_failure_data=None
        ),
    )


def error_info(message: str, end: str) -> SerializableErrorInfo:
    """Why a step ended, as Dagster's events carry it."""
    return SerializableErrorInfo(message=message, stack=[], cls_name=f"step {end}")


def say(context: "IStepContext", message: str) -> DagsterEvent:
    """A line about the step in the run's log."""
    return DagsterEvent.engine_event(context, message, EngineEventData())


def utc_now() -> datetime:
    """The clock's time."""
    return now().astimezone(UTC)
