"""The signals that a live platform would have had about any champion, on any day, by look-up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING

from mlops_assets.core.candidates import PSI_LEVEL, Candidate
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.backtest.drift import DriftOf, drift_against
from mlops_assets.lifecycle.backtest.matrix import Cell
from mlops_assets.lifecycle.backtest.rows import NIGHTS, Span
from mlops_assets.lifecycle.training_set import DAY

if TYPE_CHECKING:
    from mlops_assets.core.backtest_records import ScoredDays
    from mlops_assets.core.drift import Drift
    from mlops_assets.core.monitoring_records import DriftRecord, PerformanceRecord
    from mlops_assets.core.replay import SignalsOf
    from mlops_assets.core.retraining_records import DriftSignal, Signals
    from mlops_assets.lifecycle.monitoring.performance_windows import AnsweredDay


@dataclass(frozen=True)
class Labels:
    """How far labels had come, by the events of each day whose outcome was known in which night."""

    days: tuple[date, ...]
    """With events, ascending."""
    events: Mapping[date, int]
    known: Mapping[date, Mapping[int, int]]
    """Events by day and nights after the one that ends it."""

    def known_by(self, day: date, night_after: date) -> int:
        """Events of the day whose outcome was known in the night that ends ``night_after``."""
        nights = (night_after - day).days
        return sum(count for n, count in self.known.get(day, {}).items() if n <= nights)

    def until(self, night_after: date) -> date | None:
        """The first day after the newest whose outcomes were known in that night, if any was."""
        from mlops_assets.core.monitoring import KNOWN_SHARE

        for day in reversed(self.days):
            known = self.known_by(day, night_after) if day <= night_after else -1
            if known >= KNOWN_SHARE * self.events[day]:
                return day + timedelta(days=1)
        return None


def labels_of(span: Span) -> Labels:
    """When the labels of ``span`` became known."""
    import polars as pl

    events: dict[date, int] = {}
    known: dict[date, dict[int, int]] = {}
    counts = span.events.group_by(DAY, NIGHTS).agg(pl.len().alias("events"))
    for name, nights, count in counts.iter_rows():
        day = date.fromisoformat(name)
        events[day] = events.get(day, 0) + count
        if nights is not None:
            known.setdefault(day, {})[nights] = count
    return Labels(tuple(sorted(events)), events, known)


SignalsFor = Callable[[Candidate], "SignalsOf"]
"""From a candidate to the signals that it looks at; others are not known to it."""


def watch(
    spec: UseCaseSpec, span: Span, cells: Mapping[Window, Cell], labels: Labels
) -> SignalsFor:
    """What monitoring would have found about ``cells``, whose windows end on different days.

    Nothing is computed before a policy asks for it, and nothing twice: policies mostly have the
    same champions on the same days.
    """
    from mlops_assets.core.backtest_records import VERSION
    from mlops_assets.core.monitoring import drift_record
    from mlops_assets.core.signals import signals_of
    from mlops_assets.lifecycle.monitoring.performance_windows import judge

    by_end = {window.end: (window, cell) for window, cell in cells.items()}

    @cache
    def drift_of(end: date) -> DriftOf:
        window, cell = by_end[end]
        return drift_against(spec, span, window, cell.fitted.importances)

    @cache
    def drift(end: date, day: date) -> "tuple[DriftRecord, DriftSignal]":
        found = drift_of(end)(day)
        return drift_record(spec.name, day, VERSION, found), _naive(found)

    @cache
    def performance(end: date, served_from: date, day: date) -> "PerformanceRecord":
        fitted, scored = by_end[end][1].fitted, by_end[end][1].scored
        history = answered(labels, scored, served_from, day)
        return judge(spec, day, VERSION, fitted.reference, history).record

    @cache
    def nothing(day: date) -> "PerformanceRecord":
        return judge(spec, day, VERSION, None, answered(labels, None, day, day)).record

    def signals_for(candidate: Candidate) -> "SignalsOf":
        def signals(day: date, trained_until: date, served_from: date) -> "Signals":
            drifted = drift(trained_until, day) if candidate.looks_at_drift else None
            found = signals_of(
                spec.name,
                drifted[0] if drifted else None,
                performance(trained_until, served_from, day)
                if candidate.looks_at_performance
                else nothing(day),
                VERSION,
                trained_until,
            )
            if found is None:
                raise PermanentError(f"{spec.name}: nothing is known about {day}")
            if drifted and candidate.naive_drift:
                found = found.model_copy(update={"drift": drifted[1]})
            return found

        return signals

    return signals_for


def answered(
    labels: Labels, scored: "ScoredDays | None", served_from: date, day: date
) -> "dict[date, AnsweredDay]":
    """The answered days before the night that ends ``day``, as known in it: those from
    ``served_from`` on with what the model of ``scored`` answered, the others with their labels.
    """
    from mlops_assets.core.backtest_records import VERSION, expected_by, known_by
    from mlops_assets.lifecycle.monitoring.performance_windows import LOOKBACK_DAYS, AnsweredDay

    end = day + timedelta(days=1)
    realized = known_by(scored, day, served_from, end) if scored else {}
    estimated = expected_by(scored, day, served_from, end) if scored else {}
    first = day - timedelta(days=LOOKBACK_DAYS - 1)
    return {
        each: AnsweredDay(
            answers=labels.events[each],
            known=labels.known_by(each, day),
            positives=0,
            labelled=0,
            realized={VERSION: realized[each]} if each in realized else {},
            estimated={VERSION: estimated[each]} if each in estimated else {},
        )
        for each in labels.days
        if first <= each < end
    }


def _naive(found: "Drift") -> "DriftSignal":
    """The greatest PSI of any column in the place of the drift."""
    from mlops_assets.core.retraining_records import DriftSignal

    psi = {
        column.column: column.distances.psi
        for column in found.columns
        if column.distances is not None and column.distances.psi is not None
    }
    above = tuple(name for name, value in psi.items() if value > PSI_LEVEL)
    return DriftSignal(weighted=max(psi.values(), default=0.0), drifted=above)
