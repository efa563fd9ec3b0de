"""From a signal to a served version: the sensor, and the runs that it asks for, for real."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from lifecycle_support import Project, places_under
from retraining_support import (
    SENSOR,
    drift_record,
    performance_record,
    promotion_record,
    retrained,
)

from mlops_assets import clock
from mlops_assets.adapters import decisions, documents
from mlops_assets.adapters.endpoints import local
from mlops_assets.core.records import PromotionRecord
from mlops_assets.core.retraining_records import Training
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.core.spec import EndpointSpec
from mlops_assets.replay.ticks import Daemon

STAGES = ["training_set", "model", "evaluation", "promotion", "endpoint"]
VIEWS = ["visit", "shop_returns", "shop_sizes"]
DATA = ("2024-03-01", "2024-04-18")
DAY = date(2024, 4, 18)
MORNING = datetime(2024, 4, 19, 2, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> Iterator[Project]:
    """A use case with a policy, and nothing in its lake."""
    monkeypatch.setenv("MLOPS_CLOCK", str(tmp_path / "clock.json"))
    spec = retrained(attempts_per_day=5).model_copy(
        update={"endpoint": EndpointSpec(port=free_port)}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(spec, places_under(tmp_path), instance, tmp_path / "faults.json")
    local.stop("visits", places_under(tmp_path).endpoints)


def _at(project: Project, moment: datetime) -> None:
    clock.write(
        project.faults_file.parent / "clock.json", clock.ReplayClock(moment, datetime.now(UTC))
    )


def _tells(project: Project, day: date, version: int, drift: float) -> None:
    url = project.places.documents
    documents.write(url, "visits", "drift", drift_record(day, version, drift))
    known = performance_record(day, version, day + timedelta(days=1), 0.5)
    documents.write(url, "visits", "performance", known)


def _trainings(project: Project) -> tuple[Training, ...]:
    return decisions.book(project.ledgers, "visits").history.trainings


@pytest.mark.slow
def test_a_signal_becomes_a_served_version(project: Project) -> None:
    """Decided, trained on all labelled days, promoted, served, recorded, and then answered."""
    _at(project, MORNING)
    assert project.run(["visits", "shops"], DATA).success
    assert project.run(VIEWS, DATA).success
    assert project.run(STAGES).success
    daemon = Daemon(project.definitions, project.instance)
    _tells(project, DAY, 1, 0.3)
    (ran,) = daemon.tick(SENSOR)
    assert ran.success
    assert ran.assets == tuple(STAGES)
    promotion = documents.read(project.places.documents, "visits", "promotion", PromotionRecord)
    assert promotion is not None
    assert promotion.champion is not None
    assert promotion.champion.training_set.first == date(2024, 3, 1)
    assert promotion.champion.training_set.end == date(2024, 4, 19)
    assert (promotion.decision, promotion.champion.version) == ("promoted", 2)
    served = documents.read(project.places.documents, "visits", "endpoint", EndpointRecord)
    assert served is not None
    assert served.release.champion.version == 2
    assert [t.outcome for t in _trainings(project)] == ["running"]
    assert daemon.tick(SENSOR) == []
    (training,) = _trainings(project)
    assert (training.outcome, training.dagster_run_id) == ("succeeded", ran.run_id)
    assert training.seconds is not None
    assert 0 < training.seconds < 300
    assert training.cost is not None
    assert training.cost > 0
    taken = decisions.book(project.ledgers, "visits").taken
    _at(project, MORNING + timedelta(days=1))
    _tells(project, DAY + timedelta(days=1), 2, 0.05)
    assert daemon.tick(SENSOR) == []
    read = decisions.book(project.ledgers, "visits")
    assert read.taken == taken + 1
    assert read.history.last is not None
    assert read.history.last.reasons == ("drift 0.05 is not above 0.2",)
    assert read.history.last.champion_version == 2
    assert len(_trainings(project)) == 1


def test_a_run_that_fails_is_tried_again_and_then_given_up(project: Project) -> None:
    """Days that are not in the lake: each attempt fails, the champion stays, the ledger says so."""
    daemon = Daemon(project.definitions, project.instance)
    documents.write(
        project.places.documents, "visits", "promotion", promotion_record(1, date(2024, 4, 10))
    )
    _at(project, MORNING)
    _tells(project, DAY, 1, 0.3)
    ran = [run for _ in range(5) for run in daemon.tick(SENSOR)]
    assert [run.success for run in ran] == [False] * 3
    assert [(t.attempt, t.outcome) for t in _trainings(project)] == [
        (1, "failed"),
        (2, "failed"),
        (3, "failed"),
    ]
    said = [d.reasons for d in decisions.book(project.ledgers, "visits").decisions]
    assert any("is given up: attempt 3 failed, which was the last" in " ".join(s) for s in said)
    champion = documents.read(project.places.documents, "visits", "promotion", PromotionRecord)
    assert champion is not None
    assert champion.version == 1
