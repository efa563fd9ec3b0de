"""Drift and performance of answered days, in the tests' use case with a real model."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from answered_days import Answered, days_from, unknown
from lifecycle_support import Project, make_project

from mlops_assets.adapters import documents
from mlops_assets.core.errors import MissingPartitionsError, PermanentError
from mlops_assets.core.metrics import metrics
from mlops_assets.core.monitoring_records import DriftRecord, PerformanceRecord
from mlops_assets.core.records import ModelRecord
from mlops_assets.lifecycle.evaluation import evaluate
from mlops_assets.lifecycle.monitoring.drift_days import find_drift, keep_drift
from mlops_assets.lifecycle.monitoring.performance_days import find_performance, keep_performance
from mlops_assets.lifecycle.monitoring.references import (
    keep_references,
    read_reference,
    read_references,
)
from mlops_assets.lifecycle.platform import Places
from mlops_assets.lifecycle.training_set import read_training_set

DATA, VIEWS = ("2024-03-12", "2024-04-25"), ("2024-03-16", "2024-04-25")
WEEK = days_from("2024-04-11", 7)
LAST = WEEK[-1]
STAGES = ["training_set", "model", "evaluation", "promotion"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Data, features, and a champion."""
    with dg.DagsterInstance.ephemeral() as instance:
        project = make_project(tmp_path_factory.mktemp("trained"), instance, 8932)
        assert project.run(["visits", "shops"], DATA).success
        assert project.run(["visit", "shop_returns", "shop_sizes"], VIEWS).success
        assert project.run(STAGES).success
        yield project


@pytest.fixture
def site(trained: Project, tmp_path: Path) -> Iterator[Answered]:
    """The trained project, copied for one test."""
    shutil.copytree(Path(trained.places.lake).parent, tmp_path / "site")
    with dg.DagsterInstance.ephemeral() as instance:
        places = Places.under(tmp_path / "site")
        yield Answered(replace(trained, places=places, instance=instance))


@pytest.fixture
def champion(site: Answered) -> ModelRecord:
    """The version that serves."""
    found = site.tracking.champion("visits")
    assert found is not None
    return found


def _second(site: Answered, champion: ModelRecord) -> ModelRecord:
    """Version 2, as if the same bytes had been trained on again, promoted."""
    second = champion.model_copy(update={"version": 2})
    frame = read_training_set(site.project.spec, site.lake, champion.training_set)
    # Its training data is another: so are its bins.
    moved = frame.with_columns(pl.col("minutes") + 1, pl.lit(0.4).cast(pl.Float32).alias("score"))
    keep_references(site.project.spec, site.lake, second, moved, {"minutes": 1.0})
    return second


class _Serving:
    """A registry in which ``record`` is the champion."""

    def __init__(self, record: ModelRecord | None) -> None:
        self.record = record

    def champion(self, use_case: str) -> ModelRecord | None:
        return self.record


def _drift(site: Answered, day: str, tracking: object = None) -> DriftRecord:
    found = find_drift(site.project.spec, site.lake, tracking or site.tracking, [day])
    return found[0].record


def _performance(site: Answered, day: str, tracking: object = None) -> PerformanceRecord:
    found = find_performance(site.project.spec, site.lake, tracking or site.tracking, [day])
    return found[0].record


def test_the_evaluation_keeps_what_a_version_is_compared_with(
    site: Answered, champion: ModelRecord
) -> None:
    """A profile of each day of the training window, importances, and days it was not fitted to."""
    spec, window = site.project.spec, champion.training_set
    kept = read_references(spec, site.lake, champion.version)
    assert kept is not None
    assert len(kept.answers) == len(kept.labels) == (window.end - window.first).days
    assert sum(profile.rows for profile in kept.answers.values()) == window.rows
    assert [column.name for column in kept.layout.columns] == [*spec.feature_types, "score"]
    assert {profile.layout for profile in kept.answers.values()} == {kept.layout.digest}
    assert {profile.layout for profile in kept.labels.values()} == {kept.label_layout.digest}
    assert sum(kept.summary.importances.values()) == pytest.approx(1)
    assert kept.summary.unseen_from == window.validation_first
    reference = read_reference(spec, site.lake, champion.version)
    assert reference is not None
    days = {item.day for item in reference.realized}
    assert (min(days), len(days)) == (window.validation_first, 10)
    assert reference.version == champion.version


def test_a_version_that_is_evaluated_again_keeps_one_reference(
    site: Answered, champion: ModelRecord
) -> None:
    """The same documents, in place of those from before."""
    before = site.project.table("references")
    evaluate(site.project.spec, champion, site.lake, site.tracking, site.project.places.reports)
    assert site.project.table("references").equals(before)
    assert list(site.lake.states("visits/references")) == [str(champion.version)]


def test_a_version_without_both_classes_has_no_reference_of_performance(
    site: Answered, champion: ModelRecord
) -> None:
    """Its drift is judged, its performance is not, and nothing is made up."""
    spec = site.project.spec
    frame = read_training_set(spec, site.lake, champion.training_set).with_columns(
        pl.lit(0.3).cast(pl.Float32).alias("score"),
        pl.when(pl.col("part") == "train").then("label").otherwise(0).alias("label"),
    )
    keep_references(spec, site.lake, champion, frame, {"minutes": 1.0})
    assert read_reference(spec, site.lake, champion.version) is None
    for day in WEEK:
        site.answer(day, champion)
    record = _performance(site, LAST)
    assert (record.realized, record.estimated, record.audit_error) == (None, None, None)
    assert record.outcomes_known == 1
    assert _drift(site, LAST).days == 7


def test_days_like_the_training_window_are_no_drift(site: Answered, champion: ModelRecord) -> None:
    """Nothing moved, so nothing is told."""
    for day in WEEK:
        site.answer(day, champion)
    record = _drift(site, LAST)
    assert record.verdict == "stable"
    assert record.drifted == ()
    assert (record.rows, record.days, record.model_version) == (420, 7, champion.version)


def test_drift_is_told_with_a_document_a_check_and_one_report_a_window(
    site: Answered, champion: ModelRecord
) -> None:
    """The document, the table, the check and the UI say the same; the next day has no report."""
    for day in [*WEEK, *days_from("2024-04-18", 2)]:
        site.answer(day, champion, asked=lambda rows: rows.with_columns(pl.col("minutes") * 3))
    project = site.project
    assert project.run(["drift"], (WEEK[0], LAST)).success
    record = documents.read(project.places.documents, "visits", "drift", DriftRecord)
    assert record is not None
    assert (record.day.isoformat(), record.verdict, record.drifted[0]) == (LAST, "drift", "minutes")
    assert "minutes (" in record.cause
    assert Path(record.report).read_text().count(LAST) >= 1
    table = project.table("drift")
    assert table["day"].to_list() == WEEK
    assert DriftRecord.model_validate_json(table["record"][-1]) == record
    check = project.instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(project.key("drift"), "drift")
    )
    assert check is not None
    assert check.status.value == "FAILED"
    materialized = project.instance.get_latest_materialization_event(project.key("drift"))
    assert materialized is not None
    event = materialized.asset_materialization
    assert event is not None
    assert event.partition == LAST
    assert event.metadata["drift"].value == record.drift
    assert event.metadata["psi_max"].value > 0.25
    assert "| minutes |" in str(event.metadata["columns"].value)
    assert "data:image/png" in str(event.metadata["history"].value)
    assert project.run(["drift"], ("2024-04-18", "2024-04-18")).success
    newer = documents.read(project.places.documents, "visits", "drift", DriftRecord)
    assert newer is not None
    assert (newer.verdict, newer.report) == ("drift", "")
    asked = project.run(
        ["drift"],
        ("2024-04-19", "2024-04-19"),
        {"ops": {"visits__drift": {"config": {"report": True}}}},
    )
    assert asked.success
    newest = documents.read(project.places.documents, "visits", "drift", DriftRecord)
    assert newest is not None
    assert Path(newest.report).name == "2024-04-19.html"


def test_a_day_that_is_opened_again_leaves_newer_days_alone(
    site: Answered, champion: ModelRecord
) -> None:
    """The document and the rows of later days stay; the day itself is what it is now."""
    project = site.project
    for day in WEEK:
        site.answer(day, champion)
    assert project.run(["drift", "performance"], (WEEK[0], LAST)).success

    def kept(name: str, kind: type[DriftRecord] | type[PerformanceRecord]) -> tuple[object, object]:
        later = project.table(name).filter(pl.col("day") != WEEK[2])
        return later.to_dicts(), documents.read(project.places.documents, "visits", name, kind)

    drift, performance = kept("drift", DriftRecord), kept("performance", PerformanceRecord)
    site.answer(
        WEEK[2],
        champion,
        asked=lambda rows: rows.with_columns(pl.col("minutes") * 3),
        ended=lambda rows: rows.with_columns(label=1 - pl.col("label")),
    )
    before = {name: project.table(name, [WEEK[2]]) for name in ("drift", "performance")}
    assert project.run(["drift", "performance"], (WEEK[2], WEEK[2])).success
    assert kept("drift", DriftRecord) == drift
    assert kept("performance", PerformanceRecord) == performance
    for name, rows in before.items():
        assert not project.table(name, [WEEK[2]]).equals(rows)
    # Later windows know the day as it is now.
    assert _performance(site, LAST) != performance[1]


def test_days_in_one_run_are_judged_as_one_by_one(site: Answered, champion: ModelRecord) -> None:
    """In one commit of each table."""
    spec = site.project.spec
    for n, day in enumerate(WEEK):
        site.answer(day, champion, asked=lambda rows, n=n: rows.with_columns(pl.col("minutes") + n))
    assert site.project.run(["drift", "performance"], (WEEK[0], LAST)).success
    for name in ("drift", "profiles", "performance", "performance_days"):
        assert site.lake.version(f"visits/{name}") == 0, name
    together = {name: site.project.table(name) for name in ("drift", "performance")}
    for name in ("drift", "profiles", "performance", "performance_days"):
        site.lake.remove(f"visits/{name}", WEEK)
    for day in WEEK:
        keep_drift(spec, site.lake, find_drift(spec, site.lake, site.tracking, [day]))
        keep_performance(spec, site.lake, find_performance(spec, site.lake, site.tracking, [day]))
    for name, rows in together.items():
        # One run renders one report at most.
        told = [column for column in rows.columns if column not in {"report", "record"}]
        assert site.project.table(name).select(told).equals(rows.select(told)), name
    assert spec.monitoring.window_days == len(WEEK)


def test_a_window_is_made_of_profiles_and_not_of_rows(
    site: Answered, champion: ModelRecord
) -> None:
    """What the days before have in their rows does not count until they are profiled again."""
    for day in WEEK:
        site.answer(day, champion)
    for day in WEEK:
        _drift(site, day)
    calm = _drift(site, LAST)
    for day in WEEK[:-1]:
        site.answer(day, champion, asked=lambda rows: rows.with_columns(pl.col("minutes") * 3))
    assert _drift(site, LAST) == calm
    for day in WEEK[:-1]:
        _drift(site, day)
    assert _drift(site, LAST).verdict == "drift"


def test_a_new_champion_is_compared_under_its_own_bins(
    site: Answered, champion: ModelRecord
) -> None:
    """Days before its promotion are profiled once more; its score counts from its own answers."""
    second = _second(site, champion)
    for day in WEEK[:-1]:
        site.answer(day, champion)
        _drift(site, day)
    site.answer(LAST, champion, version=2)
    spec = site.project.spec
    found = find_drift(spec, site.lake, _Serving(second), [LAST])[0]
    assert (found.record.model_version, found.record.rows) == (2, 420)
    columns = {column.column: column for column in found.found.columns}
    assert columns["score"].distances is not None
    profiles = site.project.table("profiles")
    assert (
        profiles.group_by("day").agg(pl.len()).filter(pl.col("day") < LAST)["len"].to_list()
        == [3] * 6
    )
    # A day of the first version is about the first version, whoever serves now.
    site.project.run(["drift"], (LAST, LAST))
    assert find_drift(spec, site.lake, _Serving(second), [WEEK[2]])[0].record.model_version == 1
    assert _performance(site, WEEK[2], _Serving(second)).model_version == 1
    assert _performance(site, LAST, _Serving(second)).model_version == 2


def test_features_that_a_version_did_not_have_are_not_missing_values(
    site: Answered, champion: ModelRecord
) -> None:
    """Answers of a model without a new feature are left out; one that had more is compared."""
    features = list(site.project.spec.feature_types)
    for day in WEEK[:3]:
        site.answer(day, champion, types=features[:-1])
    record = _drift(site, WEEK[2])
    assert (record.rows, record.verdict) == (0, "unclear")
    for day in WEEK[3:]:
        site.answer(day, champion)
    record = _drift(site, LAST)
    assert (record.rows, record.days) == (240, 4)
    assert "shop_size" not in record.drifted
    frame = read_training_set(site.project.spec, site.lake, champion.training_set)
    narrow = site.project.spec.model_copy(
        update={
            "feature_views": {
                name: view
                for name, view in site.project.spec.feature_views.items()
                if name != "shop_sizes"
            }
        }
    )
    second = champion.model_copy(update={"version": 2})
    scored = frame.with_columns(pl.lit(0.4).cast(pl.Float32).alias("score"))
    keep_references(narrow, site.lake, second, scored, {"minutes": 1.0})
    found = find_drift(narrow, site.lake, _Serving(second), [LAST])[0]
    assert found.record.rows == 420
    assert [column.column for column in found.found.columns if column.type == "float"][
        -1
    ] == "label"
    assert "shop_size" not in {column.column for column in found.found.columns}


@pytest.mark.parametrize(
    ("change", "drifted", "told"),
    [
        (pl.lit(None, dtype=pl.Float32).alias("minutes"), "minutes", "without a value"),
        (pl.lit(12.5, dtype=pl.Float32).alias("minutes"), "minutes", "Jensen-Shannon"),
        (pl.lit("airport").alias("shop_name"), "shop_name", "Jensen-Shannon"),
    ],
    ids=["all null", "constant", "new category"],
)
def test_a_feature_that_breaks_is_drift(
    site: Answered, champion: ModelRecord, change: pl.Expr, drifted: str, told: str
) -> None:
    """A stuck sensor, a lost join and a renamed category are each named."""
    for day in WEEK:
        site.answer(day, champion, asked=lambda rows: rows.with_columns(change))
    found = find_drift(site.project.spec, site.lake, site.tracking, [LAST])[0]
    assert found.record.verdict == "drift"
    assert drifted in found.record.drifted
    column = next(each for each in found.found.columns if each.column == drifted)
    assert told in column.reason
    assert column.distances is not None
    if drifted == "shop_name":
        assert [each.category for each in column.distances.new] == ["airport"]
        assert column.distances.lost_share == 1


def test_a_feature_that_was_always_constant_or_null_stays_stable(
    site: Answered, champion: ModelRecord
) -> None:
    """What never had a value has nothing to drift from."""
    spec = site.project.spec
    odd = [
        pl.lit(None, dtype=pl.Float32).alias("shop_return_share"),
        pl.lit(7.0, dtype=pl.Float32).alias("shop_size"),
    ]
    frame = read_training_set(spec, site.lake, champion.training_set)
    scored = frame.with_columns(*odd, pl.lit(0.4).cast(pl.Float32).alias("score"))
    keep_references(spec, site.lake, champion, scored, dict.fromkeys(spec.feature_types, 0.25))
    for day in WEEK:
        site.answer(day, champion, asked=lambda rows: rows.with_columns(odd))
    found = find_drift(spec, site.lake, site.tracking, [LAST])[0]
    verdicts = {column.column: column.verdict for column in found.found.columns}
    assert verdicts["shop_return_share"] == verdicts["shop_size"] == "stable"
    assert found.record.verdict == "stable"


def test_a_version_without_references_is_unclear_and_says_what_to_do(
    site: Answered, champion: ModelRecord
) -> None:
    """One that was evaluated by an older release; and a use case that never had a champion."""
    for day in WEEK:
        site.answer(day, champion)
    site.lake.remove("visits/references", ["1"])
    record = _drift(site, LAST)
    assert (record.verdict, record.rows, record.days) == ("unclear", 420, 7)
    assert "materialize visits/evaluation again" in record.cause
    assert _performance(site, LAST).realized is None
    # Its own answers tell which version it is, without a registry.
    assert _drift(site, LAST, _Serving(None)).model_version == 1
    with pytest.raises(MissingPartitionsError, match="visits/promotion first"):
        _drift(site, "2024-04-20", _Serving(None))
    with pytest.raises(MissingPartitionsError, match="visits/promotion first"):
        _performance(site, "2024-04-20", _Serving(None))


def test_a_day_without_answers_has_the_rest_of_its_window(
    site: Answered, champion: ModelRecord
) -> None:
    """And a window without any has nothing to say, in drift as in performance."""
    for day in WEEK[:-1]:
        site.answer(day, champion)
        _performance(site, day)
    assert (_drift(site, LAST).days, _drift(site, LAST).rows) == (6, 360)
    record = _performance(site, LAST)
    assert record.outcomes_known == 0
    assert record.realized is not None
    assert record.realized.days == 6
    assert _drift(site, "2024-04-26").verdict == "unclear"
    assert _performance(site, "2024-04-26").estimated is None


def test_performance_is_that_of_the_windows_rows(site: Answered, champion: ModelRecord) -> None:
    """Exactly the log-loss of what was answered, against the version's own holdout."""
    rows = pl.concat([site.answer(day, champion) for day in WEEK])
    for day in WEEK[:-1]:
        _performance(site, day)
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
        _performance(site, day)
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
    again = _performance(site, LAST)
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


def test_a_report_that_cannot_be_made_says_why(site: Answered, champion: ModelRecord) -> None:
    """Asked for on a window without answers."""
    from mlops_assets.lifecycle.monitoring.drift import write_report

    found = find_drift(site.project.spec, site.lake, site.tracking, ["2024-04-26"])[0]
    with pytest.raises(PermanentError, match="no report on 2024-04-26"):
        write_report(
            site.project.spec, site.lake, site.tracking, found, site.project.places.reports
        )
    assert champion.version == 1
