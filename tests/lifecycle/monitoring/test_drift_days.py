"""Drift of answered days, and what it has in common with their performance."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from answered_days import LAST, WEEK, Answered, Serving, days_from, drift_of, performance_of

from mlops_assets.adapters import documents
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.monitoring_records import DriftRecord, PerformanceRecord
from mlops_assets.core.records import ModelRecord
from mlops_assets.lifecycle.monitoring.drift_days import find_drift, keep_drift
from mlops_assets.lifecycle.monitoring.performance_days import find_performance, keep_performance
from mlops_assets.lifecycle.monitoring.references import keep_references
from mlops_assets.lifecycle.training_set import read_training_set


def _second(site: Answered, champion: ModelRecord) -> ModelRecord:
    """Version 2, as if the same bytes had been trained on again, promoted."""
    second = champion.model_copy(update={"version": 2})
    frame = read_training_set(site.project.spec, site.lake, champion.training_set)
    # Its training data is another: so are its bins.
    moved = frame.with_columns(pl.col("minutes") + 1, pl.lit(0.4).cast(pl.Float32).alias("score"))
    keep_references(site.project.spec, site.lake, second, moved, {"minutes": 1.0})
    return second


def test_days_like_the_training_window_are_no_drift(site: Answered, champion: ModelRecord) -> None:
    """Nothing moved, so nothing is told."""
    for day in WEEK:
        site.answer(day, champion)
    record = drift_of(site, LAST)
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
    assert performance_of(site, LAST) != performance[1]


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
        drift_of(site, day)
    calm = drift_of(site, LAST)
    for day in WEEK[:-1]:
        site.answer(day, champion, asked=lambda rows: rows.with_columns(pl.col("minutes") * 3))
    assert drift_of(site, LAST) == calm
    for day in WEEK[:-1]:
        drift_of(site, day)
    assert drift_of(site, LAST).verdict == "drift"


def test_a_new_champion_is_compared_under_its_own_bins(
    site: Answered, champion: ModelRecord
) -> None:
    """Days before its promotion are profiled once more; its score counts from its own answers."""
    second = _second(site, champion)
    for day in WEEK[:-1]:
        site.answer(day, champion)
        drift_of(site, day)
    site.answer(LAST, champion, version=2)
    spec = site.project.spec
    found = find_drift(spec, site.lake, Serving(second), [LAST])[0]
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
    assert find_drift(spec, site.lake, Serving(second), [WEEK[2]])[0].record.model_version == 1
    assert performance_of(site, WEEK[2], Serving(second)).model_version == 1
    assert performance_of(site, LAST, Serving(second)).model_version == 2


def test_features_that_a_version_did_not_have_are_not_missing_values(
    site: Answered, champion: ModelRecord
) -> None:
    """Answers of a model without a new feature are left out; one that had more is compared."""
    features = list(site.project.spec.feature_types)
    for day in WEEK[:3]:
        site.answer(day, champion, types=features[:-1])
    record = drift_of(site, WEEK[2])
    assert (record.rows, record.verdict) == (0, "unclear")
    for day in WEEK[3:]:
        site.answer(day, champion)
    record = drift_of(site, LAST)
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
    found = find_drift(narrow, site.lake, Serving(second), [LAST])[0]
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


def test_a_day_without_answers_has_the_rest_of_its_window(
    site: Answered, champion: ModelRecord
) -> None:
    """And a window without any has nothing to say, in drift as in performance."""
    for day in WEEK[:-1]:
        site.answer(day, champion)
        performance_of(site, day)
    assert (drift_of(site, LAST).days, drift_of(site, LAST).rows) == (6, 360)
    record = performance_of(site, LAST)
    assert record.outcomes_known == 0
    assert record.realized is not None
    assert record.realized.days == 6
    assert drift_of(site, "2024-04-26").verdict == "unclear"
    assert performance_of(site, "2024-04-26").estimated is None


def test_a_report_that_cannot_be_made_says_why(site: Answered, champion: ModelRecord) -> None:
    """Asked for on a window without answers."""
    from mlops_assets.lifecycle.monitoring.drift import write_report

    found = find_drift(site.project.spec, site.lake, site.tracking, ["2024-04-26"])[0]
    with pytest.raises(PermanentError, match="no report on 2024-04-26"):
        write_report(
            site.project.spec, site.lake, site.tracking, found, site.project.places.reports
        )
    assert champion.version == 1
