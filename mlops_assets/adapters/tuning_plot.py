"""The picture of a study: each trial's log-loss, and the best so far."""

from typing import TYPE_CHECKING

from mlops_assets.adapters.figures import BLUE, GREY, ORANGE, figure_of, label_axes, png_of
from mlops_assets.core.tuning import finished

if TYPE_CHECKING:
    from mlops_assets.core.tuning import TuningRecord


def tuning_plot(record: "TuningRecord") -> bytes:
    """Validation log-loss (nats) over trials, in the order in which they were tried; PNG.

    Pruned trials are crosses at the log-loss where they were stopped.
    """
    figure = figure_of(3.2)
    axes = figure.subplots()
    label_axes(
        axes, f"Tuning of {record.use_case}", "trials that have ended", "validation log-loss"
    )
    trials = [
        (n, one) for n, one in enumerate(finished(record.trials), 1) if one.log_loss is not None
    ]
    best, steps = float("inf"), list[tuple[int, float]]()
    for n, one in trials:
        if one.state == "complete" and one.log_loss is not None:
            best = min(best, one.log_loss)
        if best < float("inf"):
            steps.append((n, best))
    for state, marker, colour in (("complete", "o", BLUE), ("pruned", "x", GREY)):
        shown = [(n, one.log_loss) for n, one in trials if one.state == state]
        if shown:
            at, losses = zip(*shown, strict=True)
            axes.plot(at, losses, linestyle="", marker=marker, color=colour, ms=4, label=state)
    if steps:
        at, losses = zip(*steps, strict=True)
        axes.step(at, losses, where="post", color=ORANGE, linewidth=1.4, label="best so far")
    if trials:
        axes.legend(frameon=False, fontsize=8)
    return png_of(figure)
