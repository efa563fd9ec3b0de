"""docs/clouds.md, held against what the code takes and refuses."""

import re
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_assets.adapters import storage
from mlops_assets.adapters.alerts.config import channels_of
from mlops_assets.adapters.endpoints.targets import place_of
from mlops_assets.adapters.online_store import open_store
from mlops_assets.compute.cluster import LEAVING
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.serving.objects import read_object

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "clouds.md").read_text()
PROFILES = yaml.safe_load((ROOT / "mlops_assets" / "compute.yaml").read_text())["profiles"]
STORES = ("LAKE", "LEDGER", "ARTIFACTS", "REPORTS", "DOCUMENTS")


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first heading is ``first``."""
    lines = iter(DOCUMENT.splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            break
    next(lines)
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert rows, f"docs/clouds.md has no table that begins with {first!r}"
    return rows


def forms(cell: str) -> list[str]:
    """What stands in backquotes in a cell, and ``path``."""
    return [*re.findall(r"`([^`]+)`", cell), *(["path"] if cell.endswith("path") else [])]


VARIABLES = {row[0].strip("`"): row for row in table("variable")}


def test_each_variable_of_an_environment_is_explained() -> None:
    """Whoever fills in environment.env finds each line, and no other."""
    files = (ROOT / "deployments" / "kubernetes" / "overlays").glob("*/environment.env")
    lines = [path.read_text().splitlines() for path in files]
    named = {line.partition("=")[0] for line in chain(*lines) if re.match(r"[A-Z]", line)}
    # A password stands in it: it is in the Secret.
    assert set(VARIABLES) == named | {"MLOPS_TUNING_URL"}


def _filesystem(url: str) -> object:
    storage.local_path(url)
    return storage.filesystem(url)


def _online(url: str) -> object:
    return open_store(url, 1.0)


def _channel(text: str) -> object:
    address = {"jsonl:": "/tmp/x", "sns:": "env:NAME"}.get(text, "env:NAME")
    return channels_of([text if text == "console" else text + address])


def _endpoints(url: str) -> object:
    return place_of("use_case", url, "s3://bucket/documents")


TAKERS: dict[str, Callable[[str], object]] = {
    **{f"MLOPS_{name}_URL": _filesystem for name in STORES},
    "MLOPS_ONLINE_URL": _online,
    "MLOPS_ENDPOINTS": _endpoints,
    "MLOPS_ALERT_CHANNELS": _channel,
}


def written(form: str, tmp_path: Path) -> str:
    """A place or channel of that form."""
    if form in ("path", "file://"):
        return f"{form.removeprefix('path')}{tmp_path}/place"
    place = "namespace" if form == "kubernetes://" else "bucket/place"
    return form + place if form.endswith("://") else form


@pytest.mark.parametrize("variable", TAKERS)
def test_the_code_takes_and_refuses_what_the_page_says(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scheme of the table is tried on the code that gets the variable's value."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    take, (_, taken, refused, _) = TAKERS[variable], VARIABLES[variable]
    assert forms(taken), "the table says what is taken"
    for form in forms(taken):
        take(written(form, tmp_path))
    for form in forms(refused):
        with pytest.raises(PermanentError):
            take(written(form, tmp_path))


@pytest.mark.parametrize("variable", ["MLOPS_ARTIFACTS_URL", "MLOPS_DOCUMENTS_URL"])
def test_the_server_refuses_the_same_places(variable: str, tmp_path: Path) -> None:
    """The model server reads by a client of its own, which knows the same schemes."""
    _, taken, refused, _ = VARIABLES[variable]
    assert set(forms(taken)) == {"s3://", "file://", "path"}
    for form in ("file://", "path"):
        with pytest.raises(TransientError, match="cannot be read"):
            read_object(written(form, tmp_path), 1)
    for form in forms(refused):
        with pytest.raises(PermanentError, match="no path and no s3"):
            read_object(written(form, tmp_path), 1)


def _selectors(document: Any) -> Iterable[tuple[str, str]]:
    """All node selectors anywhere in a document."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in ("nodeSelector", "node_selector"):
                yield from value.items()
            else:
                yield from _selectors(value)
    elif isinstance(document, list):
        for each in document:
            yield from _selectors(each)


def test_nodes_carry_what_pods_ask_for() -> None:
    """Labels and taints of the page are those of the manifests, values and profiles."""
    paths = [
        *(ROOT / "deployments" / "kubernetes").glob("[!o]*/*.yaml"),
        ROOT / "deployments" / "dagster" / "values.yaml",
        ROOT / "mlops_assets" / "compute.yaml",
    ]
    documents = [list(yaml.safe_load_all(path.read_text())) for path in paths]
    asked = {(label, f"`{value}`") for label, value in _selectors(documents)}
    taints = {each["key"] for one in PROFILES.values() for each in one.get("tolerations", [])}
    rows = table("label or taint")
    labels = {(row[0].strip("`"), row[1]) for row in rows if "(taint)" not in row[0]}
    assert labels == asked
    assert {forms(row[0])[0] for row in rows if "(taint)" in row[0]} == taints


def test_the_page_names_the_profiles_that_ask() -> None:
    """For each label or taint the profiles that have it, and no other."""
    for row in table("label or taint"):
        (key,) = forms(row[0])
        asking = {
            name
            for name, each in PROFILES.items()
            if each.get("node_selector", {}).get(key) == row[1].strip("`")
            or ("(taint)" in row[0] and key in {t["key"] for t in each.get("tolerations", [])})
        }
        assert set(forms(row[2])) == asking


def test_a_node_that_leaves_is_known_by_the_taints_of_the_page() -> None:
    """Both autoscalers' taints tell an interruption from an error."""
    assert {row[0].strip("`") for row in table("taint")} == set(LEAVING)


def test_the_notice_of_the_page_is_the_profiles() -> None:
    """The grace that AWS's two minutes allow is what the profiles have."""
    grace = {each["grace_seconds"] for each in PROFILES.values() if "grace_seconds" in each}
    assert grace == {int(each) for each in re.findall(r"`grace_seconds` of (\d+)", DOCUMENT)}


def test_each_module_has_its_replacement() -> None:
    """No module is forgotten, and none is made up."""
    modules = {path.name for path in (ROOT / "terraform" / "modules").iterdir() if path.is_dir()}
    rows = table("module")
    assert [row[0] for row in rows if not all(row)] == []
    assert {row[0].strip("`") for row in rows} == modules
    assert len(rows) == len(modules)


def test_files_of_the_page_are_there() -> None:
    """Paths in backquotes lead somewhere."""
    paths = re.findall(r"`((?:mlops_assets|deployments|terraform|docs)/[^`<]+)`", DOCUMENT)
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_what_native_urls_would_need_is_installed() -> None:
    """The page says that Arrow brings both stores."""
    import pyarrow.fs

    assert pyarrow.fs.GcsFileSystem
    assert pyarrow.fs.AzureFileSystem
