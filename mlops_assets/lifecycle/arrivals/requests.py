"""The runs that one tick asks for: each once, a few times at most, and none beside another."""

from collections.abc import Callable, Mapping

import dagster as dg

from mlops_assets.core.arrivals import UNDATED, Group, content_of
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key
from mlops_assets.lifecycle.under_way import RANGE_END_TAG, RANGE_START_TAG, attempts

MOST_RUNS = 20
"""Runs that a tick asks for; the next tick asks for the others."""

MOST_ATTEMPTS = 3
"""Runs in a row for the same content, after which somebody has to look."""

USE_CASE_TAG = "mlops/arrivals"
CONTENT_TAG = "mlops/arrivals_content"


class Tick:
    """Collects what one tick asks for."""

    def __init__(
        self, spec: UseCaseSpec, instance: dg.DagsterInstance, busy: Mapping[str, set[str]]
    ) -> None:
        self.spec = spec
        self.instance = instance
        self.busy = busy
        self.requests: list[dg.RunRequest] = []
        self.said: list[str] = []
        self.waits = False
        """Whether anything is left to a later tick."""
        self.pending = {name: set(partitions) for name, partitions in busy.items()}
        """Partitions that are being made, or asked for, by asset."""

    def ask(self, group: Group, version: Callable[[str, str], str]) -> None:
        """Ask for ``group``, but for assets that a run is under way for, or that it is vain for."""
        free = tuple(asset for asset in group.assets if asset not in self.busy)
        self.waits = self.waits or free != group.assets or bool(self.busy)
        if not free:
            return
        group = Group(free, group.days)
        content = content_of(group, version)
        keys = [asset_key(self.spec, asset) for asset in free]
        use_case = (USE_CASE_TAG, self.spec.name)
        tried = attempts(self.instance, use_case, (CONTENT_TAG, content), keys)
        what = f"{', '.join(free)} {_span(group)}".strip()
        if tried.in_a_row >= MOST_ATTEMPTS:
            self.said.append(
                f"{what}: {tried.in_a_row} runs in a row did not make it. Correct what they failed "
                "with and materialize it; a change at the source is asked for by itself"
            )
            return
        for asset in free:
            self.pending.setdefault(asset, set()).update(group.days or (UNDATED,))
        if len(self.requests) >= MOST_RUNS:
            self.waits = True
            return
        tags = {USE_CASE_TAG: self.spec.name, CONTENT_TAG: content}
        if group.days:
            tags |= {RANGE_START_TAG: group.days[0], RANGE_END_TAG: group.days[-1]}
        self.requests.append(
            dg.RunRequest(
                run_key=f"{self.spec.name}/{content}/{tried.ever}", asset_selection=keys, tags=tags
            )
        )
        again = f" (attempt {tried.in_a_row + 1})" if tried.in_a_row else ""
        self.said.append(f"asks for {what}{again}")


def _span(group: Group) -> str:
    if len(group.days) < 2:
        return "".join(group.days)
    return f"{group.days[0]} to {group.days[-1]}"
