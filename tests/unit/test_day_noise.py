"""How much days differ by themselves: what a shift is compared with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlops_assets.core.day_noise import shift


def wandering(rng: np.random.Generator, days: int, rows: int, memory: float) -> np.ndarray:
    """Counts of (days, 6 cells) whose shares wander from day to day, and remember."""
    level = rng.normal()
    weights = np.linspace(-1, 1, 6)
    counts = np.empty((days, 6))
    for day in range(days):
        level = memory * level + np.sqrt(1 - memory**2) * rng.normal()
        shares = np.exp(0.4 * level * weights)
        counts[day] = rng.multinomial(rows, shares / shares.sum())
    return counts


@pytest.mark.parametrize(("days", "memory"), [(1, 0.0), (7, 0.4), (28, 0.4)])
def test_windows_without_drift_are_rarely_called_different(days: int, memory: float) -> None:
    """About 1 in 20 at p ≤ 0.05, where a test of independent rows calls most of them different."""
    rng = np.random.default_rng(12)
    called = naive = 0
    for _ in range(200):
        counts = wandering(rng, 90 + days, 1000, memory)
        found = shift(counts[:90], counts[90:], 7)
        assert found is not None
        called += found.p_value <= 0.05
        table = np.stack([counts[:90].sum(axis=0), counts[90:].sum(axis=0)])
        naive += stats.chi2_contingency(table).pvalue <= 0.05
    assert called <= 20
    assert naive >= 140


def test_noise_is_what_drawing_blocks_of_days_gives() -> None:
    """The closed form of the moments, against 4,000 draws."""
    rng = np.random.default_rng(13)
    reference, current = wandering(rng, 120, 1000, 0.5), wandering(rng, 28, 1000, 0.5)
    found = shift(reference, current, 7)
    assert found is not None
    sides = []
    for window in (reference, current):
        share = window.sum(axis=0) / window.sum()
        rest = (window - window.sum(axis=1, keepdims=True) * share) / window.sum(axis=1).mean()
        sides.append(np.concatenate([rest, rest[:6]]) / np.sqrt(1 - 7 / len(window)))
    blocks = np.concatenate(
        [np.stack([side[n : n + 7].sum(axis=0) for n in range(len(side) - 6)]) for side in sides]
    )
    middle = sum(window.sum(axis=0) / window.sum() for window in (reference, current)) / 2
    drawn = [
        (
            (
                blocks[rng.integers(0, len(blocks), 4)].sum(axis=0) / 28
                - blocks[rng.integers(0, len(blocks), 17)].sum(axis=0) / 119
            )
            ** 2
            / middle
        ).sum()
        for _ in range(4000)
    ]
    independent = 5 * (1 / reference.sum() + 1 / current.sum())
    assert found.design_effect == pytest.approx(np.mean(drawn) / independent, rel=0.05)
    tail = np.sqrt(np.quantile(drawn, 0.95) / (8 * np.log(2)))
    assert found.noise == pytest.approx(tail, rel=0.05)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(1, 14))
def test_p_values_and_noise_are_always_within_bounds(
    seed: int, before: int, now: int, block: int
) -> None:
    """With few days, few rows, blocks longer than a window; rows are at most independent."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.uniform(0, 2), (before + now, 4)).astype(float) + np.eye(4)[0]
    found = shift(counts[:before], counts[before:], block)
    if found is not None:
        assert 0 <= found.p_value <= 1
        assert 0 < found.noise <= 1
        assert found.design_effect >= 1 - 1e-9
