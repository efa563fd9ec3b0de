"""Dagster's daemon in one process: sensors tick, and what they request runs here, in order.

`dagster dev` starts a process for each run, which costs seconds; a replay at full speed cannot
afford that. The sensors, conditions and assets are the same, and so is the instance.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.lifecycle.assets import contiguous

if TYPE_CHECKING:
    from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
RUN_KEY = "dagster/run_key"
SENSOR_NAME = "dagster/sensor_name"

_SILENT = logging.getLogger(f"{__name__}.conditions")
_SILENT.setLevel(logging.WARNING)


@dataclass(frozen=True)
class Ran:
    """A run that a tick has asked for; ``partitions`` are its first and last, if it has any."""

    run_id: str
    assets: tuple[str, ...]
    partitions: tuple[str, str] | None
    success: bool
    tags: Mapping[str, str]


@dataclass
class Daemon:
    """Ticks the sensors of ``definitions`` on ``instance`` and executes what they request."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    _cursors: dict[str, str | None] = field(default_factory=dict[str, str | None])
    _automation: "AssetDaemonCursor | None" = None
    _jobs: dict[frozenset[dg.AssetKey], dg.JobDefinition] = field(
        default_factory=dict[frozenset[dg.AssetKey], dg.JobDefinition]
    )

    def tick(self, sensor: str) -> list[Ran]:
        """One tick of the sensor ``sensor``, and its runs."""
        definition = self.definitions.resolve_sensor_def(sensor)
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self._cursors.get(sensor),
            definitions=self.definitions,
            sensor_name=sensor,
            resources=dict(self.definitions.resources or {}),
        )
        with context:
            # What a tick says is kept by Dagster's daemon, and here by nobody.
            context.log.setLevel(logging.WARNING)
            result = definition.evaluate_tick(context)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        ran: list[Ran] = []
        for request in result.run_requests or ():
            tags = {**request.tags, SENSOR_NAME: sensor}
            if request.run_key is not None:
                tags[RUN_KEY] = request.run_key
                known = {SENSOR_NAME: sensor, RUN_KEY: request.run_key}
                if self.instance.get_runs(dg.RunsFilter(tags=known), limit=1):
                    continue
            ran.append(self._run(request.asset_selection or (), tags, request.run_config))
        # As the daemon does: kept only when everything that the tick asked for has been launched.
        self._cursors[sensor] = result.cursor
        return ran

    def automate(self, most: int = 5) -> list[Ran]:
        """What the declarative conditions ask for, again and again until they ask for nothing.

        ``most`` bounds the rounds, so that conditions that chase each other end.
        """
        ran: list[Ran] = []
        for _ in range(most):
            requested = self._requested()
            if not requested:
                break
            done: list[Ran] = []
            for assets, days in by_day(requested):
                tags = {RANGE_START: days[0], RANGE_END: days[-1]} if days else {}
                done.append(self._run(assets, tags, {}))
            ran += done
            if all(run.success for run in done) and not self._followed(requested):
                break  # nobody would ask for anything more
        return ran

    def _requested(self) -> dict[dg.AssetKey, list[str]]:
        """What the conditions ask for now, by asset: its days in order, none for one without days.

        Evaluates as Dagster's daemon does. `dg.evaluate_automation_conditions` would also write and
        read what is remembered of the last evaluation, which takes as long as the evaluation.
        """
        from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
        from dagster._core.definitions.declarative_automation import automation_condition_evaluator

        graph = self.definitions.resolve_asset_graph()
        cursor = self._automation or AssetDaemonCursor.empty()
        evaluator = automation_condition_evaluator.AutomationConditionEvaluator(
            asset_graph=graph,
            instance=self.instance,
            entity_keys={
                key
                for key in graph.get_all_asset_keys()
                if graph.get(key).automation_condition is not None
            },
            emit_backfills=False,
            logger=_SILENT,
            cursor=cursor,
            evaluation_id=cursor.evaluation_id,
        )
        results, _ = evaluator.evaluate()
        self._automation = cursor.with_updates(
            evaluation_timestamp=evaluator.evaluation_time.timestamp(),
            newly_observe_requested_asset_keys=[],
            evaluation_id=cursor.evaluation_id + 1,
            condition_cursors=[result.get_new_cursor() for result in results],
            asset_graph=graph,
        )
        requested: dict[dg.AssetKey, list[str]] = {}
        for result in results:
            if result.true_subset.size and isinstance(result.key, dg.AssetKey):
                partitions = result.true_subset.expensively_compute_asset_partitions()
                requested[result.key] = sorted(
                    each.partition_key for each in partitions if each.partition_key is not None
                )
        return requested

    def _followed(self, assets: Iterable[dg.AssetKey]) -> bool:
        """Whether something with a condition depends on one of ``assets``."""
        graph = self.definitions.resolve_asset_graph()
        children = {child for key in assets for child in graph.get(key).child_keys}
        return any(graph.get(child).automation_condition is not None for child in children)

    def _run(
        self,
        assets: Iterable[dg.AssetKey],
        tags: Mapping[str, str],
        run_config: Mapping[str, object],
    ) -> Ran:
        from dagster._core.definitions.job_base import InMemoryJob
        from dagster._core.execution.execute_in_process import core_execute_in_process

        keys = list(assets)
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        result = core_execute_in_process(
            job=InMemoryJob(self._job_of(frozenset(keys))),
            instance=self.instance,
            asset_selection=frozenset(keys),
            run_tags=dict(tags),
            run_config={**quiet, **run_config},
            output_capturing_enabled=False,
            raise_on_error=False,
        )
        days = (tags[RANGE_START], tags[RANGE_END]) if RANGE_START in tags else None
        names = tuple(key.path[-1] for key in keys)
        return Ran(result.run_id, names, days, result.success, tags)

    def _job_of(self, assets: frozenset[dg.AssetKey]) -> dg.JobDefinition:
        """The job that makes ``assets``, as `execute_in_process` makes it, but once: describing it
        for each of its runs takes as long as recording one.
        """
        if assets not in self._jobs:
            every = self.definitions.resolve_implicit_global_asset_job_def()
            self._jobs[assets] = every.as_ephemeral_job(
                resource_defs={}, input_values={}, asset_selection=sorted(assets)
            )
        return self._jobs[assets]


def by_day(
    requested: Mapping[dg.AssetKey, Sequence[str]],
) -> list[tuple[list[dg.AssetKey], list[str]]]:
    """Assets and the days of one run each, in the order of the days.

    A day's assets go into one run, and following days with the same assets too: an asset depends on
    others of the same day and of days before. Assets without days come first, in a run of theirs.
    """
    runs: list[tuple[list[dg.AssetKey], list[str]]] = []
    unpartitioned = [key for key, days in requested.items() if not days]
    if unpartitioned:
        runs.append((unpartitioned, []))
    assets_of: dict[str, list[dg.AssetKey]] = {}
    for key in sorted(requested, key=lambda key: key.to_user_string()):
        for day in requested[key]:
            assets_of.setdefault(day, []).append(key)
    # All days between the first and the last, so that "contiguous" means following each other.
    same: list[tuple[list[dg.AssetKey], list[str]]] = []
    for day in sorted(assets_of):
        if same and same[-1][0] == assets_of[day]:
            same[-1][1].append(day)
        else:
            same.append((assets_of[day], [day]))
    for assets, days in same:
        runs += [(assets, part) for part in contiguous(days, _every_day(days))]
    return runs


def _every_day(days: Sequence[str]) -> list[str]:
    first, last = date.fromisoformat(days[0]), date.fromisoformat(days[-1])
    return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
