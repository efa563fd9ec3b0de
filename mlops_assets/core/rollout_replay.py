"""What a policy decides about a rollout, given what was known at each moment.

Live and in replay, the same functions take the same steps: decide, then take the decision.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from mlops_assets.core.rollout import after, decide
from mlops_assets.core.rollout_records import Evidence, Rollout, RolloutDecision
from mlops_assets.core.rollout_spec import RolloutSpec


class Snapshot(NamedTuple):
    """All evidence since the rollout began that was known at ``at``."""

    at: datetime
    evidence: Evidence


def replayed(
    spec: RolloutSpec, rollout: Rollout, snapshots: Iterable[Snapshot]
) -> Iterator[RolloutDecision]:
    """The decision at each of ``snapshots``, in order, until the rollout is over.

    ``rollout`` is the state to begin with (:func:`mlops_assets.core.rollout.begin`). A decision at
    one moment that leads to another stage is taken at that moment.
    """
    state: Rollout | None = rollout
    for snapshot in snapshots:
        decision = decide(spec, state, snapshot.evidence, snapshot.at)
        yield decision
        state = after(spec, state, decision)
        if state is None:
            return
