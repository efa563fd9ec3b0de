"""Performance of answered days, on the labels that are known."""

from datetime import date

import dagster as dg
import numpy as np
import polars as pl
import pytest
from answered_days import LAST, WEEK, Answered, days_from, performance_of, unknown

from mlops_assets.adapters import documents
from mlops_assets.core.metrics import metrics
from mlops_assets.core.monitoring_records import PerformanceRecord
from mlops_assets.core.records import ModelRecord
from mlops_assets.lifecycle.monitoring.drift_days import find_drift
from mlops_assets.lifecycle.monitoring.performance_days import find_performance
from mlops_assets.lifecycle.monitoring.references import read_reference


def test_performance_is_that_of_the_windows_rows(site: Answered, champion: ModelRecord) -> None:
    """Exactly the log-loss of what was answered, against the version's own holdout."""
    rows = pl.concat([site.answer(day, champion) for day in WEEK])
    for day in WEEK[:-1]:
        performance_of(site, day)
    found = find_performance(site.project.spec, site.lake, site.tracking, [LAST])[0]
    record = found.record
    exact = metrics(rows["label"].to_numpy(), rows["score"].to_numpy())
    assert record.realized is not None
    assert record.estimated is not None
    assert record.realized.loss == pytest.approx(exact.log_loss)
    assert (record.realized.rows, record.realized.days) == (420, 7)
    assert record.realized.low is not None
    reference = read_reference(site.project.spec, site.lake, champion.version)
    assert reference is not None
    mean = sum(item.log_loss for item in reference.realized) / sum(
        item.rows for item in reference.realized
    )
    assert record.realized.reference == record.estimated.reference == pytest.approx(mean)
    assert record.labelled_until == date(2024, 4, 18)
    assert record.outcomes_known == 1
    assert found.audit is not None
    assert found.estimated is not None
    assert found.realized is not None
    assert record.audit_error == pytest.approx(found.estimated.value - found.realized)


def test_first_labels_wait_for_the_others(site: Answered, champion: ModelRecord) -> None:
    """A day counts when nine in ten of its outcomes are known, and re-opened once they are."""
    for day in WEEK[:-1]:
        site.answer(day, champion)
        performance_of(site, day)
    rows = site.answer(LAST, champion, ended=unknown(0.5))
    found = find_performance(site.project.spec, site.lake, site.tracking, [LAST])[0]
    assert found.record.outcomes_known == 0.5
    assert found.record.labelled_until == date(2024, 4, 17)
    assert (found.realized, found.base_rate, found.audit) == (None, None, None)
    assert found.estimated is not None
    assert found.record.realized is not None
    assert found.record.realized.days == 6
    assert found.record.estimated is not None
    assert found.record.estimated.days == 7
    assert found.record.audit_error is not None
    columns = find_drift(site.project.spec, site.lake, site.tracking, [LAST])[0].found.columns
    assert columns[-1].column == "label"
    assert rows["label"].null_count() == 30
    site.answer(LAST, champion)
    again = performance_of(site, LAST)
    assert (again.outcomes_known, again.labelled_until) == (1, date(2024, 4, 18))
    assert again.realized is not None
    assert again.realized.days == 7


def test_labels_that_never_come_leave_the_estimate(site: Answered, champion: ModelRecord) -> None:
    """Realized performance and label drift stay unknown, for ever if need be."""
    for day in WEEK:
        site.answer(day, champion, ended=unknown(1.0))
    found = find_performance(site.project.spec, site.lake, site.tracking, WEEK)[-1]
    record = found.record
    assert (record.realized, record.labelled_until, record.audit_error) == (None, None, None)
    assert record.estimated is not None
    assert record.estimated.low is not None
    assert found.verdict == record.estimated.verdict
    drift = find_drift(site.project.spec, site.lake, site.tracking, [LAST])[0]
    label = drift.found.columns[-1]
    assert (label.column, label.verdict) == ("label", "unclear")
    assert "the current window has no rows" in label.reason
    assert drift.record.verdict == "stable"


def test_labels_that_take_weeks_count_when_they_come(site: Answered, champion: ModelRecord) -> None:
    """The realized window is the newest one that has labels."""
    for day in WEEK:
        site.answer(day, champion)
    late = days_from("2024-04-18", 8)
    for day in late:
        site.answer(day, champion, ended=unknown(1.0))
    found = find_performance(site.project.spec, site.lake, site.tracking, [*WEEK, *late])
    realized, estimated = found[-1].record.realized, found[-1].record.estimated
    assert realized is not None
    assert estimated is not None
    at_the_time = found[6].record.realized
    assert at_the_time is not None
    assert realized == at_the_time
    assert found[-1].record.labelled_until == date(2024, 4, 18)
    assert estimated.days == 7


def test_events_that_ended_without_a_label_count_on_neither_side(
    site: Answered, champion: ModelRecord
) -> None:
    """They are known, and are neither realized nor expected."""

    def cancelled(rows: pl.DataFrame) -> pl.DataFrame:
        every_third = pl.int_range(pl.len()) % 3 == 0
        return rows.with_columns(label=pl.when(~every_third).then("label"))

    for day in WEEK:
        site.answer(day, champion, ended=cancelled)
    found = find_performance(site.project.spec, site.lake, site.tracking, WEEK)[-1]
    assert found.record.outcomes_known == 1
    assert found.record.realized is not None
    assert found.record.estimated is not None
    assert found.record.realized.rows == found.record.estimated.rows == 280
    assert found.audit is not None
    assert found.audit.estimated_rows == found.audit.labelled_rows == 40


def test_performance_that_fell_is_a_check_that_failed_and_a_table_of_days(
    site: Answered, champion: ModelRecord
) -> None:
    """Flipped labels are a model that is wrong; the UI shows the days, and charts numbers."""
    project = site.project
    for day in WEEK:
        site.answer(day, champion, ended=lambda rows: rows.with_columns(label=1 - pl.col("label")))
    assert project.run(["drift"], (WEEK[0], LAST)).success
    assert project.run(["performance"], (WEEK[0], LAST)).success
    check = project.instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(project.key("performance"), "performance")
    )
    assert check is not None
    assert check.status.value == "FAILED"
    record = documents.read(project.places.documents, "visits", "performance", PerformanceRecord)
    assert record is not None
    assert record.realized is not None
    assert record.realized.verdict == "fell"
    assert record.audit_error is not None
    assert record.audit_error < 0
    latest = project.instance.get_latest_materialization_event(project.key("performance"))
    assert latest is not None
    event = latest.asset_materialization
    assert event is not None
    assert event.metadata["realized_log_loss_window"].value == record.realized.loss
    assert event.metadata["reference_log_loss"].value == record.realized.reference
    assert "data:image/png" in str(event.metadata["history"].value)
    status = str(event.metadata["status"].value)
    lines = [line for line in status.splitlines() if line.startswith("| 2024")]
    assert [line[2:12] for line in lines] == WEEK[::-1]
    assert "**fell**" in lines[0]
    assert lines[0].count("|") == status.splitlines()[0].count("|")
    table = project.table("performance")
    assert table["realized_window"][-1] == record.realized.loss
    assert np.isfinite(table["estimated"].to_numpy()).all()
