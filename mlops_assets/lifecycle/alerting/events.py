"""What Dagster's instance says since a cursor: checks, runs, decisions, sensors, freshness.

A few queries by index, each bounded, whatever the number of use cases; runs and their errors are
read for news only. Some of what is called here is not public in Dagster, which is pinned: it is
called here and in the feed alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

import dagster as dg
from dagster._core.definitions.selector import InstigatorSelector
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.scheduler.instigation import TickStatus

from mlops_assets.core.happenings import CheckRun, RunEnd
from mlops_assets.core.spec import STAGES, UseCaseSpec
from mlops_assets.lifecycle.alerting.feed import OVERLAP, Checked, Ended, Logged, feed_of
from mlops_assets.lifecycle.assets import asset_key
from mlops_assets.lifecycle.dataset_checks import DEADLINE_CHECK
from mlops_assets.lifecycle.publish import PARTITIONS

FIRST_LOOK = 5_000
"""How far back, in events of the instance, a sensor looks that has no memory yet."""

_CAUSE_CHARACTERS = 600
_FAILING_TICKS = 2
"""A single failure of a tick is made up for by the next one."""


@dataclass(frozen=True)
class Happened:
    """What the event log has of a use case behind a cursor."""

    events: tuple[CheckRun | RunEnd, ...]
    """In the order of the log."""
    decided: bool
    """Whether a decision about retraining was reported."""
    cursor: int
    """The last event that was looked at."""


def names(spec: UseCaseSpec) -> frozenset[str]:
    """Every asset of the use case, without the use case's own name."""
    own = {*spec.datasets, *spec.feature_views, *STAGES}
    if spec.tuning is not None:
        own.add("tuning")
    if spec.rollout.strategy == "guarded":
        own |= {"rollout_evidence", "rollout"}
    return frozenset(own)


def happened_since(instance: dg.DagsterInstance, spec: UseCaseSpec, cursor: int | None) -> Happened:
    """The use case's events after ``cursor``; None looks some way back."""
    log = instance.event_log_storage
    last = log.get_maximum_record_id() or 0
    if last == cursor:
        return Happened((), decided=False, cursor=last)
    # A log that was wiped begins again.
    known = cursor if cursor is not None and cursor <= last else last - FIRST_LOOK + OVERLAP
    # To see an event twice changes nothing, since all after it are seen too.
    after = max(0, known - OVERLAP)
    logged, until = feed_of(instance).since(instance, spec.name, after, last)
    decided = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset_key(spec, "retraining"), after_storage_id=after),
        limit=1,
    ).records
    events = _events(instance, spec, [one for one in logged if one.number <= until])
    return Happened(events, decided=bool(decided), cursor=until)


def _events(
    instance: dg.DagsterInstance, spec: UseCaseSpec, logged: Sequence[Logged]
) -> tuple[CheckRun | RunEnd, ...]:
    """What of ``logged`` the use case is told."""
    told = (
        _check(one) if isinstance(one, Checked) else _run(instance, spec, one) for one in logged
    )
    return tuple(event for event in told if event is not None)


def _check(logged: Checked) -> CheckRun | None:
    evaluation = logged.evaluation
    # The sensor of alerts reports deadlines itself.
    if evaluation.check_name == DEADLINE_CHECK:
        return None
    stored = evaluation.metadata.get(PARTITIONS)
    looked = cast("dict[str, object]", stored.value if stored is not None else {})
    checked = cast("list[str]", looked.get("checked", []))
    failed = cast("dict[str, str]", looked.get("failed", {}))
    if evaluation.partition is not None:
        checked = [evaluation.partition]
        description = evaluation.description or "it failed"
        failed = {} if evaluation.passed else {evaluation.partition: description}
    return CheckRun(
        asset=evaluation.asset_key.path[-1],
        check=evaluation.check_name,
        passed=evaluation.passed,
        blocking=_blocks(evaluation),
        description=_line(evaluation.description or ""),
        checked=frozenset(checked),
        failed={partition: _line(reason) for partition, reason in failed.items()},
    )


def _evaluation(entry: EventLogEntry) -> dg.AssetCheckEvaluation | None:
    event = entry.dagster_event
    found = event.event_specific_data if event is not None else None
    return found if isinstance(found, dg.AssetCheckEvaluation) else None


def _blocks(evaluation: dg.AssetCheckEvaluation) -> bool:
    return bool(evaluation.blocking) and evaluation.severity == dg.AssetCheckSeverity.ERROR


def _run(instance: dg.DagsterInstance, spec: UseCaseSpec, run: Ended) -> RunEnd | None:
    selected = run.selected
    own = (
        names(spec) if selected is None else {key.path[-1] for key in selected if _is_of(key, spec)}
    )
    if not own:
        return None
    if run.succeeded:
        return RunEnd(run.run_id, succeeded=True, assets=frozenset(own))
    failed, refused = _failures(instance, spec, run.run_id)
    if not failed and selected is None:
        return None  # It failed in another use case's steps.
    # A check that refused an asset's partitions tells that by itself.
    told = {asset: cause for asset, cause in failed.items() if asset not in refused}
    if failed and not told:
        return None
    assets = frozenset(told or own)
    causes = "; ".join(f"{asset}: {cause}" for asset, cause in told.items())
    cause = causes or f"the run did not begin: {_line(run.message)}"
    return RunEnd(run.run_id, succeeded=False, assets=assets, cause=cause)


def _is_of(key: dg.AssetKey, spec: UseCaseSpec) -> bool:
    return key.path[0] == spec.name


def _failures(
    instance: dg.DagsterInstance, spec: UseCaseSpec, run_id: str
) -> tuple[dict[str, str], set[str]]:
    """Assets of the use case whose steps failed, with the error, and those that a check refused."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    failed: dict[str, str] = {}
    refused: set[str] = set()
    for record in instance.get_records_for_run(run_id, of_type=kinds).records:
        entry = record.event_log_entry
        evaluation = _evaluation(entry)
        if evaluation is not None:
            if not evaluation.passed and _blocks(evaluation) and _is_of(evaluation.asset_key, spec):
                refused.add(evaluation.asset_key.path[-1])
            continue
        prefix = f"{spec.name}__"
        if entry.step_key is not None and entry.step_key.startswith(prefix):
            failed[entry.step_key.removeprefix(prefix)] = _error(entry)
    return failed, refused


def _error(entry: EventLogEntry) -> str:
    """What the step's own code said: the innermost words, without a stack trace."""
    event = entry.dagster_event
    data = event.event_specific_data if event is not None else None
    if not isinstance(data, StepFailureData):
        return "it failed"
    if data.user_failure_data is not None and data.user_failure_data.description:
        return _line(data.user_failure_data.description)
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "it failed" if error is None else _line(error.message)


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CAUSE_CHARACTERS else line[: _CAUSE_CHARACTERS - 1] + "…"


def failing_sensors(
    instance: dg.DagsterInstance, location: str, repository: str, sensors: Collection[str]
) -> dict[str, str]:
    """Those of ``sensors`` whose last ticks all failed, with the last error."""
    ids = {
        InstigatorSelector(
            location_name=location, repository_name=repository, name=name
        ).get_id(): name
        for name in sensors
    }
    # One may be under way; Dagster's own filter by status does not work with SQLAlchemy 2.
    ticks = instance.get_batch_ticks(list(ids), limit=_FAILING_TICKS + 1)
    failing: dict[str, str] = {}
    for selector, found in ticks.items():
        ended = [tick for tick in found if tick.status != TickStatus.STARTED]
        last = sorted(ended, key=lambda tick: tick.timestamp)[-_FAILING_TICKS:]
        failed = all(tick.status == TickStatus.FAILURE for tick in last)
        if failed and len(last) == _FAILING_TICKS:
            error = last[-1].error
            failing[ids[selector]] = _line(error.message) if error else "its tick failed"
    return failing


def stale_assets(instance: dg.DagsterInstance, spec: UseCaseSpec) -> list[str]:
    """Assets that fail their freshness policy, but for datasets with days: they have deadlines."""
    dated = {name for name, dataset in spec.datasets.items() if dataset.partitioned}
    keys = [asset_key(spec, name) for name in sorted(names(spec) - dated)]
    states = instance.get_freshness_state_records(keys)
    return [key.path[-1] for key, state in states.items() if state.freshness_state.value == "FAIL"]
