"""What monitoring tells sensors and people: immutable documents, stored as JSON."""

from collections.abc import Mapping
from datetime import date
from typing import Literal

from mlops_assets.core.alerts import Kind, Severity
from mlops_assets.core.records import Record

AlarmKind = Literal[
    "missing_day",
    "volume",
    "repeated_day",
    "stuck",
    "categories",
    "new_values",
    "missing_values",
    "shift",
    "slow_drift",
    "labels",
]

ALERTS: Mapping[AlarmKind, Kind] = {
    "missing_day": "freshness",
    "volume": "volume",
    "repeated_day": "volume",
    "stuck": "drift",
    "categories": "drift",
    "new_values": "drift",
    "missing_values": "drift",
    "shift": "drift",
    "slow_drift": "drift",
    "labels": "performance_loss",
}
"""The kind of alert that people get."""

ALL_COLUMNS = ""
"""The column of a cell that is a whole day."""

LABELS = "label"
"""The column of a cell that is the outcomes of a day."""


class PartitionInputs(Record):
    """What a partition of a table was made of.

    ``inputs`` is, for a dataset, the source's version of the day, and for what is computed, the
    SHA-256 of the digests of all partitions that it was computed from. ``digest`` is the
    partition's content; empty when the checks refused it.
    """

    inputs: str
    digest: str


class DriftRecord(Record):
    """Drift of a window of days against the training data of the model that answered them."""

    use_case: str
    day: date
    """The window's last day."""
    model_version: int
    drift: float
    """Weighted by importance, 0 to 1."""
    verdict: Literal["drift", "stable", "unclear"]
    drifted: tuple[str, ...]
    """Columns that drifted, the most important first."""
    unclear: tuple[str, ...]
    rows: int
    days: int
    cause: str
    """One sentence with the numbers, for people."""
    report: str = ""
    """Path or URL of the HTML report, where one was rendered."""


class LossRecord(Record):
    """Log-loss (nats) over a window, against the model's own holdout."""

    loss: float
    low: float | None
    high: float | None
    reference: float
    verdict: Literal["fell", "held", "inconclusive"]
    reason: str
    rows: int
    days: int


class PerformanceRecord(Record):
    """Performance of one model version over a window of days that ends with ``day``."""

    use_case: str
    day: date
    model_version: int
    realized: LossRecord | None
    """None before there are labels."""
    estimated: LossRecord | None
    """None before the model has a reference."""
    labelled_until: date | None
    """First day after the newest one whose outcomes are known."""
    outcomes_known: float
    """Share of the day's answers whose outcome is known, 0 to 1."""
    audit_error: float | None = None
    """Estimated less realized log-loss of the newest labelled day."""
    audit_bias: float | None = None
    """Its mean over the last 28 audited days."""
    audit_coverage: float | None = None
    """Share of audited days inside their estimate's interval."""


class Alarm(Record):
    """One thing that is wrong with a day."""

    kind: AlarmKind
    day: date
    columns: tuple[str, ...] = ()
    """What it is about, the most telling first; empty: the whole day."""
    severity: Severity
    cause: str
    """One sentence with its numbers."""

    @property
    def cells(self) -> tuple[tuple[date, str], ...]:
        """What later days should not be compared with; nothing of a slow drift, which is in all."""
        if self.kind == "slow_drift":
            return ()
        if self.kind == "labels":
            return ((self.day, LABELS),)
        return tuple((self.day, column) for column in self.columns or (ALL_COLUMNS,))


class AlarmsRecord(Record):
    """What was wrong with a day, against the weeks before it."""

    use_case: str
    day: date
    alarms: tuple[Alarm, ...]
    """The most severe first."""
