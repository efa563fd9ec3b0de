"""Pairs of scores as sums: by version, by block, with labels where there are some."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from mlops_assets.core.rollout_pairs import (
    Versions,
    by_version,
    evidence_of,
    quality_blocks,
    table_of,
)
from mlops_assets.core.rollout_spec import QualityGuardSpec, RolloutSpec

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
R1 = Versions("r1", 1, 2)


def _pairs(rows: int, *, swapped: bool = False, start: datetime = NOON) -> pl.DataFrame:
    """One pair every ten minutes; version 1 says 0.2 or 0.3, version 2 says 0.6 or 0.8."""
    scores = [(0.2, 0.6) if n % 2 else (0.3, 0.8) for n in range(rows)]
    first, second = (2, 1) if swapped else (1, 2)
    return pl.DataFrame(
        {
            "request_id": [f"r{n}" for n in range(rows)],
            "row": [0] * rows,
            "event_id": [f"e{n}" for n in range(rows)],
            "asked_at": [start + timedelta(minutes=10 * n) for n in range(rows)],
            "champion_version": [first] * rows,
            "challenger_version": [second] * rows,
            "champion_score": [pair[first - 1] for pair in scores],
            "challenger_score": [pair[second - 1] for pair in scores],
        },
        schema_overrides={"asked_at": pl.Datetime("us", "UTC"), "row": pl.Int32},
    )


def _outcomes(pairs: pl.DataFrame, labels: list[int | None]) -> pl.DataFrame:
    return pairs.select("event_id", "asked_at").with_columns(
        pl.Series("label", labels, pl.Int32), outcome_known=pl.lit(True)
    )


def test_after_the_promotion_scores_stay_with_their_models() -> None:
    """Roles are swapped in the watch; what is compared is versions."""
    before, after = by_version(_pairs(4), R1), by_version(_pairs(4, swapped=True), R1)
    for column in ("champion_score", "challenger_score"):
        assert before[column].to_list() == after[column].to_list()
    assert before["champion_score"].to_list() == [0.3, 0.2, 0.3, 0.2]


def test_pairs_of_other_versions_and_of_failed_models_are_left_out() -> None:
    """A rollout compares two models on what both scored."""
    failed = _pairs(2).with_columns(challenger_score=pl.lit(None, pl.Float64))
    other = _pairs(2).with_columns(challenger_version=pl.lit(3, pl.Int64))
    assert by_version(pl.concat([failed, other.select(failed.columns)]), R1).height == 0


def test_labels_that_will_never_come_do_not_hold_a_block_up() -> None:
    """An event that ended without one is not waited for; one that has not ended is."""
    pairs = by_version(_pairs(4), R1)
    outcomes = _outcomes(pairs, [1, None, None, 0]).with_columns(
        outcome_known=pl.Series([True, True, False, True])
    )
    (block,) = quality_blocks(pairs, outcomes, "day", BERLIN)
    assert (block.requests, block.rows) == (3, 2)
    losses = [-np.log(0.8) + np.log(0.3), -np.log(0.4) + np.log(0.8)]
    assert block.d == pytest.approx(sum(losses))


def test_an_event_that_was_asked_about_twice_counts_with_the_answer_that_its_outcome_is_about() -> (
    None
):
    """Which is the last one before it."""
    pairs = by_version(_pairs(3).with_columns(event_id=pl.lit("e0")), R1)
    outcomes = _outcomes(pairs.tail(1), [1])
    (block,) = quality_blocks(pairs, outcomes, "hour", BERLIN)
    assert (block.requests, block.rows) == (1, 1)


def test_blocks_of_two_partitions_add_up() -> None:
    """A day's requests may be about the events of two days."""
    pairs = _pairs(12)
    policy = RolloutSpec(strategy="guarded", quality=QualityGuardSpec(unit="day"))
    one, two = pairs.head(6), pairs.tail(6)
    labels: list[int | None] = [1, 0, 1, 0, 1, 0]
    tables = [
        table_of(pairs.with_columns(of_day=pl.lit(n == 0)), _outcomes(part, labels), R1, BERLIN)
        for n, part in enumerate((one, two))
    ]
    found = evidence_of(pl.concat(tables), "r1", policy)
    (quality,) = found.quality
    assert (quality.requests, quality.rows) == (12, 12)
    assert sum(block.requests for block in found.scores) == 12
    assert [block.start for block in found.scores] == [NOON, NOON + timedelta(hours=1)]
    assert evidence_of(pl.concat(tables), "r2", policy).quality == ()
