"""What many use cases have behind them after ten months, written in bulk: ``COUNT FOLDER PORT``.

All are copies of the flight-delay use case that share its functions, so that its source is in
memory once. Documents, ledgers and the alert log are what the platform's own code would have
written, day by day; tables of rows are absent, since sensors read none.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml

from mlops_assets import clock
from mlops_assets.adapters import chain, decisions, documents, ledger, ledger_tables, prices
from mlops_assets.adapters.alerts import log as alert_log
from mlops_assets.adapters.endpoints.state import paths_of
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.alerts import Alert, Entry
from mlops_assets.core.arrivals import UNDATED, inputs_of
from mlops_assets.core.monitoring_records import (
    DriftRecord,
    LossRecord,
    PartitionInputs,
    PerformanceRecord,
)
from mlops_assets.core.prediction_log import segment_name
from mlops_assets.core.records import (
    ModelRecord,
    PromotionRecord,
    Record,
    TrainingSetRecord,
)
from mlops_assets.core.retraining import policy
from mlops_assets.core.retraining_records import Decision, History, Training, after, with_training
from mlops_assets.core.rollout_state import EndpointRecord, ServedModel, first_release
from mlops_assets.core.signals import signals_of
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.arrivals.inputs import stages_of
from mlops_assets.lifecycle.arrivals.sources import sources_of
from mlops_assets.lifecycle.platform import Places, Platform

FLIGHTS = Path(__file__).parents[1] / "mlops_assets" / "defs" / "flight_delays"
TIMEZONE = ZoneInfo("America/New_York")
FIRST = date(2013, 1, 1)
DAYS = 300
LAST = FIRST + timedelta(days=DAYS - 1)
NOW = datetime.combine(LAST + timedelta(days=1), time(12), TIMEZONE)
"""The newest day has come in, and all of its flights have landed."""

ALERTS = 40
"""That each use case has had, all of them resolved."""

_DEPLOYED = date(2013, 3, 1)
_HOURS_A_DAY = 19  # flights are asked about from four in the morning until eleven at night
_COMMITS = 4  # of the decisions, the newest ones: what has come since the ledger was compacted


@lru_cache(maxsize=1)
def _attributes() -> str:
    """The use case without an end, as one that goes on; as JSON, to be parsed for each copy."""
    attributes = yaml.safe_load((FLIGHTS / "defs.yaml").read_text())["attributes"]
    attributes["end"] = None
    return json.dumps(attributes, default=str)


def spec_of(number: int, first: date = FIRST) -> UseCaseSpec:
    """The copy ``number``, whose data begins on ``first``."""
    attributes = json.loads(_attributes())
    attributes |= {"name": f"case_{number}", "start": first.isoformat()}
    attributes["endpoint"] = {"port": 20_000 + number}
    return UseCaseSpec.model_validate(attributes)


def functions() -> Functions:
    """The functions that all copies share."""
    return Functions("mlops_assets.defs.flight_delays", FLIGHTS)


def days() -> list[str]:
    """The days that are over."""
    return list(Window(FIRST, LAST + timedelta(days=1), TIMEZONE.key).partitions)


def write(count: int, folder: Path, port: int) -> None:
    """The state of ``count`` use cases in ``folder``; their endpoints answer at ``port``."""
    places = Places.under(folder)
    lake = Lake(places.lake)
    segments = folder / "segments"
    _write_segments(segments)
    promotions: list[PromotionRecord] = []
    inputs: Mapping[str, bytes] = {}
    template: Sequence[Decision | Training] = ()
    for number in range(count):
        spec = spec_of(number)
        endpoint = paths_of(spec.name, places.endpoints)
        endpoint.folder.mkdir(parents=True)
        endpoint.predictions.symlink_to(segments)
        endpoint.endpoint.touch()
        inputs = inputs or _inputs(spec, Platform.at(places))
        template = template or _decided(spec)
        _write_ledger(lake, spec, template)
        promotions += _promotions(spec, template)
        _write_documents(places, spec, inputs, promotions[-1], port)
        _tell(lake, spec)
    _append_promotions(lake, promotions)


def _tell(lake: Lake, spec: UseCaseSpec) -> None:
    """The alerts that the use case has had, each in the channel."""
    told = _alerts(spec)
    sent = [
        alert_log.Delivery(
            id=entry.id, channel="jsonl", outcome="delivered", reason="", at=entry.alert.at
        )
        for entry in told
    ]
    alert_log.append_entries(lake, told)
    alert_log.append_deliveries(lake, spec.name, sent)


def _write_segments(folder: Path) -> None:
    """The prediction log, a file for each hour since the first deployment, for all to look at."""
    folder.mkdir(parents=True)
    for day in days():
        if day >= _DEPLOYED.isoformat():
            start = datetime.combine(date.fromisoformat(day), time(4), TIMEZONE).astimezone(UTC)
            for hour in range(_HOURS_A_DAY):
                name = segment_name(start + timedelta(hours=hour), "0123456789abcdef")
                (folder / name).write_bytes(b"\n")


def _inputs(spec: UseCaseSpec, platform: Platform) -> dict[str, bytes]:
    """The documents of what each partition was made of, as the newest versions are now."""
    every = days()
    recorded: dict[str, dict[str, PartitionInputs]] = {}
    for source in sources_of(spec, functions()):
        dataset = spec.datasets.get(source.asset)
        keys = every if dataset is None or dataset.partitioned else [UNDATED]
        entries = {key: _made(f"{source.asset} {key} at the source", key) for key in keys}
        found = source.look(platform, every, entries, "").versions
        if dataset is None:
            entries = {key: entries[key] for key in found}
        entries |= {key: _made(version, key, raw=True) for key, version in found.items()}
        recorded[source.asset] = entries
    for stage in stages_of(spec):
        digests = {
            name: {key: entry.digest for key, entry in entries.items()}
            for name, entries in recorded.items()
        }
        recorded[stage.name] = {
            key: _made(made_of.joint, f"{stage.name} {key}", raw=True)
            for key, made_of in inputs_of(stage, every, digests).items()
        }
    return {
        name: json.dumps({key: entry.model_dump() for key, entry in entries.items()}).encode()
        for name, entries in recorded.items()
    }


def _made(version: str, content: str, *, raw: bool = False) -> PartitionInputs:
    digest = hashlib.sha256(content.encode()).hexdigest()
    known = version if raw else hashlib.sha256(version.encode()).hexdigest()
    return PartitionInputs(inputs=known, digest=digest)


def _decided(spec: UseCaseSpec) -> list[Decision | Training]:
    """A decision for each day since the deployment, and the trainings that followed."""
    entries: list[Decision | Training] = []
    history = History()
    version, trained_until = 1, _DEPLOYED
    for text in days():
        day = date.fromisoformat(text)
        if day < _DEPLOYED:
            continue
        at = datetime.combine(day + timedelta(days=1), time(7), TIMEZONE)
        signals = signals_of(
            spec.name,
            drift_record(spec.name, day, version),
            performance_record(spec.name, day, version),
            version,
            trained_until,
        )
        assert signals is not None
        costs = prices.costs_of(spec, history)
        decision = policy(spec.retraining)(signals, history, costs, at)
        entries.append(decision)
        history = after(history, decision)
        if decision.retrain:
            version, trained_until = version + 1, day + timedelta(days=1)
            ended = history.trainings[-1].model_copy(
                update={
                    "ended": at + timedelta(minutes=2),
                    "outcome": "succeeded",
                    "seconds": 120.0,
                    "cost": 0.01,
                    "dagster_run_id": f"run-{version}",
                }
            )
            entries.append(ended)
            history = with_training(history, ended)
    return entries


def _write_ledger(lake: Lake, spec: UseCaseSpec, template: Sequence[Decision | Training]) -> None:
    """The decisions of the first copy, as this one's."""
    import pyarrow as pa

    rows: list[chain.Row] = []
    book = chain.Chain(spec.name)
    for one in template:
        kind = "decision" if isinstance(one, Decision) else "training"
        mine = one.model_copy(update={"use_case": spec.name})
        at = one.decided_at if isinstance(one, Decision) else one.ended or one.started
        retrain = isinstance(one, Decision) and one.retrain
        inputs = one.inputs if isinstance(one, Decision) else ""
        text = mine.model_dump_json()
        marks = {"inputs": inputs, "retrain": retrain}
        row = chain.row_of(decisions.LEDGER, book, kind, at, text, **marks)
        rows.append(row)
        book = chain.after_row(decisions.LEDGER, book, row)
    for part in (rows[:-_COMMITS], *([row] for row in rows[-_COMMITS:])):
        table = pa.Table.from_pylist(part, schema=chain.schema(decisions.LEDGER))
        ledger_tables.append(lake, decisions.table(spec.name), table)


def _write_documents(
    places: Places,
    spec: UseCaseSpec,
    inputs: Mapping[str, bytes],
    promotion: PromotionRecord,
    port: int,
) -> None:
    version = promotion.version
    found: dict[str, Record] = {
        "promotion": promotion,
        "drift": drift_record(spec.name, LAST, version),
        "performance": performance_record(spec.name, LAST, version),
        "endpoint": EndpointRecord(
            use_case=spec.name,
            url=f"http://127.0.0.1:{port}",
            pid=1,
            instance="0123456789abcdef",
            release=first_release(
                spec.name,
                ServedModel(version=version, sha256=promotion.sha256, artifact="model.ubj"),
                NOW,
                "promoted",
            ),
            prediction_log=str(paths_of(spec.name, places.endpoints).predictions),
        ),
    }
    for name, document in found.items():
        documents.write(places.documents, spec.name, name, document)
    folder = Path(places.documents) / spec.name / "inputs"
    folder.mkdir(parents=True)
    for name, content in inputs.items():
        (folder / f"{name}.json").write_bytes(content)


def drift_record(use_case: str, day: date, version: int) -> DriftRecord:
    """A window that drifts: an alert is open about it."""
    return DriftRecord(
        use_case=use_case,
        day=day,
        model_version=version,
        drift=0.08,
        verdict="drift",
        drifted=("temp", "day_of_year"),
        unclear=(),
        rows=6_500,
        days=7,
        cause="drift is 0.080, most of it of temp and day_of_year",
    )


def performance_record(use_case: str, day: date, version: int) -> PerformanceRecord:
    """A window that holds, its last day known."""
    loss = LossRecord(
        loss=0.5,
        low=0.48,
        high=0.52,
        reference=0.5,
        verdict="held",
        reason="0.500 against 0.500",
        rows=6_500,
        days=7,
    )
    return PerformanceRecord(
        use_case=use_case,
        day=day,
        model_version=version,
        realized=loss,
        estimated=loss,
        labelled_until=day + timedelta(days=1),
        outcomes_known=1.0,
        audit_error=0.001,
        audit_bias=0.002,
        audit_coverage=0.95,
    )


def _promotions(
    spec: UseCaseSpec, template: Sequence[Decision | Training]
) -> list[PromotionRecord]:
    """The first model, and the one of each training."""
    trained = [one.signal_day for one in template if isinstance(one, Training)]
    ends = [_DEPLOYED, *(day + timedelta(days=1) for day in trained)]
    return [_promotion(spec.name, n + 1, end) for n, end in enumerate(ends)]


def _promotion(use_case: str, version: int, end: date) -> PromotionRecord:
    sha256 = hashlib.sha256(f"{use_case} {version}".encode()).hexdigest()
    training_set = TrainingSetRecord(
        use_case=use_case,
        digest=sha256,
        first=FIRST,
        validation_first=end - timedelta(days=21),
        holdout_first=end - timedelta(days=14),
        end=end,
        rows=50_000,
        positives=12_000,
        unlabelled=0,
        table_versions={"flights": 1},
    )
    model = ModelRecord(
        use_case=use_case,
        version=version,
        sha256=sha256,
        artifact="model.ubj",
        mlflow_run_id="run",
        training_set=training_set,
        rounds=200,
        unchanged=False,
    )
    return PromotionRecord(
        use_case=use_case,
        version=version,
        sha256=sha256,
        decision="promoted",
        reasons=("better by 0.01 nats",),
        previous_version=version - 1 or None,
        champion=model,
        evaluation_digest=sha256,
        decided_at=datetime.combine(end, time(8), TIMEZONE),
        dagster_run_id="run",
    )


def _append_promotions(lake: Lake, found: Sequence[PromotionRecord]) -> None:
    import pyarrow as pa

    rows: dict[str, list[chain.Row]] = {}
    known: dict[str, chain.Chain] = {}
    for one in found:
        before = known.get(one.use_case, chain.Chain(one.use_case))
        text, marks = one.model_dump_json(), {"version": one.version, "decision": one.decision}
        row = chain.row_of(ledger.LEDGER, before, "gate", one.decided_at, text, **marks)
        rows.setdefault(one.use_case, []).append(row)
        known[one.use_case] = chain.after_row(ledger.LEDGER, before, row)
    for use_case, own in rows.items():
        table = pa.Table.from_pylist(own, schema=chain.schema(ledger.LEDGER))
        ledger_tables.append(lake, ledger.table(use_case), table)


def _alerts(spec: UseCaseSpec) -> list[Entry]:
    """Alerts that were raised one after the other and are over, delivered."""
    entries: list[Entry] = []
    for number in range(ALERTS):
        at = NOW - timedelta(days=8 + 5 * number)
        alert = Alert(
            kind="volume",
            severity="warning",
            use_case=spec.name,
            subject=f"flights {at.date()}",
            owners=tuple(spec.owners),
            cause=f"{at.date()}: 512 rows, expected 810 to 1010",
            at=at,
        )
        over = alert.model_copy(update={"at": at + timedelta(days=1)})
        name = f"{spec.name}-{number}"
        entries.append(Entry(id=f"{name}-r", event="raised", alert=alert, reason="new"))
        entries.append(Entry(id=f"{name}-e", event="resolved", alert=over, reason="resolved"))
    return entries


def main() -> None:
    """Write the state into an empty folder; the clock that MLOPS_CLOCK names is set too."""
    count, folder, port = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    clock.set_to(Path(os.environ[clock.ENV]), NOW)
    write(count, folder / "state", port)


if __name__ == "__main__":
    main()
