"""Performance of a window of days, realized or estimated, and its change from the reference.

Realized performance has the interval of days like these. An estimate has that of these very days:
where their labels will put it, given how far estimates were off on whole days of the reference
(:mod:`mlops_assets.core.day_bootstrap`). Log-loss and Brier score are exact. Scores of one bin
(:mod:`mlops_assets.core.performance_days`) are equal for roc_auc, which moves it by some 1e-4.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Literal

import numpy as np

from mlops_assets.core.day_bootstrap import (
    CONFIDENCE,
    SAMPLES,
    Interval,
    Matrix,
    drawn_days,
    errors_of,
    interval_of,
    resampled,
    with_errors,
)
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.gate import MINIMUM_DAYS
from mlops_assets.core.metrics import CALIBRATION_BINS, Vector
from mlops_assets.core.performance_days import (
    BRIER,
    LOG_LOSS,
    OWN_PAIRS,
    ROWS,
    DayStatistics,
    Kind,
    Reference,
    Sums,
    bin_edge,
    check_version,
    kind_of,
    score_at,
    tables,
)
from mlops_assets.core.records import Record
from mlops_assets.core.spec import Metric

_Figure = Callable[[Sums], Vector]
"""A figure of each sample, of shape (samples,); NaN where undefined."""


class Confusion(Record):
    """Shares of the rows when a score of at least ``threshold`` is taken for a positive."""

    threshold: float
    true_positive: Interval
    false_positive: Interval
    false_negative: Interval
    true_negative: Interval


class Performance(Record):
    """A window of days. ``roc_auc`` is None for one class only; ``ece`` for estimates, since the
    expected size of a calibration error is not that of the expected calibration error.
    """

    kind: Kind
    first: date
    end: date
    """The first day after."""
    days: int
    """Days with rows."""
    rows: int
    versions: tuple[int, ...]
    roles: tuple[str, ...]
    log_loss: Interval
    brier: Interval
    roc_auc: Interval | None
    ece: Interval | None
    confusion: Confusion


class Effect(Record):
    """How much worse a window is than the model's reference, with the ends of its interval.

    ``effect`` is positive when the model got worse: current less reference for losses, reference
    less current for roc_auc.
    """

    metric: Metric
    kind: Kind
    current: float
    reference: float
    effect: float
    low: float | None
    high: float | None
    verdict: Literal["fell", "held", "inconclusive"]
    reason: str


def performance(
    statistics: Sequence[DayStatistics],
    *,
    reference: Reference | None = None,
    threshold: float = 0.5,
    confidence: float = CONFIDENCE,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Performance:
    """The performance over all of ``statistics``, of one kind, in any order.

    ``reference`` gives an estimate its interval; for realized performance it makes no difference.
    Values have no interval from fewer than 5 days, of the window when realized and of the reference
    when estimated; an estimate has one for a single day too. ``threshold`` is moved to the
    closest edge of a bin of scores, and is reported so; 0.5 is one. Percentile intervals, widened
    to the value where they leave it out. The same arguments give the same result.

    Raises PermanentError for no statistics, for different kinds, for a day of a version and role
    that comes twice, and for an estimate of another version than the reference's.
    """
    kind = kind_of(statistics)
    random = np.random.default_rng(seed)
    if kind == "realized" or reference is None:
        (table,), bins = tables(statistics)
        errors = None
    else:
        check_version(statistics, reference)
        (table, realized, estimated), bins = tables(
            statistics, reference.realized, reference.estimated
        )
        errors = errors_of(realized, estimated)
    sums = table.sum(axis=0, keepdims=True)
    whole, draws = Sums(sums, bins), None
    if kind == "realized" and len(table) >= MINIMUM_DAYS:
        draws = Sums(resampled(table, drawn_days(random, len(table), samples)), bins)
    elif errors is not None and len(errors.rows) >= MINIMUM_DAYS:
        rows = np.broadcast_to(table[:, ROWS], (samples, len(table)))
        draws = Sums(with_errors(sums, rows, errors, random), bins)

    def interval(figure: _Figure) -> Interval:
        drawn = None if draws is None else figure(draws)
        return interval_of(float(figure(whole)[0]), drawn, confidence)

    edge = bin_edge(threshold)
    days = sorted({item.day for item in statistics})
    return Performance(
        kind=kind,
        first=days[0],
        end=days[-1] + timedelta(days=1),
        days=len(days),
        rows=int(sums[0, ROWS]),
        versions=tuple(sorted({item.version for item in statistics})),
        roles=tuple(sorted({item.role for item in statistics})),
        log_loss=interval(_mean(LOG_LOSS)),
        brier=interval(_mean(BRIER)),
        roc_auc=None if np.isnan(_roc_auc(whole)[0]) else interval(_roc_auc),
        ece=interval(_ece(whole)) if kind == "realized" else None,
        confusion=Confusion(
            threshold=score_at(edge),
            true_positive=interval(_share(edge, above=True, positive=True)),
            false_positive=interval(_share(edge, above=True, positive=False)),
            false_negative=interval(_share(edge, above=False, positive=True)),
            true_negative=interval(_share(edge, above=False, positive=False)),
        ),
    )


def compare(
    current: Sequence[DayStatistics],
    reference: Reference,
    metric: Metric = "log_loss",
    *,
    tolerance: float = 0.0,
    confidence: float = CONFIDENCE,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Effect:
    """Whether performance fell: the window ``current`` against the model's own reference.

    ``fell`` when the whole interval of the effect is above ``tolerance`` (in the metric's unit,
    not negative), ``held`` when the whole interval is at most that, else ``inconclusive``; so too
    with fewer than 5 days on a side, and where roc_auc is undefined in too many resamples. The
    days of both sides are resampled, each by itself; an estimated window is also moved by the
    errors of estimated days. The same arguments give the same result.

    Raises PermanentError as :func:`performance` does, for a window of another version than the
    reference's, for ``ece`` of an estimate, and for roc_auc of one class only.
    """
    kind = kind_of(current)
    check_version(current, reference)
    if kind == "estimated" and metric == "ece":
        raise PermanentError("ece cannot be estimated: compare log_loss, brier or roc_auc")
    (table, realized, estimated), bins = tables(
        current, reference.realized, reference.estimated, binned=metric in {"roc_auc", "ece"}
    )
    random = np.random.default_rng(seed)
    drawn = drawn_days(random, len(table), samples)
    draws = resampled(table, drawn)
    if kind == "estimated":
        errors = errors_of(realized, estimated)
        draws = with_errors(draws, table[drawn, ROWS], errors, random)
    other = resampled(realized, drawn_days(random, len(realized), samples))

    def figures(table: Matrix, draws: Matrix) -> tuple[float, Vector]:
        whole = Sums(table.sum(axis=0, keepdims=True), bins)
        figure = _figure(metric, whole)
        value = float(figure(whole)[0])
        if np.isnan(value):
            raise PermanentError(
                f"{metric} is undefined, all labels are of one class: compare a longer window or "
                "check how the label is computed"
            )
        return value, figure(Sums(draws, bins))

    now, now_draws = figures(table, draws)
    before, before_draws = figures(realized, other)
    sign = -1 if metric == "roc_auc" else 1
    days = min(len(table), len(realized))
    spread = sign * (now_draws - before_draws) if days >= MINIMUM_DAYS else None
    found = interval_of(sign * (now - before), spread, confidence)
    verdict, why = _verdict(found, tolerance, days)
    return Effect(
        metric=metric,
        kind=kind,
        current=now,
        reference=before,
        effect=found.value,
        low=found.low,
        high=found.high,
        verdict=verdict,
        reason=f"{kind} {metric} is {now:.4g} over {len(table)} days, {before:.4g} over the "
        f"{len(realized)} days of the reference; {why}",
    )


def _verdict(
    effect: Interval, tolerance: float, days: int
) -> tuple[Literal["fell", "held", "inconclusive"], str]:
    if tolerance < 0 or not np.isfinite(tolerance):
        raise PermanentError(f"the tolerance is {tolerance}: give a number that is not negative")
    if effect.low is None or effect.high is None:
        if days < MINIMUM_DAYS:
            return "inconclusive", f"{days} days say too little: give at least {MINIMUM_DAYS}"
        return "inconclusive", "too many resamples have one class only: give more days"
    worse = f"worse by {effect.value:.4g} (interval {effect.low:.4g} to {effect.high:.4g})"
    if effect.low > tolerance:
        return "fell", f"{worse}, all of it above the {tolerance:.4g} that is tolerated"
    if effect.high <= tolerance:
        return "held", f"{worse}, none of it above the {tolerance:.4g} that is tolerated"
    return "inconclusive", f"{worse}, on both sides of the {tolerance:.4g} that is tolerated"


def _figure(metric: Metric, whole: Sums) -> _Figure:
    """The metric; the bins of ``ece`` are those of ``whole`` in every sample."""
    if metric == "roc_auc":
        return _roc_auc
    if metric == "ece":
        return _ece(whole)
    return _mean(LOG_LOSS if metric == "log_loss" else BRIER)


def _mean(column: int) -> _Figure:
    # No loss is negative, however far a drawn error goes.
    return lambda sums: np.maximum(sums.matrix[:, column] / sums.matrix[:, ROWS], 0)


def _roc_auc(sums: Sums) -> Vector:
    """Area under the ROC curve: of the pairs of a positive and a negative, the share in order.

    Chances make pairs of expected number; a row makes none with itself.
    """
    positive = sums.block("positives")
    negative = sums.block("rows") - positive
    below = np.cumsum(negative, axis=1) - negative
    own = sums.matrix[:, OWN_PAIRS]
    wins = (positive * (below + negative / 2)).sum(axis=1) - own / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1) - own
    # Fewer pairs come from rounding alone: there is one class only.
    some = pairs > 1e-9 * sums.matrix[:, ROWS] ** 2
    area = np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=some)
    return np.clip(area, 0, 1)


def _ece(whole: Sums) -> _Figure:
    """Expected calibration error over ten groups of score bins, of equal mass in ``whole``."""
    rows = whole.block("rows")[0]
    middle = np.cumsum(rows) - rows / 2
    group = np.minimum((middle * CALIBRATION_BINS / rows.sum()).astype(np.intp), 9)
    member = (group[:, np.newaxis] == np.arange(CALIBRATION_BINS)).astype(np.float64)

    def error(sums: Sums) -> Vector:
        gaps = (sums.block("scores") - sums.block("positives")) @ member
        return np.abs(gaps).sum(axis=1) / sums.matrix[:, ROWS]

    return error


def _share(edge: int, *, above: bool, positive: bool) -> _Figure:
    """The share of rows on one side of the bin ``edge``, of one class."""

    def share(sums: Sums) -> Vector:
        side = (sums.bins >= edge) == above
        counts = sums.block("positives")
        if not positive:
            counts = sums.block("rows") - counts
        return np.clip(counts[:, side].sum(axis=1) / sums.matrix[:, ROWS], 0, 1)

    return share
