"""A team's own Dagster project beside the platform: one code location with its use cases."""

import shutil
from dataclasses import dataclass
from pathlib import Path

VISITS = Path(__file__).parent / "visits"

_PYPROJECT = """\
[project]
name = "{package}"
version = "0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "{package}"
code_location_name = "{package}"
"""

_DEFINITIONS = '''\
"""The team's code location."""

from pathlib import Path

import dagster as dg

from mlops_assets.components.loading import load_use_cases
from mlops_assets.lifecycle.platform import Places, resources_at

HERE = Path(__file__).parent


@dg.definitions
def defs() -> dg.Definitions:
    """All use cases of the team."""
    return dg.Definitions.merge(
        load_use_cases(HERE / "defs", "{package}.defs"),
        dg.Definitions(resources=resources_at(Places.under(HERE.parent / "state"))),
    )
'''


@dataclass(frozen=True)
class TeamProject:
    """A project in ``root`` whose Python package is ``package``."""

    root: Path
    package: str

    @property
    def defs(self) -> Path:
        """The folder of its use cases."""
        return self.root / self.package / "defs"

    def add_visits(self, name: str = "visits", *edits: tuple[str, str]) -> Path:
        """Add the tests' use case as the folder ``name``, its defs.yaml edited."""
        folder = self.defs / name
        shutil.copytree(VISITS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = (folder / "defs.yaml").read_text()
        for old, new in (("name: visits", f"name: {name}"), *edits):
            assert old in text
            text = text.replace(old, new, 1)
        (folder / "defs.yaml").write_text(text)
        return folder


def make_team_project(root: Path, package: str) -> TeamProject:
    """A project with nothing in it."""
    project = TeamProject(root, package)
    project.defs.mkdir(parents=True)
    (root / "pyproject.toml").write_text(_PYPROJECT.format(package=package))
    (root / package / "__init__.py").write_text("")
    (root / package / "definitions.py").write_text(_DEFINITIONS.format(package=package))
    return project
