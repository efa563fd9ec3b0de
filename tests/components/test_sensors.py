"""Which sensors run is said in one file, each by name where something is at stake."""

from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.components.sensors import load_with_sensors, sensors_of
from mlops_assets.core.errors import PermanentError
from mlops_assets.definitions import ENVIRONMENTS, SENSORS

VISITS = Path(__file__).parents[1] / "support"
NAMES = {
    "automation": "running",
    "visits_new_data": "running",
    "visits_retraining": "stopped",
    "visits_alerts": "running",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of use cases with one, whose functions are the tests' own."""
    (tmp_path / "visits").symlink_to(VISITS / "visits", target_is_directory=True)
    return tmp_path


def _statuses(definitions: dg.Definitions) -> dict[str, bool]:
    return {
        sensor.name: sensor.default_status is dg.DefaultSensorStatus.RUNNING
        for sensor in definitions.sensors or ()
    }


def test_each_sensor_runs_as_it_is_named(folder: Path) -> None:
    """Stopped ones are there, for a person to start."""
    found = _statuses(load_with_sensors(folder, "cases", NAMES))
    assert found == {name: status == "running" for name, status in NAMES.items()}


@pytest.mark.parametrize(("sensors", "runs"), [("all", True), ("none", False)])
def test_where_nothing_is_at_stake_all_or_none_run(folder: Path, sensors: str, runs: bool) -> None:
    """A laptop needs no list."""
    found = _statuses(load_with_sensors(folder, "cases", sensors))  # type: ignore[arg-type]
    assert found
    assert set(found.values()) == {runs}


def test_a_sensor_that_nobody_named_fails_the_load(folder: Path) -> None:
    """A new use case does not start to retrain in production because nobody said no."""
    named = {name: status for name, status in NAMES.items() if name != "visits_retraining"}
    with pytest.raises(PermanentError, match="add visits_retraining"):
        load_with_sensors(folder, "cases", named)  # type: ignore[arg-type]


def test_a_name_that_no_sensor_has_fails_the_load(folder: Path) -> None:
    """A typo would leave a sensor at its default."""
    with pytest.raises(PermanentError, match="remove visitts_alerts"):
        load_with_sensors(folder, "cases", {**NAMES, "visitts_alerts": "running"})  # type: ignore[arg-type]


def test_the_file_says_something_about_every_environment() -> None:
    """An environment that the table has and the file lacks would not load."""
    for name in ENVIRONMENTS:
        assert sensors_of(SENSORS, name)


@pytest.mark.parametrize("text", ["local: sometimes", "local: {a: on}", "- local", "local: {"])
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """The message names the file and what may stand in it."""
    path = tmp_path / "sensors.yaml"
    path.write_text(text)
    with pytest.raises(PermanentError, match=r"sensors\.yaml: each environment"):
        sensors_of(path, "local")


def test_an_environment_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    """It would run nothing, silently."""
    path = tmp_path / "sensors.yaml"
    path.write_text("local: all\n")
    with pytest.raises(PermanentError, match="nothing about the environment 'production'"):
        sensors_of(path, "production")
