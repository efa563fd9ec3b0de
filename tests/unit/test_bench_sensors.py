"""The sensors benchmark: what it makes of its measurements, and the state that it ticks on."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from bench import _sensors_state as state
from bench import sensors
from bench._sensors_run import check_idle
from mlops_assets import clock
from mlops_assets.adapters import decisions, documents, inputs
from mlops_assets.adapters.alerts.log import deliveries, entries
from mlops_assets.core.arrivals import ended_days
from mlops_assets.core.records import PromotionRecord
from mlops_assets.lifecycle.platform import Places, Platform

IDLE = {"empty": (0.5, 0.1), "new_data": (3.0, 2.0), "retraining": (2.0, 1.0), "alerts": (4.0, 3.0)}

MEASURED = sensors.Measured(
    count=500,
    first=IDLE,
    idle=IDLE,
    looked=(1.0, 1.0),
    reopened=(2.0, 2.0),
    new_day=IDLE,
    requests=500,
    settled=2,
    mib={"definitions": 100.0, "first": 200.0, "idle": 200.0},
)


def test_the_goal_is_for_500_use_cases_and_in_proportion_for_fewer() -> None:
    """All of a use case's sensors count, and Dagster's floor is not ours."""
    first = sensors.of_count(MEASURED)[0]
    assert (first.ours, first.goal, first.met) == (9.0, 10.0, True)
    fewer = sensors.of_count(replace(MEASURED, count=100))[0]
    assert (fewer.goal, fewer.met) == (2.0, False)


def test_processor_seconds_stand_beside_three_sensors_that_do_nothing() -> None:
    """As many as a use case has."""
    row = sensors.of_count(MEASURED)[1]
    assert (row.ours, row.other) == (6.0, pytest.approx(0.3))


def test_growth_is_that_of_one_use_case() -> None:
    """Five times as many in five times the seconds is none."""
    fifth = {kind: (wall / 5, cpu / 5) for kind, (wall, cpu) in IDLE.items()}
    fewer = replace(MEASURED, count=100, idle=fifth, new_day=fifth)
    assert [row.ratio for row in sensors.growth(fewer, MEASURED)] == pytest.approx([1, 1])
    steep = replace(fewer, idle=dict.fromkeys(IDLE, (0.1, 0.1)))
    assert [row.met for row in sensors.growth(steep, MEASURED)] == [False, True]


def test_conditions_have_rows_of_their_own() -> None:
    """And growth where there is more than one number of use cases."""
    one = {"first": (1.0, 1.0), "idle": (1.0, 0.5)}
    many = {"first": (30.0, 25.0), "idle": (20.0, 10.0)}
    assert len(sensors.automation({1: one})) == 1
    *_, growth = sensors.automation({1: one, 20: many})
    assert (growth.ratio, growth.met) == (1.0, True)


@pytest.mark.parametrize(
    ("kind", "cursor", "message", "idle"),
    [
        ("new_data", {"seen": "abc"}, "nothing is new", True),
        ("new_data", {"seen": ""}, "nothing is new", False),
        ("retraining", {}, "unchanged since 2013-10-28", True),
        ("retraining", {}, "no, version 6", False),
        ("alerts", {}, "nothing new, 1 open", True),
        ("alerts", {}, "1 open, 1 messages delivered", False),
    ],
)
def test_a_tick_that_was_not_idle_is_no_measurement_of_one(
    kind: str, cursor: dict[str, str], message: str, idle: bool
) -> None:
    """It fails the benchmark in place of making its numbers look bad, or good."""
    said = SensorExecutionData(
        run_requests=[],
        skip_message=message,
        cursor=json.dumps(cursor),
        dagster_run_reactions=[],
        log_key=None,
        dynamic_partitions_requests=[],
        asset_events=[],
        automation_condition_evaluations=[],
    )
    if idle:
        check_idle(kind, [said])
    else:
        with pytest.raises(RuntimeError, match=f"{kind} was not idle: {message}"):
            check_idle(kind, [said])


def test_the_platform_reads_the_state_that_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledgers whose entries follow each other, documents of each asset, delivered alerts."""
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    clock.set_to(tmp_path / "clock.json", state.NOW)
    state.write(2, tmp_path, port=1)
    places = Places.under(tmp_path)
    platform, spec = Platform.at(places), state.spec_of(1)
    lake = platform.lake()
    book = decisions.book(platform.ledgers(), spec.name)
    window = ended_days(state.NOW, spec.start, spec.end, spec.timezone)
    assert window is not None and list(window.partitions) == state.days()
    assert book.history.last is not None and book.history.last.day == state.LAST
    promotion = documents.read(places.documents, spec.name, "promotion", PromotionRecord)
    assert promotion is not None
    assert promotion.version == len(book.history.trainings) + 1
    assert promotion.version == book.history.last.champion_version
    for name in (*spec.datasets, *spec.feature_views, "prediction_log", "predictions"):
        assert inputs.recorded(places.documents, spec.name, name)
    told = entries(lake, spec.name)
    assert len(told) == 2 * state.ALERTS
    assert len(deliveries(lake, spec.name, {one.id for one in told})) == len(told)


def test_each_number_of_use_cases_has_processes_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that makes the state, one that ticks, and one for the conditions."""
    ran: list[tuple[str, str]] = []

    def run(module: str, folder: str, count: str, *_: str) -> str:
        ran.append((module.removeprefix("bench._sensors_"), count))
        if module.endswith("_automation"):
            return json.dumps({"first": [1, 1], "idle": [1, 1]})
        fields = {name: getattr(MEASURED, name) for name in MEASURED.__dataclass_fields__}
        return json.dumps({name: value for name, value in fields.items() if name != "count"})

    @contextmanager
    def endpoint() -> Iterator[int]:
        yield 1

    monkeypatch.setattr(sensors, "_run", run)
    monkeypatch.setattr(sensors, "_endpoint", endpoint)
    options = argparse.Namespace(quick=False, counts=[1, 2], automation=[3])
    results = sensors.main(options)
    assert ran == [
        ("state", "1"),
        ("run", "1"),
        ("state", "2"),
        ("run", "2"),
        ("automation", "3"),
    ]
    assert {"1 use case, idle", "2 use cases, idle"} < {result.case for result in results}
