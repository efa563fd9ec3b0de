"""The sensor of alerts, ticked by hand: each thing told once, resolved where it ends."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.selector import InstigatorSelector
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._utils.error import SerializableErrorInfo
from lifecycle_support import Project, make_project

from mlops_assets import clock
from mlops_assets.adapters import decisions, documents, inputs, ledger
from mlops_assets.clock import ReplayClock
from mlops_assets.core.alert_watch import CAPPED_AGAIN, Watch
from mlops_assets.core.errors import PermanentError
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
from mlops_assets.core.rollout_state import EndpointRecord, ServedModel, first_release
from mlops_assets.lifecycle.alerting import feed as alert_feed
from mlops_assets.lifecycle.alerting import sensor as alerting
from mlops_assets.lifecycle.dataset_checks import DEADLINE_CHECK, VOLUME_CHECK
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.publish import PARTITIONS, looked_at

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


def test_nothing_to_tell_reads_no_table(desk: Desk) -> None:
    """After the first tick, an idle one leaves the lake alone and changes no document."""
    assert desk.tick() == []
    before = desk.watch()
    desk.project.places = replace(desk.project.places, lake="unknown://nowhere")
    assert desk.tick(1) == []
    assert desk.watch() == before


def test_an_alert_that_stays_open_is_not_written_down_again(desk: Desk) -> None:
    """That it was seen once more is no news."""
    desk.write("drift", _drift("drift"))
    assert desk.tick() == ["raised drift version 1"]
    memory = Path(desk.project.places.documents) / "visits" / f"{alerting.DOCUMENT}.json"
    before = memory.read_bytes(), memory.stat().st_mtime_ns
    assert desk.tick(0.1) == []
    assert (memory.read_bytes(), memory.stat().st_mtime_ns) == before


def test_a_failed_run_is_told_once_until_its_assets_succeed(desk: Desk) -> None:
    """Its subject is the asset that failed, its cause what the asset's own code said."""
    desk.project.faults({"2024-03-02": "wrong_type"})
    assert not desk.project.run(["visits"], ("2024-03-02", "2024-03-02")).success
    assert desk.tick() == ["raised failed_run visits"]
    message = desk.sent()[0]
    assert "minutes" in message["cause"]
    assert message["link"].startswith("http://127.0.0.1:3000/runs/")
    assert message["owners"] == ["team:tests"]
    assert desk.tick(1) == []
    desk.project.faults({})
    assert desk.project.run(["visits"], ("2024-03-02", "2024-03-02")).success
    assert desk.tick(2) == ["resolved failed_run visits"]
    assert desk.tick(3) == []


def test_a_refused_day_is_told_by_its_check_alone(desk: Desk) -> None:
    """Not by its failed run too; it ends when the same day passes, not when another does."""
    desk.project.faults({"2024-03-01": "negative"})
    assert not desk.project.run(["visits"], ("2024-03-01", "2024-03-02")).success
    subject = "visits expectations 2024-03-01"
    assert desk.tick() == [f"raised failed_check {subject}"]
    assert "minutes" in desk.sent()[0]["cause"]
    assert desk.project.run(["visits"], ("2024-03-02", "2024-03-02")).success
    assert desk.tick(1) == []
    desk.project.faults({})
    assert desk.project.run(["visits"], ("2024-03-01", "2024-03-01")).success
    assert desk.tick(2) == [f"resolved failed_check {subject}"]


def test_a_day_with_half_its_rows_is_told_and_ends_with_a_usual_one(desk: Desk) -> None:
    """Published all the same; with too few days before, nothing is said."""
    desk.project.faults({"2024-03-20": "half"})
    assert desk.project.run(["visits"], ("2024-03-01", "2024-03-20")).success
    assert desk.tick(24 * 18) == ["raised volume visits 2024-03-20"]
    assert desk.sent()[0]["cause"].startswith(
        "check volume failed for 1 partitions: 2024-03-20: 30 rows, expected "
    )
    assert desk.project.run(["visits"], ("2024-03-21", "2024-03-21")).success
    assert desk.tick(24 * 19) == ["resolved volume visits 2024-03-20"]


def _drift(verdict: str, version: int = 1, drift: float = 0.08) -> DriftRecord:
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


def test_drift_is_told_until_the_window_is_stable_again(desk: Desk) -> None:
    """What is unclear changes nothing; more drift is told at once."""
    desk.write("drift", _drift("drift"))
    assert desk.tick() == ["raised drift version 1"]
    desk.write("drift", _drift("unclear"))
    assert desk.tick(1) == []
    desk.write("drift", _drift("drift", drift=0.3))
    assert desk.tick(2) == ["raised drift version 1"]
    assert desk.sent()[-1]["severity"] == "critical"
    desk.write("drift", _drift("stable", drift=0.01))
    assert desk.tick(3) == ["resolved drift version 1"]


def test_what_stays_open_is_told_again_after_a_day(desk: Desk) -> None:
    """Not before, whatever the number of ticks."""
    desk.write("drift", _drift("drift"))
    told = [desk.tick(hours) for hours in (0, 1, 12, 23, 24, 25, 48)]
    raised = ["raised drift version 1"]
    assert [lines for lines in told if lines] == [raised] * 3
    assert [told[0], told[4], told[6]] == [raised] * 3


def test_a_clock_that_goes_back_repeats_nothing_early_and_hides_nothing(desk: Desk) -> None:
    """Two hours back: silent. Two days back: told again, since nobody knows which time is right."""
    desk.write("drift", _drift("drift"))
    assert desk.tick(100) == ["raised drift version 1"]
    assert desk.tick(98) == []
    assert desk.tick(52) == ["raised drift version 1"]
    desk.write("drift", _drift("stable", drift=0.01))
    assert desk.tick(51) == ["resolved drift version 1"]


def _performance(verdict: str, version: int = 1) -> PerformanceRecord:
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


def test_a_loss_of_performance_ends_with_the_model_that_lost_it(desk: Desk) -> None:
    """The next version is another alert, if it is one at all."""
    desk.write("performance", _performance("fell"))
    assert desk.tick() == ["raised performance_loss version 1"]
    assert "0.600 (0.550 to 0.650) against 0.500" in desk.sent()[0]["cause"]
    desk.write("performance", _performance("inconclusive", version=2))
    assert desk.tick(1) == ["resolved performance_loss version 1"]


def test_a_missed_deadline_is_told_until_the_day_arrives(desk: Desk) -> None:
    """Twelve hours after the day's end in the use case's time zone; an outage is one alert."""
    desk.only("2024-03-01")
    assert desk.tick(8) == []  # 10:00 UTC on the 3rd: the 2nd is due at noon in Berlin
    assert desk.tick(9) == ["raised freshness visits from 2024-03-02"]
    assert desk.tick(10) == []
    key = dg.AssetCheckKey(desk.project.key("visits"), DEADLINE_CHECK)
    storage = desk.project.instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key([key])[key]
    assert latest.status.value == "FAILED"
    assert desk.tick(33) == ["raised freshness visits from 2024-03-02"]
    assert "2 days are missing or refused, 2024-03-02 to 2024-03-03" in desk.sent()[-1]["cause"]
    desk.arrive("2024-03-02")
    assert desk.tick(34) == []
    desk.arrive("2024-03-03")
    assert desk.tick(35) == ["resolved freshness visits from 2024-03-02"]
    latest = storage.get_latest_asset_check_execution_by_key([key])[key]
    assert latest.status.value == "SUCCEEDED"


def _promotion(version: int, decision: str, digest: str = "") -> PromotionRecord:
    champion = _model(version if decision == "promoted" else 1)
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


def _model(version: int) -> ModelRecord:
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


def _decide(desk: Desk, *records: PromotionRecord) -> None:
    for record in records:
        ledger.record(desk.project.lake, record)
        documents.write(desk.project.places.documents, "visits", "promotion", record)


def test_each_decision_about_a_challenger_is_noticed_once(desk: Desk) -> None:
    """Also those that came between two ticks; an evaluation of the champion itself is none."""
    _decide(desk, _promotion(1, "promoted"))
    assert desk.tick() == ["raised promoted version 1"]
    assert desk.tick(30) == []
    _decide(
        desk,
        _promotion(2, "refused"),
        _promotion(3, "held"),
        _promotion(4, "promoted"),
        _promotion(1, "held", "again"),
    )
    assert sorted(desk.tick(31)) == [
        "raised promoted version 4",
        "raised refused version 2",
        "raised refused version 3, held",
    ]
    assert "version 1 serves on" in next(s for s in desk.sent() if s["kind"] == "refused")["cause"]
    assert desk.tick(60) == []


def _decision(signal: str | None, hours: float, put_off: str | None = None) -> Decision:
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


def _record(desk: Desk, *taken: Decision) -> None:
    """What the sensor of retraining does with decisions."""
    lake = desk.project.lake
    for decision in taken:
        recorded = decisions.record(lake, decisions.book(lake, "visits"), decision)
        assert recorded == "recorded"
        event = dg.AssetMaterialization(desk.project.key("retraining"))
        desk.project.instance.report_runless_asset_event(event)


def test_each_retraining_that_starts_is_noticed_with_its_reasons(desk: Desk) -> None:
    """Also when other decisions came after it; those say nothing to people."""
    assert desk.tick() == []
    _record(desk, _decision("2024-03-02.v1", 1), _decision(None, 2), _decision(None, 3))
    assert desk.tick(4) == ["raised retraining_started visits:2024-03-02.v1:1"]
    assert "log-loss 0.6 is over 0.5" in desk.sent()[0]["cause"]
    _record(desk, _decision(None, 5))
    assert desk.tick(6) == []
    assert desk.tick(48) == []


def test_a_retraining_without_budget_is_told_until_it_starts(desk: Desk) -> None:
    """Its start is a notice of its own."""
    _record(desk, _decision("2024-03-02.v1", 0, "budget"))
    assert desk.tick() == ["raised retraining_put_off 2024-03-02.v1"]
    assert desk.tick(1) == []
    _record(desk, _decision("2024-03-02.v1", 2))
    assert sorted(desk.tick(3)) == [
        "raised retraining_started visits:2024-03-02.v1:1",
        "resolved retraining_put_off 2024-03-02.v1",
    ]


@contextmanager
def _answering(port: int) -> Iterator[None]:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"ready": true}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Ready)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_endpoint_that_stays_silent_is_told_until_it_is_ready(
    desk: Desk, tmp_path: Path
) -> None:
    """Not at the first tick without an answer; and not when somebody has stopped it."""
    port = desk.project.spec.endpoint.port
    champion = ServedModel(version=1, sha256="0" * 64, artifact="model.ubj")
    release = first_release("visits", champion, datetime(2026, 3, 1, tzinfo=UTC), "promoted")
    record = EndpointRecord(
        use_case="visits",
        url=f"http://127.0.0.1:{port}",
        pid=1,
        instance="i",
        release=release,
        prediction_log="log",
    )
    desk.write("endpoint", record)
    assert [desk.tick(hours) for hours in (0, 1, 2)] == [
        [],
        ["raised endpoint_down endpoint"],
        [],
    ]
    with _answering(port):
        assert desk.tick(3) == ["resolved endpoint_down endpoint"]
    assert [desk.tick(hours) for hours in (4, 5)] == [[], ["raised endpoint_down endpoint"]]
    (tmp_path / "endpoints" / "visits").mkdir(parents=True)
    assert desk.tick(6) == ["resolved endpoint_down endpoint"]


def _check(desk: Desk, name: str, failed: Sequence[str], checked: Sequence[str]) -> None:
    """A check of visits that was evaluated somewhere."""
    evaluation = dg.AssetCheckEvaluation(
        asset_key=desk.project.key("visits"),
        check_name=name,
        passed=not failed,
        metadata={PARTITIONS: looked_at([*checked, *failed], dict.fromkeys(failed, "odd"))},
        severity=dg.AssetCheckSeverity.WARN,
        blocking=False,
    )
    desk.project.instance.report_runless_asset_event(evaluation)


def test_a_tick_reads_a_bounded_number_of_events_and_loses_none(desk: Desk) -> None:
    """The rest is read by the next one, in order."""
    assert desk.tick() == []
    for _ in range(alert_feed.MOST_EVENTS):
        _check(desk, VOLUME_CHECK, ["2024-03-01"], [])
    _check(desk, VOLUME_CHECK, [], ["2024-03-01"])
    assert desk.tick(1) == ["raised volume visits 2024-03-01"]
    assert desk.tick(2) == ["resolved volume visits 2024-03-01"]


def test_what_failed_and_is_mended_between_two_ticks_is_not_told(desk: Desk) -> None:
    """There is nothing left to do."""
    _check(desk, VOLUME_CHECK, ["2024-03-01"], [])
    _check(desk, VOLUME_CHECK, [], ["2024-03-01"])
    assert desk.tick() == []


def test_days_that_fail_together_are_one_alert_until_the_last_is_mended(desk: Desk) -> None:
    """And one of them that fails again is nothing new."""
    together = ["2024-03-01", "2024-03-02", "2024-03-03"]
    _check(desk, "skew", together, [])
    assert desk.tick() == ["raised skew visits 2024-03-01 to 2024-03-03"]
    _check(desk, "skew", [], together[:2])
    _check(desk, "skew", together[2:], [])
    assert desk.tick(1) == []
    _check(desk, "skew", [], together[2:])
    assert desk.tick(2) == ["resolved skew visits 2024-03-01 to 2024-03-03"]


def test_what_a_storm_held_back_is_told_when_it_is_over(desk: Desk) -> None:
    """25 days that do not follow each other: 20 alerts, a summary, and the rest an hour later."""
    _check(desk, "skew", [str(date(2024, 1, 1) + timedelta(days=2 * n)) for n in range(25)], [])
    told = desk.tick()
    assert len(told) == 21
    assert told.count("raised storm visits") == 1
    assert desk.tick(CAPPED_AGAIN.total_seconds() / 3600) == []
    late = desk.tick(1.01)
    assert len(late) == 5
    assert not set(late) & set(told)
    assert desk.tick(2.5) == []


def test_a_channel_that_is_away_is_sent_what_it_missed(desk: Desk, tmp_path: Path) -> None:
    """Attempts wait for longer and longer; nothing is lost, nothing comes twice."""
    sound = desk.project.places
    (tmp_path / "blocked").write_text("a file where the folder should be")
    missing = f"jsonl:{tmp_path / 'blocked' / 'alerts.jsonl'}"
    desk.project.places = replace(sound, alert_channels=f"{sound.alert_channels}, other={missing}")
    desk.write("drift", _drift("drift"))
    assert desk.tick() == ["raised drift version 1"]
    assert desk.watch().attempts == 1
    assert desk.tick(10 / 3600) == []
    assert desk.watch().attempts == 1
    assert desk.tick(40 / 3600) == []
    assert desk.watch().attempts == 2
    (tmp_path / "blocked").unlink()
    assert desk.tick(1) == []
    lines = (tmp_path / "blocked" / "alerts.jsonl").read_text().splitlines()
    assert [json.loads(line)["subject"] for line in lines] == ["version 1"]
    assert desk.watch().wake is None


def test_a_tick_that_dies_between_recording_and_sending_is_made_up_for(desk: Desk) -> None:
    """Channels that are not configured right stop it there, visibly; then it is sent once."""
    sound = desk.project.places
    desk.project.places = replace(sound, alert_channels="pigeon:env:LOFT")
    desk.write("drift", _drift("drift"))
    with pytest.raises(PermanentError, match="'pigeon' is not understood"):
        desk.tick()
    assert not desk.watch().settled
    desk.project.places = sound
    assert desk.tick(1) == ["raised drift version 1"]
    assert desk.tick(2) == []


def test_a_tick_that_dies_after_recording_resolves_what_is_over_by_then(desk: Desk) -> None:
    """The condition ended while nobody was there: what was recorded is closed, unsent twice."""
    sound = desk.project.places
    desk.project.places = replace(sound, alert_channels="pigeon:env:LOFT")
    desk.write("drift", _drift("drift"))
    with pytest.raises(PermanentError):
        desk.tick()
    desk.write("drift", _drift("stable"))
    desk.project.places = sound
    assert sorted(desk.tick(1)) == ["raised drift version 1", "resolved drift version 1"]


def test_a_tick_that_dies_before_it_is_remembered_says_nothing_twice(desk: Desk) -> None:
    """With cursor and memory as they were before it."""
    desk.tick()
    where = Path(desk.project.places.documents) / "visits" / f"{alerting.DOCUMENT}.json"
    memory, cursor = where.read_bytes(), desk.cursor
    _check(desk, VOLUME_CHECK, ["2024-03-01"], [])
    _decide(desk, _promotion(1, "promoted"))
    assert len(desk.tick(1)) == 2
    where.write_bytes(memory)
    desk.cursor = cursor
    assert desk.tick(2) == []


def test_without_its_memory_a_sensor_looks_back(desk: Desk) -> None:
    """What is still open stays, what is not is closed, and nothing is told twice."""
    _check(desk, VOLUME_CHECK, ["2024-03-01"], [])
    desk.write("drift", _drift("drift"))
    assert len(desk.tick()) == 2
    documents_folder = Path(desk.project.places.documents) / "visits"
    (documents_folder / f"{alerting.DOCUMENT}.json").unlink()
    (documents_folder / "drift.json").unlink()
    assert desk.tick(1) == ["resolved drift version 1"]
    assert desk.tick(2) == []


def test_a_document_that_cannot_be_read_stops_no_other_source(desk: Desk) -> None:
    """And is told itself until it is written again."""
    folder = Path(desk.project.places.documents) / "visits"
    (folder / "drift.json").write_text("{")
    desk.write("performance", _performance("fell"))
    assert sorted(desk.tick()) == [
        "raised failed_run document drift",
        "raised performance_loss version 1",
    ]
    desk.write("drift", _drift("stable"))
    assert desk.tick(1) == ["resolved failed_run document drift"]


def test_a_sensor_that_keeps_failing_is_told(desk: Desk, tmp_path: Path) -> None:
    """Two ticks in a row; one alone is made up for by the next."""
    selector = InstigatorSelector(
        location_name="here", repository_name="all", name="visits_new_data"
    )
    place = alerting.Place("here", "all")
    folder = tmp_path / "dagster"  # an ephemeral instance keeps no ticks
    folder.mkdir()
    instance = dg.DagsterInstance.local_temp(str(folder))

    def ended(status: TickStatus, hours: float) -> None:
        error = SerializableErrorInfo("the source is away", [], "Error")
        data = TickData(
            instigator_origin_id="origin",
            instigator_name="visits_new_data",
            instigator_type=InstigatorType.SENSOR,
            status=status,
            timestamp=desk.at(hours).timestamp(),
            selector_id=selector.get_id(),
            error=error if status == TickStatus.FAILURE else None,
        )
        instance.create_tick(data)

    def told(hours: float) -> int:
        now = desk.at(hours)
        alerting.tick(desk.project.spec, desk.platform, instance, None, now, place)
        return len(desk.sent())

    ended(TickStatus.FAILURE, 0)
    assert told(0.1) == 0
    ended(TickStatus.FAILURE, 0.2)
    assert told(0.3) == 1
    assert desk.sent()[0]["subject"] == "sensor visits_new_data"
    assert desk.sent()[0]["cause"] == "the source is away"
    ended(TickStatus.SKIPPED, 0.4)
    assert told(0.5) == 2
    assert desk.sent()[1]["event"] == "resolved"


def test_an_asset_that_fails_its_freshness_policy_is_told_while_data_goes_on(desk: Desk) -> None:
    """A use case whose data has ended has nothing to wait for."""
    assert desk.project.spec.end is not None
    assert desk.tick() == []
    desk.project.spec = desk.project.spec.model_copy(update={"end": None})
    key = desk.project.key("predictions")

    def becomes(state: FreshnessState) -> None:
        change = FreshnessStateChange(
            key=key,
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=START.timestamp(),
        )
        desk.project.instance.report_runless_asset_event(change)

    becomes(FreshnessState.FAIL)
    assert desk.tick(1) == ["raised freshness predictions as a whole"]
    becomes(FreshnessState.PASS)
    assert desk.tick(2) == ["resolved freshness predictions as a whole"]
