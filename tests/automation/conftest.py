"""What the tests of the alerts' sensor share."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from alerting_support import Desk
from lifecycle_support import make_project

from mlops_assets import clock


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> Iterator[Desk]:
    """A fresh project whose alerts go to a file, on March 3rd, with all that is due there."""
    monkeypatch.setenv("VISITS_FAULTS", str(tmp_path / "faults.json"))
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    with dg.DagsterInstance.ephemeral() as instance:
        project = make_project(tmp_path, instance, free_port)
        sent = tmp_path / "sent.jsonl"
        project.places = replace(project.places, alert_channels=f"jsonl:{sent}")
        desk = Desk(project, sent, tmp_path / "clock.json")
        desk.at(0)
        desk.arrive(*(str(date(2024, 3, 1) + timedelta(days=n)) for n in range(45)))
        yield desk
