"""The `dg` command line knows use cases: it checks, lists and scaffolds them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from team_project import TeamProject, make_team_project

REPOSITORY = Path(__file__).parents[2]
USE_CASE = "mlops_assets.components.UseCase"


Dg = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def dg(tmp_path: Path) -> Dg:
    """Runs `dg` in a folder, whose packages come first on the path, in this environment."""
    settings = tmp_path / "settings" / "dg.toml"
    settings.parent.mkdir()
    settings.write_text("[cli.telemetry]\nenabled = false\n")
    prefix = Path(sys.prefix)
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    path = os.pathsep.join([str(prefix / "bin"), environment.get("PATH", "")])
    environment |= {"VIRTUAL_ENV": str(prefix), "PATH": path, "DG_CLI_CONFIG": str(settings)}

    def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [prefix / "bin" / "dg", *arguments],
            cwd=folder,
            env={**environment, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def team(tmp_path: Path) -> TeamProject:
    """A project of a team of its own, in this environment."""
    return make_team_project(tmp_path / "project", "team")


def test_the_repository_passes_dg_check_defs(dg: Dg) -> None:
    """What CI and a person before a commit run."""
    done = dg(REPOSITORY, "check", "defs")
    assert done.returncode == 0, done.stderr
    assert "All definitions loaded successfully" in done.stdout + done.stderr


def test_dg_list_defs_shows_the_whole_line_of_the_use_case(dg: Dg) -> None:
    """Assets with their group and dependencies, and the checks of data."""
    done = dg(REPOSITORY, "list", "defs", "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assets = {asset["asset_key"]: asset for asset in listed["assets"]}
    line = ("training_set", "model", "evaluation", "promotion", "endpoint", "predictions")
    assert {f"flight_delays/{name}" for name in ("flights", "weather", *line)} <= set(assets)
    assert {asset["group_name"] for asset in assets.values()} == {"flight_delays"}
    assert assets["flight_delays/model"]["dependency_keys"] == ["flight_delays/training_set"]
    checks = {(check["asset_key"], check["name"]) for check in listed["asset_checks"]}
    assert ("flight_delays/flights", "expectations") in checks


def test_dg_knows_the_component_and_the_description_of_its_fields(dg: Dg) -> None:
    """The entry point makes it known in every project of the environment, not only in this one."""
    done = dg(REPOSITORY, "list", "components", "--json")
    assert done.returncode == 0, done.stderr
    assert USE_CASE in {component["key"] for component in json.loads(done.stdout)["items"]}
    schema = dg(REPOSITORY, "utils", "inspect-component", USE_CASE)
    assert schema.returncode == 0, schema.stderr
    assert "IANA time zone" in schema.stdout


@pytest.mark.parametrize(
    ("edit", "line_holds", "says"),
    [
        (("days: 24", "days: 8"), "days: 8", "leave none to train on"),
        (("quarantine_limit: 0.2", "quarantine_limt: 0.2"), "quarantine_limt", "unexpected"),
    ],
)
def test_dg_check_defs_fails_on_a_mistake_with_its_file_and_line(
    dg: Dg, team: TeamProject, edit: tuple[str, str], line_holds: str, says: str
) -> None:
    """The exit code stops CI; the message leads to the line, however deep the field."""
    folder = team.add_visits("visits", edit)
    lines = (folder / "defs.yaml").read_text().splitlines()
    line = next(n for n, text in enumerate(lines, start=1) if line_holds in text)
    done = dg(team.root, "check", "defs")
    assert done.returncode != 0
    assert f"visits/defs.yaml:{line}" in done.stdout + done.stderr
    assert says in done.stdout + done.stderr


def test_a_use_case_that_dg_scaffolds_passes_dg_check_and_is_not_overwritten(
    dg: Dg, team: TeamProject
) -> None:
    """From one command a team has a folder to fill in, which is sound from the start."""
    done = dg(team.root, "scaffold", "defs", USE_CASE, "churn")
    assert done.returncode == 0, done.stderr
    files = {path.name for path in (team.defs / "churn").iterdir()}
    assert files == {"defs.yaml", "sources.py", "features.py"}
    assert "name: churn" in (team.defs / "churn" / "defs.yaml").read_text()
    checked = dg(team.root, "check", "defs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (team.defs / "churn" / "sources.py").write_text("# work of a day\n")
    again = dg(team.root, "scaffold", "defs", USE_CASE, "churn")
    assert again.returncode != 0
    assert (team.defs / "churn" / "sources.py").read_text() == "# work of a day\n"
