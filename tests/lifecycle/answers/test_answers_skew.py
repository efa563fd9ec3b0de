"""Answers compared with what the lake says their features and scores are."""

import dagster as dg
from answers_support import BEFORE, BOTH, DAY, Endpoint, check, define, known
from lifecycle_support import Project

from mlops_assets.lifecycle.predictions import score


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
