"""Records of drift and performance from what was found: the same live and in a backtest."""

from collections.abc import Sequence
from datetime import date

import numpy as np

from mlops_assets.core.day_bootstrap import (
    CONFIDENCE,
    SAMPLES,
    Interval,
    drawn_days,
    errors_of,
    interval_of,
    resampled,
    with_errors,
)
from mlops_assets.core.drift import Drift
from mlops_assets.core.gate import MINIMUM_DAYS
from mlops_assets.core.monitoring_records import DriftRecord, LossRecord, PerformanceRecord
from mlops_assets.core.performance import compare
from mlops_assets.core.performance_audit import AuditDay, LossReference, audit, losses_of
from mlops_assets.core.performance_days import (
    LOG_LOSS,
    ROWS,
    DayStatistics,
    Reference,
    check_version,
    kind_of,
    tables,
)

KNOWN_SHARE = 0.9
"""Share of a day's answers whose outcome has to be known before its labels are looked at. Labels
that come first are not like the others: a flight that is still in the air is late more often."""

_NAMED = 3


def drift_record(use_case: str, day: date, model_version: int, found: Drift) -> DriftRecord:
    """``found``, of the window that ends with ``day`` against the training data of the version."""
    ranked = sorted(found.columns, key=lambda column: (-column.importance, column.column))
    drifted = [column for column in ranked if column.verdict == "drift"]
    unclear = [column for column in ranked if column.verdict == "unclear"]
    told = [
        f"{len(drifted)} of {len(ranked)} columns drifted"
        if ranked
        else "there is nothing to compare with"
    ]
    told += [
        f"{column.column} ({column.importance:.0%} of the model): {column.reason}"
        for column in drifted[:_NAMED]
    ]
    if len(drifted) > _NAMED:
        told.append(f"{len(drifted) - _NAMED} more")
    if unclear:
        told.append(f"{len(unclear)} unclear")
    return DriftRecord(
        use_case=use_case,
        day=day,
        model_version=model_version,
        drift=found.drift,
        verdict=found.verdict,
        drifted=tuple(column.column for column in drifted),
        unclear=tuple(column.column for column in unclear),
        rows=found.current_rows,
        days=found.current_days,
        cause=f"Drift of {found.drift:.3f} over {found.current_days} days "
        f"({found.current_rows:,} rows) against {found.reference_days} training days of version "
        f"{model_version}: {'; '.join(told)}.",
    )


def performance_record(
    use_case: str,
    day: date,
    model_version: int,
    *,
    realized: Sequence[DayStatistics],
    estimated: Sequence[DayStatistics],
    reference: Reference | None,
    labelled_until: date | None,
    outcomes_known: float,
    tolerance: float = 0.0,
    audited_days: Sequence[AuditDay] = (),
) -> PerformanceRecord:
    """The performance of one version over a window of days, against its own reference.

    ``realized`` and ``estimated`` are the window's days, without those whose labels have not come
    (see ``KNOWN_SHARE``); empty ones, like a version without a ``reference``, give no loss.
    ``tolerance`` in nats, ``outcomes_known`` from 0 to 1. ``audited_days``, in order, come from
    :func:`audited`.

    The same arguments give the same record. Raises PermanentError for statistics of another
    version than ``reference``, of the wrong kind, and for a day that comes twice.
    """
    last = audited_days[-1] if audited_days else None

    def loss(statistics: Sequence[DayStatistics]) -> LossRecord | None:
        if reference is None or not statistics:
            return None
        return loss_record(statistics, reference, tolerance)

    return PerformanceRecord(
        use_case=use_case,
        day=day,
        model_version=model_version,
        realized=loss(realized),
        estimated=loss(estimated),
        labelled_until=labelled_until,
        outcomes_known=outcomes_known,
        audit_error=last.error if last else None,
        audit_bias=last.running_bias if last else None,
        audit_coverage=last.running_coverage if last else None,
    )


def loss_record(
    statistics: Sequence[DayStatistics], reference: Reference, tolerance: float = 0.0
) -> LossRecord:
    """The log-loss over ``statistics``, of one kind, against that of ``reference``.

    No interval from fewer than 5 days: they say what was, not what is to be expected.
    """
    effect = compare(statistics, reference, tolerance=tolerance)
    interval = _interval(statistics, reference)
    days = len({item.day for item in statistics})
    few = days < MINIMUM_DAYS
    return LossRecord(
        loss=interval.value,
        low=None if few else interval.low,
        high=None if few else interval.high,
        reference=effect.reference,
        verdict=effect.verdict,
        reason=effect.reason,
        rows=sum(item.rows for item in statistics),
        days=days,
    )


def audited(
    estimated: Sequence[DayStatistics], realized: Sequence[DayStatistics], reference: Reference
) -> tuple[AuditDay, ...]:
    """Each day that is in both, days rising: its estimated log-loss beside what labels showed.

    Empty where no day is in both. A day's figures do not depend on days after it. Raises
    PermanentError for statistics of another version than ``reference``.
    """
    check_version([*estimated, *realized], reference)
    if not {item.day for item in estimated} & {item.day for item in realized}:
        return ()
    return audit(
        losses_of(estimated, "log_loss"),
        losses_of(realized, "log_loss"),
        LossReference(
            realized=losses_of(reference.realized, "log_loss"),
            estimated=losses_of(reference.estimated, "log_loss"),
        ),
    )


def _interval(statistics: Sequence[DayStatistics], reference: Reference) -> Interval:
    """The log-loss that :func:`mlops_assets.core.performance.performance` finds, without the
    hundreds of columns that its other figures need."""
    (table, before, expected), _ = tables(
        statistics, reference.realized, reference.estimated, binned=False
    )
    random = np.random.default_rng(0)
    sums = table.sum(axis=0, keepdims=True)
    draws = None
    if kind_of(statistics) == "estimated" and len(before) >= MINIMUM_DAYS:
        rows = np.broadcast_to(table[:, ROWS], (SAMPLES, len(table)))
        draws = with_errors(sums, rows, errors_of(before, expected), random)
    elif kind_of(statistics) == "realized" and len(table) >= MINIMUM_DAYS:
        draws = resampled(table, drawn_days(random, len(table), SAMPLES))
    # No loss is negative, however far a drawn error goes.
    losses = None if draws is None else np.maximum(draws[:, LOG_LOSS] / draws[:, ROWS], 0)
    return interval_of(float(sums[0, LOG_LOSS] / sums[0, ROWS]), losses, CONFIDENCE)
