"""Evidence as the blocks that changed: what an entry of the ledger keeps, since most stay."""

from typing import TypeVar

from mlops_assets.core.rollout_records import CountBlock, Evidence, PairedBlock


def changes(before: Evidence, now: Evidence) -> Evidence:
    """What of ``now`` is not in ``before``, or otherwise."""
    return Evidence(
        errors=_new(before.errors, now.errors),
        latency=_new(before.latency, now.latency),
        scores=_new(before.scores, now.scores),
        quality=_new(before.quality, now.quality),
        readiness=now.readiness,
    )


def laid_over(before: Evidence, new: Evidence) -> Evidence:
    """``before`` with the blocks and the readiness of ``new`` in the place of its own."""
    return Evidence(
        errors=_over(before.errors, new.errors),
        latency=_over(before.latency, new.latency),
        scores=_over(before.scores, new.scores),
        quality=_over(before.quality, new.quality),
        readiness=new.readiness,
    )


_Block = TypeVar("_Block", CountBlock, PairedBlock)


def _new(before: tuple[_Block, ...], now: tuple[_Block, ...]) -> tuple[_Block, ...]:
    known = {block.start: block for block in before}
    return tuple(block for block in now if known.get(block.start) != block)


def _over(before: tuple[_Block, ...], new: tuple[_Block, ...]) -> tuple[_Block, ...]:
    found = {block.start: block for block in (*before, *new)}
    return tuple(found[start] for start in sorted(found))
