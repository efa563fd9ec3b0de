"""The picture of a backtest: log-loss over time by policy, with the retrainings marked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_assets.adapters.figures import BLUE, GREY, ORANGE, figure_of, label_axes, png_of
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from datetime import date

    from mlops_assets.core.backtest_report import BacktestSummary, PolicyResult

# The chosen policy first; colours of Okabe and Ito, and no two lines are drawn alike.
_STYLES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), ("#009E73", "-.", "^"), ("#CC79A7", ":", "D"))


def backtest_plot(summary: "BacktestSummary", names: Sequence[str] | None = None) -> bytes:
    """Weekly log-loss (nats), what each policy saved until then, and its trainings; PNG.

    ``names`` (at most four; default: the chosen policy and the baselines) are the policies shown.
    The saving is log-loss below that of never retraining, the mean over the weeks so far; without
    ``never`` in the summary, below that of the first policy shown.
    Raises PermanentError when no policy has such a name.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    from mlops_assets.core.backtest_report import BASELINES
    from mlops_assets.core.candidates import NEVER

    wanted = dict.fromkeys(names or (summary.chosen, *BASELINES))
    shown = [found for name in wanted if (found := summary.policy(name))][: len(_STYLES)]
    if not shown:
        raise PermanentError("the backtest has no policy to plot: replay some first")
    base = summary.policy(NEVER) or shown[0]
    figure = figure_of(6.6)
    upper, middle, lower = figure.subplots(
        3, 1, sharex=True, height_ratios=(3, 3, 0.4 + 0.4 * len(shown))
    )
    label_axes(upper, f"Retraining policies of {summary.use_case}", "", "log-loss of the week")
    label_axes(middle, "", "", "saved so far against\nnever (nats a row)")
    label_axes(lower, "", "", "")
    lower.set_title("trainings", fontsize=9, loc="left")
    at, locator = _numbers(summary.weeks), AutoDateLocator()
    split = float(date2num(summary.split))
    for n, found in enumerate(shown):
        colour, line, marker = _STYLES[n]
        label = f"{found.name} (chosen)" if found.name == summary.chosen else found.name
        weekly = [float("nan") if loss is None else loss for loss in found.weekly]
        upper.plot(at, weekly, color=colour, linestyle=line, label=label, linewidth=1.4)
        if found is not base:
            middle.plot(at, _saved(found, base), color=colour, linestyle=line, linewidth=1.4)
        days = _numbers(found.trained)
        lower.plot(days, [n] * len(days), color=colour, linestyle="", marker=marker, markersize=4)
        place = lower.get_yaxis_transform()
        lower.text(0.005, n - 0.28, label, transform=place, fontsize=6.5, color=GREY)
    middle.axhline(0, color=GREY, linewidth=0.8)
    for axes in (upper, middle, lower):
        axes.axvline(split, color=GREY, linestyle=":", linewidth=1)
    upper.annotate(
        "chosen before, reported after",
        (split, 0),
        xycoords=("data", "axes fraction"),
        xytext=(3, 3),
        textcoords="offset points",
        fontsize=7,
        color=GREY,
    )
    # Room above the lines.
    low, high = upper.get_ylim()
    upper.set_ylim(low, high + 0.45 * (high - low))
    upper.legend(frameon=False, fontsize=8, loc="upper left")
    lower.set_yticks(range(len(shown)), [f"{len(f.trained)}" for f in shown], fontsize=8)
    lower.set_ylim(len(shown) - 0.5, -0.8)
    lower.xaxis.set_major_locator(locator)
    lower.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return png_of(figure)


def _numbers(days: "Sequence[date]") -> list[float]:
    from matplotlib.dates import date2num

    return [float(date2num(day)) for day in days]


def _saved(found: "PolicyResult", base: "PolicyResult") -> list[float]:
    saved: list[float] = []
    total, weeks = 0.0, 0
    for loss, other in zip(found.weekly, base.weekly, strict=True):
        if loss is not None and other is not None:
            total, weeks = total + other - loss, weeks + 1
        saved.append(total / weeks if weeks else float("nan"))
    return saved
