"""Companions: what a number should be, told by those that move with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.companions import MINIMUM_DAYS, fit


def window(seed: int, days: int = 40, others: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A number that the first two of some others tell, with noise, and all of the others."""
    rng = np.random.default_rng(seed)
    candidates = rng.normal(size=(days, others)) * 10.0 ** rng.integers(-3, 4, others)
    number = candidates[:, 0] / candidates[:, 0].std() + candidates[:, 1] / candidates[:, 1].std()
    return number + 0.1 * rng.normal(size=days), candidates


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_companions_that_tell_a_number_are_found_and_tell_it(seed: int) -> None:
    """Whatever their units, and what they tell is as exact as the noise allows."""
    number, candidates = window(seed)
    found = fit(number[:-1], candidates[:-1], candidates[-1], 0.0)
    assert found is not None
    assert set(found.companions[:2]) == {0, 1}
    told = found.told(candidates[-1:])
    assert abs(told.value[0] - number[-1]) < 6 * 0.1 * told.widening[0]
    assert found.error < found.before / 3


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_residuals_are_those_of_a_fit_without_the_day(seed: int) -> None:
    """The law of PRESS, against fits that leave each day out."""
    number, candidates = window(seed, days=30)
    found = fit(number, candidates, candidates[-1], 0.0)
    assert found is not None
    design = np.column_stack([np.ones(30), candidates[:, list(found.companions)]])
    for day in range(30):
        rest = np.arange(30) != day
        weights = np.linalg.lstsq(design[rest], number[rest], rcond=None)[0]
        assert found.residuals[day] == pytest.approx(number[day] - design[day] @ weights, abs=1e-6)
    assert found.worst == pytest.approx(np.abs(found.residuals).max())
    assert found.error == pytest.approx(np.sqrt((found.residuals**2).mean()))


def test_what_nobody_tells_is_told_by_its_own_mean() -> None:
    """No companion is chosen that takes away less than a tenth of the error."""
    rng = np.random.default_rng(1)
    number = rng.normal(5, 1, 60)
    found = fit(number, rng.normal(size=(60, 3)) * 1e-3, np.zeros(3), 0.0)
    assert found is not None
    assert len(found.companions) <= 1
    assert found.told(np.zeros((1, 3))).value[0] == pytest.approx(5, abs=0.5)


def test_constant_copied_and_unknown_candidates_do_no_harm() -> None:
    """A constant, a column of nulls, one that is unknown today, and two that are the same."""
    number, candidates = window(4)
    awkward = np.column_stack(
        [
            np.full(len(number), 0.1),
            np.full(len(number), np.nan),
            number,
            candidates[:, 0],
            candidates,
        ]
    )
    today = awkward[-1].copy()
    today[2] = np.nan
    found = fit(number, awkward, today, 0.0)
    assert found is not None
    assert not {0, 1, 2} & set(found.companions)
    assert np.isfinite(found.told(today[None]).value).all()


def test_a_number_that_is_known_on_too_few_days_is_not_judged() -> None:
    """Three weeks at least, however long the window is."""
    number, candidates = window(5)
    number[: len(number) - MINIMUM_DAYS + 1] = np.nan
    assert fit(number, candidates, candidates[-1], 0.0) is None
    number[0] = 1.0
    assert fit(number, candidates, candidates[-1], 0.0) is not None
