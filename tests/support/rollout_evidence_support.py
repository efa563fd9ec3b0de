"""Rollouts and their evidence, made up."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from mlops_assets.core.rollout import begin
from mlops_assets.core.rollout_evidence import paired_block
from mlops_assets.core.rollout_guards import verdicts
from mlops_assets.core.rollout_records import (
    CountBlock,
    Evidence,
    PairedBlock,
    Rollout,
)
from mlops_assets.core.rollout_spec import RolloutSpec

START = datetime(2013, 3, 1, tzinfo=UTC)
SPEC = RolloutSpec(strategy="guarded")
LONG = START + timedelta(days=60)


def begun(spec: RolloutSpec = SPEC, **changes: Any) -> Rollout:
    """A rollout of version 2 against version 1."""
    rollout = begin(spec, use_case="visits", rollout_id="r1", champion=1, challenger=2, now=START)
    return rollout.model_copy(update=changes)


def in_stage(stage: str, share: float = 0.0, since: datetime = START) -> Rollout:
    """A rollout that has come that far."""
    return begun(stage=stage, share=share, stage_since=since)


def counted(
    hits: Sequence[int], champion_hits: Sequence[int], requests: int
) -> tuple[CountBlock, ...]:
    """A block of each hour, the same requests asked of both."""
    return tuple(
        CountBlock(
            start=START + timedelta(hours=n),
            end=START + timedelta(hours=n + 1),
            champion_requests=requests,
            champion_hits=theirs,
            challenger_requests=requests,
            challenger_hits=ours,
        )
        for n, (ours, theirs) in enumerate(zip(hits, champion_hits, strict=True))
    )


def compared(
    ratio: float,
    blocks: int,
    *,
    hours: int = 24,
    rows: int = 1000,
    spread: float = 0.02,
    requests: int | None = None,
    seed: int = 1,
) -> tuple[PairedBlock, ...]:
    """Blocks whose differences are about ``ratio`` of the base, more or less by ``spread``."""
    random = np.random.default_rng(seed)
    found: list[PairedBlock] = []
    for n in range(blocks):
        start = START + timedelta(hours=hours * n)
        base = random.uniform(0.3, 0.7, size=rows)
        d = (ratio + random.normal() * spread + 0.3 * random.normal(size=rows)) * base
        end = start + timedelta(hours=hours)
        found.append(paired_block(start, end, requests or rows, (d, base)))
    return tuple(found)


GOOD_COUNTS = counted([1] * 24, [1] * 24, 500)
GOOD = Evidence(
    errors=GOOD_COUNTS,
    latency=counted([5] * 24, [5] * 24, 500),
    scores=compared(0.2, 24, hours=1),
    quality=compared(-0.02, 14),
)


def verdict_of(guard: str, evidence: Evidence, spec: RolloutSpec = SPEC) -> str:
    """What one guard says, everything being over."""
    return {each.guard: each.verdict for each in verdicts(spec, evidence, LONG)}[guard]
