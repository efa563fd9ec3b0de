"""Each kind of alert has a runbook, which names only what exists."""

import re
from pathlib import Path

import click
import pytest

from mlops_assets import cli
from mlops_assets.core import alert_text
from mlops_assets.core.alerts import (
    KINDS,
    Kind,
)
from mlops_assets.core.monitoring_spec import MonitoringSpec
from mlops_assets.core.spec import STAGES, DatasetSpec, TrainingSetSpec

REPOSITORY = Path(__file__).parents[2]
RUNBOOKS = REPOSITORY / "docs" / "runbooks"


def test_each_kind_has_a_runbook_and_each_runbook_a_kind() -> None:
    """The links of alerts lead somewhere, with the sections that people look for."""
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == sorted(KINDS)
    assert set(alert_text.WHAT_TO_DO) == set(KINDS)
    sections = ["What it means", "How to look", "Likely causes", "What to do", "How it ends"]
    for path in RUNBOOKS.glob("*.md"):
        assert re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE) == sections, path.name


def _dg_knows(words: list[str]) -> bool:
    from dagster_dg_cli.cli import create_dg_cli

    command: click.Command = create_dg_cli()
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0]) if words else None
        if found is None:
            return False
        command, words = found, words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if word.startswith("-")} <= options


def _mlops_knows(words: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    capsys.readouterr()
    return stopped.value.code == 0


def _names() -> set[str]:
    """Names that exist in the platform: assets, fields, checks, tables, metadata."""
    from mlops_assets.adapters import decisions, ledger
    from mlops_assets.adapters.alerts import log
    from mlops_assets.core.spec import KNOWN_AT
    from mlops_assets.lifecycle import publish

    return {
        *STAGES,
        *(f"USE_CASE/{stage}" for stage in STAGES),
        decisions.table("USE_CASE"),
        *(f"training_set.{field}" for field in TrainingSetSpec.model_fields),
        *(f"monitoring.{field}" for field in MonitoringSpec.model_fields),
        *DatasetSpec.model_fields,
        *(publish.EXPECTATIONS_CHECK, publish.WARNINGS_CHECK, "quarantined_rows"),
        *(KNOWN_AT, ledger.table("USE_CASE"), log.TABLE, "capped", "champion", "dagster/row_count"),
    }


def _is_place(span: str) -> bool:
    from mlops_assets.adapters.endpoints.state import paths_of
    from mlops_assets.lifecycle.platform import Places

    if span == "defs.yaml":
        return any((REPOSITORY / "mlops_assets" / "defs").glob("*/defs.yaml"))
    state = paths_of("USE_CASE", Places.under(REPOSITORY / ".mlops").endpoints)
    return REPOSITORY / span in (state.server_log, state.predictions) or (
        not span.startswith((".", "/")) and (REPOSITORY / span).exists()
    )


def _is_said(span: str) -> bool:
    """Whether a stage or a record says ``span``: a check, a column, a key of metadata."""
    package = REPOSITORY / "mlops_assets"
    sources = [*(package / "lifecycle").glob("*.py"), *(package / "core").glob("*.py")]
    # In quotes, as a field, or as the heading of a table.
    word = re.escape(span)
    said = re.compile(rf"""["']{word}["']|^    {word}: |\| {word} \|""", re.MULTILINE)
    return any(said.search(source.read_text()) for source in sources)


KUBERNETES = REPOSITORY / "deployments" / "kubernetes"


@pytest.mark.parametrize("kind", KINDS)
def test_a_runbook_names_only_what_exists(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, options, targets, paths, assets, fields; links lead to files."""
    text = (RUNBOOKS / f"{kind}.md").read_text()
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", text)
    assert spans
    for span in spans:
        program, *words = span.split()
        if program == "mlops":
            known = _mlops_knows(words, capsys)
        elif program == "make":
            known = words[0] in targets
        elif program == "dg":
            known = _dg_knows(words)
        elif program == "kubectl":
            namespaces = (KUBERNETES / "base" / "namespaces.yaml").read_text()
            known = words[0] in {"get", "logs", "delete"} and f"name: {words[-1]}\n" in namespaces
        elif program == "GET":
            routes = (REPOSITORY / "mlops_assets" / "serving" / "routes.py").read_text()
            known = f'"{words[0].strip("/")}"' in routes
        else:
            known = span in _names() or _is_place(span) or _is_said(span)
        assert known, f"{kind}.md names `{span}`, which does not exist"
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (RUNBOOKS / link).exists(), f"{kind}.md links to {link}, which does not exist"


def test_the_check_of_runbooks_sees_what_does_not_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It would pass anything otherwise."""
    assert not _mlops_knows(["endpoint", "explode", "USE_CASE"], capsys)
    assert not _mlops_knows(["fly"], capsys)
    assert not _dg_knows(["fly"])
    assert not _dg_knows(["launch", "--everything"])
    assert not _is_place("mlops_assets/nowhere.py")
    assert not _is_place("/")
    assert not _is_said("said by nobody")
    assert "training_set.nothing" not in _names()
