"""From the endpoint's log files to outcomes: labels, late ones included, and skew."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from answers_support import Endpoint, define, known, make_model
from lifecycle_support import Project, make_project

from mlops_assets import clock
from mlops_assets.adapters import inputs
from mlops_assets.adapters.endpoints import local
from mlops_assets.core.answer_features import decoded
from mlops_assets.core.rollout_state import ServedModel
from mlops_assets.core.windows import day_start
from mlops_assets.lifecycle.monitoring.profiles import returned_answers
from mlops_assets.lifecycle.platform import Places
from mlops_assets.lifecycle.prediction_log import paired_scores
from mlops_assets.lifecycle.predictions import score

DATA = ("2024-03-01", "2024-03-08")
BEFORE, DAY, NEXT = "2024-03-05", "2024-03-06", "2024-03-07"
BOTH = ["prediction_log", "outcomes"]
BERLIN, HOUR = "Europe/Berlin", timedelta(hours=1)
SETTLED = datetime(2024, 3, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ServedModel, ServedModel]:
    """A lake with eight days of data, and two versions of a model."""
    folder = tmp_path_factory.mktemp("answers")
    with dg.DagsterInstance.ephemeral() as instance:
        project = make_project(folder / "state", instance, 8931)
        assert project.run(["visits", "shops"], DATA).success
        assert project.run(["visit", "shop_returns", "shop_sizes"], DATA).success
        first = make_model(project, folder, "2024-03-04")
        return folder / "state", first, make_model(project, folder, "2024-03-04", version=2)


@pytest.fixture
def project(
    template: tuple[Path, ServedModel, ServedModel],
    tmp_path: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    """A project with that lake, at a time when all labels are known."""
    shutil.copytree(template[0] / "lake", tmp_path / "lake")
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    at(tmp_path, SETTLED)
    with dg.DagsterInstance.ephemeral() as instance:
        made = make_project(tmp_path, instance, free_port)
        define(made)
        yield made
    local.stop("visits", Places.under(tmp_path).endpoints)


@pytest.fixture
def endpoint(project: Project, template: tuple[Path, ServedModel, ServedModel]) -> Endpoint:
    """What answers with the first version."""
    return Endpoint(project, template[1])


@pytest.fixture
def newer(project: Project, template: tuple[Path, ServedModel, ServedModel]) -> Endpoint:
    """What answers with the second version."""
    return Endpoint(project, template[2])


def at(folder: Path, now: datetime, speed: float = 0.0) -> None:
    """Make it ``now``."""
    clock.write(folder / "clock.json", clock.ReplayClock(now, datetime.now(UTC), speed))


def materializations(project: Project, name: str) -> dict[str, dg.AssetMaterialization]:
    """The latest materialization of each partition."""
    records = project.instance.fetch_materializations(project.key(name), limit=100).records
    latest: dict[str, dg.AssetMaterialization] = {}
    for record in records:
        event = record.asset_materialization
        assert event is not None
        assert event.partition is not None
        latest.setdefault(event.partition, event)
    return latest


def numbers(project: Project, name: str, day: str) -> dict[str, object]:
    """The latest metadata of a partition."""
    metadata = materializations(project, name)[day].metadata
    return {key: value.value for key, value in metadata.items()}


def data_version(project: Project, name: str, day: str) -> str:
    """The latest data version of a partition."""
    return (materializations(project, name)[day].tags or {})["dagster/data_version"]


def check(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    """What the check ``name`` said in a run."""
    (found,) = [each for each in result.get_asset_check_evaluations() if each.check_name == name]
    return found


def test_each_answered_event_has_its_answer_and_its_label(
    project: Project, endpoint: Endpoint
) -> None:
    """Fifty of sixty visits were asked about; of each the score, the model and how it ended."""
    events = known(project, DAY)
    endpoint.answer(events.head(50))
    result = project.run(BOTH, (DAY, DAY))
    assert result.success
    outcomes = project.table("outcomes", [DAY])
    assert outcomes["event_id"].to_list() == events["event_id"].head(50).to_list()
    visits = project.table("visits", [DAY]).head(50)
    assert outcomes["label"].to_list() == visits["returned"].to_list()
    assert outcomes["label_known_at"].to_list() == visits["settled_at"].to_list()
    assert outcomes["outcome_known"].all()
    assert outcomes["role"].unique().to_list() == ["champion"]
    assert outcomes["model_sha256"].unique().to_list() == [endpoint.served.sha256]
    shown = numbers(project, "outcomes", DAY)
    assert (shown["events"], shown["answered"], shown["labelled"]) == (60, 50, 50)
    assert shown["unanswered_share"] == pytest.approx(1 / 6)
    assert shown["base_rate"] == pytest.approx(visits["returned"].mean())
    assert (shown["labels_complete"], shown["labelled_within_1h"]) == (1, 0)
    assert "| 1 | champion | 50 | 50 |" in str(shown["models"])


def test_the_features_in_the_log_table_are_those_that_were_sent(
    project: Project, endpoint: Endpoint
) -> None:
    """Nulls stay nulls, and numbers keep their 32 bits."""
    events = known(project, DAY)
    endpoint.answer(events, changes={"shop_return_share": None, "minutes": 0.1})
    assert project.run(["prediction_log"], (DAY, DAY)).success
    table = project.table("prediction_log", [DAY])
    sent = decoded(table, project.spec.feature_types)
    assert sent["shop_return_share"].null_count() == 60
    assert sent["minutes"].unique().to_list() == pl.Series([0.1], dtype=pl.Float32).to_list()
    assert sent["shop_name"].to_list() == events["shop_name"].to_list()


def test_answers_as_the_lake_has_it_show_no_skew(project: Project, endpoint: Endpoint) -> None:
    """Features exact, and scores as the same model gives them in batch."""
    score(project.spec, project.functions, project.lake, endpoint.served, [DAY])
    endpoint.answer(known(project, DAY))
    found = check(project.run(BOTH, (DAY, DAY)), "skew")
    assert found.passed
    assert found.metadata["scores_compared"].value == 60
    assert found.metadata["skewed_answers"].value == 0


def test_skew_names_the_feature_with_its_cause_and_an_example(
    project: Project, endpoint: Endpoint
) -> None:
    """Some minutes in another unit, a category that was left out, and scores that follow."""
    score(project.spec, project.functions, project.lake, endpoint.served, [DAY])
    events = known(project, DAY)
    endpoint.answer(events.head(6), changes={"minutes": 3600.0})
    endpoint.answer(events.slice(6, 3), changes={"shop_name": None})
    endpoint.answer(events.slice(9))
    result = project.run(BOTH, (DAY, DAY))
    assert result.success
    found = check(result, "skew")
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert found.metadata["skewed_answers"].value == 9
    table = str(found.metadata["differences"].value)
    assert f"| minutes | 6 | 60 | 0 | 0 | 6 | {DAY}-000 | r-{DAY}-000 | 3600 |" in table
    assert f"| shop_name | 3 | 60 | 3 | 0 | 0 | {DAY}-006 | r-{DAY}-006 | null |" in table
    assert "| score | " in table
    assert "shop_size |" not in table


def test_skew_within_the_tolerated_share_passes(project: Project, endpoint: Endpoint) -> None:
    """One answer of sixty, where two in a hundred are tolerated."""
    events = known(project, DAY)
    endpoint.answer(events.head(1), changes={"minutes": 3600.0})
    endpoint.answer(events.slice(1))
    monitoring = project.spec.monitoring.model_copy(update={"skew_share": 0.02})
    project.spec = project.spec.model_copy(update={"monitoring": monitoring})
    define(project)
    found = check(project.run(BOTH, (DAY, DAY)), "skew")
    assert found.passed
    assert "minutes" in (found.description or "")


def test_the_last_answer_in_time_counts(
    project: Project, endpoint: Endpoint, newer: Endpoint
) -> None:
    """Asked twice, the second one stands; an answer after the event is none."""
    events = known(project, DAY).head(10)
    endpoint.answer(events, early=timedelta(minutes=10))
    newer.answer(events.head(4), early=timedelta(minutes=5), request="again")
    newer.answer(events.slice(4), early=-timedelta(minutes=5), request="late")
    assert project.run(BOTH, (DAY, DAY)).success
    outcomes = project.table("outcomes", [DAY])
    assert outcomes["model_version"].to_list() == [2] * 4 + [1] * 6
    assert project.table("prediction_log", [DAY]).height == 20
    assert numbers(project, "outcomes", DAY)["answered"] == 10


def test_what_a_challenger_scored_in_shadow_counts_in_no_outcome(
    project: Project, endpoint: Endpoint, newer: Endpoint
) -> None:
    """It stands in the log beside what was answered, to be compared request by request."""
    events = known(project, DAY)
    replace(endpoint, rollout="r1").answer(events)
    shadow = replace(newer, role="challenger", returned=False, rollout="r1")
    shadow.answer(events.head(50))
    result = project.run(BOTH, (DAY, DAY))
    assert result.success
    assert check(result, "skew").passed
    outcomes = project.table("outcomes", [DAY])
    assert outcomes["model_version"].to_list() == [1] * 60
    assert numbers(project, "outcomes", DAY)["unknown_events"] == 0
    logged = project.table("prediction_log", [DAY])
    assert logged.group_by("returned").len().sort("returned").rows() == [(False, 50), (True, 60)]
    assert set(logged.filter(~pl.col("returned"))["floats"]) == {"{}"}
    shown = numbers(project, "prediction_log", DAY)
    assert (shown["requests"], shown["compared"], shown["model_errors"]) == (60, 50, 0)
    assert shown["mean_score"] == pytest.approx(outcomes["score"].cast(pl.Float64).mean())
    pairs = paired_scores(project.spec, project.lake, [DAY], "r1")
    assert pairs.height == 50
    assert pairs["champion_score"].to_list() == outcomes["score"].head(50).to_list()
    assert (pairs["challenger_score"] != pairs["champion_score"]).any()
    assert set(pairs["returned_role"]) == {"champion"}
    assert paired_scores(project.spec, project.lake, [DAY], "r2").height == 0
    answers = returned_answers(project.spec, project.lake, DAY)
    assert answers["model_version"].to_list() == [1] * 60


def test_versions_and_roles_of_one_day_stand_apart(
    project: Project, endpoint: Endpoint, newer: Endpoint
) -> None:
    """A canary answers some of the requests."""
    events = known(project, DAY)
    endpoint.answer(events.head(40))
    replace(newer, role="canary").answer(events.slice(40))
    result = project.run(BOTH, (DAY, DAY))
    outcomes = project.table("outcomes", [DAY])
    by_role = dict(outcomes.group_by("role", "model_version").len().select("role", "len").rows())
    assert by_role == {"champion": 40, "canary": 20}
    models = str(numbers(project, "outcomes", DAY)["models"])
    assert "| 1 | champion | 40 | 40 |" in models
    assert "| 2 | canary | 20 | 20 |" in models
    assert numbers(project, "prediction_log", DAY)["models"] == "1 as champion, 2 as canary"
    assert check(result, "skew").passed


def test_an_event_just_after_midnight_finds_the_answer_of_the_day_before(
    project: Project, endpoint: Endpoint
) -> None:
    """It was asked in the evening, with the same features, and is compared as the others are."""
    events = known(project, DAY)
    early = events.filter(pl.col("event_time") < day_start(date(2024, 3, 6), BERLIN) + HOUR)
    assert early.height > 0
    endpoint.answer(early, early=HOUR)
    endpoint.answer(events.slice(early.height))
    assert project.run(["prediction_log"], (BEFORE, DAY)).success
    assert project.table("prediction_log", [BEFORE]).height == early.height
    result = project.run(["outcomes"], (DAY, DAY))
    outcomes = project.table("outcomes", [DAY])
    assert outcomes["event_id"].to_list() == events["event_id"].to_list()
    assert outcomes["asked_at"][0] == early["event_time"][0] - HOUR
    assert check(result, "skew").metadata["answers"].value == 60


def test_labels_appear_as_they_become_known(
    project: Project, endpoint: Endpoint, tmp_path: Path
) -> None:
    """At noon the afternoon's visits have no outcome; the next day all have."""
    endpoint.answer(known(project, DAY))
    noon = datetime(2024, 3, 6, 11, tzinfo=UTC)
    at(tmp_path, noon)
    assert project.run(BOTH, (DAY, DAY)).success
    outcomes = project.table("outcomes", [DAY])
    settled = project.table("visits", [DAY])["settled_at"] <= noon
    assert outcomes["outcome_known"].to_list() == settled.to_list()
    assert outcomes["label"].is_null().to_list() == (~settled).to_list()
    share = numbers(project, "outcomes", DAY)["labels_complete"]
    assert share == pytest.approx(settled.mean())
    at(tmp_path, SETTLED)
    first = data_version(project, "outcomes", DAY)
    assert project.run(["outcomes"], (DAY, DAY)).success
    assert project.table("outcomes", [DAY])["outcome_known"].all()
    assert data_version(project, "outcomes", DAY) != first


def test_a_corrected_label_changes_the_outcomes_and_a_lost_one_is_counted(
    project: Project, endpoint: Endpoint
) -> None:
    """The dataset's day arrived again with other outcomes, and one cancelled visit."""
    endpoint.answer(known(project, DAY))
    assert project.run(BOTH, (DAY, DAY)).success
    before = project.table("outcomes", [DAY])["label"]
    first = pl.int_range(pl.len()) == 0
    visits = project.table("visits", [DAY]).with_columns(
        pl.when(first).then(None).otherwise(1 - pl.col("returned")).cast(pl.Int32).alias("returned")
    )
    project.lake.write("visits/visits", {DAY: visits.to_arrow()}, ["visit_id"])
    assert project.run(["outcomes"], (DAY, DAY)).success
    after = project.table("outcomes", [DAY])
    assert after["label"].to_list() == [None, *(1 - label for label in before[1:])]
    assert after["outcome_known"].all()
    shown = numbers(project, "outcomes", DAY)
    assert (shown["outcomes_known"], shown["labelled"], shown["labels_complete"]) == (60, 59, 1)


def test_labels_that_never_come_are_counted_and_stay_null(
    project: Project, endpoint: Endpoint
) -> None:
    """A source that never says when the outcome was known."""
    endpoint.answer(known(project, DAY))
    visits = project.table("visits", [DAY]).with_columns(
        pl.lit(None, pl.Datetime("us", "UTC")).alias("settled_at"),
        pl.lit(None, pl.Int32).alias("returned"),
    )
    project.lake.write("visits/visits", {DAY: visits.to_arrow()}, ["visit_id"])
    assert project.run(BOTH, (DAY, DAY)).success
    shown = numbers(project, "outcomes", DAY)
    assert (shown["outcomes_known"], shown["labelled"], shown["labels_complete"]) == (0, 0, 0)
    assert "base_rate" not in shown
    assert project.table("outcomes", [DAY])["label"].null_count() == 60


def test_a_day_without_an_answer_stays_open_and_the_others_go_on(
    project: Project, endpoint: Endpoint
) -> None:
    """Nothing fails, and nothing says that the day was there."""
    endpoint.answer(pl.concat([known(project, BEFORE), known(project, NEXT)]))
    assert project.run(BOTH, (BEFORE, NEXT)).success
    assert project.materialized("prediction_log") == {BEFORE, NEXT}
    assert project.materialized("outcomes") == set()
    result = project.run(["outcomes"], (BEFORE, NEXT))
    assert result.success
    assert project.materialized("outcomes") == {BEFORE, NEXT}
    assert check(result, "skew").passed
    assert project.run(BOTH, (DAY, DAY)).success
    assert project.materialized("prediction_log") == {BEFORE, NEXT}
    assert list(project.lake.states("visits/outcomes")) == [BEFORE, NEXT]


def test_answers_about_no_event_of_the_day_make_an_empty_day_that_fills_later(
    project: Project, endpoint: Endpoint
) -> None:
    """A caller that names no events is no reason to try for ever."""
    events = known(project, DAY)
    endpoint.answer(events.head(5), named=False)
    assert project.run(BOTH, (DAY, DAY)).success
    assert project.materialized("outcomes") == {DAY}
    assert project.lake.states("visits/outcomes") == {}
    assert numbers(project, "outcomes", DAY)["answered"] == 0
    assert data_version(project, "outcomes", DAY) == "empty"
    endpoint.answer(events.head(2), request="named")
    assert project.run(BOTH, (DAY, DAY)).success
    shown = numbers(project, "outcomes", DAY)
    assert (shown["answered"], shown["unknown_events"]) == (2, 5)
    visits = project.table("visits", [DAY]).slice(2)
    project.lake.write("visits/visits", {DAY: visits.to_arrow()}, ["visit_id"])
    assert project.run(["outcomes"], (DAY, DAY)).success
    assert project.lake.states("visits/outcomes") == {}


def requested(project: Project, result: dg.EvaluateAutomationConditionsResult) -> set[str | None]:
    """The days of outcomes that a tick asks for."""
    found = result.get_requested_partitions(project.key("outcomes"))
    return set(found)


def test_outcomes_follow_the_answers_once_also_where_no_event_was_answered(
    project: Project, endpoint: Endpoint
) -> None:
    """A tick asks for the days that have answers; computed, they are done, with or without rows."""
    events = known(project, DAY)
    endpoint.answer(events.head(3), named=False)
    endpoint.answer(known(project, NEXT))
    assert project.run(["shops", "shop_sizes"]).success
    assert project.run(["visits"], (BEFORE, NEXT)).success
    assert project.run(["visit", "shop_returns"], (BEFORE, NEXT)).success
    assert project.run(["prediction_log"], (BEFORE, NEXT)).success
    tick = dg.evaluate_automation_conditions(project.definitions, project.instance)
    assert requested(project, tick) == {DAY, NEXT}
    assert project.run(["outcomes"], (DAY, NEXT)).success
    for _ in range(2):
        tick = dg.evaluate_automation_conditions(
            project.definitions, project.instance, cursor=tick.cursor
        )
        assert requested(project, tick) == set()
    endpoint.answer(events.head(3), request="named")
    assert project.run(["prediction_log"], (DAY, DAY)).success
    tick = dg.evaluate_automation_conditions(
        project.definitions, project.instance, cursor=tick.cursor
    )
    assert requested(project, tick) == {DAY}


def test_cut_lines_are_counted_and_warned_about(project: Project, endpoint: Endpoint) -> None:
    """The other answers of the file are there."""
    endpoint.answer(known(project, DAY).head(5))
    segment = sorted(endpoint.log_dir.glob("*.jsonl"))[0]
    lines = segment.read_bytes()
    segment.write_bytes(lines + lines[: len(lines) // 3].split(b"\n")[0][:-7])
    result = project.run(["prediction_log"], (DAY, DAY))
    assert result.success
    found = check(result, "torn_lines")
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert numbers(project, "prediction_log", DAY)["torn_lines"] == 1
    assert project.table("prediction_log", [DAY]).height == 5


def test_several_days_are_one_commit_and_each_has_its_own_version(
    project: Project, endpoint: Endpoint
) -> None:
    """Days computed together have the versions that they have alone."""
    endpoint.answer(known(project, BEFORE, DAY, NEXT))
    assert project.run(BOTH, (BEFORE, NEXT)).success
    together = {}
    for name in BOTH:
        assert project.lake.version(f"visits/{name}") == 0
        assert project.materialized(name) == {BEFORE, DAY, NEXT}
        together[name] = [data_version(project, name, day) for day in (BEFORE, DAY, NEXT)]
        assert len(set(together[name])) == 3
    assert numbers(project, "outcomes", DAY)["answered"] == 60
    assert numbers(project, "prediction_log", NEXT)["requests"] == 60
    for name in BOTH:
        for day, version in zip((BEFORE, DAY, NEXT), together[name], strict=True):
            assert project.run([name], (day, day)).success
            assert data_version(project, name, day) == version
        assert project.lake.version(f"visits/{name}") == 0


def test_what_the_log_had_is_remembered_and_more_answers_change_it(
    project: Project, endpoint: Endpoint
) -> None:
    """The sensor sees from two documents that a day is done."""
    events = known(project, DAY)
    endpoint.answer(events.head(5))
    url = project.places.documents
    assert project.run(["prediction_log"], (DAY, DAY)).success
    first = inputs.recorded(url, "visits", "prediction_log")
    assert list(first) == [DAY]
    assert first[DAY].digest == data_version(project, "prediction_log", DAY)
    endpoint.answer(events.slice(5), request="more")
    assert project.run(["prediction_log"], (DAY, DAY)).success
    second = inputs.recorded(url, "visits", "prediction_log")
    assert second[DAY].inputs != first[DAY].inputs
    assert second[DAY].digest == data_version(project, "prediction_log", DAY)


def test_a_feature_that_only_one_version_has_is_compared_where_it_was_asked(
    project: Project, endpoint: Endpoint, newer: Endpoint
) -> None:
    """Days before and after the change of the features stay readable, in one table."""
    events = known(project, DAY)
    endpoint.answer(known(project, BEFORE), without=["shop_size", "shop_name"])
    endpoint.answer(events.head(30), without=["shop_size", "shop_name"])
    newer.answer(events.slice(30, 28))
    newer.answer(events.slice(58), changes={"shop_size": None}, request="null")
    result = project.run(BOTH, (BEFORE, DAY))
    assert result.success
    found = check(result, "skew")
    assert found.metadata["day"].value == DAY
    assert "| shop_size | 2 | 30 | 2 | 0 | 0 |" in str(found.metadata["differences"].value)
    assert found.metadata["skewed_answers"].value == 2
    assert project.table("prediction_log", [BEFORE, DAY]).height == 120
    narrower = project.spec.model_copy(
        update={"feature_views": {"visit": project.spec.feature_views["visit"]}}
    )
    project.spec = narrower
    define(project)
    assert check(project.run(BOTH, (BEFORE, DAY)), "skew").passed


def test_a_day_whose_dataset_is_missing_fails_alone(project: Project, endpoint: Endpoint) -> None:
    """The message names the table and the day."""
    endpoint.answer(known(project, BEFORE, DAY, NEXT))
    assert project.run(["prediction_log"], (BEFORE, NEXT)).success
    project.lake.remove("visits/visits", [DAY])
    result = project.run(["outcomes"], (BEFORE, NEXT))
    assert not result.success
    error = str(result.get_step_failure_events()[0].step_failure_data.error)
    assert "visits/visits has no partition 2024-03-06" in error
    assert project.materialized("outcomes") == {BEFORE, NEXT}


def test_a_log_whose_files_are_gone_takes_nothing_away(
    project: Project, endpoint: Endpoint
) -> None:
    """The lake keeps what was collected."""
    endpoint.answer(known(project, DAY))
    assert project.run(["prediction_log"], (DAY, DAY)).success
    shutil.rmtree(endpoint.log_dir)
    assert project.run(["prediction_log"], (DAY, DAY)).success
    assert project.table("prediction_log", [DAY]).height == 60


def test_a_real_server_asked_over_http_gives_outcomes_without_skew(
    project: Project, endpoint: Endpoint, tmp_path: Path
) -> None:
    """The whole way: request, log, table, outcome, by a clock that the server shares."""
    score(project.spec, project.functions, project.lake, endpoint.served, [DAY])
    events = known(project, DAY)
    at(tmp_path, events["event_time"][0] - timedelta(minutes=5))
    served = local.deploy(
        "visits",
        endpoint.served,
        project.spec.endpoint,
        project.places.endpoints,
        timeout_s=60,
        reason="test",
    )
    names = ["event_id", *project.spec.feature_types]
    with local.connect(served.url, 10) as connection:
        for row in events.head(20).iter_rows(named=True):
            at(tmp_path, row["event_time"])
            columns = {name: [row[name]] for name in names}
            local.ask(served.url, "visits", columns, 10, connection)
    at(tmp_path, SETTLED)
    result = project.run(BOTH, (DAY, DAY))
    assert result.success
    found = check(result, "skew")
    assert found.passed
    assert found.metadata["skewed_answers"].value == 0
    assert found.metadata["scores_compared"].value == 20
    outcomes = project.table("outcomes", [DAY])
    assert outcomes["asked_at"].to_list() == events["event_time"].head(20).to_list()
    assert outcomes["label"].null_count() == 0
