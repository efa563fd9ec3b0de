"""Alarms of answered days, from the drift step to what people are sent."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from answered_days import Answered, days_from
from lifecycle_support import Project, make_project

from mlops_assets.adapters import documents
from mlops_assets.core.monitoring_records import AlarmsRecord
from mlops_assets.core.records import ModelRecord
from mlops_assets.lifecycle.alerting import sensor as alerting
from mlops_assets.lifecycle.monitoring import day_alarms
from mlops_assets.lifecycle.platform import Places, Platform

DATA, VIEWS = ("2024-03-12", "2024-04-16"), ("2024-03-16", "2024-04-16")
DAYS = days_from("2024-04-11", 5)
"""Answered after a training set of 24 days, which is the history."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Data, features, and a champion."""
    with dg.DagsterInstance.ephemeral() as instance:
        project = make_project(tmp_path_factory.mktemp("trained"), instance, 8933)
        assert project.run(["visits", "shops"], DATA).success
        assert project.run(["visit", "shop_returns", "shop_sizes"], VIEWS).success
        assert project.run(["training_set", "model", "evaluation", "promotion"]).success
        yield project


@dataclass
class Watched:
    """An endpoint's days, and whoever is told of them."""

    site: Answered
    champion: ModelRecord
    sent_file: Path

    @property
    def project(self) -> Project:
        """Where the days are."""
        return self.site.project

    def day(self, day: str, times: float = 1, types: list[str] | None = None) -> list[str]:
        """Answer a day, its minutes ``times`` as many, and judge it; its alarms, in words."""
        self.site.answer(
            day,
            self.champion,
            asked=lambda rows: rows.with_columns(pl.col("minutes") * times),
            types=types,
        )
        assert self.project.run(["drift"], (day, day)).success
        return self.told()

    def told(self) -> list[str]:
        """The newest day's alarms, and their columns."""
        record = self.record()
        return [" ".join((alarm.kind, *alarm.columns)) for alarm in record.alarms]

    def record(self) -> AlarmsRecord:
        """The document."""
        url = self.project.places.documents
        found = documents.read(url, "visits", day_alarms.ALARMS, AlarmsRecord)
        assert found is not None
        return found

    def tick(self, hour: int) -> list[str]:
        """What a tick of the alerts' sensor sends about days."""
        before = self._sent()
        platform = Platform.at(self.project.places)
        now = datetime(2024, 4, 20, hour, tzinfo=UTC)
        alerting.tick(self.project.spec, platform, self.project.instance, None, now)
        return [
            f"{line['event']} {line['kind']} {line['subject']}"
            for line in self._sent()[len(before) :]
            if "/drift" in line["link"] and not line["subject"].startswith("version")
        ]

    def _sent(self) -> list[dict[str, str]]:
        if not self.sent_file.exists():
            return []
        return [json.loads(line) for line in self.sent_file.read_text().splitlines()]


@pytest.fixture
def watched(trained: Project, tmp_path: Path) -> Iterator[Watched]:
    """The trained project, copied for one test."""
    shutil.copytree(Path(trained.places.lake).parent, tmp_path / "site")
    sent = tmp_path / "sent.jsonl"
    with dg.DagsterInstance.ephemeral() as instance:
        places = replace(Places.under(tmp_path / "site"), alert_channels=f"jsonl:{sent}")
        site = Answered(replace(trained, places=places, instance=instance))
        champion = site.tracking.champion("visits")
        assert champion is not None
        yield Watched(site, champion, sent)


def test_a_day_that_broke_is_told_until_a_sound_one(watched: Watched) -> None:
    """Quiet days tell nothing, from the first on; what broke does not blur the days after."""
    assert watched.day(DAYS[0]) == []
    assert watched.tick(1) == []
    found = watched.day(DAYS[1], times=10)
    assert len(found) == 1
    kind = found[0].split()[0]
    assert found == [f"{kind} minutes"]
    assert watched.tick(2) == [f"raised drift {kind} minutes"]
    assert watched.tick(3) == []
    assert watched.day(DAYS[2]) == []
    assert watched.tick(4) == [f"resolved drift {kind} minutes"]
    assert watched.day(DAYS[3], times=10) == found
    rows = watched.project.table("day_profiles")
    judged = rows.filter(pl.col("alarms") != "")
    assert judged["day"].to_list() == DAYS[:4]
    assert rows.filter(pl.col("alarms") == "").height == 24
    assert set(judged["answers"]) == {60}


def test_days_of_one_run_are_judged_as_one_by_one_and_again_alike(watched: Watched) -> None:
    """A retry changes nothing, and an older day that is judged again leaves the document."""
    for day in DAYS[:3]:
        watched.day(day, times=10 if day == DAYS[1] else 1)
    before, newest = watched.project.table("day_profiles"), watched.record()
    assert watched.project.run(["drift"], (DAYS[0], DAYS[2])).success
    assert watched.project.table("day_profiles").equals(before)
    assert watched.project.run(["drift"], (DAYS[1], DAYS[1])).success
    assert watched.record() == newest
    watched.project.lake.remove("visits/day_profiles", before["day"].to_list())
    Path(watched.project.places.documents, "visits", "alarm_layout.json").unlink()
    assert watched.project.run(["drift"], (DAYS[0], DAYS[2])).success
    assert watched.project.table("day_profiles").equals(before)


def test_other_features_are_another_layout_with_a_history_of_its_own(watched: Watched) -> None:
    """Fewer, a constant one among them, and all of them again: each is compared with its like."""
    watched.day(DAYS[0])
    some = ["minutes", "shop_name"]
    assert watched.day(DAYS[1], types=some) == []
    rows = watched.project.table("day_profiles")
    # The first day's answers had these features too: it is profiled again with the history.
    assert (rows.height, rows["layout"].n_unique()) == (26, 1)
    assert watched.day(DAYS[2], times=10, types=some)
    assert watched.day(DAYS[3]) == []
    assert watched.day(DAYS[4], times=0)


def test_a_day_without_answers_ends_nothing(watched: Watched) -> None:
    """That it is missing is told by deadlines; what its answers would have been nobody knows."""
    watched.day(DAYS[0])
    assert watched.day(DAYS[1], times=10)
    assert len(watched.tick(1)) == 1
    assert watched.project.run(["drift"], (DAYS[2], DAYS[2])).success
    assert watched.told() == ["missing_day"]
    assert watched.tick(2) == []
