"""Dagster's run queue, with runs that say whose they are.

The queue's limits count tags of runs. Sensors of the platform tag theirs; a run launched from the
UI, by a backfill or by a condition has no tags of its own, and would slip past every limit. So each
run is tagged when it is submitted, which every way to launch goes through, from the assets that it
selects.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator

if TYPE_CHECKING:
    from dagster._core.run_coordinator import SubmitRunContext

USE_CASE = "mlops/use_case"
TEAM = "mlops/team"

SEVERAL = "several"
"""The value of a tag whose run belongs to more than one: a limit of its own."""


def attribution(
    keys: Iterable[dg.AssetKey], owners: Callable[[dg.AssetKey], Iterable[str]]
) -> dict[str, str]:
    """Tags of a run of the assets ``keys``: its use case, and its team; none without assets.

    The use case is the first part of a key. The team is the first owner of the form `team:name`,
    else the first owner.
    """
    use_cases: set[str] = set()
    teams: set[str] = set()
    for key in keys:
        use_cases.add(key.path[0])
        named = list(owners(key))
        team = next((owner for owner in named if owner.startswith("team:")), None)
        teams.update([team.removeprefix("team:")] if team else named[:1])
    return {
        tag: values.pop() if len(values) == 1 else SEVERAL
        for tag, values in ((USE_CASE, use_cases), (TEAM, teams))
        if values
    }


class UseCaseRunCoordinator(QueuedRunCoordinator):
    """A queue in which every run has the tags `mlops/use_case` and `mlops/team`."""

    def submit_run(self, context: "SubmitRunContext") -> dg.DagsterRun:
        """Tag the run, and queue it."""
        run = context.dagster_run
        graph = context.workspace.asset_graph
        keys = {
            *(run.asset_selection or ()),
            *(check.asset_key for check in run.asset_check_selection or ()),
        }

        def owners(key: dg.AssetKey) -> Iterable[str]:
            return graph.get(key).owners if graph.has(key) else ()

        tags = attribution(keys, owners)
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)
