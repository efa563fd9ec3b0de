"""Resampled days: what is drawn, and what becomes of draws that say nothing."""

import numpy as np
import pytest

from mlops_assets.core.day_bootstrap import (
    drawn_days,
    errors_of,
    interval_of,
    resampled,
    with_errors,
)
from mlops_assets.core.errors import PermanentError


def test_a_resample_adds_up_the_days_that_are_drawn() -> None:
    """As copying the days does."""
    random = np.random.default_rng(0)
    table = random.normal(size=(7, 3))
    drawn = drawn_days(random, 7, 50)
    assert drawn.shape == (50, 7)
    assert set(drawn.ravel()) == set(range(7))
    assert resampled(table, drawn) == pytest.approx(table[drawn].sum(axis=1))


def test_errors_are_centred_over_rows() -> None:
    """What all days share is no luck of a day, also where days differ in rows."""
    realized = np.array([[10.0, 8.0], [30.0, 9.0], [20.0, 7.0]])
    estimated = np.array([[10.0, 5.0], [30.0, 6.0], [20.0, 2.0]])
    errors = errors_of(realized, estimated)
    assert errors.rows @ errors.per_row == pytest.approx([0, 0], abs=1e-12)
    assert errors.per_row[0, 1] - errors.per_row[1, 1] == pytest.approx(3 / 10 - 3 / 30)
    with pytest.raises(PermanentError, match="differ in rows"):
        errors_of(realized, estimated + 1)


def test_estimates_without_errors_do_not_move() -> None:
    """The reference was met exactly: there is nothing to draw."""
    table = np.array([[10.0, 8.0], [30.0, 9.0]])
    rows = np.full((40, 3), 25.0)
    moved = with_errors(
        np.array([[75.0, 30.0]]), rows, errors_of(table, table), np.random.default_rng(0)
    )
    assert moved == pytest.approx(np.tile([75.0, 30.0], (40, 1)))


def test_intervals_leave_out_undefined_draws_while_they_are_few() -> None:
    """One in twenty at 95 %; more, and there is no interval."""
    draws = np.arange(100.0)
    draws[:5] = np.nan
    found = interval_of(50, draws, 0.95)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws[5:], [0.025, 0.975])))
    draws[5] = np.nan
    assert interval_of(50, draws, 0.95).low is None
    assert interval_of(-3, np.arange(100.0), 0.95).low == -3
