"""The picture of a rollout: what each guard knew, and when."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_assets.adapters.figures import BLUE, GREY, ORANGE, PALE, figure_of, label_axes, png_of
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from mlops_assets.core.rollout_records import RolloutDecision


def rollout_plot(decisions: "Sequence[RolloutDecision]") -> bytes:
    """Each guard's value with its confidence sequence over the decisions of one rollout, beside
    the two bounds that decide; PNG.
    """
    import numpy as np

    if not decisions:
        raise PermanentError("there is no decision to plot yet")
    guards = [verdict.guard for verdict in decisions[-1].guards]
    figure = figure_of(0.6 + 1.9 * max(1, len(guards)))
    for n, guard in enumerate(guards, start=1):
        axes = figure.add_subplot(len(guards), 1, n)
        label_axes(axes, f"{guard}: challenger less champion", "", "")
        found = [
            (decision.decided_at, verdict)
            for decision in decisions
            for verdict in decision.guards
            if verdict.guard == guard and verdict.value is not None
        ]
        at = np.array([moment.replace(tzinfo=None) for moment, _ in found], "datetime64[us]")
        values = [_or_nan(verdict.value) for _, verdict in found]
        lows = [_or_nan(verdict.low) for _, verdict in found]
        highs = [_or_nan(verdict.high) for _, verdict in found]
        axes.fill_between(at, lows, highs, color=PALE, step="post", label="surely within")
        axes.plot(at, values, color=BLUE, drawstyle="steps-post", label="value")
        last = next(v for v in decisions[-1].guards if v.guard == guard)
        axes.axhline(last.abort_above, color=ORANGE, linestyle="--", label="aborts above")
        axes.axhline(last.promote_below, color=GREY, linestyle=":", label="passes below")
        axes.legend(loc="upper right", frameon=False, fontsize=7, ncols=4)
    figure.autofmt_xdate(rotation=0, ha="center")
    return png_of(figure)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
