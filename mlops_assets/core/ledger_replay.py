"""Rollouts decided again: on the recorded evidence, as their policy did, or as another would."""

from collections.abc import Iterable
from dataclasses import dataclass

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.evidence_changes import laid_over
from mlops_assets.core.promotion_ledger import (
    Begun,
    Decided,
    LedgerRecord,
    State,
    followed,
)
from mlops_assets.core.rollout_records import RolloutDecision
from mlops_assets.core.rollout_replay import Snapshot, replayed
from mlops_assets.core.rollout_spec import RolloutSpec


@dataclass(frozen=True)
class Replayed:
    """A rollout as it was decided, by whom, and as a policy would have decided it."""

    rollout_id: str
    live: tuple[tuple[RolloutDecision, str], ...]
    replayed: tuple[RolloutDecision, ...]


def replayed_ledger(
    records: Iterable[LedgerRecord],
    rollout_id: str | None = None,
    policy: RolloutSpec | None = None,
) -> Replayed:
    """The newest rollout, or the one named, decided again on its recorded evidence: with
    ``policy``, or with its own. Where that ends it earlier, the evidence after that is not asked.

    Raises PermanentError where there is no such rollout, and for a policy whose comparisons have
    another unit than the evidence.
    """
    state, begun = State(), None
    live: list[Decided] = []
    snapshots: list[Snapshot] = []
    for record in records:
        known = state.under_way
        state = followed(state, record)
        if isinstance(record, Begun) and rollout_id in (None, record.rollout.rollout_id):
            begun, live, snapshots = record, [], []
        elif isinstance(record, Decided) and begun is not None and known is not None:
            decision = record.decision
            if decision.rollout_id == begun.rollout.rollout_id:
                live.append(record)
                evidence = laid_over(known.evidence, record.evidence)
                snapshots.append(Snapshot(decision.decided_at, evidence))
    if begun is None:
        named = f"rollout {rollout_id!r}" if rollout_id else "any rollout"
        raise PermanentError(f"the ledger does not have {named}: see mlops rollout history")
    chosen = policy or (live[-1].policy if live else begun.policy)
    _check_units(chosen, begun.policy)
    return Replayed(
        begun.rollout.rollout_id,
        tuple((one.decision, one.by) for one in live),
        tuple(replayed(chosen, begun.rollout, snapshots)),
    )


def _check_units(policy: RolloutSpec, recorded: RolloutSpec) -> None:
    for name in ("quality", "scores"):
        asked, known = getattr(policy, name), getattr(recorded, name)
        if asked is None or known is None or asked.unit == known.unit:
            continue
        if "day" in (asked.unit, known.unit):
            raise PermanentError(
                f"{name}.unit is {asked.unit}, and the recorded evidence is by {known.unit}: "
                "replay with the same unit"
            )
