"""A step's attempts, kept in the run's event log, so that a new run worker goes on from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster._core.events import EngineEventData

from mlops_assets.core.compute_policy import Attempt

if TYPE_CHECKING:
    from dagster._core.execution.context.system import IStepContext
    from dagster_shared.error import SerializableErrorInfo

ATTEMPT = "mlops/attempt"
"""Key of the metadata that holds the record."""

_INTERRUPTIONS = ("InterruptedTrainingError", "DagsterExecutionInterruptedError")

_READ = {
    DagsterEventType.ENGINE_EVENT,
    DagsterEventType.STEP_START,
    DagsterEventType.STEP_RESTARTED,
    DagsterEventType.STEP_UP_FOR_RETRY,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
}

_PAGE = 1_000


@dataclass(frozen=True)
class Said:
    """What the step itself, or the executor for it, said about one attempt."""

    begun: datetime | None = None
    ended: datetime | None = None
    end: DagsterEvent | None = None
    error: "SerializableErrorInfo | None" = None

    @property
    def interrupted(self) -> bool:
        """Whether the step ended because it was told to."""
        error = self.error
        while error is not None:
            if error.cls_name in _INTERRUPTIONS:
                return True
            error = error.cause
        return False


@dataclass(frozen=True)
class History:
    """All that is known about a step's attempts, by number."""

    said: tuple[Said, ...]
    """One per attempt that has an event; the last may be under way."""
    recorded: tuple[Attempt, ...]

    def of(self, number: int) -> Said:
        """What was said about the attempt ``number``."""
        return self.said[number] if number < len(self.said) else Said()


def record(context: "IStepContext", attempt: Attempt, message: str) -> None:
    """Write ``attempt`` down, with a line for people; a later record of its number replaces it."""
    shown: dict[str, dg.MetadataValue] = {
        ATTEMPT: dg.MetadataValue.json(attempt.model_dump(mode="json")),
        "profile": dg.MetadataValue.text(attempt.profile),
    }
    if attempt.end is not None:
        shown["end"] = dg.MetadataValue.text(attempt.end)
        shown["seconds"] = dg.MetadataValue.float(attempt.seconds)
    DagsterEvent.engine_event(context, message, EngineEventData(metadata=shown))


def read(instance: dg.DagsterInstance, run_id: str, step_key: str) -> History:
    """The attempts of the step ``step_key`` in the run so far."""
    said: list[Said] = []
    recorded: dict[int, Attempt] = {}
    over = True  # the attempt that the last event belongs to has ended
    for event, timestamp in _events(instance, run_id, _READ):
        if event.step_key != step_key:
            continue
        if event.event_type == DagsterEventType.ENGINE_EVENT:
            attempt = _attempt(event)
            if attempt is not None:
                recorded[attempt.number] = attempt
            continue
        at = datetime.fromtimestamp(timestamp, UTC)
        if over:
            said.append(Said())
        over = event.event_type not in (
            DagsterEventType.STEP_START,
            DagsterEventType.STEP_RESTARTED,
        )
        last = said[-1]
        if not over:
            said[-1] = Said(begun=last.begun or at)
            continue
        error = None
        if event.event_type == DagsterEventType.STEP_UP_FOR_RETRY:
            error = event.step_retry_data.error
        elif event.event_type == DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
        said[-1] = Said(last.begun, at, event, error)
    return History(tuple(said), tuple(recorded[number] for number in sorted(recorded)))


def attempts_of_run(instance: dg.DagsterInstance, run_id: str) -> dict[str, list[Attempt]]:
    """The recorded attempts of each step of the run, in order."""
    found: dict[str, dict[int, Attempt]] = {}
    for event, _ in _events(instance, run_id, {DagsterEventType.ENGINE_EVENT}):
        attempt = _attempt(event)
        if attempt is not None and event.step_key is not None:
            found.setdefault(event.step_key, {})[attempt.number] = attempt
    return {step: [by[number] for number in sorted(by)] for step, by in found.items()}


def _attempt(event: DagsterEvent) -> Attempt | None:
    if event.event_type != DagsterEventType.ENGINE_EVENT:
        return None
    found = event.engine_event_data.metadata.get(ATTEMPT)
    return Attempt.model_validate(found.data) if isinstance(found, dg.JsonMetadataValue) else None


def _events(
    instance: dg.DagsterInstance, run_id: str, kinds: set[DagsterEventType]
) -> Iterator[tuple[DagsterEvent, float]]:
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(run_id, cursor, of_type=kinds, limit=_PAGE)
        for found in page.records:
            if found.event_log_entry.dagster_event is not None:
                yield found.event_log_entry.dagster_event, found.event_log_entry.timestamp
        if not page.has_more:
            return
        cursor = page.cursor
