"""The ledger: each decision once, in order, and what a killed run left to do."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.adapters import chain, ledger, ledger_tables
from mlops_assets.adapters.chain import Ledgers
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import PromotionRecord

TABLE = ledger.table("flight_delays")


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
    ledgers = Ledgers(str(tmp_path))
    assert ledger.decisions(ledgers, "flight_delays") == []
    entries = [_decision(2), _decision(1, "held"), _decision(3, "refused")]
    for entry in [*entries, _decision(9, use_case="churn")]:
        assert ledger.record(ledgers, entry)
    assert ledger.decisions(ledgers, "flight_delays") == entries


def test_a_repeated_decision_is_recorded_once(tmp_path: Path) -> None:
    """Another time and run make no other decision; nothing is written."""
    ledgers = Ledgers(str(tmp_path))
    assert ledger.record(ledgers, _decision(1))
    before = ledger_tables.read(ledgers, TABLE)
    again = _decision(1, decided_at=datetime(2014, 1, 1, tzinfo=UTC), dagster_run_id="retry")
    assert not ledger.record(ledgers, again)
    assert ledger_tables.read(ledgers, TABLE).equals(before)


@pytest.mark.parametrize("change", [{"decision": "held"}, {"evaluation_digest": "another"}])
def test_another_outcome_or_evaluation_is_another_decision(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """The ledger keeps the history of a version, not its last state."""
    ledgers = Ledgers(str(tmp_path))
    ledger.record(ledgers, _decision(1))
    assert ledger.record(ledgers, _decision(1, **change))
    assert ledger_tables.read(ledgers, TABLE).num_rows == 2


def test_of_two_that_record_at_once_one_counts(tmp_path: Path) -> None:
    """Both read before either wrote: the second one's entry is void, and it hears so."""
    ledgers = Ledgers(str(tmp_path))
    ledger.record(ledgers, _decision(1))
    read = ledger.book(ledgers, "flight_delays")
    assert ledger.append(ledgers, read, _decision(2))[0]
    counts, after = ledger.append(ledgers, read, _decision(3))
    assert not counts
    assert [entry.version for entry in after.gate] == [1, 2]
    assert ledger.append(ledgers, after, _decision(3))[0]
    assert [entry.version for entry in ledger.decisions(ledgers, "flight_delays")] == [1, 2, 3]


def test_what_is_read_again_is_what_another_process_wrote(tmp_path: Path) -> None:
    """What this one remembers of the ledger does not hide it."""
    ours, theirs = Ledgers(str(tmp_path)), Ledgers(f"{tmp_path}/../{tmp_path.name}")
    ledger.record(ours, _decision(1))
    ledger.record(theirs, _decision(2))
    assert [entry.version for entry in ledger.decisions(ours, "flight_delays")] == [1, 2]


def test_columns_can_be_queried_without_the_record(tmp_path: Path) -> None:
    """Whoever reads the table elsewhere finds the version, the decision and the time."""
    ledgers = Ledgers(str(tmp_path))
    ledger.record(ledgers, _decision(1))
    (row,) = ledger_tables.read(ledgers, TABLE).to_pylist()
    assert json.loads(row["record"])["dagster_run_id"] == "run 1"
    assert (row["use_case"], row["kind"], row["version"], row["decision"], row["at"]) == (
        *("flight_delays", "gate", 1, "promoted"),
        datetime(2013, 4, 1, 12, 30, tzinfo=UTC),
    )


def test_an_entry_that_is_no_decision_is_named(tmp_path: Path) -> None:
    """A damaged ledger is an error, never an empty history."""
    ledgers = Ledgers(str(tmp_path))
    empty = chain.Chain("flight_delays")
    now = datetime(2013, 4, 1, tzinfo=UTC)
    row = chain.row_of(ledger.LEDGER, empty, "gate", now, "{}", version=1, decision="promoted")
    ledger_tables.append(
        ledgers, TABLE, pa.Table.from_pylist([row], schema=chain.schema(ledger.LEDGER))
    )
    with pytest.raises(PermanentError, match=r"entry 0 of ledger .*is no gate of this release"):
        ledger.decisions(ledgers, "flight_delays")


def test_no_file_of_a_ledger_is_vacuumed(tmp_path: Path) -> None:
    """Nothing of it is ever deleted, whoever asks and by whatever name of the place."""
    ledgers = Ledgers(str(tmp_path))
    for version in range(1, 13):
        ledger.record(ledgers, _decision(version))
    before = sorted(tmp_path.rglob("*"))
    for place in (ledgers, Lake(str(tmp_path))):
        with pytest.raises(PermanentError, match="promotions is a ledger"):
            place.vacuum(TABLE, [], 0)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_changed_entry_is_found(tmp_path: Path) -> None:
    """Nobody rewrites who was promoted."""
    ledgers = Ledgers(str(tmp_path))
    ledger.record(ledgers, _decision(1))
    rows = ledger_tables.read(ledgers, TABLE)
    at = rows.schema.get_field_index("version")
    changed = rows.set_column(at, rows.schema.field(at), pa.array([7]))
    other = Ledgers(str(tmp_path / "other"))
    ledger_tables.append(other, TABLE, changed)
    with pytest.raises(PermanentError, match="which forgets what was served when"):
        ledger.decisions(other, "flight_delays")


def test_the_history_is_a_table_with_the_latest_first() -> None:
    """One line a decision, at most so many, and a bar in a reason does not break it."""
    entries = [_decision(1), _decision(2, "held"), _decision(3, reasons=("a | b",))]
    lines = ledger.history_markdown(entries, most=2).splitlines()
    assert lines[2:4] == [
        "| 2013-04-03 12:30 | 3 | **promoted** | none | a \\| b |",
        "| 2013-04-02 12:30 | 2 | **held** | none | the gate's verdict is pass |",
    ]
    assert lines[-1] == "1 earlier decisions are in table `flight_delays/promotions`."
    assert ledger.history_markdown([]) == "No decision has been recorded."
