"""Backfills as the UI starts them, driven by the daemon's own code on a short use case."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import instance_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._time import get_current_timestamp

from mlops_assets.adapters.lake import Lake
from mlops_assets.lifecycle.platform import Places

pytestmark = [
    # Dagster's own: its daemon awaits runs, which this launcher runs inside of the waiting.
    pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop:RuntimeWarning"),
]

LOCATION = Path(__file__).parents[1] / "support" / "visits_location.py"
DAYS = [f"2024-03-0{day}" for day in range(1, 7)]
DAILY = ("visits", "visit", "shop_returns")
WHOLE = ("shops", "shop_sizes", "training_set")


def key(name: str) -> dg.AssetKey:
    """The key of an asset."""
    return dg.AssetKey(["visits", name])


@dataclass
class Daemon:
    """A workspace and an instance, with the daemon's backfill loop to turn by hand."""

    context: WorkspaceProcessContext
    folder: Path

    @property
    def lake(self) -> Lake:
        """The use case's tables."""
        return Lake(Places.under(self.folder).lake)

    def materialize_all(self, assets: Sequence[str]) -> BulkActionStatus:
        """All partitions of ``assets``, as one backfill, until nothing is left to do."""
        instance = self.context.instance
        number = len(instance.get_backfills())
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=f"all-{number}",
            asset_graph=self.context.create_request_context().asset_graph,
            partition_names=None,
            asset_selection=[key(name) for name in assets],
            backfill_timestamp=get_current_timestamp(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=True,
            title=None,
            description=None,
            run_config=None,
        )
        instance.add_backfill(backfill)
        for _ in range(30):
            for error in execute_backfill_iteration(self.context, logging.getLogger("backfill")):
                assert error is None, error
            found = instance.get_backfill(backfill.backfill_id)
            assert found is not None
            if found.status not in (BulkActionStatus.REQUESTED, BulkActionStatus.FAILING):
                return found.status
        raise AssertionError("the backfill does not end")

    def done(self, name: str) -> list[str]:
        """The partitions that Dagster has as materialized."""
        return sorted(self.context.instance.get_materialized_partitions(key(name)))

    def is_done(self, name: str) -> bool:
        """Whether an asset without partitions is materialized."""
        return self.context.instance.get_latest_materialization_event(key(name)) is not None

    def runs_of(self, name: str) -> int:
        """How many runs had the asset among theirs."""
        runs = self.context.instance.get_runs()
        return sum(key(name) in (run.asset_selection or ()) for run in runs)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that launches runs in this process."""
    monkeypatch.setenv("VISITS_STATE", str(tmp_path))
    monkeypatch.setenv("VISITS_FAULTS", str(tmp_path / "faults.json"))
    overrides = {
        "run_launcher": {
            "module": "dagster._core.launcher.sync_in_memory_run_launcher",
            "class": "SyncInMemoryRunLauncher",
        },
        "run_coordinator": {
            "module": "dagster._core.run_coordinator",
            "class": "DefaultRunCoordinator",
        },
    }
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(
            executable_path=sys.executable,
            python_file=str(LOCATION),
            working_directory=str(LOCATION.parent),
            attribute="defs",
        ),
        location_name="visits",
    )
    with (
        instance_for_test(overrides=overrides) as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as context,
    ):
        yield Daemon(context, tmp_path)


def test_materialize_all_takes_each_dataset_in_one_commit_and_everything_after_it(
    daemon: Daemon,
) -> None:
    """The button in the UI: whatever the order of days, views, and what has no days."""
    status = daemon.materialize_all([*DAILY, *WHOLE])
    assert status == BulkActionStatus.COMPLETED_SUCCESS
    for name in DAILY:
        assert daemon.done(name) == DAYS
    assert all(daemon.is_done(name) for name in WHOLE)
    assert all(daemon.runs_of(name) == 1 for name in (*DAILY, *WHOLE))
    assert daemon.lake.version("visits/visits") == 0
    assert len(daemon.lake.states("visits/training_sets")) == 1


def test_a_refused_day_stops_what_depends_on_it_and_everything_else_completes(
    daemon: Daemon,
) -> None:
    """Days that look back at the refused one wait too; once it is corrected, the rest follows."""
    refused = DAYS[2]
    (daemon.folder / "faults.json").write_text(json.dumps({refused: "negative"}))
    status = daemon.materialize_all([*DAILY, *WHOLE])
    assert status == BulkActionStatus.COMPLETED_FAILED
    sound = {
        "visits": [day for day in DAYS if day != refused],
        "visit": [day for day in DAYS if day != refused],
        "shop_returns": DAYS[:2],
    }
    for name, days in sound.items():
        assert daemon.done(name) == days
        assert list(daemon.lake.states(f"visits/{name}")) == days
    assert daemon.is_done("shops")
    assert daemon.is_done("shop_sizes")
    assert not daemon.is_done("training_set")
    (daemon.folder / "faults.json").write_text("{}")
    assert daemon.materialize_all([*DAILY, *WHOLE]) == BulkActionStatus.COMPLETED_SUCCESS
    for name in DAILY:
        assert daemon.done(name) == DAYS
    assert daemon.is_done("training_set")
