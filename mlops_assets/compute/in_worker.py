"""Steps inside the run worker: one at a time, in a thread, so that pods are watched meanwhile.

A thread costs nothing and has the definitions already. Its crash is the run worker's, whose run
monitoring starts another one, which takes over the steps that run in pods and executes this one
again. What may take the process down with it belongs into a pod of its own.
"""

import sys
import threading
from typing import TYPE_CHECKING

from dagster import DagsterEvent
from dagster._core.events import EngineEventData
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator
from dagster._utils.error import serializable_error_info_from_exc_info

if TYPE_CHECKING:
    from dagster._core.execution.context.system import IStepContext
    from dagster._grpc.types import ExecuteStepArgs

_BEGIN_SECONDS = 60
"""Longer than a busy machine needs to prepare a step's context."""


class InWorker:
    """The thread of the step that is under way inside the run worker."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._thread: threading.Thread | None = None

    def start(self, key: str, context: "IStepContext", args: "ExecuteStepArgs") -> None:
        """Execute a step in a thread; returns when its context is prepared.

        To prepare it Dagster configures Python's logging, which takes the lock of the logging
        module and then those of all handlers. A thread that logs an event holds its handler's and
        may want the module's: so this one, which logs the run's events, waits for that long.
        """
        if self._thread is not None:
            # It has said how the step ended, and is tidying up: its output is still captured.
            self._thread.join()
        begun = threading.Event()
        self._key = key
        # The process does not wait for it at its end: a run that was canceled is over.
        self._thread = threading.Thread(
            target=_execute_step, args=(context, args, begun), name=f"step {key}", daemon=True
        )
        self._thread.start()
        begun.wait(_BEGIN_SECONDS)

    def runs(self, key: str) -> bool:
        """Whether the step is under way in this process."""
        return self._key == key and self._thread is not None and self._thread.is_alive()

    def abandon(self) -> None:
        """Wait no longer for the step that is under way: it has overrun its time."""
        self._thread = None


def _execute_step(context: "IStepContext", args: "ExecuteStepArgs", begun: threading.Event) -> None:
    """Execute a step as a process of its own would, with the definitions that are loaded here.

    Its events go to the event log, where the executor reads them.
    """
    run = context.dagster_run
    try:
        plan = create_execution_plan(
            context.job,
            run_config=run.run_config,
            step_keys_to_execute=args.step_keys_to_execute,
            known_state=args.known_state,
        )
        events = execute_plan_iterator(
            plan,
            context.job,
            run,
            context.instance,
            retry_mode=args.retry_mode,
            run_config=run.run_config,
        )
        for _ in events:
            begun.set()
    except BaseException:  # noqa: BLE001  # said in the log; the health check sees the end
        DagsterEvent.engine_event(
            context,
            "the step ended outside of its own code",
            EngineEventData(error=serializable_error_info_from_exc_info(sys.exc_info())),
        )
    finally:
        begun.set()
