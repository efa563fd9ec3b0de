"""What the parity of answers with the lake is told as."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from mlops_assets.core.skew import cell

Cause = Literal[
    "late_correction",
    "expired_ttl",
    "clock",
    "missing_entity",
    "other_entity",
    "stale_store",
    "timeout",
    "code",
]
"""Why a view's features differ:

- late_correction: the row was corrected after it was served, or a value known only later was used.
- expired_ttl: a row was used that had expired, or taken for expired while it had not.
- clock: the event was taken to be at another time, as by a clock that is wrong or a time zone.
- missing_entity: nothing was sent or found, though the lake knows the entity.
- other_entity: another entity was looked up than the event's.
- stale_store: the row before was used: the newest had not been materialized.
- timeout: the store did not answer.
- code: nothing of these explains it: what computes the features differs.
"""

CAUSES: tuple[Cause, ...] = get_args(Cause)


@dataclass(frozen=True)
class Mismatch:
    """One view of one answer whose features are not the lake's."""

    event_id: str
    request_id: str
    asked_at: datetime
    view: str
    features: tuple[str, ...]
    """Those that differ; ``served`` and ``lake`` are the first one's values."""
    served: str
    lake: str
    cause: Cause
    detail: str


@dataclass(frozen=True)
class Parity:
    """What was compared, and what differs."""

    answers: int
    """Answers whose event the lake has."""
    compared: int
    """Views of answers."""
    looked_up: int
    """Answers that carried less than all features."""
    mismatches: tuple[Mismatch, ...]

    @property
    def differing(self) -> int:
        """Answers with at least one mismatch."""
        return len({(one.request_id, one.event_id) for one in self.mismatches})

    @property
    def share(self) -> float:
        """Share of the answers with at least one mismatch, 0 to 1."""
        return self.differing / self.answers if self.answers else 0.0

    @property
    def causes(self) -> dict[str, int]:
        """How many mismatches each cause has, the most frequent first."""
        counts = {cause: sum(m.cause == cause for m in self.mismatches) for cause in CAUSES}
        return {c: n for c, n in sorted(counts.items(), key=lambda one: -one[1]) if n}


def parity_markdown(mismatches: Sequence[Mismatch], most: int = 50) -> str:
    """A table of the first ``most`` mismatches."""
    if not mismatches:
        return "nothing differs"
    lines = [
        "| cause | view | features | served | lake | event | request | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {m.cause} | {m.view} | {', '.join(m.features)} | {cell(m.served)} | {cell(m.lake)} | "
        f"{cell(m.event_id)} | {cell(m.request_id)} | {cell(m.detail)} |"
        for m in mismatches[:most]
    ]
    if len(mismatches) > most:
        lines.append(f"\n… and {len(mismatches) - most} more, in the table `parity`")
    return "\n".join(lines)
