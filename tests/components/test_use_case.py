"""The UseCase component: what a team writes, and what it is told when that is wrong."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from mlops_assets.components import UseCase
from mlops_assets.lifecycle.platform import Places, resources_at

VISITS = Path(__file__).parents[1] / "support" / "visits"

Load = Callable[..., dg.Definitions]


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads the tests' use case from a project of its own, after editing its files."""
    with create_defs_folder_sandbox() as sandbox:

        def _load(*edits: tuple[str, str], file: str = "defs.yaml") -> dg.Definitions:
            folder = sandbox.defs_folder_path / "visits"
            shutil.copytree(VISITS, folder, dirs_exist_ok=True)
            text = (folder / file).read_text()
            for old, new in edits:
                assert old in text
                text = text.replace(old, new, 1)
            (folder / file).write_text(text)
            with sandbox.load_component_and_build_defs(defs_path=folder) as (component, defs):
                assert isinstance(component, UseCase)
                return _with_resources(defs)

        yield _load


def _with_resources(defs: dg.Definitions) -> dg.Definitions:
    places = Places.under(Path("unused"))
    return dg.Definitions.merge(defs, dg.Definitions(resources=resources_at(places)))


def _refusal(load: Load, *edits: tuple[str, str], file: str = "defs.yaml") -> str:
    with pytest.raises(Exception) as caught:
        load(*edits, file=file)
    parts: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        parts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def test_the_graph_reads_from_datasets_to_predictions(load: Load) -> None:
    """Each stage depends on the one before it, as DESIGN draws it."""
    graph = load().resolve_asset_graph()
    parents = {
        key.path[1]: {parent.path[1] for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert parents["shop_returns"] == {"visits"}
    assert parents["training_set"] == {"visit", "shop_returns", "shop_sizes", "visits"}
    assert parents["model"] == {"training_set"}
    assert parents["evaluation"] == {"model"}
    assert parents["promotion"] == {"evaluation"}
    assert parents["endpoint"] == {"promotion"}
    assert parents["predictions"] >= {"endpoint", "visit", "shop_returns", "shop_sizes"}


def test_every_asset_is_grouped_owned_described_and_has_kinds(load: Load) -> None:
    """Whoever is on call finds out from the UI what an asset is and whose."""
    for spec in load().resolve_all_asset_specs():
        assert spec.key.path[0] == "visits"
        assert spec.group_name == "visits"
        assert list(spec.owners) == ["team:tests"]
        assert spec.description
        assert spec.kinds


@pytest.mark.parametrize(
    ("edit", "line_holds", "says"),
    [
        (("key: [shop]", "keys: [shop]"), "keys: [shop]", "keys"),
        (("days: 24", "days: many"), "days: many", "integer"),
        (("days: 24", "days: 8"), "days: 8", "leave none to train on"),
        (("start: 2024-03-01", "start: 2024-06-01"), "end: 2024-05-01", "swap the dates"),
        (("key: [visit_id]", "key: [visit]"), "key: [visit]", "no column 'visit'"),
        (("event_time: visited_at", "event_time: minutes"), "event_time: minutes", "timestamp"),
        (("datasets: [shops]", "datasets: [stores]"), "datasets: [stores]", "no dataset 'stores'"),
        (("function: features:visit\n", "function: features:visti\n"), "features:visti", "visti"),
        (("source: sources:shops", "source: nowhere:shops"), "nowhere:shops", "nowhere"),
        (("slices: [shop_name]", "slices: [colour]"), "slices: [colour]", "no feature 'colour'"),
        (("timezone: Europe/Berlin", "timezone: Berlin"), "timezone: Berlin", "IANA"),
        (("end: 2024-04-10", "end: 2024-04-31"), "end: 2024-04-31", "date"),
        (("port: 8931", "port: 893100"), "port: 893100", "65535"),
        (("shop_size: float", "minutes: float"), "minutes: float", "also in view"),
        (("ttl_hours: 24\n      features:\n        minutes", "features:\n        minutes"),
         "visit:", "ttl_hours"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_yaml_is_refused_with_its_file_line_and_remedy(
    load: Load, edit: tuple[str, str], line_holds: str, says: str
) -> None:
    """The message leads to the line, so that nobody has to search."""
    message = _refusal(load, edit)
    text = (VISITS / "defs.yaml").read_text().replace(edit[0], edit[1], 1)
    lines = [n for n, line in enumerate(text.splitlines(), start=1) if line_holds in line]
    assert says in message
    assert any(f"defs.yaml:{line}" in message for line in lines), (lines, message)


def test_a_function_file_with_a_syntax_error_is_refused_by_line(load: Load) -> None:
    """Functions are looked up without importing them; their file still has to parse."""
    assert "suites.py, line" in _refusal(load, ("def visits(", "def visits(("), file="suites.py")


def test_a_use_case_that_was_scaffolded_loads() -> None:
    """`dg scaffold defs` gives a folder that `dg check defs` accepts."""
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(component_cls=UseCase, defs_path="churn")
        with sandbox.load_component_and_build_defs(defs_path=folder) as (_, defs):
            graph = _with_resources(defs).resolve_asset_graph()
        names = {key.path[1] for key in graph.get_all_asset_keys()}
        assert {"observations", "amounts", "model", "endpoint", "predictions"} <= names
