"""From the endpoint's log files to outcomes: which answer counts, and its label, late or not."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from answers_support import (
    BEFORE,
    BOTH,
    DAY,
    SETTLED,
    Endpoint,
    at,
    check,
    data_version,
    known,
    numbers,
)
from lifecycle_support import Project

from mlops_assets.adapters.endpoints import local
from mlops_assets.core.windows import day_start
from mlops_assets.lifecycle.monitoring.profiles import returned_answers
from mlops_assets.lifecycle.prediction_log import paired_scores
from mlops_assets.lifecycle.predictions import score

BERLIN, HOUR = "Europe/Berlin", timedelta(hours=1)


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
