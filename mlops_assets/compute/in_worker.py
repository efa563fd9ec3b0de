"""Steps inside the run worker: one at a time, in a thread, so that pods are watched meanwhile.

A thread costs nothing and has the definitions already. Its crash is the run worker's, whose run
monitoring starts another one, which takes over the steps that run in pods and counts the attempt
that was lost. What may take the process down with it belongs into a pod of its own.
"""

import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dagster import DagsterEvent
from dagster._core.events import EngineEventData
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator
from dagster._utils.error import serializable_error_info_from_exc_info

if TYPE_CHECKING:
    from dagster._core.execution.context.system import IStepContext
    from dagster._grpc.types import ExecuteStepArgs

Work = Callable[[], None]


@dataclass
class InWorker:
    """Runs steps in the order in which they were asked for; logs are captured process-wide, so two
    at a time would have each other's.
    """

    _waiting: "queue.SimpleQueue[tuple[str, Work]]" = field(default_factory=queue.SimpleQueue)
    _known: dict[str, bool] = field(default_factory=dict)
    _thread: threading.Thread | None = None

    def submit(self, key: str, work: Work) -> None:
        """Run ``work`` when what was submitted before is done."""
        self._known[key] = True
        self._waiting.put((key, work))
        if self._thread is None:
            # The process does not wait for it at its end: a run that was canceled is over.
            self._thread = threading.Thread(target=self._run, name="step", daemon=True)
            self._thread.start()

    def runs(self, key: str) -> bool:
        """Whether the step waits or is under way in this process."""
        return self._known.get(key, False)

    def _run(self) -> None:
        while True:
            key, work = self._waiting.get()
            try:
                work()
            finally:
                self._known[key] = False


def execute_step(context: "IStepContext", args: "ExecuteStepArgs") -> None:
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
            pass
    except BaseException:  # noqa: BLE001  # the thread goes on with the next step
        DagsterEvent.engine_event(
            context,
            "the step ended outside of its own code",
            EngineEventData(error=serializable_error_info_from_exc_info(sys.exc_info())),
        )
