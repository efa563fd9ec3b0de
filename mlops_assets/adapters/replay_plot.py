"""The picture of a replay: loss over time, with the retrainings marked."""

from collections.abc import Sequence
from datetime import date

from mlops_assets.adapters.figures import BLUE, GREY, ORANGE, figure_of, label_axes, png_of
from mlops_assets.core.errors import PermanentError

WEEK = 7


def replay_plot(
    days: Sequence[date],
    served: Sequence[float],
    never: Sequence[float],
    rows: Sequence[int],
    retrained: Sequence[date],
) -> bytes:
    """Log-loss (nats) over the last seven days, as served and had nobody retrained; PNG.

    All but ``retrained`` have one item per day; means are over rows.
    """
    import numpy as np
    from matplotlib.dates import date2num

    if not days:
        raise PermanentError("there are no days to plot: replay some first")
    figure = figure_of(3.6)
    axes = figure.subplots()
    label_axes(
        axes,
        f"{len(days)} days as if they were live: {len(retrained)} retrainings",
        "",
        "log-loss over seven days (nats)",
    )
    at = np.array(days, "datetime64[D]")
    axes.plot(at, _weekly(never, rows), color=ORANGE, linestyle="--", label="never retrained")
    axes.plot(at, _weekly(served, rows), color=BLUE, label="as served")
    for n, day in enumerate(retrained):
        label = "retrained" if n == 0 else None
        axes.axvline(float(date2num(day)), color=GREY, linestyle=":", linewidth=1, label=label)
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    figure.autofmt_xdate(rotation=0, ha="center")
    return png_of(figure)


def _weekly(losses: Sequence[float], rows: Sequence[int]) -> list[float]:
    found: list[float] = []
    for n in range(len(losses)):
        part = slice(max(0, n - WEEK + 1), n + 1)
        count = sum(rows[part])
        found.append(sum(a * b for a, b in zip(losses[part], rows[part], strict=True)) / count)
    return found
