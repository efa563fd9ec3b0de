"""The sensor of alerts, ticked by hand, and what it is told."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
from lifecycle_support import Project

from mlops_assets import clock
from mlops_assets.adapters import decisions, documents, inputs, ledger
from mlops_assets.clock import ReplayClock
from mlops_assets.core.alert_watch import Watch
from mlops_assets.core.monitoring_records import (
    DriftRecord,
    LossRecord,
    PartitionInputs,
    PerformanceRecord,
)
from mlops_assets.core.records import (
    ModelRecord,
    PromotionRecord,
    TrainingSetRecord,
)
from mlops_assets.core.retraining_records import Counters, Decision, State
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.lifecycle.alerting import sensor as alerting
from mlops_assets.lifecycle.platform import Platform

START = datetime(2024, 3, 3, 2, tzinfo=UTC)
"""The days until March 1st are due."""


@dataclass
class Desk:
    """Whoever is told: ticks the sensor at given hours after START and reads what was sent."""

    project: Project
    sent_file: Path
    clock_file: Path
    cursor: str | None = None

    @property
    def platform(self) -> Platform:
        """What the sensor works with."""
        return Platform.at(self.project.places)

    def at(self, hours: float) -> datetime:
        """Moves the clock, also for runs."""
        now = START + timedelta(hours=hours)
        clock.write(self.clock_file, ReplayClock(now, now))
        return now

    def tick(self, hours: float = 0) -> list[str]:
        """One tick; returns what was sent, as event, kind and subject."""
        before = len(self.sent())
        context = dg.build_sensor_context(
            instance=self.project.instance,
            cursor=self.cursor,
            resources={"platform": self.platform},
        )
        self.at(hours)
        found = alerting.alerts_sensor(self.project.spec).evaluate_tick(context)
        assert not found.run_requests
        for event in found.asset_events:
            self.project.instance.report_runless_asset_event(event)
        self.cursor = found.cursor
        return [
            " ".join((line["event"], line["kind"], line["subject"]))
            for line in self.sent()[before:]
        ]

    def sent(self) -> list[dict[str, str]]:
        """Every message so far."""
        if not self.sent_file.exists():
            return []
        return [json.loads(line) for line in self.sent_file.read_text().splitlines()]

    def watch(self) -> Watch:
        """The sensor's memory."""
        url = self.project.places.documents
        found = documents.read(url, "visits", alerting.DOCUMENT, Watch)
        assert found is not None
        return found

    def write(self, name: str, document: DriftRecord | PerformanceRecord | EndpointRecord) -> None:
        """What a stage or another process leaves behind."""
        documents.write(self.project.places.documents, "visits", name, document)

    def only(self, *days: str) -> None:
        """Days of visits that are in the lake, and no others."""
        where = inputs.place(self.project.places.documents, "visits", "visits")
        Path(where).unlink()
        self.arrive(*days)

    def arrive(self, *days: str) -> None:
        """More days of visits that are in the lake, for all that the sensor sees."""
        entries = {day: PartitionInputs(inputs=day, digest=day) for day in days}
        inputs.record(self.project.places.documents, "visits", "visits", entries)


def drift_says(verdict: str, version: int = 1, drift: float = 0.08) -> DriftRecord:
    """What the stage drift leaves behind."""
    return DriftRecord.model_validate(
        {
            "use_case": "visits",
            "day": date(2024, 3, 2),
            "model_version": version,
            "drift": drift,
            "verdict": verdict,
            "drifted": ["minutes"],
            "unclear": [],
            "rows": 420,
            "days": 7,
            "cause": f"drift is {drift} (limit 0.05) over 7 days, most in minutes",
        }
    )


def performance_says(verdict: str, version: int = 1) -> PerformanceRecord:
    """What the stage performance leaves behind."""
    loss = LossRecord.model_validate(
        {
            "loss": 0.6,
            "low": 0.55,
            "high": 0.65,
            "reference": 0.5,
            "verdict": verdict,
            "reason": "the interval lies above the holdout's",
            "rows": 420,
            "days": 7,
        }
    )
    return PerformanceRecord(
        use_case="visits",
        day=date(2024, 3, 2),
        model_version=version,
        realized=loss,
        estimated=None,
        labelled_until=date(2024, 3, 2),
        outcomes_known=1.0,
    )


def promotion_of(version: int, decision: str, digest: str = "") -> PromotionRecord:
    """A decision of the gate."""
    champion = model_of(version if decision == "promoted" else 1)
    return PromotionRecord.model_validate(
        {
            "use_case": "visits",
            "version": version,
            "sha256": "0" * 64,
            "decision": decision,
            "reasons": ["the gate's verdict decided"],
            "previous_version": 1 if version > 1 else None,
            "champion": champion,
            "evaluation_digest": digest or f"evaluation of {version}",
            "decided_at": START,
            "dagster_run_id": "run",
        }
    )


def model_of(version: int) -> ModelRecord:
    """A registered model."""
    days = {name: date(2024, 3, 1) for name in ("first", "validation_first", "holdout_first")}
    training_set = TrainingSetRecord(
        use_case="visits",
        digest="0" * 64,
        end=date(2024, 4, 1),
        rows=10,
        positives=5,
        unlabelled=0,
        table_versions={},
        **days,
    )
    return ModelRecord(
        use_case="visits",
        version=version,
        sha256="0" * 64,
        artifact="model.ubj",
        mlflow_run_id="",
        training_set=training_set,
        rounds=1,
        unchanged=False,
    )


def decide_on(desk: Desk, *records: PromotionRecord) -> None:
    """What the stage promotion does with decisions."""
    for record in records:
        ledger.record(desk.project.ledgers, record)
        documents.write(desk.project.places.documents, "visits", "promotion", record)


def retraining_of(signal: str | None, hours: float, put_off: str | None = None) -> Decision:
    """A decision of the retraining policy, so many hours after START."""
    at = START + timedelta(hours=hours)
    state = State(
        latest=at,
        day=date(2024, 3, 2),
        champion_version=1,
        before=Counters(),
        current=Counters(),
        raised=None,
        pending=None,
    )
    return Decision.model_validate(
        {
            "use_case": "visits",
            "decided_at": at,
            "day": date(2024, 3, 2),
            "champion_version": 1,
            "retrain": signal is not None and put_off is None,
            "reasons": ["log-loss 0.6 is over 0.5"],
            "put_off": put_off,
            "signal_id": signal,
            "signal_day": date(2024, 3, 2) if signal else None,
            "attempt": 1 if signal else 0,
            "numbers": {},
            "inputs": f"inputs at {hours}",
            "state": state,
        }
    )


def record_taken(desk: Desk, *taken: Decision) -> None:
    """What the sensor of retraining does with decisions."""
    ledgers = desk.project.ledgers
    for decision in taken:
        recorded = decisions.record(ledgers, decisions.book(ledgers, "visits"), decision)
        assert recorded == "recorded"
        event = dg.AssetMaterialization(desk.project.key("retraining"))
        desk.project.instance.report_runless_asset_event(event)
