"""Plots of drift and performance over time that Dagster's UI shows inline, as PNG."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

from mlops_assets.adapters.figures import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    figure_of,
    label_axes,
    png_of,
)
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class DriftPoint:
    """The drift of the window that ends with ``day``."""

    day: date
    version: int
    drift: float
    verdict: str


@dataclass(frozen=True)
class PerformancePoint:
    """Log-losses (nats) of a day and of the window that ends with it; None where not known."""

    day: date
    version: int
    realized_day: float | None = None
    realized: float | None = None
    low: float | None = None
    high: float | None = None
    estimated: float | None = None
    reference: float | None = None


class _Dated(Protocol):
    @property
    def day(self) -> date: ...

    @property
    def version(self) -> int: ...


_Point = TypeVar("_Point", bound=_Dated)


def drift_plot(points: Sequence[DriftPoint], threshold: float, window_days: int) -> bytes:
    """The drift of each window, marked by verdict, and from where on it is drift; PNG.

    Points in the order of their days. Raises PermanentError for none.
    """
    if not points:
        raise PermanentError("there is no drift to plot: give at least one day")
    figure = figure_of(3.4)
    axes = figure.subplots()
    label_axes(
        axes,
        f"Drift of {window_days} days, by the last of them",
        "",
        "drift, weighted by importance",
    )
    for run in _runs(points):
        axes.plot(_days(run), [point.drift for point in run], color=PALE, zorder=1)
    marks = (("stable", BLUE, "o"), ("unclear", GREY, "s"), ("drift", ORANGE, "^"))
    for verdict, colour, marker in marks:
        of = [point for point in points if point.verdict == verdict]
        if of:
            drifts = [point.drift for point in of]
            axes.scatter(_days(of), drifts, color=colour, marker=marker, s=22, label=verdict)
    axes.axhline(threshold, color=GREY, linestyle="--", linewidth=1, label="drift from here on")
    axes.set_ylim(0, 1.15 * max(threshold, *(point.drift for point in points)))
    _mark_versions(axes, points)
    _dates(axes, points)
    _legend(figure, axes)
    return png_of(figure)


def performance_plot(points: Sequence[PerformancePoint], window_days: int) -> bytes:
    """Realized and estimated log-loss of each window against the version's own holdout; PNG.

    Points in the order of their days. Raises PermanentError for none.
    """
    if not points:
        raise PermanentError("there is no performance to plot: give at least one day")
    figure = figure_of(4.0)
    axes = figure.subplots()
    label_axes(
        axes,
        f"Log-loss over {window_days} days, by the last of them",
        "",
        "log-loss (nats)",
    )
    labels = ("realized, 95 % interval", "own holdout", "estimated", "realized")
    for run in _runs(points):
        days = _days(run)
        low, high = _floats(point.low for point in run), _floats(point.high for point in run)
        interval, holdout, estimated, realized = labels
        axes.fill_between(days, low, high, color=PALE, alpha=0.6, linewidth=0, label=interval)
        reference = _floats(point.reference for point in run)
        axes.plot(days, reference, color=GREY, linestyle=":", marker="_", label=holdout)
        expected = _floats(point.estimated for point in run)
        axes.plot(days, expected, color=ORANGE, linestyle="--", marker="|", label=estimated)
        found = _floats(point.realized for point in run)
        axes.plot(days, found, color=BLUE, marker=".", label=realized)
        # One entry of each kind, whatever the number of versions.
        labels = ("_", "_", "_", "_")
    single = _floats(point.realized_day for point in points)
    axes.scatter(
        _days(points), single, color=BLUE, alpha=0.5, s=12, marker="x", label="realized, one day"
    )
    _mark_versions(axes, points)
    _dates(axes, points)
    _legend(figure, axes)
    return png_of(figure)


def _days(points: Sequence[_Dated]) -> list[float]:
    """The days as Matplotlib counts them."""
    from matplotlib.dates import date2num

    return [float(date2num(point.day)) for point in points]


def _legend(figure: "Figure", axes: "Axes") -> None:
    """Below the axes, where it hides nothing."""
    # Margins that are given take half the time of those that are sought.
    figure.set_layout_engine(None)
    inches = figure.get_figheight()
    figure.subplots_adjust(left=0.11, right=0.98, top=1 - 0.3 / inches, bottom=0.85 / inches)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=8)


def _runs(points: "Sequence[_Point]") -> "list[list[_Point]]":
    """Points of one version in a row: no line joins figures of different versions."""
    runs: list[list[_Point]] = []
    for point in points:
        if runs and runs[-1][-1].version == point.version:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _floats(values: Iterable[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _mark_versions(axes: "Axes", points: Sequence[_Dated]) -> None:
    """A line before the first day of each version, with its number at the top."""
    for before, now in pairwise(points):
        if before.version != now.version:
            at = _days([now])[0] - 0.5
            axes.axvline(at, color=GREY, linewidth=0.8)
            axes.annotate(
                f"version {now.version}",
                (at, 0.98),
                xycoords=("data", "axes fraction"),
                xytext=(2, 0),
                textcoords="offset points",
                va="top",
                fontsize=7,
                color=GREY,
            )


def _dates(axes: "Axes", points: Sequence[_Dated]) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    days = _days(points)
    axes.set_xlim(days[0] - 0.7, days[-1] + 0.7)
