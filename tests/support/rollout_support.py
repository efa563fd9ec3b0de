"""The tests' use case with guarded rollouts: a champion, an admitted challenger, a real server."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from answers_support import known
from lifecycle_support import Project, places_under, spec_of_visits

from mlops_assets import clock
from mlops_assets.adapters import documents, ledger
from mlops_assets.adapters.endpoints import targets
from mlops_assets.adapters.endpoints.client import ask
from mlops_assets.adapters.storage import join, write_bytes
from mlops_assets.core.latency import LATENCY_EDGES_S
from mlops_assets.core.records import EvaluationRecord, Metrics, ModelRecord, PromotionRecord
from mlops_assets.core.replica_reports import ModelTotals, ReplicaReport
from mlops_assets.core.rollout_state import Release, first_release, served_model
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.promotion import promote
from mlops_assets.lifecycle.rollout.tick import Cursor, Tick, tick

DATA = ("2024-03-01", "2024-04-17")
DAY = "2024-04-16"
MORNING = datetime(2024, 4, 15, 22, tzinfo=UTC)
"""Midnight of DAY in Berlin."""

MINUTE = timedelta(minutes=1)

FAST: dict[str, object] = {
    "strategy": "guarded",
    "shadow_minutes": 10,
    "steps": [0.5],
    "step_minutes": 10,
    "step_requests": 20,
    "quality": {"unit": "request", "min_rows": 20, "promote_below": 5.0, "required": "promotion"},
    "scores": {"min_rows": 20, "abort_above": 0.8, "promote_below": 0.95},
    "errors": {"abort_above": 0.01, "promote_below": 0.5, "min_requests": 20},
    "latency": None,
    "watch_hours": 2,
}


def guarded_spec(port: int = 8931, **policy: object) -> UseCaseSpec:
    """The tests' use case with a policy that decides on a few requests."""
    attributes = spec_of_visits(port).model_dump()
    attributes["rollout"] = FAST | policy
    attributes["gate"]["rules"] = [{"metric": "log_loss", "against": "base_rate", "at_least": 0.0}]
    return UseCaseSpec.model_validate(attributes)


def window(end: str, days: int) -> Mapping[str, object]:
    """Configuration of a training."""
    return {"ops": {"visits__training_set": {"config": {"end": end, "days": days}}}}


def passed(model: ModelRecord, champion: int | None) -> EvaluationRecord:
    """An evaluation that the gate passes."""
    metrics = Metrics(rows=99, log_loss=0.5, roc_auc=0.7, brier=0.2, ece=0.01, base_rate=0.4)
    return EvaluationRecord(
        use_case=model.use_case,
        model=model,
        champion_version=champion,
        challenger=metrics,
        base_rate=metrics,
        champion=None,
        verdict="pass",
        rules=(),
        report="",
    )


def decided(project: Project, evaluation: EvaluationRecord, now: datetime) -> PromotionRecord:
    """What the asset `promotion` makes of an evaluation."""
    platform = Platform.at(project.places)
    record = promote(project.spec, evaluation, project.ledgers, platform.tracking(), now, "run")
    documents.write(project.places.documents, project.spec.name, "promotion", record)
    return record


def make_template(folder: Path) -> Path:
    """State with data, a champion (version 1) and an admitted challenger (version 2)."""
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(guarded_spec(), places_under(folder), instance, folder / "faults.json")
        assert project.run(["visits", "shops"], DATA).success
        assert project.run(["visit", "shop_returns", "shop_sizes"], DATA).success
        for n, end in enumerate(("2024-04-05", "2024-04-14")):
            trained = project.run(["training_set", "model"], config=window(end, 20))
            model: ModelRecord = trained.asset_value(project.key("model"))
            evaluation = passed(model, n or None)
            record = decided(project, evaluation, MORNING - timedelta(hours=2 - n))
            assert (model.version, record.decision) == (n + 1, ("promoted", "admitted")[n])
    return folder


@dataclass
class Stage:
    """A project whose clock and traffic a test moves."""

    project: Project
    clock_file: Path
    now: datetime = MORNING
    cursor: Cursor = field(default_factory=Cursor)

    @property
    def spec(self) -> UseCaseSpec:
        """The use case."""
        return self.project.spec

    @property
    def platform(self) -> Platform:
        """Where everything is."""
        return Platform.at(self.project.places)

    @property
    def book(self) -> ledger.Book:
        """The promotion ledger."""
        return ledger.book(self.project.ledgers, self.spec.name)

    @property
    def release(self) -> Release:
        """What the server is told."""
        places = self.project.places
        found = targets.read_release(self.spec.name, places.endpoints, places.documents)
        assert found is not None
        return found

    def alias(self, name: str) -> int | None:
        """The version that the registry calls ``champion`` or ``challenger``."""
        tracking = self.platform.tracking()
        found = getattr(tracking, name)(self.spec.name)
        return None if found is None else found.version

    def promotion(self) -> PromotionRecord:
        """The document that other stages read the champion from."""
        url = self.project.places.documents
        found = documents.read(url, self.spec.name, "promotion", PromotionRecord)
        assert found is not None
        return found

    def at(self, later: timedelta = timedelta()) -> datetime:
        """Move the clock on, and say what it shows."""
        self.now += later
        clock.write(self.clock_file, clock.ReplayClock(self.now, datetime(2026, 1, 1, tzinfo=UTC)))
        return self.now

    def tick(self, later: timedelta = timedelta()) -> Tick:
        """A tick of the sensor after a while."""
        found = tick(self.spec, self.platform, self.cursor, self.at(later))
        self.cursor = found.cursor
        return found

    def serve(self) -> Release:
        """Materialize the endpoint."""
        result = self.project.run(["endpoint"])
        assert result.success, result.get_step_failure_events()
        return self.release

    def tell(self) -> None:
        """What `serve` does where nothing listens: the endpoint was stopped, its release stays."""
        champion = served_model(self.platform.tracking().version(self.spec.name, 1))
        places = self.project.places
        first = first_release(self.spec.name, champion, self.now, "the first")
        targets.write_release(first, places.endpoints, places.documents)

    def send(self, prefix: str = "") -> int:
        """Ask about each event of the day; how many requests that were."""
        rows = known(self.project, DAY)
        names = ["event_id", *self.spec.feature_types]
        url = f"http://127.0.0.1:{self.spec.endpoint.port}"
        for row in rows.iter_rows(named=True):
            inputs = {name: [row[name]] for name in names}
            inputs["event_id"] = [f"{prefix}{row['event_id']}"]
            ask(url, self.spec.name, inputs, 10.0)
        return rows.height

    def report(
        self, version: int, requests: int, errors: int, replica: str = "gone", rollout: str = ""
    ) -> None:
        """What a replica that is gone has counted of one model, beside the server's own reports."""
        under_way = self.book.state.under_way
        name = rollout or (under_way.rollout.rollout_id if under_way else "")
        totals = ModelTotals(
            rollout_id=name,
            version=version,
            role="champion",
            requests=requests,
            rows=requests,
            returned=requests,
            errors=errors,
            skipped=0,
            seconds=0.001 * requests,
            latency=(requests, *[0] * len(LATENCY_EDGES_S)),
        )
        report = ReplicaReport(
            replica=f"{replica}-{version}",
            instance="gone",
            workers=1,
            use_case=self.spec.name,
            revision=1,
            refused=None,
            champion=version,
            challenger=None,
            ready=False,
            error=None,
            at=self.now,
            ended=True,
            lost_log_records=0,
            totals=(totals,),
        )
        places = self.project.places
        place = targets.place_of(self.spec.name, places.endpoints, places.documents)
        content = report.model_dump_json().encode()
        write_bytes(join(place, "replicas", f"{report.replica}.json"), content)


def stage_at(template: Path, folder: Path, instance: dg.DagsterInstance, port: int) -> Stage:
    """A stage of its own with the template's state."""
    for name in ("lake", "ledgers", "mlflow", "documents"):
        shutil.copytree(template / name, folder / name)
    project = Project(guarded_spec(port), places_under(folder), instance, folder / "faults.json")
    stage = Stage(project, folder / "clock.json")
    stage.at()
    return stage


def with_policy(stage: Stage, **policy: object) -> Stage:
    """The stage under another policy."""
    spec = guarded_spec(stage.spec.endpoint.port, **policy)
    return replace(stage, project=replace(stage.project, spec=spec))
