"""Small plots of models that Dagster's UI shows inline, as PNG."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlops_assets.adapters.figures import BLUE, GREY, ORANGE, PALE, figure_of, label_axes, png_of
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from mlops_assets.core.metrics import ReliabilityBin, Slice

MOST_BARS = 20


def reliability_plot(bins: "Sequence[ReliabilityBin]") -> bytes:
    """What was promised against what happened, with 95 % intervals; PNG."""
    if not bins:
        raise PermanentError("there are no bins to plot: give at least one")
    figure = figure_of(4.4)
    axes = figure.subplots()
    rows = sum(part.rows for part in bins)
    label_axes(
        axes,
        f"Reliability: {rows:,} rows in {len(bins)} bins",
        "predicted probability (mean of the bin)",
        "share of positives (bars: 95 % interval)",
    )
    most = min(1.0, 1.08 * max(max(part.high, part.mean_score) for part in bins))
    axes.plot([0, most], [0, most], color=GREY, linestyle="--", label="perfectly calibrated")
    mean_scores = [part.mean_score for part in bins]
    observed = [part.observed for part in bins]
    axes.errorbar(
        mean_scores,
        observed,
        yerr=[
            [part.observed - part.low for part in bins],
            [part.high - part.observed for part in bins],
        ],
        color=BLUE,
        marker="o",
        capsize=3,
        label="model",
    )
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.legend(loc="upper left", frameon=False)
    return png_of(figure)


def training_curve(history: Mapping[str, Sequence[float]], rounds: int) -> bytes:
    """The log-loss after each boosting round, and the ``rounds`` that were kept; PNG.

    ``history`` has one list per part of the data, e.g. ``validation_log_loss``, in nats.
    """
    figure = figure_of(4.0)
    axes = figure.subplots()
    label_axes(axes, f"Training: {rounds:,} rounds kept", "boosting round", "log-loss (nats)")
    styles = ((BLUE, "-"), (ORANGE, "--"), (GREY, "-."))
    for n, (name, values) in enumerate(history.items()):
        colour, line = styles[n % len(styles)]
        label = name.removesuffix("_log_loss")
        axes.plot(range(1, len(values) + 1), values, color=colour, linestyle=line, label=label)
    axes.axvline(rounds, color=GREY, linestyle=":", label="last round kept")
    axes.legend(frameon=False)
    return png_of(figure)


def slices_plot(name: str, values: "Sequence[Slice]") -> bytes:
    """Share of positives and gain in log-loss for the largest slices of feature ``name``; PNG.

    Slices in numeric order when their values are numbers, else most rows first. Slices with few
    rows are pale and hatched.
    """
    if not values:
        raise PermanentError(f"there are no slices of {name} to plot: give at least one")
    shown = _ordered(list(values)[:MOST_BARS])
    figure = figure_of(1.6 + 0.24 * len(shown))
    left, right = figure.subplots(1, 2, sharey=True)
    title = f"{name}: {len(shown)} slices"
    if len(values) > len(shown):
        title = f"{name}: the {len(shown)} largest of {len(values):,} slices"
    figure.suptitle(_short(title, 70), fontsize=11)
    label_axes(left, "", "share of positives", "")
    label_axes(right, "", "gain in log-loss over the slice's\nown base rate (nats)", "")
    at = range(len(shown))
    left.scatter([part.base_rate for part in shown], list(at), color=ORANGE, marker="D", s=18)
    left.set_xlim(0, max(0.01, min(1.0, 1.1 * max(part.base_rate for part in shown))))
    left.set_ylim(len(shown) - 0.4, -0.6)
    bars = right.barh(
        list(at), [part.gain for part in shown], color=[PALE if p.small else BLUE for p in shown]
    )
    for bar, part in zip(bars, shown, strict=True):
        if part.small:
            bar.set_hatch("///")
    right.axvline(0, color=GREY, linewidth=0.8)
    left.set_yticks(list(at), [_slice_label(part) for part in shown], fontsize=8)
    if any(part.small for part in shown):
        right.set_title("hatched: few rows", fontsize=8, color=GREY)
    return png_of(figure)


def importance_plot(importances: Mapping[str, float]) -> bytes:
    """The most important features, each as a share of all importance; PNG."""
    if not importances:
        raise PermanentError("there are no importances to plot: give at least one")
    total = sum(importances.values()) or 1.0
    ranked = sorted(importances.items(), key=lambda item: (-item[1], item[0]))[:MOST_BARS]
    figure = figure_of(1.3 + 0.24 * len(ranked))
    axes = figure.subplots()
    title = "Importance of features"
    if len(importances) > len(ranked):
        title = f"Importance of the first {len(ranked)} of {len(importances):,} features"
    label_axes(axes, title, "share of all importance (%)", "")
    at = list(range(len(ranked)))
    axes.barh(at, [100 * value / total for _, value in ranked], color=BLUE)
    axes.set_yticks(at, [_short(feature, 32) for feature, _ in ranked], fontsize=8)
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    return png_of(figure)


def _ordered(values: "list[Slice]") -> "list[Slice]":
    try:
        return sorted(values, key=lambda p: float("inf") if p.value is None else float(p.value))
    except ValueError:
        return values


def _slice_label(part: "Slice") -> str:
    value = "(missing)" if part.value is None else _short(part.value, 20)
    return f"{value}  ({part.rows:,} rows)"


def _short(text: str, most: int) -> str:
    # A dollar sign would begin a formula.
    text = text.replace("$", r"\$")
    return text if len(text) <= most else text[: most - 1] + "…"
