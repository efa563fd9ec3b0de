"""Where each step of a run is executed, how it stands there, and what follows from its end."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dagster import DagsterEvent
from dagster._core.execution.plan.objects import StepRetryData
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepHandler,
    StepHandlerContext,
)

from mlops_assets.adapters.compute_profiles import profile_named, profiles
from mlops_assets.compute import accounts, history
from mlops_assets.compute.in_worker import InWorker
from mlops_assets.compute.pods import StepPods
from mlops_assets.compute.steps import (
    Watched,
    attempt_number,
    ended,
    error_info,
    failure,
    limits_of,
    placed_message,
    profile_name_of,
    say,
    step_of,
    utc_now,
)
from mlops_assets.core.compute import ComputeProfile
from mlops_assets.core.compute_pods import RUNS, End, Standing, standing
from mlops_assets.core.compute_policy import Attempt, Stop, place
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from dagster._core.execution.context.system import IStepContext

_OWN_WORD: Mapping[bool, End] = {True: "interrupted", False: "error"}


class PlacingStepHandler(StepHandler):
    """Executes each step where the compute profile of its asset says.

    A step in a pod of its own is one Kubernetes Job per attempt. When an attempt is lost, its Job
    is deleted, the end is recorded, and the policy decides; then Dagster's own event says that the
    step is up for retry, or has failed.
    """

    def __init__(self, pods: StepPods) -> None:
        super().__init__()
        self._pods = pods
        self._in_worker = InWorker()
        self._watched: dict[str, Watched] = {}

    @property
    def name(self) -> str:
        """What the run's log calls it."""
        return "PlacingStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Start the next attempt of a step, or fail the step when the policy says so.

        An attempt that was launched before and has not ended is one of an earlier run worker: it
        is lost, or was never made.
        """
        key, context = step_of(step_handler_context)
        number = attempt_number(step_handler_context, key)
        known = history.read(context.instance, context.run_id, key)
        attempts = list(known.recorded)
        before = next((a for a in attempts if a.number == number and a.end is None), None)
        if before is not None:
            return self._launch_again(step_handler_context, key, context, before, known)
        if attempts and attempts[-1].end is None:
            attempts[-1] = self._settle_by_word(context, attempts[-1], known)
        return self._launch_next(step_handler_context, key, context, number, attempts)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Whether the attempt under way is still one that may end well."""
        key, context = step_of(step_handler_context)
        watched = self._watch(step_handler_context, key, context)
        if watched.settled:
            return CheckStepHealthResult.healthy()
        found = self._standing(watched, key, context)
        if (found.state, found.reason) != (watched.last.state, watched.last.reason):
            watched.last, watched.since = found, time.monotonic()
        if found.state == "waits" and found.reason != watched.told:
            watched.told = found.reason
            say(context, f"{key} waits: {found.reason}")
        held = time.monotonic() - watched.since
        if found.state in ("runs", "waits") or held < found.patience:
            return CheckStepHealthResult.healthy()
        said = history.read(context.instance, context.run_id, key).of(watched.attempt.number)
        if said.end is not None:  # its event is in the log, and about to be read
            return CheckStepHealthResult.healthy()
        return CheckStepHealthResult.unhealthy(found.reason)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """End the step: delete its Job. A step inside the run worker ends with the run worker."""
        key, context = step_of(step_handler_context)
        watched = self._watch(step_handler_context, key, context)
        if watched.profile.pod == "own":
            name = self._pods.job_name(context.run_id, key, watched.attempt.number)
            self._pods.cluster.delete_job(name)
            yield say(context, f"deleted Job {name}")

    def knows(self, context: "IStepContext") -> bool:
        """Whether the step was launched, or looked after, by this run worker."""
        return context.step.key in self._watched

    def after_loss(self, context: "IStepContext") -> DagsterEvent:
        """The event that follows from the loss that the last health check found.

        A word of the step's own that has come in meanwhile stands: a second one would end an
        attempt that has not begun.
        """
        key = context.step.key
        watched = self._watched[key]
        watched.settled = True
        known = history.read(context.instance, context.run_id, key)
        attempt = watched.attempt
        begun, why = known.of(attempt.number).begun, self._why(watched, context)
        lost = ended(attempt, begun, None, watched.last.state, why)
        attempts = [a for a in known.recorded if a.number != attempt.number] + [lost]
        self._end(context, lost)
        decided = place(profile_name_of(context), profiles(), attempts)
        own_word = history.read(context.instance, context.run_id, key).of(attempt.number).end
        if own_word is not None:
            return own_word
        if isinstance(decided, Stop):
            return failure(context, decided.reason, lost.end or "crashed")
        return DagsterEvent.step_retry_event(
            context,
            StepRetryData(
                error=error_info(f"{lost.reason}. {decided.reason}", lost.end or "crashed"),
                seconds_to_wait=decided.delay_seconds or None,
            ),
        )

    def finished(self, context: "IStepContext", *, succeeded: bool) -> None:
        """The step said that it is done: its last attempt is recorded."""
        key = context.step.key
        known = history.read(context.instance, context.run_id, key)
        if not known.recorded or known.recorded[-1].end is not None:
            return
        last = known.recorded[-1]
        said = known.of(last.number)
        end: End = "succeeded" if succeeded else "failed"
        reason = said.error.message.strip() if said.error and not succeeded else ""
        done = ended(last, said.begun, said.ended, end, reason)
        history.record(context, done, f"attempt {last.number + 1} of {key} {end}")
        accounts.tag_run(context.instance, context.run_id)
        self._watched.pop(key, None)

    def forget_run(self, run_id: str) -> list[str]:
        """Delete the Jobs of all steps of a run that was canceled; gives their names."""
        return self._pods.delete_all(run_id)

    def _launch_again(
        self,
        handler_context: StepHandlerContext,
        key: str,
        context: "IStepContext",
        attempt: Attempt,
        known: history.History,
    ) -> Iterator[DagsterEvent]:
        watched = self._watch(handler_context, key, context)
        if known.of(attempt.number).begun is None:
            job = self._pods.cluster.job(self._pods.job_name(context.run_id, key, attempt.number))
            if not job.exists:  # the run worker ended before it had made it
                yield from self._start(handler_context, key, context, attempt, watched.profile)
                return
        if watched.last.state in ("runs", "waits"):
            watched.last = self._standing(watched, key, context)
        if watched.last.state not in ("runs", "waits"):  # else it is taken over
            yield self.after_loss(context)

    def _launch_next(
        self,
        handler_context: StepHandlerContext,
        key: str,
        context: "IStepContext",
        number: int,
        attempts: list[Attempt],
    ) -> Iterator[DagsterEvent]:
        decided = place(profile_name_of(context), profiles(), attempts)
        if isinstance(decided, Stop):
            end = attempts[-1].end if attempts else None
            yield failure(context, decided.reason, end or "crashed")
            return
        profile = profile_named(decided.profile)
        attempt = Attempt(
            number=number,
            profile=decided.profile,
            capacity=profile.capacity,
            launched=utc_now(),
        )
        if profile.pod == "own":
            # Before the Job is made: a run worker that ends in between finds it.
            history.record(context, attempt, placed_message(key, attempt, decided))
        self._watched[key] = Watched(attempt, profile)
        yield from self._start(handler_context, key, context, attempt, profile)

    def _start(
        self,
        handler_context: StepHandlerContext,
        key: str,
        context: "IStepContext",
        attempt: Attempt,
        profile: ComputeProfile,
    ) -> Iterator[DagsterEvent]:
        if profile.pod == "worker":
            yield DagsterEvent.step_worker_starting(
                context, message=f'Executing step "{key}" inside the run worker.', metadata={}
            )
            self._in_worker.start(key, context, handler_context.execute_step_args)
            return
        try:
            yield from self._pods.launch(handler_context, attempt.profile, profile)
        except PermanentError as error:
            self._watched[key].last = Standing("configuration", str(error))
            yield self.after_loss(context)

    def _watch(
        self, handler_context: StepHandlerContext, key: str, context: "IStepContext"
    ) -> Watched:
        """What is remembered about the step; of an earlier run worker's, what it wrote down."""
        number = attempt_number(handler_context, key)
        watched = self._watched.get(key)
        if watched is not None and watched.attempt.number == number:
            return watched
        recorded = history.read(context.instance, context.run_id, key).recorded
        found = next((a for a in recorded if a.number == number), None)
        if found is None:
            name = profile_name_of(context)
            found = Attempt(
                number=number,
                profile=name,
                capacity=profile_named(name).capacity,
                launched=utc_now(),
            )
        self._watched[key] = watched = Watched(found, profile_named(found.profile))
        return watched

    def _standing(self, watched: Watched, key: str, context: "IStepContext") -> Standing:
        waited = max(0.0, (utc_now() - watched.attempt.launched).total_seconds())
        profile, attempt = watched.profile, watched.attempt
        if profile.pod == "worker":
            if waited > profile.runtime_seconds:
                self._in_worker.abandon()
                return Standing("deadline", f"{key} ran for longer than its profile allows")
            if self._in_worker.runs(key):
                return RUNS
            return Standing("crashed", f"{key} runs in no thread of the run worker")
        job = self._pods.cluster.job(self._pods.job_name(context.run_id, key, attempt.number))
        if any(pod.phase == "Running" and not pod.deleting for pod in job.pods) and job.node in (
            "ready",
            "unknown",
        ):
            return RUNS
        said = history.read(context.instance, context.run_id, key).of(attempt.number)
        return standing(job, limits_of(profile), begun=said.begun is not None, waited=waited)

    def _settle_by_word(
        self, context: "IStepContext", attempt: Attempt, known: history.History
    ) -> Attempt:
        """The end of an attempt that said itself that it is up for retry."""
        key, said = context.step.key, known.of(attempt.number)
        end = _OWN_WORD[said.interrupted]
        # What the step raised is the cause of Dagster's request for the retry.
        error = said.error and (said.error.cause or said.error)
        reason = error.message.strip() if error else "no reason given"
        name = self._pods.job_name(context.run_id, key, attempt.number)
        if end == "interrupted" and profile_named(attempt.profile).pod == "own":
            job = self._pods.cluster.job(name)
            if any(pod.reason == "DeadlineExceeded" for pod in job.pods):
                end, reason = "deadline", f"{key} ran for longer than its profile allows"
        done = ended(attempt, said.begun, said.ended, end, reason)
        self._end(context, done)
        return done

    def _end(self, context: "IStepContext", done: Attempt) -> None:
        key = context.step.key
        history.record(
            context, done, f"attempt {done.number + 1} of {key} {done.end}: {done.reason}"
        )
        if profile_named(done.profile).pod == "own":
            # Else a replacement of its pod holds the GPU that the next attempt waits for.
            self._pods.cluster.delete_job(self._pods.job_name(context.run_id, key, done.number))
            accounts.tag_run(context.instance, context.run_id)

    def _why(self, watched: Watched, context: "IStepContext") -> str:
        """Why the attempt ended; with the process's last words where it gave no other reason."""
        reason = watched.last.reason
        if watched.last.state != "crashed" or watched.profile.pod == "worker":
            return reason
        words = self._pods.last_words(context.run_id, context.step.key, watched.attempt.number)
        return f"{reason}. Its last lines:\n{words}" if words else reason
