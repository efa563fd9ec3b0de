"""The ledger: each decision once, in order, and what a killed run left to do."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.adapters import ledger
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import PromotionRecord


def _decision(version: int, decision: str = "promoted", **changes: object) -> PromotionRecord:
    fields: dict[str, object] = {
        "use_case": "flight_delays",
        "version": version,
        "sha256": "0" * 64,
        "decision": decision,
        "reasons": ("the gate's verdict is pass", "a | b"),
        "previous_version": version - 1 or None,
        "champion": None,
        "evaluation_digest": f"digest {version}",
        "decided_at": datetime(2013, 4, version, 12, 30, tzinfo=UTC),
        "dagster_run_id": f"run {version}",
    }
    return PromotionRecord.model_validate({**fields, **changes})


def test_decisions_come_back_in_the_order_of_recording(tmp_path: Path) -> None:
    """Equal to what was recorded, of the asked use case alone."""
    lake = Lake(str(tmp_path))
    assert ledger.decisions(lake, "flight_delays") == []
    entries = [_decision(2), _decision(1, "held"), _decision(3, "refused")]
    for entry in [*entries, _decision(9, use_case="churn")]:
        assert ledger.record(lake, entry)
    assert ledger.decisions(lake, "flight_delays") == entries


def test_a_repeated_decision_is_recorded_once(tmp_path: Path) -> None:
    """Another time and run make no other decision; nothing is written."""
    lake = Lake(str(tmp_path))
    assert ledger.record(lake, _decision(1))
    before = lake.read_log(ledger.TABLE)
    again = _decision(1, decided_at=datetime(2014, 1, 1, tzinfo=UTC), dagster_run_id="retry")
    assert not ledger.record(lake, again)
    assert lake.read_log(ledger.TABLE).equals(before)


@pytest.mark.parametrize(
    "change", [{"decision": "held"}, {"evaluation_digest": "another"}, {"use_case": "churn"}]
)
def test_another_outcome_evaluation_or_use_case_is_another_decision(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """The ledger keeps the history of a version, not its last state."""
    lake = Lake(str(tmp_path))
    ledger.record(lake, _decision(1))
    assert ledger.record(lake, _decision(1, **change))
    assert lake.read_log(ledger.TABLE).num_rows == 2


def test_two_runs_that_record_at_once_count_once(tmp_path: Path) -> None:
    """Both appended before either looked: the first entry is the decision."""
    lake = Lake(str(tmp_path))
    ledger.record(lake, _decision(1))
    lake.append(ledger.TABLE, lake.read_log(ledger.TABLE))
    assert ledger.decisions(lake, "flight_delays") == [_decision(1)]


def test_columns_can_be_queried_without_the_record(tmp_path: Path) -> None:
    """Whoever reads the table elsewhere finds the version, the decision and the time."""
    lake = Lake(str(tmp_path))
    ledger.record(lake, _decision(1))
    (row,) = lake.read_log(ledger.TABLE).to_pylist()
    assert json.loads(row.pop("record"))["dagster_run_id"] == "run 1"
    assert row == {
        "use_case": "flight_delays",
        "version": 1,
        "decision": "promoted",
        "decided_at": datetime(2013, 4, 1, 12, 30, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("alias", "left"),
    [
        (1, 2),  # killed between ledger and alias
        (2, None),  # done
        (7, None),  # moved to another version on purpose
        (None, None),  # taken away on purpose
    ],
)
def test_a_promotion_that_was_recorded_and_not_applied_is_pending(
    tmp_path: Path, alias: int | None, left: int | None
) -> None:
    """The alias still names the version before the last promotion."""
    lake = Lake(str(tmp_path))
    for entry in (_decision(1), _decision(2), _decision(3, "refused")):
        ledger.record(lake, entry)
    found = ledger.pending(lake, "flight_delays", alias)
    assert (found.version if found else None) == left


def test_a_first_promotion_can_be_pending_too(tmp_path: Path) -> None:
    """Without any alias; and without any promotion nothing is pending."""
    lake = Lake(str(tmp_path))
    assert ledger.pending(lake, "flight_delays", None) is None
    ledger.record(lake, _decision(1, "held"))
    assert ledger.pending(lake, "flight_delays", None) is None
    ledger.record(lake, _decision(1))
    assert ledger.pending(lake, "flight_delays", None) == _decision(1)


def test_an_entry_that_is_no_decision_is_named(tmp_path: Path) -> None:
    """A damaged ledger is an error, never an empty history."""
    lake = Lake(str(tmp_path))
    ledger.record(lake, _decision(1))
    rows = lake.read_log(ledger.TABLE)
    at = rows.schema.get_field_index("record")
    lake.append(ledger.TABLE, rows.set_column(at, rows.schema.field(at), pa.array(['{"a": 1}'])))
    with pytest.raises(PermanentError, match="'promotions' of the lake has an entry"):
        ledger.decisions(lake, "flight_delays")


def test_the_history_is_a_table_with_the_latest_first() -> None:
    """One line a decision, at most so many, and a bar in a reason does not break it."""
    entries = [_decision(1), _decision(2, "held"), _decision(3, reasons=("a | b",))]
    lines = ledger.history_markdown(entries, most=2).splitlines()
    assert lines[2:4] == [
        "| 2013-04-03 12:30 | 3 | **promoted** | none | a \\| b |",
        "| 2013-04-02 12:30 | 2 | **held** | none | the gate's verdict is pass |",
    ]
    assert lines[-1] == "1 earlier decisions are in table `promotions`."
    assert ledger.history_markdown([]) == "No decision has been recorded."
