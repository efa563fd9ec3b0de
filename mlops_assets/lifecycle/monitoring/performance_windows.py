"""The performance of a window of days, from the statistics of its days."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from mlops_assets.core.monitoring_records import LossRecord, PerformanceRecord
from mlops_assets.core.spec import UseCaseSpec

if TYPE_CHECKING:
    from mlops_assets.core.day_bootstrap import Interval
    from mlops_assets.core.performance_audit import AuditDay
    from mlops_assets.core.performance_days import DayStatistics, Reference

LOOKBACK_DAYS = 92
"""Days before a day whose statistics are looked at: labels that come later than that count in the
figures of their own day alone."""


@dataclass(frozen=True)
class AnsweredDay:
    """What champions answered on a day, and the statistics of each."""

    answers: int
    known: int
    positives: int
    labelled: int
    realized: "Mapping[int, DayStatistics]"
    estimated: "Mapping[int, DayStatistics]"

    @property
    def settled(self) -> bool:
        """Whether labels may be looked at: those that come first are not like the others."""
        from mlops_assets.core.monitoring import KNOWN_SHARE

        return self.known >= KNOWN_SHARE * self.answers


@dataclass(frozen=True)
class DayPerformance:
    """The performance of the window that ends with a day, and that of the day alone."""

    record: PerformanceRecord
    answers: int
    base_rate: float | None
    """Share of positives among labelled events; None before most outcomes are known."""
    realized: float | None
    """Log-loss of the day; None before most outcomes are known."""
    estimated: "Interval | None"
    audit: "AuditDay | None"
    """The day's estimate beside its labels, once most outcomes are known."""

    @property
    def verdict(self) -> str:
        """``fell`` if labels or the estimate for newer days say so, else what labels say."""
        return verdict_of(self.record.realized, self.record.estimated)

    @property
    def figures(self) -> dict[str, float | None]:
        """The numbers of the table, by column."""
        record = self.record
        realized, estimated = record.realized, record.estimated
        any_window = realized or estimated
        return {
            "outcomes_known": record.outcomes_known,
            "base_rate": self.base_rate,
            "realized": self.realized,
            "estimated": self.estimated.value if self.estimated else None,
            "estimated_low": self.estimated.low if self.estimated else None,
            "estimated_high": self.estimated.high if self.estimated else None,
            "realized_window": realized.loss if realized else None,
            "realized_window_low": realized.low if realized else None,
            "realized_window_high": realized.high if realized else None,
            "estimated_window": estimated.loss if estimated else None,
            "estimated_window_low": estimated.low if estimated else None,
            "estimated_window_high": estimated.high if estimated else None,
            "reference": any_window.reference if any_window else None,
            "audit_error": record.audit_error,
            "audit_bias": record.audit_bias,
            "audit_coverage": record.audit_coverage,
        }


def verdict_of(realized: LossRecord | None, estimated: LossRecord | None) -> str:
    """Both verdicts in one: ``fell``, ``held``, ``inconclusive``, or empty before there is any."""
    found = [each.verdict for each in (realized, estimated) if each is not None]
    return "fell" if "fell" in found else found[0] if found else ""


def judge(
    spec: UseCaseSpec,
    day: date,
    version: int,
    reference: "Reference | None",
    history: Mapping[date, AnsweredDay],
) -> DayPerformance:
    """The performance of ``version`` over the window that ends with ``day``.

    Realized: over the newest days whose outcomes are known, as many as the window has, so that
    labels that take weeks count too. Estimated: over the window's own days.
    """
    from mlops_assets.core.monitoring import audited, performance_record
    from mlops_assets.core.performance_audit import (
        RUNNING_DAYS,
        LossReference,
        estimated_loss,
        losses_of,
    )

    within = {of: history[of] for of in _dates(day, LOOKBACK_DAYS) if of in history}
    settled = [of for of, found in within.items() if found.settled]
    realized = {
        of: within[of].realized[version] for of in settled if version in within[of].realized
    }
    estimated = {
        of: found.estimated[version] for of, found in within.items() if version in found.estimated
    }
    width = spec.monitoring.window_days
    newest = max(realized, default=day)
    audits: tuple[AuditDay, ...] = ()
    interval: Interval | None = None
    if reference is not None:
        both = sorted(realized.keys() & estimated.keys())[-RUNNING_DAYS:]
        audits = audited([estimated[of] for of in both], [realized[of] for of in both], reference)
        if day in estimated:
            interval = estimated_loss(
                losses_of([estimated[day]], "log_loss"),
                LossReference(
                    realized=losses_of(reference.realized, "log_loss"),
                    estimated=losses_of(reference.estimated, "log_loss"),
                ),
            )
    now = within.get(day)
    record = performance_record(
        spec.name,
        day,
        version,
        realized=[realized[of] for of in _dates(newest, width) if of in realized],
        estimated=[estimated[of] for of in _dates(day, width) if of in estimated],
        reference=reference,
        labelled_until=settled[-1] + timedelta(days=1) if settled else None,
        outcomes_known=now.known / now.answers if now else 0.0,
        tolerance=spec.monitoring.tolerance,
        audited_days=audits,
    )
    own = realized.get(day)
    return DayPerformance(
        record=record,
        answers=now.answers if now else 0,
        base_rate=now.positives / now.labelled if now and now.settled and now.labelled else None,
        realized=own.log_loss / own.rows if own else None,
        estimated=interval,
        audit=audits[-1] if audits and audits[-1].day == day else None,
    )


def _dates(day: date, count: int) -> list[date]:
    """The ``count`` days that end with ``day``."""
    return [day - timedelta(days=n) for n in reversed(range(count))]
