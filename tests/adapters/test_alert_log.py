"""The log of alerts: all that was observed, in order."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from alert_channels_support import CASE, NOW, POLICY, TABLE, an_alert
from deltalake import DeltaTable

from mlops_assets.adapters import alerts, ledger_tables
from mlops_assets.adapters.alerts import log as alert_log
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.alerts import Entry
from mlops_assets.core.errors import PermanentError


def test_what_is_recorded_comes_back_in_order(lake: Lake) -> None:
    """Alerts, what was suppressed, and resolutions; nothing from an empty log."""
    assert alerts.entries(lake, CASE) == []
    first = alerts.record(lake, [an_alert("a"), an_alert("b", "critical")], POLICY)
    again = an_alert("a", hours=1).model_copy(update={"cause": "PSI 0.4"})
    second = alerts.record(lake, [again], POLICY)
    closed = alerts.resolve(lake, [an_alert("a").key, an_alert("x").key], "PSI 0.02", NOW, POLICY)
    log = alerts.entries(lake, CASE)
    assert log == [*first, *second, *closed]
    assert [(entry.event, entry.alert.subject) for entry in log] == [
        ("raised", "b"),
        ("raised", "a"),
        ("suppressed", "a"),
        ("resolved", "a"),
    ]


def test_what_says_nothing_new_commits_nothing(lake: Lake) -> None:
    """A tick of every half minute does not grow the table."""
    alerts.record(lake, [an_alert()], POLICY)
    version = lake.version(TABLE)
    assert alerts.record(lake, [an_alert(hours=1)], POLICY) == []
    assert alerts.record(lake, [], POLICY) == []
    assert alerts.resolve(lake, [an_alert("x").key], "well", NOW, POLICY) == []
    assert lake.version(TABLE) == version


def test_the_log_can_be_queried_without_its_documents(lake: Lake) -> None:
    """Columns for whoever measures precision and recall elsewhere."""
    alerts.record(lake, [an_alert()], POLICY)
    (row,) = ledger_tables.read(lake, TABLE).to_pylist()
    assert json.loads(row.pop("record"))["alert"]["owners"] == ["team:flights"]
    assert len(row.pop("id")) == 16
    assert row == {
        "event": "raised",
        "use_case": "flight_delays",
        "kind": "drift",
        "subject": "weather",
        "severity": "warning",
        "at": NOW,
    }


def test_an_entry_of_another_release_is_named(lake: Lake) -> None:
    """Never taken for an empty history, which would tell everything again."""
    alerts.record(lake, [an_alert()], POLICY)
    rows = ledger_tables.read(lake, TABLE)
    at = rows.schema.get_field_index("record")
    foreign = rows.set_column(at, rows.schema.field(at), pa.array(['{"a": 1}']))
    ledger_tables.append(lake, TABLE, foreign)
    with pytest.raises(PermanentError, match="alerts' of the lake has an entry that is no Entry"):
        alerts.entries(lake, CASE)


def test_a_log_of_many_appends_is_compacted_and_keeps_its_order(lake: Lake) -> None:
    """Reading it does not take longer with each alert."""
    for n in range(66):
        alert_log.append_entries(
            lake,
            [Entry(id=f"{n}", event="raised", alert=an_alert(f"{n}"), reason="new")],
        )
    files = list(Path(lake.root, TABLE).glob("*.parquet"))
    assert [entry.id for entry in alerts.entries(lake, CASE)] == [f"{n}" for n in range(66)]
    assert len(DeltaTable(str(Path(lake.root, TABLE))).file_uris()) < 10 < len(files)
