"""The retraining policies that a backtest compares."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mlops_assets.core.retraining_spec import (
    AnyOfSpec,
    DriftSpec,
    EverySpec,
    FreshnessSpec,
    NeverSpec,
    PerformanceSpec,
    PolicySpec,
    RetrainingSpec,
    leaves,
    problems,
)

AS_CONFIGURED = "as configured"
NEVER = "never"
CALENDAR = "every 28 days"
ANY_PSI = "any PSI > 0.25"
PSI_LEVEL = 0.25
"""From which a population stability index counts as a major shift, by custom."""


@dataclass(frozen=True)
class Candidate:
    """A policy with its guards and its training window.

    With ``naive_drift`` the greatest PSI of any column stands in the place of the drift number: the
    trigger that people write first. It is for comparison, and nothing to configure.
    """

    name: str
    retraining: RetrainingSpec
    naive_drift: bool = False

    @property
    def looks_at_drift(self) -> bool:
        """Whether a decision needs profiles."""
        return any(isinstance(leaf, DriftSpec) for _, leaf in leaves(self.retraining.policy))

    @property
    def looks_at_performance(self) -> bool:
        """Whether a decision needs losses."""
        return any(isinstance(leaf, PerformanceSpec) for _, leaf in leaves(self.retraining.policy))


def candidates(
    configured: RetrainingSpec, windows: Sequence[int | None] = (None,)
) -> tuple[Candidate, ...]:
    """Each policy of the table with each training window (days; None for everything so far), under
    the guards of ``configured``, and ``configured`` itself first.

    What contradicts the guards, such as a calendar that is shorter than the cooldown, is left out.
    """
    found = [Candidate(AS_CONFIGURED, configured)]
    for window in dict.fromkeys(windows):
        ending = "" if window is None else f", last {window} days"
        for name, policy in _table():
            if name == NEVER and window != windows[0]:
                continue  # it trains nothing
            fields = {"policy": policy, "window_days": window}
            retraining = configured.model_copy(update=fields)
            if not any(problems(retraining)):
                naive = name == ANY_PSI
                found.append(Candidate(name if name == NEVER else name + ending, retraining, naive))
    return tuple(found)


def _table() -> Iterator[tuple[str, PolicySpec]]:
    yield NEVER, NeverSpec()
    for days in (7, 14, 28):
        yield f"every {days} days", EverySpec(kind="every", days=days)
    yield ANY_PSI, DriftSpec(kind="drift", above=PSI_LEVEL)
    for days in (14, 28):
        yield f"older than {days} days", _older(days)
    for level in (0.02, 0.05, 0.1):
        yield f"drift > {level}", DriftSpec(kind="drift", above=level)
    yield (
        "drift > 0.05 for 3 days, clear below 0.02",
        DriftSpec(kind="drift", above=0.05, evaluations=3, clear_below=0.02),
    )
    for source in ("realized", "estimated"):
        for level in (0.0, 0.01, 0.02, 0.04, 0.08):
            yield f"{source} loss + {level:g}", _worse(source, level)
        for level in (0.0, 0.02, 0.04):
            yield f"{source} loss surely + {level:g}", _worse(source, level, "interval")
    yield (
        "realized loss + 0.02 for 3 days",
        PerformanceSpec(kind="performance", worse_by=0.02, judged_by="value", evaluations=3),
    )
    yield (
        "realized loss + 0.02, clear below 0",
        PerformanceSpec(kind="performance", worse_by=0.02, judged_by="value", clear_below=0.0),
    )
    for level in (0.01, 0.02, 0.04):
        for days in (21, 28, 42):
            both: list[PolicySpec] = [_worse("realized", level), _older(days)]
            yield (
                f"realized loss + {level}, or older than {days} days",
                AnyOfSpec(kind="any_of", policies=both),
            )
    either: list[PolicySpec] = [_worse("realized", 0.02), _worse("estimated", 0.02)]
    yield "realized or estimated loss + 0.02", AnyOfSpec(kind="any_of", policies=either)


def _older(days: int) -> FreshnessSpec:
    return FreshnessSpec(kind="freshness", max_age_days=days)


def _worse(
    source: Literal["realized", "estimated"],
    level: float,
    judged_by: Literal["interval", "value"] = "value",
) -> PerformanceSpec:
    return PerformanceSpec(kind="performance", worse_by=level, source=source, judged_by=judged_by)
