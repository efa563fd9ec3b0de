"""Plots: small, opaque, drawn from the figures given, without state in the process."""

import base64
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mlops_assets.adapters.figures import markdown_image
from mlops_assets.adapters.plots import (
    importance_plot,
    reliability_plot,
    slices_plot,
    training_curve,
)
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.metrics import reliability, slices

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.beta(2, 5, 3000)
LABELS = (RANDOM.uniform(size=3000) < SCORES).astype(int)
HISTORY = {
    "train_log_loss": [0.6 - 0.001 * n for n in range(150)],
    "validation_log_loss": [0.62 - 0.0008 * n for n in range(150)],
}


def _plots() -> dict[str, bytes]:
    many = [f"N{n % 400:04d}" for n in range(3000)]
    some = [None if n % 9 == 0 else "$a_1^2$" if n % 2 else "x" * 80 for n in range(3000)]
    return {
        "reliability": reliability_plot(reliability(LABELS, SCORES)),
        "training": training_curve(HISTORY, 120),
        "many slices": slices_plot("aircraft", slices(LABELS, SCORES, many)),
        "odd slices": slices_plot("odd", slices(LABELS, SCORES, some)),
        "hours": slices_plot("hour", slices(LABELS, SCORES, list(np.arange(3000) % 24.0))),
        "importances": importance_plot({f"feature_{n}" * 5: float(n) for n in range(40)}),
        "no importance": importance_plot({"feature": 0.0}),
    }


def test_plots_are_small_opaque_pngs() -> None:
    """Less than 40 kB each, on white that no theme shines through."""
    for name, png in _plots().items():
        image = Image.open(io.BytesIO(png))
        assert image.format == "PNG", name
        assert "transparency" not in image.info, name
        assert len(png) < 40_000, name
        assert 600 <= image.width <= 700, name
        colours = image.convert("RGB")
        assert min(colours.getpixel((0, 0))) >= 254, name
        assert len(colours.getcolors(256) or []) > 5, name


def test_the_same_figures_give_the_same_bytes() -> None:
    """No time and no version in the file."""
    assert _plots() == _plots()


def test_the_rounds_kept_are_in_the_picture() -> None:
    """Another number of rounds is another picture."""
    assert training_curve(HISTORY, 120) != training_curve(HISTORY, 60)


def test_few_slices_make_a_lower_picture_than_many() -> None:
    """At most twenty, so that a feature of thousands of values stays readable."""
    heights = [
        Image.open(io.BytesIO(slices_plot("x", slices(LABELS, SCORES, values)))).height
        for values in (["a"] * 3000, [n % 20 for n in range(3000)], [n % 999 for n in range(3000)])
    ]
    assert heights[0] < heights[1] == heights[2]


def test_a_picture_travels_inside_markdown() -> None:
    """As a data URI, and no character of the text ends it early."""
    png = training_curve(HISTORY, 120)
    text = markdown_image(png, "a [b](c)\nd")
    assert text.startswith("![a  b (c) d](data:image/png;base64,")
    assert base64.b64decode(text.split("base64,")[1].removesuffix(")")) == png


def test_nothing_to_plot_is_an_error() -> None:
    """An empty picture would look like a finding."""
    with pytest.raises(PermanentError, match="no bins"):
        reliability_plot([])
    with pytest.raises(PermanentError, match="no slices of hour"):
        slices_plot("hour", [])
    with pytest.raises(PermanentError, match="no importances"):
        importance_plot({})


def test_pyplot_is_never_loaded() -> None:
    """It would keep each figure for ever in a long-lived process."""
    code = (
        "import sys; from mlops_assets.adapters.plots import importance_plot; "
        "assert 'matplotlib' not in sys.modules; importance_plot({'a': 1.0}); "
        "assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
