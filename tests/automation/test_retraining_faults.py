"""Crashes, restarts, races and damage: no training twice, none lost, no silent gap."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
    instance_for_test,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.sensor import execute_sensor_iteration
from lifecycle_support import places_under
from retraining_support import SENSOR, Live, retrained

from mlops_assets.adapters import decisions
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.retraining_records import outstanding

DAY = date(2024, 4, 11)
MORNING = datetime(2024, 4, 12, 1, tzinfo=UTC)
LATER = MORNING + timedelta(minutes=3)
KEY = "visits:2024-04-11.v1:1"


def _drifted(live: Live) -> Live:
    live.at(MORNING)
    live.champion(1, date(2024, 4, 10))
    live.tells(DAY, 0.3)
    return live


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A use case whose newest day asks for a retraining."""
    monkeypatch.setenv("MLOPS_CLOCK", str(tmp_path / "clock.json"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield _drifted(Live(retrained(), places_under(tmp_path), instance, tmp_path / "clock.json"))


def test_a_tick_that_dies_after_its_decision_loses_no_training(live: Live) -> None:
    """What it would have requested is requested by a later tick, once."""
    assert len(live.look(None).run_requests) == 1
    assert live.tick().run_requests == []
    live.at(LATER)
    (request,) = live.tick().run_requests
    assert (request.run_key, request.tags["mlops/reasons"]) == (KEY, "requested again")
    assert request.run_config["ops"]["visits__training_set"]["config"]["end"] == "2024-04-12"
    live.run(request, None)
    live.at(LATER + timedelta(minutes=10))
    assert live.tick().run_requests == []
    assert [t.run_key for t in live.book.history.trainings] == [KEY]


def test_a_run_that_was_created_but_never_launched_is_requested_again(live: Live) -> None:
    """Dagster launches the one that it has created."""
    (request,) = live.tick().run_requests
    created = DagsterRun(job_name="__ASSET_JOB", tags=dict(request.tags))
    live.instance.add_run(created)
    live.at(LATER)
    assert [again.run_key for again in live.tick().run_requests] == [KEY]
    assert len(outstanding(live.book.history)) == 1


def test_two_daemons_start_one_training(live: Live) -> None:
    """Both look with the same cursor; the one that comes second sees the other's decision."""
    first, second = live.look(None), live.look(None)
    assert [len(found.run_requests) for found in (first, second)] == [1, 0]
    live.run(first.run_requests[0], None)
    live.at(LATER)
    assert live.look(first.cursor).run_requests == []
    assert live.look(second.cursor).run_requests == []
    assert len(live.book.history.trainings) == 1


_TICK = """
import sys
from pathlib import Path
import dagster as dg
from lifecycle_support import places_under
from retraining_support import Live, retrained
folder = Path(sys.argv[1])
with dg.DagsterInstance.ephemeral() as instance:
    live = Live(retrained(), places_under(folder), instance, folder / "clock.json")
    print("ready", flush=True)
    sys.stdin.readline()
    found = live.look(None)
    print(*[request.run_key for request in found.run_requests], flush=True)
    sys.stdin.readline()
"""


def _evaluator(folder: Path) -> "subprocess.Popen[str]":
    support = str(Path(__file__).parents[1] / "support")
    paths = os.pathsep.join([support, str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", _TICK, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "MLOPS_CLOCK": str(folder / "clock.json")},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_at_once_request_one_run(live: Live, tmp_path: Path) -> None:
    """The ledger decides the race; a killed winner's training is still started."""
    processes = [_evaluator(tmp_path) for _ in range(2)]
    for process in processes:
        _go(process)
    answers = [process.stdout.readline().strip() for process in processes if process.stdout]
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    assert sorted(answers) == ["", KEY]
    assert [t.run_key for t in live.book.history.trainings] == [KEY]
    live.at(LATER)
    assert [request.run_key for request in live.tick().run_requests] == [KEY]


def test_a_training_whose_run_never_comes_counts_as_failed(live: Live) -> None:
    """Then the next attempt is due; what never ran has cost nothing."""
    live.tick()
    live.at(MORNING + timedelta(hours=25))
    found = live.tick()
    assert [request.run_key for request in found.run_requests] == ["visits:2024-04-11.v1:2"]
    lost, again = live.book.history.trainings
    assert (lost.outcome, lost.cost, again.outcome) == ("failed", 0.0, "running")


def test_a_re_executed_run_belongs_to_its_training(live: Live) -> None:
    """While it goes on the training does; its end counts, and so does what both have cost."""
    (request,) = live.tick().run_requests
    live.run(request, "failure", seconds=300)
    again = live.run(request, None)
    assert "has raised its signal" in live.tick().skip_message
    assert len(outstanding(live.book.history)) == 1
    end = dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name="__ASSET_JOB")
    live.instance.report_dagster_event(end, again, timestamp=1_700_000_900.0)
    live.tick()
    (training,) = live.book.history.trainings
    assert (training.outcome, training.dagster_run_id) == ("succeeded", again)
    assert training.seconds == 300 + 900


def test_a_clock_that_goes_back_starts_nothing(live: Live) -> None:
    """Neither a training nor a second one; when the time has come again, it goes on."""
    live.tells(DAY, 0.1)
    live.tick()
    live.tells(DAY, 0.3)
    live.at(MORNING - timedelta(days=40))
    assert "the clock has gone back" in live.tick().skip_message
    live.at(MORNING)
    (request,) = live.tick().run_requests
    live.run(request)
    live.at(MORNING - timedelta(days=40))
    assert live.tick().run_requests == []
    assert len(live.book.history.trainings) == 1


def _ledger(live: Live) -> Path:
    return Path(live.places.ledgers) / decisions.table("visits")


def test_a_ledger_whose_last_entry_is_cut_is_not_decided_on(live: Live) -> None:
    """The tick fails and says what to do; restored, it goes on where it was."""
    live.tick()
    newest = max(_ledger(live).glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    live.at(LATER)
    with pytest.raises(PermanentError, match="Nothing is decided on it; restore"):
        live.tick()
    newest.write_bytes(whole)
    assert [request.run_key for request in live.tick().run_requests] == [KEY]


def test_a_ledger_whose_last_entry_is_gone_is_not_decided_on(live: Live) -> None:
    """A shorter history that fits together is noticed by how long it was."""
    live.tells(DAY, 0.1)
    live.tick()
    live.tells(DAY, 0.3)
    assert len(live.tick().run_requests) == 1
    log = _ledger(live) / "_delta_log"
    max(log.glob("*.json")).unlink()
    live.at(LATER)
    with pytest.raises(PermanentError, match="has 1 entries and had 2: its end is cut"):
        live.tick()
    live.cursor = None
    assert len(live.tick().run_requests) == 1


def test_a_document_that_is_none_stops_the_decision(live: Live) -> None:
    """Named, so that it is materialized again; nothing is decided on the others alone."""
    place = Path(live.places.documents) / "visits" / "drift.json"
    place.write_text("{")
    with pytest.raises(PermanentError, match=r"drift\.json is no DriftRecord"):
        live.tick()
    assert live.book.taken == 0


def test_a_cursor_of_another_release_is_looked_past(live: Live) -> None:
    """It never says what to do, so that nothing depends on it."""
    assert len(live.look("old").run_requests) == 1
    assert live.look(json.dumps({"day": "2024-04-11"})).run_requests == []


@contextmanager
def _daemon(folder: Path) -> Iterator[tuple[dg.DagsterInstance, Callable[..., Any]]]:
    """An instance, and Dagster's own daemon looking at the sensor once on each call."""
    origin = InProcessCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(
            executable_path=sys.executable,
            module_name="retraining_location",
            attribute="defs",
            working_directory=str(Path(__file__).parents[1] / "support"),
        ),
        location_name="here",
    )
    launcher = {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"}
    direct = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    overrides = {"run_launcher": launcher, "run_coordinator": direct}
    with (
        instance_for_test(overrides=overrides, temp_dir=str(folder / "instance")) as instance,
        create_test_daemon_workspace_context(
            InProcessTestWorkspaceLoadTarget(origin), instance
        ) as workspace,
    ):
        location = workspace.create_request_context().code_locations[0]
        (repository,) = location.get_repositories().values()
        sensor = repository.get_sensor(SENSOR)
        instance.start_sensor(sensor)

        def look(crash: str | None = None, *, forget: bool = False) -> None:
            state = instance.get_instigator_state(sensor.get_remote_origin_id(), sensor.selector_id)
            assert state is not None
            data = state.instigator_data
            assert isinstance(data, SensorInstigatorData)
            # Without the time of the last tick, the next one is due.
            cursor = None if forget else data.cursor
            instance.update_instigator_state(
                state.with_data(SensorInstigatorData(min_interval=0, cursor=cursor))
            )
            flags = None if crash is None else {SENSOR: {crash: RuntimeError("crashed here")}}
            list(
                execute_sensor_iteration(
                    workspace,
                    logging.getLogger("daemon"),
                    threadpool_executor=None,
                    submit_threadpool_executor=None,
                    debug_crash_flags=flags,
                )
            )

        yield instance, look


def test_dagsters_daemon_starts_one_run_wherever_it_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after it has created the run, with its cursor and without."""
    monkeypatch.setenv("MLOPS_CLOCK", str(tmp_path / "clock.json"))
    monkeypatch.setenv("RETRAINING_STATE", str(tmp_path))
    (tmp_path / "instance").mkdir()
    with _daemon(tmp_path) as (instance, look):
        live = Live(retrained(), places_under(tmp_path), instance, tmp_path / "clock.json")
        _drifted(live)
        for n, crash in enumerate(["TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED"]):
            live.at(MORNING + timedelta(days=n))
            live.tells(DAY + timedelta(days=n), 0.3)
            look(crash)
            for minutes in (3, 6):
                live.at(MORNING + timedelta(days=n, minutes=minutes))
                look(forget=minutes == 6)
            runs = instance.get_runs()
            assert len(runs) == n + 1
            assert runs[0].tags["dagster/run_key"] == f"visits:{DAY + timedelta(days=n)}.v1:1"
            assert runs[0].status == dg.DagsterRunStatus.STARTING
            instance.report_run_failed(runs[0])
            live.at(MORNING + timedelta(days=n, hours=20))
            live.champion(1, DAY + timedelta(days=n + 1))
            look()
        assert len(live.book.history.trainings) == 4
