"""The event log that keeps its connections records what Dagster's own records."""

import multiprocessing
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage

from mlops_assets.adapters.event_log import KeptConnectionsEventLog
from mlops_assets.adapters.run_storage import KeptConnectionsRunStorage

_DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-08")


@dg.asset(
    key="days",
    partitions_def=_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("sound", asset="days")],
)
def _days(context: dg.AssetExecutionContext) -> Iterator[object]:
    yield dg.AssetCheckResult(passed=True, metadata={"rows": 3})
    yield dg.MaterializeResult(metadata={"rows": len(context.partition_keys)})


@dg.asset(key="broken", deps=["days"])
def _broken() -> None:
    raise ValueError("on purpose")


def _overrides(folder: Path, storage: type[SqliteEventLogStorage]) -> dict[str, object]:
    # Beside Dagster's own event log, its own run storage.
    runs = SqliteRunStorage if storage is SqliteEventLogStorage else KeptConnectionsRunStorage

    def place(module: str, name: str, part: str) -> dict[str, object]:
        return {"module": module, "class": name, "config": {"base_dir": str(folder / part)}}

    return {
        "run_storage": place(runs.__module__, runs.__name__, "runs"),
        "schedule_storage": place(
            "dagster._core.storage.schedules", "SqliteScheduleStorage", "schedules"
        ),
        "event_log_storage": place(storage.__module__, storage.__name__, "events"),
        "telemetry": {"enabled": False},
    }


@contextmanager
def _instance(folder: Path, storage: type[SqliteEventLogStorage]) -> Iterator[dg.DagsterInstance]:
    folder.mkdir(exist_ok=True)
    with dg.instance_for_test(
        overrides=_overrides(folder, storage), temp_dir=str(folder)
    ) as instance:
        yield instance


def _run(instance: dg.DagsterInstance) -> str:
    result = dg.materialize(
        [_days, _broken],
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-01-07",
        },
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    return result.run_id


def _story(instance: dg.DagsterInstance, run_id: str) -> list[tuple[object, ...]]:
    return [
        (entry.dagster_event_type, entry.dagster_event and entry.dagster_event.partition)
        for entry in instance.all_logs(run_id)
        if entry.dagster_event_type is not dg.DagsterEventType.LOGS_CAPTURED
    ]


@pytest.mark.parametrize("batch", ["0", "3", "200"])
def test_a_run_leaves_the_same_events_as_in_dagsters_own_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: str
) -> None:
    """Types, partitions and order; materialized partitions; the check; the failure."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", batch)
    told: list[object] = []
    for name, storage in (("own", SqliteEventLogStorage), ("kept", KeptConnectionsEventLog)):
        with _instance(tmp_path / name, storage) as instance:
            run_id = _run(instance)
            key = dg.AssetKey("days")
            record = instance.get_latest_materialization_event(key)
            assert record is not None
            assert isinstance(instance.run_storage, KeptConnectionsRunStorage) == (name == "kept")
            told.append(
                (
                    _story(instance, run_id),
                    sorted(instance.get_materialized_partitions(key)),
                    instance.get_run_by_id(run_id).status,  # type: ignore[union-attr]
                    record.asset_materialization.metadata["rows"].value,  # type: ignore[union-attr]
                )
            )
    assert told[0] == told[1]
    assert len(told[0][1]) == 7  # type: ignore[index]


def test_another_process_and_dagsters_own_log_read_what_was_written(tmp_path: Path) -> None:
    """The files are the same format: going back is a line in dagster.yaml."""
    with _instance(tmp_path / "shared", KeptConnectionsEventLog) as instance:
        run_id = _run(instance)
        expected = _story(instance, run_id)
    with _instance(tmp_path / "shared", SqliteEventLogStorage) as instance:
        assert _story(instance, run_id) == expected


def _runs_in_process(folder: Path, times: int) -> None:
    with _instance(folder, KeptConnectionsEventLog) as instance:
        for _ in range(times):
            _run(instance)


def test_processes_that_write_at_once_lose_no_event(tmp_path: Path) -> None:
    """The daemon, the webserver and each run are processes of their own."""
    folder = tmp_path / "busy"
    with _instance(folder, KeptConnectionsEventLog):
        pass
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_runs_in_process, args=(folder, 3)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    with _instance(folder, KeptConnectionsEventLog) as instance:
        runs = instance.get_run_records()
        assert len(runs) == 6
        stories = [_story(instance, record.dagster_run.run_id) for record in runs]
        assert all(story == stories[0] for story in stories)


def test_many_runs_keep_few_connections(tmp_path: Path) -> None:
    """A webserver that reads hundreds of runs does not hold hundreds of files open."""
    with _instance(tmp_path / "many", KeptConnectionsEventLog) as instance:
        run_ids = [_run(instance) for _ in range(12)]
        stories = [_story(instance, run_id) for run_id in run_ids]
        assert all(story == stories[0] for story in stories)
        open_files = {
            str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
        }
        databases = {name for name in open_files if name.endswith(".db") and "many" in name}
        assert len([name for name in databases if "events" in name]) <= 8


@pytest.mark.parametrize("times", [1, 2])
def test_closing_twice_is_fine(tmp_path: Path, times: int) -> None:
    """An instance that is closed has no connection left."""
    storage = KeptConnectionsEventLog(str(tmp_path))
    with storage.index_connection() as connection:
        assert connection is not None
    for _ in range(times):
        storage.dispose()


def test_a_batch_that_fails_leaves_none_of_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster then stores the events one by one; a half-stored batch would store some twice."""
    with _instance(tmp_path / "failing", KeptConnectionsEventLog) as instance:
        run_id = _run(instance)
        before = _story(instance, run_id)
        storage = instance.event_log_storage
        assert isinstance(storage, KeptConnectionsEventLog)
        entries = instance.all_logs(run_id)[:4]
        stored: list[object] = []
        store = storage.store_event

        def fail_at_the_third(event: dg.EventLogEntry) -> None:
            if len(stored) == 2:
                raise OSError("disk full")
            stored.append(event)
            store(event)

        monkeypatch.setattr(storage, "store_event", fail_at_the_third)
        with pytest.raises(OSError, match="disk full"):
            storage.store_event_batch(entries)
        assert len(stored) == 2
        assert _story(instance, run_id) == before


def test_the_database_of_a_later_run_is_like_the_one_that_dagster_makes(tmp_path: Path) -> None:
    """Copied from an empty one: the same tables, revision and mode, and no event of another run."""
    with _instance(tmp_path, KeptConnectionsEventLog) as instance:
        runs = [_run(instance), _run(instance)]
        found = [_database(tmp_path / "events" / f"{run}.db") for run in runs]
        for run in runs:
            assert {entry.run_id for entry in instance.all_logs(run)} == {run}
    assert found[0] == found[1]
    assert not list((tmp_path / "events").glob(".*"))


def _database(path: Path) -> tuple[object, ...]:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name")
        revision = connection.execute("SELECT version_num FROM alembic_version")
        mode = connection.execute("PRAGMA journal_mode")
        return tables.fetchall(), revision.fetchall(), mode.fetchall(), path.stat().st_mode
