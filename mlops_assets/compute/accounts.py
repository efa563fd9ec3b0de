"""What a run's steps took on spot and on on-demand capacity, as tags of the run."""

from collections.abc import Sequence

import dagster as dg

from mlops_assets.adapters.compute_profiles import profile_named
from mlops_assets.adapters.prices import price_of
from mlops_assets.compute import history
from mlops_assets.core.compute_policy import Attempt

ATTEMPTS = "mlops/attempts"
INTERRUPTIONS = "mlops/interruptions"
SPOT_SECONDS = "mlops/spot_seconds"
ON_DEMAND_SECONDS = "mlops/on_demand_seconds"
WASTED_SECONDS = "mlops/wasted_spot_seconds"
WASTED_COST = "mlops/wasted_spot_cost"


def account(attempts: Sequence[Attempt]) -> dict[str, float]:
    """Seconds and cost of the attempts of one step, by tag.

    Wasted are the seconds of spot attempts that did not finish the step, all of them: what a
    checkpoint saved of them is not taken off, so it is an upper bound.
    """
    wasted = [
        attempt for attempt in attempts if attempt.capacity == "spot" and attempt.end != "succeeded"
    ]
    return {
        ATTEMPTS: len(attempts),
        INTERRUPTIONS: sum(attempt.end == "interrupted" for attempt in attempts),
        SPOT_SECONDS: sum(a.seconds for a in attempts if a.capacity == "spot"),
        ON_DEMAND_SECONDS: sum(a.seconds for a in attempts if a.capacity == "on_demand"),
        WASTED_SECONDS: sum(attempt.seconds for attempt in wasted),
        WASTED_COST: sum(a.seconds / 3600 * price_of(a.profile).per_hour for a in wasted),
    }


def tag_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Tag the run with the account of all its steps in pods of their own, so far."""
    totals: dict[str, float] = {}
    for attempts in history.attempts_of_run(instance, run_id).values():
        own = [attempt for attempt in attempts if profile_named(attempt.profile).pod == "own"]
        for tag, number in account(own).items():
            totals[tag] = totals.get(tag, 0) + number
    instance.add_run_tags(run_id, {tag: f"{number:.6g}" for tag, number in totals.items()})
