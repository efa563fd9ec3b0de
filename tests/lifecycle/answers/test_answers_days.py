"""Days of the endpoint's log in the lake: which are done, which stay open, which fail."""

import shutil

import dagster as dg
import polars as pl
from answers_support import BEFORE, BOTH, DAY, NEXT, Endpoint, check, data_version, known, numbers
from lifecycle_support import Project

from mlops_assets.adapters import inputs
from mlops_assets.core.answer_features import decoded


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
