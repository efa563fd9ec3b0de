"""The report on drift: what was decided at its top, bounded, and never half written."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_assets.adapters.reports import drift_report
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import FeatureType

COLUMNS: dict[str, FeatureType] = {"temp": "float", "carrier": "category", "empty": "float"}


def _frame(rows: int, shift: float = 0.0) -> pl.DataFrame:
    random = np.random.default_rng(rows)
    return pl.DataFrame(
        {
            "temp": random.normal(shift, 1, rows),
            "carrier": random.choice(["UA", "AA"], rows),
            "empty": pl.Series([None] * rows, dtype=pl.Float32),
        }
    )


def _report(path: Path, current: pl.DataFrame) -> str:
    return drift_report(
        _frame(700),
        current,
        COLUMNS,
        title="flights",
        about="Drift of <0.2>.",
        current_rows=9000,
        max_rows=300,
        path=str(path),
    )


def test_a_report_says_what_was_decided_and_what_it_leaves_out(tmp_path: Path) -> None:
    """Labels and scores are not asked for."""
    path = tmp_path / "drift" / "2024-04-01.html"
    assert _report(path, _frame(400, 2.0)) == str(path)
    page = path.read_text()
    assert "Decided: Drift of &lt;0.2&gt;.<br>" in page
    assert "reference: 300 of 700 rows<br>current: 300 of 9,000 rows" in page
    assert "no drift, one side has no value: empty</p>" in page
    assert "Data Drift Summary" in page
    assert '"temp"' in page


def test_rows_that_cannot_be_compared_leave_the_report_before(tmp_path: Path) -> None:
    """A missing column is named; so is a window without values."""
    path = tmp_path / "report.html"
    path.write_text("the report before")
    with pytest.raises(PermanentError, match="current rows have no column carrier"):
        _report(path, _frame(50).drop("carrier"))
    with pytest.raises(PermanentError, match="no column has values on both sides"):
        _report(path, _frame(0))
    assert path.read_text() == "the report before"
