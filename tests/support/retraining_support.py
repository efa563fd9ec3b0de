"""A use case whose monitoring is written by hand, and its retraining sensor, ticked by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.storage.dagster_run import DagsterRun
from lifecycle_support import ledgers_of

from mlops_assets import clock
from mlops_assets.adapters import decisions, documents
from mlops_assets.adapters.chain import Ledgers
from mlops_assets.core.monitoring_records import DriftRecord, LossRecord, PerformanceRecord
from mlops_assets.core.records import ModelRecord, PromotionRecord, TrainingSetRecord
from mlops_assets.core.retraining_spec import RetrainingSpec
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.platform import Places, resources_at
from mlops_assets.lifecycle.retraining.runs import STAGES
from mlops_assets.lifecycle.retraining.sensor import retraining_asset, retraining_sensor

SENSOR = "visits_retraining"
DRIFT: dict[str, Any] = {"kind": "drift", "above": 0.2}

_VISITS = Path(__file__).parent / "visits" / "defs.yaml"

_EVENTS = {
    "success": [DagsterEventType.PIPELINE_SUCCESS],
    "failure": [DagsterEventType.PIPELINE_FAILURE],
    "cancelled": [DagsterEventType.PIPELINE_CANCELING, DagsterEventType.PIPELINE_CANCELED],
    # As a process that is told to stop: nobody has asked Dagster for it.
    "interrupted": [DagsterEventType.PIPELINE_CANCELED],
}


def retrained(described: Mapping[str, Any] | None = None, **guards: Any) -> UseCaseSpec:
    """The tests' use case with a retraining policy, without an end of its data."""
    fields = {"cooldown_days": 0, **guards, "policy": dict(described or DRIFT)}
    update = {"retraining": RetrainingSpec.model_validate(fields), "end": None}
    attributes = yaml.safe_load(_VISITS.read_text())["attributes"]
    return UseCaseSpec.model_validate(attributes).model_copy(update=update)


def drift_record(day: date, version: int, drift: float) -> DriftRecord:
    """What the drift asset would write."""
    return DriftRecord(
        use_case="visits",
        day=day,
        model_version=version,
        drift=drift,
        verdict="drift" if drift > 0.1 else "stable",
        drifted=("minutes",) if drift > 0.1 else (),
        unclear=(),
        rows=420,
        days=7,
        cause="written by a test",
    )


def performance_record(
    day: date, version: int, labelled_until: date | None, loss: float | None = None
) -> PerformanceRecord:
    """What the performance asset would write; ``loss`` against a holdout's of 0.5."""
    found = None
    if loss is not None:
        found = LossRecord(
            loss=loss,
            low=loss - 0.01,
            high=loss + 0.01,
            reference=0.5,
            verdict="held",
            reason="written by a test",
            rows=420,
            days=7,
        )
    return PerformanceRecord(
        use_case="visits",
        day=day,
        model_version=version,
        realized=found,
        estimated=found,
        labelled_until=labelled_until,
        outcomes_known=1.0,
    )


def promotion_record(version: int, trained_until: date) -> PromotionRecord:
    """A champion that was trained until then."""
    training_set = TrainingSetRecord(
        use_case="visits",
        digest="d" * 64,
        first=date(2024, 3, 1),
        validation_first=trained_until - timedelta(days=10),
        holdout_first=trained_until - timedelta(days=6),
        end=trained_until,
        rows=100,
        positives=50,
        unlabelled=0,
        table_versions={},
    )
    champion = ModelRecord(
        use_case="visits",
        version=version,
        sha256=f"{version:064d}",
        artifact="model.ubj",
        mlflow_run_id="run",
        training_set=training_set,
        rounds=10,
        unchanged=False,
    )
    return PromotionRecord(
        use_case="visits",
        version=version,
        sha256=champion.sha256,
        decision="promoted",
        reasons=("written by a test",),
        previous_version=version - 1 or None,
        champion=champion,
        evaluation_digest="e" * 64,
        decided_at=datetime(2024, 4, 1, tzinfo=UTC),
        dagster_run_id="run",
    )


def stages() -> list[dg.AssetsDefinition]:
    """Assets by the names of the real ones, which do nothing."""

    class Window(dg.Config):
        end: str
        days: int

    @dg.asset(key=dg.AssetKey(["visits", STAGES[0]]))
    def _training_set(config: Window) -> None:
        del config

    def stage(before: str, name: str) -> dg.AssetsDefinition:
        @dg.asset(key=dg.AssetKey(["visits", name]), deps=[dg.AssetKey(["visits", before])])
        def _stage() -> None:
            return None

        return _stage

    later = [stage(*pair) for pair in pairwise(STAGES)]
    return [_training_set, *later]


def definitions_of(spec: UseCaseSpec, places: Places) -> dg.Definitions:
    """The retraining sensor and its asset, with stages that do nothing."""
    return dg.Definitions(
        assets=[*stages(), retraining_asset(spec)],
        sensors=[retraining_sensor(spec)],
        resources=dict(resources_at(places)),
    )


@dataclass
class Live:
    """The retraining sensor of one use case, in a time that a test moves."""

    spec: UseCaseSpec
    places: Places
    instance: dg.DagsterInstance
    clock_file: Path
    cursor: str | None = None

    def __post_init__(self) -> None:
        self.definitions = definitions_of(self.spec, self.places)

    @property
    def ledgers(self) -> Ledgers:
        """Where the ledger is."""
        return ledgers_of(self.places)

    @property
    def book(self) -> decisions.Book:
        """The ledger."""
        return decisions.book(self.ledgers, "visits")

    def at(self, moment: datetime) -> None:
        """Make it ``moment``."""
        clock.write(self.clock_file, clock.ReplayClock(moment, datetime.now(UTC)))

    def tells(
        self,
        day: date,
        drift: float = 0.0,
        *,
        version: int = 1,
        labelled_until: date | None = None,
        loss: float | None = None,
    ) -> None:
        """What monitoring has found after ``day``; all labels are known unless said."""
        until = labelled_until or day + timedelta(days=1)
        self.write("drift", drift_record(day, version, drift))
        self.write("performance", performance_record(day, version, until, loss))

    def champion(self, version: int, trained_until: date) -> None:
        """Who serves."""
        self.write("promotion", promotion_record(version, trained_until))

    def write(self, name: str, document: Any) -> None:
        """A document of the use case."""
        documents.write(self.places.documents, "visits", name, document)

    def look(self, cursor: str | None) -> Any:
        """A tick with a cursor, which is not kept: what the daemon gets before it acts."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=cursor,
            definitions=self.definitions,
            sensor_name=SENSOR,
            resources=dict(resources_at(self.places)),
        )
        with context:
            return self.definitions.resolve_sensor_def(SENSOR).evaluate_tick(context)

    def tick(self) -> Any:
        """A tick whose cursor and events are kept; its runs are left to the test."""
        found = self.look(self.cursor)
        self.cursor = found.cursor
        for event in found.asset_events:
            self.instance.report_runless_asset_event(event)
        return found

    def run(self, request: dg.RunRequest, how: str | None = "success", seconds: int = 600) -> str:
        """The run of ``request``, ended as ``how`` says, or still going on; returns its id."""
        run = DagsterRun(
            job_name="__ASSET_JOB",
            tags={**request.tags, "dagster/run_key": str(request.run_key)},
            run_config=request.run_config,
        )
        self.instance.add_run(run)
        started = 1_700_000_000
        events = [(DagsterEventType.PIPELINE_START, started)]
        events += [(kind, started + seconds) for kind in _EVENTS.get(how or "", [])]
        for kind, at in events:
            event = DagsterEvent(event_type_value=kind.value, job_name="__ASSET_JOB")
            self.instance.report_dagster_event(event, run.run_id, timestamp=float(at))
        return run.run_id
