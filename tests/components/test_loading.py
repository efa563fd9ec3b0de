"""The quick way to load use cases gives what Dagster's own loader gives."""

import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from team_project import TeamProject, make_team_project

from mlops_assets.components.loading import load_use_cases
from mlops_assets.lifecycle.platform import Places, resources_at

_numbers = itertools.count()

DAGSTERS_OWN = {"dagster/code_references", "dagster/component_origin"}
"""Metadata that Dagster's loader adds for its error pages: the object and its place in the YAML."""


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TeamProject]:
    """A project whose package can be imported during the test, and that no test before had."""
    project = make_team_project(tmp_path, f"team_{next(_numbers)}")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield project


def _graph(definitions: dg.Definitions) -> AssetGraph:
    resources = dg.Definitions(resources=resources_at(Places.under(Path("unused"))))
    return dg.Definitions.merge(definitions, resources).resolve_asset_graph()


def _quick(team: TeamProject) -> AssetGraph:
    return _graph(load_use_cases(team.defs, f"{team.package}.defs"))


def _refusal(team: TeamProject) -> str:
    with pytest.raises(Exception) as caught:
        load_use_cases(team.defs, f"{team.package}.defs")
    parts: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        parts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def _described(graph: AssetGraph) -> dict[str, dict[str, object]]:
    described: dict[str, dict[str, object]] = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        spec = node.assets_def.get_asset_spec(key)
        described[key.to_user_string()] = {
            "deps": {dep.asset_key.to_user_string(): dep.partition_mapping for dep in spec.deps},
            "metadata": {k: v for k, v in spec.metadata.items() if k not in DAGSTERS_OWN},
            "tags": spec.tags,
            "owners": list(spec.owners),
            "group": spec.group_name,
            "description": spec.description,
            "partitions": spec.partitions_def,
            "backfill": node.backfill_policy,
            "checks": {
                check.name: (check.blocking, check.description)
                for check in node.assets_def.check_specs
            },
        }
    return described


def test_the_quick_way_equals_dagsters_own_loader(team: TeamProject) -> None:
    """Keys, dependencies, checks, metadata and all else that the UI shows are the same."""
    team.add_visits("visits")
    team.add_visits("returns").rename(team.defs / "europe")
    quick = _described(_quick(team))
    slow = _described(_graph(dg.load_from_defs_folder(path_within_project=team.defs)))
    assert len(quick) == 2 * 17
    assert quick == slow


def test_a_sound_folder_is_not_given_to_dagsters_loader(
    team: TeamProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cost, paid at each start of a run, is what the quick way is for."""
    team.add_visits("visits")
    (team.defs / "__init__.py").write_text('"""The use cases of the team."""')
    (team.defs / ".checkpoints").mkdir()
    (team.defs / ".checkpoints" / "defs.yaml").write_text("what an editor keeps")
    monkeypatch.delattr(dg, "load_from_defs_folder")
    assert len(_quick(team).get_all_asset_keys()) == 17


def test_a_use_case_in_a_folder_of_folders_finds_its_functions(team: TeamProject) -> None:
    """Teams sort their use cases into folders; functions are named from where the YAML is."""
    (team.defs / "europe").mkdir()
    team.add_visits("visits").rename(team.defs / "europe" / "visits")
    loaded = load_use_cases(team.defs, f"{team.package}.defs")
    assets = [a for a in loaded.assets or () if isinstance(a, dg.AssetsDefinition)]
    [shops] = [a for a in assets if a.key == dg.AssetKey(["visits", "shops"])]
    resources = resources_at(Places.under(team.root / "state"))
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([shops], resources=resources, instance=instance).success


@pytest.mark.parametrize(
    ("edit", "line_holds", "says"),
    [
        (("key: [shop]", "keys: [shop]"), "keys: [shop]", "keys"),
        (("end: 2024-05-01", "end: 2024-02-01"), "end: 2024-02-01", "swap the dates"),
        (("sources:shops", "sources:shop"), "sources:shop", "defines no 'shop'"),
        (('["team:tests"]', "[somebody]"), "[somebody]", "pattern"),
        (("    shops:\n", "    model:\n"), "    model:", "name of the platform's own"),
        (("at_least: 0.01", "at_least: .nan"), ".nan", "finite"),
    ],
)
def test_a_mistake_beside_sound_use_cases_is_refused_with_its_file_and_line(
    team: TeamProject, edit: tuple[str, str], line_holds: str, says: str
) -> None:
    """The slow way names the place, which the quick way does not know."""
    team.add_visits("sound")
    folder = team.add_visits("visits", edit)
    lines = (folder / "defs.yaml").read_text().splitlines()
    line = next(n for n, text in enumerate(lines, start=1) if line_holds in text)
    message = _refusal(team)
    assert f"visits/defs.yaml:{line}" in message
    assert says in message


@pytest.mark.parametrize(
    "broken", ["type: [", "", "attributes: {}", "type: mlops_assets.components.UseCase", "- a\n- b"]
)
def test_a_file_that_is_no_description_is_refused_by_its_name(
    team: TeamProject, broken: str
) -> None:
    """Even where there is no field to point to, the file is named."""
    folder = team.defs / "visits"
    folder.mkdir()
    (folder / "defs.yaml").write_text(broken)
    assert "visits" in _refusal(team)
    assert "defs.yaml" in _refusal(team)


def test_other_components_and_python_modules_are_loaded_too(team: TeamProject) -> None:
    """Nothing in the folder is passed over because it is no use case."""
    team.add_visits("visits")
    other = team.defs / "other"
    other.mkdir()
    (other / "defs.yaml").write_text(
        textwrap.dedent(
            """\
            type: dagster.PythonScriptComponent
            attributes:
              execution:
                path: nightly.py
              assets:
                - key: nightly
            """
        )
    )
    (team.defs / "plain").mkdir()
    (team.defs / "plain" / "assets.py").write_text(
        "import dagster as dg\n\n\n@dg.asset\ndef plain():\n    pass\n"
    )
    keys = {key.to_user_string() for key in _quick(team).get_all_asset_keys()}
    assert {"nightly", "plain", "visits/visits", "visits/predictions"} <= keys
