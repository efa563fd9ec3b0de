"""Drift: how far a window's rows are from a reference's, and whether that matters.

A column has drifted when its distance is both large enough to matter and larger than what days do
by themselves. With enough rows every difference is significant, and with few days every distance is
large, so that neither alone says anything.

Distances are between bins that are fixed by the layout (:mod:`mlops_assets.core.layouts`): PSI in
nats and the Jensen-Shannon distance to base 2 over about ten groups or all categories,
Kolmogorov-Smirnov and Wasserstein over all bins. They are about rows that have a value; rows that
have none (null, NaN, infinite) are compared by their share.
"""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from mlops_assets.core.column_drift import Distances, Measured, measure
from mlops_assets.core.daily_profiles import DailyProfiles
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import Record
from mlops_assets.core.spec import FeatureType

DriftVerdict = Literal["drift", "stable", "unclear"]
"""``unclear``: large enough to matter, but days alone may do it, or it cannot be compared."""


class DriftThresholds(Record):
    """What counts as drift."""

    distance: float = Field(default=0.1, gt=0, le=1)
    """Smallest Jensen-Shannon distance that matters, 0 to 1. Default 0.1, Evidently's and NannyML's
    too; between equally wide normal distributions it is a shift of 0.24 standard deviations."""
    missing: float = Field(default=0.05, gt=0, le=1)
    """Smallest change that matters in the share of rows without a value, 0 to 1. Default 0.05."""
    false_discoveries: float = Field(default=0.05, gt=0, lt=1)
    """Largest expected share of false ones among the differences called significant. Default 0.05.
    """
    model: float = Field(default=0.05, gt=0, le=1)
    """Smallest drift of a model that matters, 0 to 1. Default 0.05: features with half of the
    importance, at the smallest distance that matters."""


class ColumnDrift(Record):
    """One column of the current window against the reference."""

    column: str
    type: FeatureType
    verdict: DriftVerdict
    reason: str
    importance: float
    """Share in the model, 0 to 1; those of all columns sum to 1, or to 0 if none counts."""
    effect: float | None
    """The Jensen-Shannon distance or the size of the change in missing rows, 0 to 1: the larger of
    those that make it drift, or else of both. None where nothing can be compared."""
    distances: Distances | None = None
    p_value: float | None = None
    """Probability of such values by days alone (see core.day_noise), adjusted for the number of
    comparisons; None where days have no say. Likewise ``missing_p_value``, of the missing rows."""
    missing_p_value: float | None = None
    noise: float | None = None
    """Jensen-Shannon distance that days alone exceed in 1 of 20 cases."""
    design_effect: float | None = None
    """Rows that say as much as one independent row, at least 1: rows divided by it are the
    effective sample size."""


class Drift(Record):
    """A window against a reference, for one model."""

    drift: float
    """Sum of effect times importance over the drifted columns, 0 to 1."""
    verdict: DriftVerdict
    """``unclear``: it depends on the columns that are unclear."""
    reference_days: int
    reference_rows: int
    current_days: int
    current_rows: int
    columns: tuple[ColumnDrift, ...]


def compare(
    reference: DailyProfiles,
    current: DailyProfiles,
    *,
    importance: Mapping[str, float] | None = None,
    thresholds: DriftThresholds | None = None,
    block_days: int = 7,
) -> Drift:
    """The drift of ``current`` against ``reference``, column by column and for the model.

    ``importance``: of features in the model, in any unit, not negative; a column without one counts
    nothing (a score, a label). Default: all columns count alike. ``block_days``: days that depend
    on each other, by default a week, within which traffic differs by weekday.

    P-values are adjusted by Benjamini and Hochberg (1995) over all columns: several of a model's
    features drift at once when the world does, and it is for the share of false ones among them
    that a person is called; Holm's guard against a single one would miss most. Features that move
    together do not invalidate it (Benjamini and Yekutieli 2001, positive dependence).

    A column that only one window has, has drifted if it is gone, and is unclear if it is new; so is
    everything in a window without rows.

    Raises PermanentError for a column whose bins differ, and for importances that are negative, not
    finite, or of unknown columns.
    """
    limits = thresholds or DriftThresholds()
    before = {column.name: column for column in reference.layout.columns}
    now = {column.name: column for column in current.layout.columns}
    both = [name for name in before if name in now]
    for name in both:
        if before[name] != now[name]:
            raise PermanentError(
                f"column {name!r} has different bins in the reference and the current window: "
                "profile both with one layout"
            )
    names = list(dict.fromkeys([*before, *now]))
    shares = _importance_shares(importance, names)
    empty = _without_rows(reference, current)
    measured = (
        {}
        if empty
        else dict(
            zip(
                both,
                measure(reference.select(both), current.select(both), block_days),
                strict=True,
            )
        )
    )
    p_values = _adjusted(measured)

    def column(name: str) -> ColumnDrift:
        verdict: DriftVerdict = "unclear"
        effect = None
        details: dict[str, float | None] = {}
        if empty:
            reason = empty
        elif name not in before:
            reason = "the reference has no such column"
        elif name not in now:
            verdict, effect, reason = "drift", 1.0, "the current window has no such column"
        else:
            p_value, missing_p_value = p_values[name]
            found = measured[name]
            verdict, effect, reason = _decision(found, p_value, missing_p_value, limits)
            details = {
                "p_value": p_value,
                "missing_p_value": missing_p_value,
                "noise": found.values.noise if found.values else None,
                "design_effect": found.values.design_effect if found.values else None,
            }
        return ColumnDrift(
            column=name,
            type=(before.get(name) or now[name]).type,
            verdict=verdict,
            reason=reason,
            importance=shares[name],
            effect=effect,
            distances=measured[name].distances if name in measured else None,
            **details,
        )

    columns = tuple(map(column, names))
    drift = sum(each.importance * (each.effect or 0) for each in columns if each.verdict == "drift")
    possible = drift + sum(
        each.importance * (1 if each.effect is None else each.effect)
        for each in columns
        if each.verdict == "unclear"
    )
    verdict: DriftVerdict = "stable"
    if possible >= limits.model:
        verdict = "drift" if drift >= limits.model else "unclear"
    return Drift(
        drift=min(1.0, drift),
        verdict=verdict,
        reference_days=len(reference.days),
        reference_rows=int(reference.rows.sum()),
        current_days=len(current.days),
        current_rows=int(current.rows.sum()),
        columns=columns,
    )


def _without_rows(reference: DailyProfiles, current: DailyProfiles) -> str:
    """Why nothing can be compared, or nothing."""
    if not reference.rows.sum():
        return "the reference has no rows"
    return "" if current.rows.sum() else "the current window has no rows"


def _importance_shares(
    importance: Mapping[str, float] | None, names: list[str]
) -> dict[str, float]:
    given = dict.fromkeys(names, 1.0) if importance is None else importance
    for name, value in given.items():
        if name not in names:
            raise PermanentError(
                f"importance is given for {name!r}, which neither window has: give it for "
                f"{', '.join(names)}"
            )
        if not (math.isfinite(value) and value >= 0):
            raise PermanentError(
                f"the importance of {name!r} is {value}: it has to be a number from 0"
            )
    total = math.fsum(given.values())
    return {name: given.get(name, 0.0) / total if total else 0.0 for name in names}


def _adjusted(measured: Mapping[str, Measured]) -> dict[str, tuple[float | None, float | None]]:
    """The p-values of each column's values and missing rows, by Benjamini and Hochberg."""
    places = [
        (name, part)
        for name, each in measured.items()
        for part, shift in enumerate((each.values, each.missing))
        if shift is not None
    ]
    raw = [
        shift.p_value
        for each in measured.values()
        for shift in (each.values, each.missing)
        if shift is not None
    ]
    adjusted: dict[str, list[float | None]] = {name: [None, None] for name in measured}
    smallest = 1.0
    descending = sorted(range(len(raw)), key=lambda n: -raw[n])
    for above, n in enumerate(descending):
        smallest = min(smallest, raw[n] * len(raw) / (len(raw) - above))
        name, part = places[n]
        adjusted[name][part] = smallest
    return {name: (values, missing) for name, (values, missing) in adjusted.items()}


def _decision(
    found: Measured,
    p_value: float | None,
    missing_p_value: float | None,
    limits: DriftThresholds,
) -> tuple[DriftVerdict, float, str]:
    """Verdict, effect and reason of a column that both windows have."""
    distance = found.distances.jensen_shannon
    change = found.distances.missing_change
    # (what it is, how large, whether that matters, p-value)
    parts = [
        (
            f"share of rows without a value changed by {change:+.3f}",
            abs(change),
            abs(change) >= limits.missing,
            missing_p_value,
        )
    ]
    if distance is not None:
        usual = f", days alone give up to {found.values.noise:.3f}" if found.values else ""
        text = f"Jensen-Shannon distance {distance:.3f}{usual}"
        parts.insert(0, (text, distance, distance >= limits.distance, p_value))
    elif abs(change) < limits.missing:
        return "stable", abs(change), "there are no values to compare"
    large = [part for part in parts if part[2]]
    if not large:
        return "stable", max(part[1] for part in parts), "too small to matter"
    sure = [part for part in large if part[3] is not None and part[3] <= limits.false_discoveries]
    verdict: DriftVerdict = "drift" if sure else "unclear"
    told = [
        f"{text} (p {p:.2g})" if p is not None else f"{text} (too few days to judge by)"
        for text, _, _, p in sure or large
    ]
    return verdict, max(part[1] for part in sure or large), "; ".join(told)
