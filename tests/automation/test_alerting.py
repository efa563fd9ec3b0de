"""The sensor of alerts, ticked by hand: each thing told once, resolved where it ends."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
from alerting_support import Desk, drift_says, performance_says

from mlops_assets.lifecycle.alerting import sensor as alerting
from mlops_assets.lifecycle.dataset_checks import DEADLINE_CHECK


def test_nothing_to_tell_reads_no_table(desk: Desk) -> None:
    """After the first tick, an idle one leaves the lake alone and changes no document."""
    assert desk.tick() == []
    before = desk.watch()
    desk.project.places = replace(desk.project.places, lake="unknown://nowhere")
    assert desk.tick(1) == []
    assert desk.watch() == before


def test_an_alert_that_stays_open_is_not_written_down_again(desk: Desk) -> None:
    """That it was seen once more is no news."""
    desk.write("drift", drift_says("drift"))
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


def test_drift_is_told_until_the_window_is_stable_again(desk: Desk) -> None:
    """What is unclear changes nothing; more drift is told at once."""
    desk.write("drift", drift_says("drift"))
    assert desk.tick() == ["raised drift version 1"]
    desk.write("drift", drift_says("unclear"))
    assert desk.tick(1) == []
    desk.write("drift", drift_says("drift", drift=0.3))
    assert desk.tick(2) == ["raised drift version 1"]
    assert desk.sent()[-1]["severity"] == "critical"
    desk.write("drift", drift_says("stable", drift=0.01))
    assert desk.tick(3) == ["resolved drift version 1"]


def test_what_stays_open_is_told_again_after_a_day(desk: Desk) -> None:
    """Not before, whatever the number of ticks."""
    desk.write("drift", drift_says("drift"))
    told = [desk.tick(hours) for hours in (0, 1, 12, 23, 24, 25, 48)]
    raised = ["raised drift version 1"]
    assert [lines for lines in told if lines] == [raised] * 3
    assert [told[0], told[4], told[6]] == [raised] * 3


def test_a_clock_that_goes_back_repeats_nothing_early_and_hides_nothing(desk: Desk) -> None:
    """Two hours back: silent. Two days back: told again, since nobody knows which time is right."""
    desk.write("drift", drift_says("drift"))
    assert desk.tick(100) == ["raised drift version 1"]
    assert desk.tick(98) == []
    assert desk.tick(52) == ["raised drift version 1"]
    desk.write("drift", drift_says("stable", drift=0.01))
    assert desk.tick(51) == ["resolved drift version 1"]


def test_a_loss_of_performance_ends_with_the_model_that_lost_it(desk: Desk) -> None:
    """The next version is another alert, if it is one at all."""
    desk.write("performance", performance_says("fell"))
    assert desk.tick() == ["raised performance_loss version 1"]
    assert "0.600 (0.550 to 0.650) against 0.500" in desk.sent()[0]["cause"]
    desk.write("performance", performance_says("inconclusive", version=2))
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
