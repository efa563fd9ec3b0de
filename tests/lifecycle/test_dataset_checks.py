"""Checks that every dataset with days has, and the freshness policy of every asset."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from lifecycle_support import Project, spec_of_visits

from mlops_assets import clock
from mlops_assets.clock import ReplayClock
from mlops_assets.lifecycle.freshness import freshness_policy, late


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon of April 2nd, in UTC, for the project."""
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    now = datetime(2024, 4, 2, 12, tzinfo=UTC)
    clock.write(tmp_path / "clock.json", ReplayClock(now, now))


def _checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_rows_of_several_days_in_one_run_are_each_judged(project: Project) -> None:
    """A backfill's later days rest on its earlier ones; the first two weeks have too little."""
    project.faults({"2024-03-20": "half"})
    result = project.run(["visits"], ("2024-03-01", "2024-03-25"))
    assert result.success
    volume = _checks(result)["volume"]
    assert not volume.passed
    assert volume.severity == dg.AssetCheckSeverity.WARN
    assert volume.metadata["odd_days"].value == 1
    assert volume.metadata["judged_days"].value == 11
    assert volume.metadata["rows"].value == 60
    assert str(volume.description).startswith("2024-03-20: 30 rows, expected ")


def test_with_too_little_history_a_volume_passes_and_says_so(project: Project) -> None:
    """Nobody knows yet what is usual."""
    volume = _checks(project.run(["visits"], ("2024-03-01", "2024-03-03")))["volume"]
    assert volume.passed
    assert volume.description == "3 of 3 days have fewer than 14 days before"


def test_a_run_says_which_days_are_late(project: Project, at: None) -> None:
    """By the platform's clock, of the last four weeks; a day that was refused has come."""
    project.faults({"2024-03-31": "negative"})
    checks = _checks(project.run(["visits"], ("2024-03-05", "2024-03-31")))
    assert not checks["expectations"].passed
    deadline = checks["deadline"]
    assert not deadline.passed
    assert deadline.description == "late: 2024-04-01"
    assert deadline.metadata["late_days"].value == 1
    assert not deadline.blocking


def test_what_is_four_weeks_old_is_not_waited_for() -> None:
    """A day that never came is somebody's decision by then."""
    spec = spec_of_visits()
    now = datetime(2024, 4, 2, 12, tzinfo=UTC)
    assert late(spec, "visits", [], now)[0].isoformat() == "2024-03-05"
    assert late(spec, "visits", [], now + timedelta(days=60)) == []


def test_a_dataset_without_days_has_neither_check(project: Project) -> None:
    """There is no day that could be late."""
    assert project.run(["shops"]).get_asset_check_evaluations() == []


def test_every_asset_has_a_freshness_policy(project: Project) -> None:
    """Also those that no factory of the test names."""
    graph = project.definitions.resolve_asset_graph()
    without = [
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).freshness_policy is None
    ]
    assert without == []


def test_days_are_due_daily_and_by_the_slowest_dataset_behind_them() -> None:
    """What has no days is looked at after a year, as is everything once the data has ended."""
    ended = spec_of_visits()
    spec = ended.model_copy(update={"end": None})
    slow = spec.datasets["visits"].model_copy(update={"due_hours": 30.0})
    spec = spec.model_copy(update={"datasets": {**spec.datasets, "visits": slow}})
    daily = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=78), warn_window=timedelta(hours=54)
    )
    yearly = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=366))
    for name in ("visits", "visit", "predictions", "outcomes", "drift"):
        assert freshness_policy(spec, name) == daily, name
        assert freshness_policy(ended, name) == yearly, name
    for name in ("shops", "shop_sizes", "model", "retraining"):
        assert freshness_policy(spec, name) == yearly, name
