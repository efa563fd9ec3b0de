"""The sensor of alerts in storms, without channels, and killed in between."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from alerting_support import (
    START,
    Desk,
    decide_on,
    drift_says,
    performance_says,
    promotion_of,
)
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.selector import InstigatorSelector
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._utils.error import SerializableErrorInfo

from mlops_assets.core.alert_watch import CAPPED_AGAIN
from mlops_assets.core.errors import PermanentError
from mlops_assets.lifecycle.alerting import feed as alert_feed
from mlops_assets.lifecycle.alerting import sensor as alerting
from mlops_assets.lifecycle.dataset_checks import VOLUME_CHECK
from mlops_assets.lifecycle.publish import PARTITIONS, looked_at


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
    desk.write("drift", drift_says("drift"))
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
    desk.write("drift", drift_says("drift"))
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
    desk.write("drift", drift_says("drift"))
    with pytest.raises(PermanentError):
        desk.tick()
    desk.write("drift", drift_says("stable"))
    desk.project.places = sound
    assert sorted(desk.tick(1)) == ["raised drift version 1", "resolved drift version 1"]


def test_a_tick_that_dies_before_it_is_remembered_says_nothing_twice(desk: Desk) -> None:
    """With cursor and memory as they were before it."""
    desk.tick()
    where = Path(desk.project.places.documents) / "visits" / f"{alerting.DOCUMENT}.json"
    memory, cursor = where.read_bytes(), desk.cursor
    _check(desk, VOLUME_CHECK, ["2024-03-01"], [])
    decide_on(desk, promotion_of(1, "promoted"))
    assert len(desk.tick(1)) == 2
    where.write_bytes(memory)
    desk.cursor = cursor
    assert desk.tick(2) == []


def test_without_its_memory_a_sensor_looks_back(desk: Desk) -> None:
    """What is still open stays, what is not is closed, and nothing is told twice."""
    _check(desk, VOLUME_CHECK, ["2024-03-01"], [])
    desk.write("drift", drift_says("drift"))
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
    desk.write("performance", performance_says("fell"))
    assert sorted(desk.tick()) == [
        "raised failed_run document drift",
        "raised performance_loss version 1",
    ]
    desk.write("drift", drift_says("stable"))
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
