"""What a use case expects of a table: Great Expectations, and which of them move rows aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

QUARANTINE = {"quarantine": True}
"""An expectation's ``meta``: rows that break it move to a side table instead of failing."""


@dataclass(frozen=True)
class Suite:
    """Expectations of a table; each is a Great Expectations object."""

    rows: list[Expectation] = field(default_factory=list["Expectation"])
    """Judged on the rows of a partition."""
    partitions: list[Expectation] = field(default_factory=list["Expectation"])
    """Judged on one row per partition: partition, rows, rows_before, rows_ratio."""
