"""Datasets: what reaches the lake, what does not, and what is said about it."""

import threading
from pathlib import Path

import dagster as dg
import pytest
from lifecycle_support import Project

from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import PlatformError
from mlops_assets.lifecycle.datasets import ingest

FIRST, LAST = "2024-03-28", "2024-04-03"
"""A week with the night of 31 March, when clocks go forward in Berlin."""


def _failure(result: dg.ExecuteInProcessResult) -> str:
    messages = [str(event.step_failure_data.error) for event in result.get_step_failure_events()]
    return "\n".join(messages)


def _checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def test_a_backfill_lands_in_one_commit_with_a_version_for_each_partition(
    project: Project,
) -> None:
    """Many partitions cost one commit; each has the digest of its own content."""
    assert project.run(["visits"], (FIRST, LAST)).success
    states = project.lake.states("visits/visits")
    assert sorted(states) == [
        "2024-03-28", "2024-03-29", "2024-03-30", "2024-03-31",
        "2024-04-01", "2024-04-02", "2024-04-03",
    ]  # fmt: skip
    assert project.lake.version("visits/visits") == 0
    for partition, state in states.items():
        event = project.instance.get_latest_data_version_record(
            project.key("visits"), partition_key=partition
        )
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.tags is not None
        assert event.asset_materialization.tags["dagster/data_version"] == state.digest


def test_materializing_unchanged_data_again_changes_nothing_and_says_so(project: Project) -> None:
    """The table keeps its version; the metadata says that nothing was written."""
    project.run(["visits"], (FIRST, LAST))
    again = project.run(["visits"], (FIRST, FIRST))
    assert again.success
    assert project.lake.version("visits/visits") == 0
    [event] = again.asset_materializations_for_node("visits__visits")
    assert event.metadata["result"].value == "unchanged: the content was there already"


def test_corrected_data_replaces_its_partition_and_no_other(project: Project) -> None:
    """A late correction of a day is a new version of that day only."""
    project.run(["visits"], (FIRST, LAST))
    before = project.lake.states("visits/visits")
    project.faults({"2024-03-30": "corrected"})
    assert project.run(["visits"], (FIRST, LAST)).success
    after = project.lake.states("visits/visits")
    assert {p for p in after if after[p] != before[p]} == {"2024-03-30"}


def test_the_day_on_which_clocks_change_holds_its_23_hours(project: Project) -> None:
    """A partition is a day in the use case's time zone, however long it is."""
    project.run(["visits"], ("2024-03-31", "2024-03-31"))
    rows = project.table("visits")
    assert rows["visited_at"].min().isoformat() >= "2024-03-30T23:00:00+00:00"
    assert rows["visited_at"].max().isoformat() < "2024-03-31T22:00:00+00:00"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("empty", "has no rows"),
        ("no_column", "minutes"),
        ("wrong_type", "minutes"),
        ("out_of_range", "outside"),
        ("duplicated", "visit_id"),
        ("negative", "minutes"),
        ("few", "rows_ratio"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong_and_leaves_the_table_as_it_was(
    project: Project, fault: str, says: str
) -> None:
    """The version that was good stays readable."""
    project.run(["visits"], (FIRST, LAST))
    before = project.lake.states("visits/visits")
    project.faults({"2024-04-02": fault})
    result = project.run(["visits"], ("2024-04-02", "2024-04-02"))
    assert not result.success
    assert says in _failure(result)
    assert project.lake.states("visits/visits") == before


def test_a_blocking_check_stops_what_depends_on_the_partition_and_nothing_else(
    project: Project,
) -> None:
    """Four days need the refused one: itself, and those that look three days back at it."""
    project.faults({"2024-03-30": "negative"})
    refused = project.run(["visits"], ("2024-03-25", "2024-04-05"))
    assert not refused.success
    assert _checks(refused)["expectations"] is False
    assert "2024-03-30" not in project.materialized("visits")
    assert len(project.materialized("visits")) == 11
    project.faults({})
    view = project.run(["shop_returns"], ("2024-03-28", "2024-04-05"))
    assert not view.success
    assert "2024-03-30" in _failure(view)
    stopped = {"2024-03-30", "2024-03-31", "2024-04-01", "2024-04-02"}
    assert set(project.lake.states("visits/shop_returns")) == {
        f"2024-{day}" for day in ("03-28", "03-29", "04-03", "04-04", "04-05")
    }
    assert project.materialized("shop_returns").isdisjoint(stopped)


def test_rows_that_break_a_row_rule_move_to_a_side_table_with_the_reason(project: Project) -> None:
    """Three bad rows do not cost the other 57."""
    project.faults({FIRST: "some_negative"})
    result = project.run(["visits"], (FIRST, LAST))
    assert result.success
    assert project.lake.states("visits/visits")[FIRST].rows == 57
    side = project.table("visits__quarantine")
    assert side.height == 3
    assert side["minutes"].to_list() == [-5.0] * 3
    assert all("minutes" in reason for reason in side["reason"])
    assert _checks(result).items() >= {"expectations": True, "warnings": False}.items()
    project.faults({})
    assert project.run(["visits"], (FIRST, FIRST)).success
    assert project.lake.states("visits/visits__quarantine") == {}
    assert project.lake.states("visits/visits")[FIRST].rows == 60


def test_a_check_in_the_ui_names_columns_and_examples(project: Project) -> None:
    """Whoever reads the check learns which column, how often, and sees a value."""
    project.faults({FIRST: "some_negative"})
    result = project.run(["visits"], (FIRST, FIRST))
    warnings = next(e for e in result.get_asset_check_evaluations() if e.check_name == "warnings")
    text = str(warnings.metadata["expectations"].value)
    assert "minutes" in text
    assert "minutes=-5 at visit_id=" in text


def test_two_runs_of_the_same_partition_at_once_leave_one_sound_partition(
    project: Project,
) -> None:
    """Both succeed, the rows are there once."""
    days = ["2024-03-28", "2024-03-29"]
    failures: list[PlatformError] = []

    def write() -> None:
        try:
            ingest(project.spec, project.functions, "visits", Lake(project.places.lake), days)
        except PlatformError as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert project.table("visits").height == 120
    assert project.table("visits")["visit_id"].n_unique() == 120


def test_a_lake_that_cannot_be_written_is_named(project: Project, tmp_path: Path) -> None:
    """The message has the folder, not a stack of the storage library."""
    (tmp_path / "lake").write_text("a file where the lake's folder should be")
    result = project.run(["visits"], (FIRST, FIRST))
    assert not result.success
    assert "lake" in _failure(result)
    assert "PermanentError" in _failure(result)
