"""Plots of drift and performance: small, opaque, and with what is there to see."""

import io
from datetime import date, timedelta

import pytest
from PIL import Image

from mlops_assets.adapters.monitoring_plots import (
    DriftPoint,
    PerformancePoint,
    drift_plot,
    performance_plot,
)
from mlops_assets.core.errors import PermanentError

START = date(2024, 4, 1)
VERDICTS = ("stable", "unclear", "drift")


def _drifts(days: int, promoted: int = 99) -> list[DriftPoint]:
    return [
        DriftPoint(START + timedelta(days=n), 1 + (n >= promoted), n / 100, VERDICTS[n % 3])
        for n in range(days)
    ]


def _losses(days: int, promoted: int = 99, labelled: int = 99) -> list[PerformancePoint]:
    return [
        PerformancePoint(
            day=START + timedelta(days=n),
            version=1 + (n >= promoted),
            realized_day=0.5 if n < labelled else None,
            realized=0.5 + n / 500 if n < labelled else None,
            low=0.45 if 4 < n < labelled else None,
            high=0.6 if 4 < n < labelled else None,
            estimated=0.52,
            reference=0.5,
        )
        for n in range(days)
    ]


def test_plots_are_small_opaque_pngs_of_any_history() -> None:
    """From the first day on, with gaps and promotions, and before any label."""
    plots = {
        "first day": drift_plot(_drifts(1), 0.05, 7),
        "four weeks": drift_plot(_drifts(28, promoted=13), 0.05, 7),
        "first loss": performance_plot(_losses(1), 7),
        "without labels": performance_plot(_losses(20, labelled=0), 7),
        "two months": performance_plot(_losses(60, promoted=31), 7),
        "nothing known": performance_plot([PerformancePoint(START, 1)], 7),
    }
    for name, png in plots.items():
        image = Image.open(io.BytesIO(png))
        assert "transparency" not in image.info, name
        assert len(png) < 40_000, name
        assert 600 <= image.width <= 700, name


def test_a_promotion_is_in_the_picture() -> None:
    """The same figures of one version look different."""
    assert drift_plot(_drifts(20), 0.05, 7) != drift_plot(_drifts(20, promoted=9), 0.05, 7)
    assert performance_plot(_losses(20), 7) != performance_plot(_losses(20, promoted=9), 7)


def test_nothing_to_plot_is_an_error() -> None:
    """An empty picture would look like a finding."""
    with pytest.raises(PermanentError, match="no drift"):
        drift_plot([], 0.05, 7)
    with pytest.raises(PermanentError, match="no performance"):
        performance_plot([], 7)
