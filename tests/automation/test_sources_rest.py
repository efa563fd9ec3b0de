"""Sources that had everything rest for minutes, and everything else is looked at in each tick."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from lifecycle_support import Project, make_project
from ticking import made, set_clock, until_quiet

from mlops_assets import clock
from mlops_assets.adapters import inputs
from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.arrivals.inputs import view_stage
from mlops_assets.lifecycle.arrivals.sensor import (
    INTERVAL_SECONDS,
    LOOK_AGAIN,
    Cursor,
    new_data_sensor,
)
from mlops_assets.lifecycle.arrivals.sources import LOG_DAYS, prediction_log_source
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.replay.ticks import Daemon

SENSOR = "visits_new_data"
MORNING = datetime(2024, 3, 5, 2, tzinfo=UTC)
"""The days from 1 to 4 March are over."""

SECONDS = timedelta(seconds=INTERVAL_SECONDS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A use case in which nothing happened yet."""
    monkeypatch.setenv("VISITS_FAULTS", str(tmp_path / "faults.json"))
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield make_project(tmp_path, instance, 8931)


def _without_suite(project: Project) -> Project:
    spec = project.spec.model_dump()
    spec["datasets"]["visits"]["suite"] = None
    return replace(project, spec=UseCaseSpec.model_validate(spec))


def _at(project: Project, after: timedelta) -> None:
    set_clock(project.faults_file.with_name("clock.json"), MORNING + after)


def _settled(project: Project) -> Daemon:
    """A daemon for datasets and views alone: predictions need a model, and wait for it."""
    _at(project, timedelta(0))
    views = [view_stage(project.spec, name) for name in project.spec.feature_views]
    definitions = dg.Definitions(
        assets=project.definitions.assets,
        sensors=[new_data_sensor(project.spec, project.functions, views)],
        resources=project.definitions.resources,
    )
    daemon = Daemon(definitions, project.instance)
    until_quiet(daemon, SENSOR)
    return daemon


def test_a_correction_is_found_when_its_source_has_rested(project: Project) -> None:
    """Not before, though each tick comes half a minute after the last one."""
    daemon = _settled(_without_suite(project))
    project.faults({"2024-03-03": "corrected"})
    _at(project, SECONDS)
    assert daemon.tick(SENSOR) == []
    _at(project, LOOK_AGAIN)
    assert made(daemon.tick(SENSOR)) == {"visits": ["2024-03-03"]}


def test_a_day_that_has_not_come_is_looked_for_in_every_tick(project: Project) -> None:
    """The first moment that it is there is early enough for nobody to wait."""
    project.faults({"2024-03-04": "empty"})
    daemon = _settled(_without_suite(project))
    _at(project, SECONDS)
    assert daemon.tick(SENSOR) == []
    project.faults({})
    _at(project, 2 * SECONDS)
    assert made(daemon.tick(SENSOR)) == {"visits": ["2024-03-04"]}


def test_a_newest_day_that_was_refused_is_looked_at_in_every_tick(project: Project) -> None:
    """Whoever repairs it sees that at once."""
    project.faults({"2024-03-04": "negative"})
    daemon = _settled(project)
    _at(project, SECONDS)
    assert daemon.tick(SENSOR) == []
    project.faults({})
    _at(project, 2 * SECONDS)
    assert made(daemon.tick(SENSOR)) == {"visits": ["2024-03-04"]}


def test_what_a_run_wrote_down_is_looked_at_while_sources_rest(project: Project) -> None:
    """A dataset that somebody made again re-opens the views that read it."""
    project = _without_suite(project)
    daemon = _settled(project)
    url = project.places.documents
    known = inputs.recorded(url, "visits", "visits")["2024-03-04"]
    changed = PartitionInputs(inputs=known.inputs, digest="other")
    inputs.record(url, "visits", "visits", {"2024-03-04": changed})
    _at(project, SECONDS)
    assert made(daemon.tick(SENSOR)) == {
        "shop_returns": ["2024-03-04"],
        "visit": ["2024-03-04"],
    }


def test_a_cursor_of_another_release_rests_on_nothing() -> None:
    """Nor does one that somebody edited."""
    ours = Cursor("seen", ("said",), {"visits": "2024-03-01"}, "known", MORNING.timestamp())
    assert Cursor.of(ours.text()) == ours
    assert Cursor.of('{"seen": "x", "said": [], "after": {}}') == Cursor()
    assert Cursor.of(ours.text().replace(str(ours.looked), '"soon"')) == Cursor()


def test_old_days_of_the_prediction_log_are_taken_as_they_were_recorded(
    project: Project,
) -> None:
    """But for those that nobody has recorded, or that were refused: their files are looked at."""
    days = [(date(2024, 3, 1) + timedelta(days=n)).isoformat() for n in range(LOG_DAYS + 4)]
    folder = Path(project.places.endpoints) / "visits" / "predictions"
    folder.mkdir(parents=True)
    for day in days:
        (folder / f"{day.replace('-', '')}T12-server.jsonl").write_text("1\n")
    recorded = {
        days[0]: PartitionInputs(inputs="as it was", digest="d"),
        days[1]: PartitionInputs(inputs="refused", digest=""),
        days[-1]: PartitionInputs(inputs="as it was", digest="d"),
    }
    source = prediction_log_source(project.spec)
    platform = Platform.at(project.places)
    found = source.look(platform, days, recorded, "").versions
    assert sorted(found) == days
    assert found[days[0]] == "as it was"
    assert found == {**source.look(platform, days, {}, "").versions, days[0]: "as it was"}
