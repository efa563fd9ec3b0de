"""What the condition of stages with days asks for: ticked, executed and ticked again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests
from lifecycle_support import make_project
from ticking import made

from mlops_assets.lifecycle.automation import automation_sensor, carries
from mlops_assets.lifecycle.switches import running
from mlops_assets.replay.ticks import Daemon, Ran

DAYS = dg.DailyPartitionsDefinition("2024-03-01", end_date="2024-03-11")
KEYS = DAYS.get_partition_keys()
QUEUED = "0f0b6cb1-1b5b-4c5a-9c58-5b9a5f3f2a11"


@dataclass
class Line:
    """raw (with days) and shops (without) → view → scores, which also read raw."""

    instance: dg.DagsterInstance
    content: dict[str, str] = field(default_factory=dict[str, str])
    """The data version that an asset's day will have, by ``asset day``; default: the day."""
    broken: set[str] = field(default_factory=set[str])
    """Assets whose days fail, as ``asset day``."""

    def __post_init__(self) -> None:
        shops = dg.AssetKey("shops")
        raw = self._asset("raw", [], None)
        view = self._asset("view", ["raw", "shops"], carries(undated=[shops]))
        scores = self._asset("scores", ["raw", "view"], carries())
        table = dg.AssetsDefinition.from_op(
            dg.op(name="shops")(lambda: None), keys_by_output_name={"result": shops}
        )
        self.definitions = dg.Definitions([raw, view, scores, table])
        self.daemon = Daemon(self.definitions, self.instance)

    def _asset(
        self, name: str, deps: list[str], condition: dg.AutomationCondition | None
    ) -> dg.AssetsDefinition:
        @dg.asset(
            name=name,
            deps=deps,
            partitions_def=DAYS,
            automation_condition=condition,
            backfill_policy=dg.BackfillPolicy.single_run(),
            output_required=False,
        )
        def computed(
            context: dg.AssetExecutionContext,
        ) -> Iterator[dg.AssetMaterialization]:
            bad: list[str] = []
            for day in context.partition_keys:
                if f"{name} {day}" in self.broken:
                    bad.append(day)
                    continue
                version = self.content.get(f"{name} {day}", day)
                yield dg.AssetMaterialization(
                    name, partition=day, tags={"dagster/data_version": version}
                )
            if bad:
                raise dg.Failure(f"{bad} are broken", allow_retries=False)

        return computed

    def arrive(self, asset: str, *days: str, version: str | None = None) -> None:
        """Another run made these days of ``asset``, or the table without days."""
        for day in days or (None,):
            tags = {"dagster/data_version": version or day or "1"}
            event = dg.AssetMaterialization(asset, partition=day, tags=tags)
            self.instance.report_runless_asset_event(event)

    def carried(self) -> dict[str, list[str]]:
        """What the conditions ask for until they ask for nothing, executed."""
        return made(self.daemon.automate(most=12))

    def tick(self) -> list[Ran]:
        """What the conditions ask for in one tick, executed."""
        return self.daemon.automate(most=1)


@pytest.fixture
def line() -> Iterator[Line]:
    """Three days have arrived, and the table without days; nothing is carried yet."""
    with dg.DagsterInstance.ephemeral() as instance:
        made_line = Line(instance)
        made_line.arrive("shops")
        made_line.arrive("raw", *KEYS[:3])
        yield made_line


def test_a_day_is_carried_once_all_that_it_needs_is_there(line: Line) -> None:
    """Any day, not just the newest; days in a row are one run of each stage."""
    runs = line.daemon.automate(most=12)
    assert made(runs) == {"scores": KEYS[:3], "view": KEYS[:3]}
    assert [run.assets for run in runs] == [("view",), ("scores",)]
    assert line.carried() == {}
    line.arrive("raw", KEYS[7], KEYS[9])
    assert line.carried() == {"scores": [KEYS[7], KEYS[9]], "view": [KEYS[7], KEYS[9]]}


def test_without_a_table_that_it_needs_no_day_is_carried(line: Line) -> None:
    """The table comes, and the days go on."""
    line.instance.wipe_assets([dg.AssetKey("shops")])
    assert line.carried() == {}
    line.arrive("shops")
    assert line.carried() == {"scores": KEYS[:3], "view": KEYS[:3]}


def test_other_content_is_carried_and_the_same_content_is_not(line: Line) -> None:
    """Both stages read the day; each is made again once, the view first."""
    line.carried()
    line.arrive("raw", *KEYS[:3])
    assert line.carried() == {}
    line.arrive("raw", KEYS[1], version="corrected")
    runs = line.daemon.automate(most=12)
    assert [(run.assets, run.partitions) for run in runs] == [
        (("view",), (KEYS[1], KEYS[1])),
        (("scores",), (KEYS[1], KEYS[1])),
    ]
    assert line.carried() == {}


def test_other_content_of_a_table_without_days_does_not_re_open_every_day(line: Line) -> None:
    """A new list of airlines or a new endpoint would cost a year's work."""
    line.carried()
    line.arrive("shops", version="2")
    assert line.carried() == {}


def test_a_refused_day_holds_back_what_needs_it_and_no_other_day(line: Line) -> None:
    """It is tried twice, and goes on when its source has other content."""
    line.broken = {f"view {KEYS[1]}"}
    assert line.carried() == {"scores": [KEYS[0], KEYS[2]], "view": sorted([*KEYS[:3], KEYS[1]])}
    line.arrive("raw", KEYS[1], version="corrected")
    line.broken = set()
    assert line.carried() == {"scores": [KEYS[1]], "view": [KEYS[1]]}


def test_a_failed_run_is_tried_once_more_and_never_again(line: Line) -> None:
    """Not in the same hour, not on another day, not after other days arrived."""
    line.broken = {f"view {day}" for day in KEYS}
    assert line.carried() == {"view": sorted(2 * KEYS[:3])}
    for _ in range(4):
        assert line.tick() == []
    line.arrive("raw", KEYS[3])
    assert line.carried() == {"view": 2 * [KEYS[3]]}
    line.arrive("raw", KEYS[0], version="corrected")
    assert line.carried() == {"view": [KEYS[0]]}


def test_a_failure_that_was_overcome_buys_one_more_run_the_next_time(line: Line) -> None:
    """Success ends the count."""
    line.broken = {f"view {KEYS[0]}"}
    line.tick()
    line.broken = set()
    line.carried()
    line.broken = {f"view {KEYS[0]}"}
    line.arrive("raw", KEYS[0], version="corrected")
    assert line.carried()["view"] == 2 * [KEYS[0]]


def test_a_new_cursor_repeats_nothing_and_loses_nothing(line: Line) -> None:
    """A daemon that lost its state finds what is missing, and leaves what is there."""
    line.tick()
    other = Line(line.instance)
    assert other.carried() == {"scores": KEYS[:3]}
    line.arrive("raw", KEYS[3])
    assert Line(line.instance).carried() == {"scores": [KEYS[3]], "view": [KEYS[3]]}


def test_loading_the_definitions_again_goes_on_where_it_stopped(line: Line) -> None:
    """The cursor of the same conditions stays good: an update in between is not lost."""
    line.carried()
    line.arrive("raw", KEYS[1], version="corrected")
    other = Line(line.instance)
    other.daemon._automation = line.daemon._automation
    assert other.carried() == {"scores": [KEYS[1]], "view": [KEYS[1]]}


def test_an_update_between_a_request_and_the_next_tick_is_not_lost(line: Line) -> None:
    """The run that was asked for may have read the day before it changed."""
    line.carried()
    line.arrive("raw", KEYS[1], version="corrected")
    assert _requested(line) == {"view": [KEYS[1]]}
    line.arrive("raw", KEYS[1], version="corrected again")
    assert _requested(line) == {"view": [KEYS[1]]}
    assert line.carried() == {"scores": [KEYS[1]]}


def test_an_update_while_a_run_is_under_way_is_not_lost(line: Line) -> None:
    """It is asked for when the run has ended, and so is no other day."""
    line.carried()
    job = line.definitions.resolve_implicit_global_asset_job_def()
    run = line.instance.create_run_for_job(
        job.get_subset(asset_selection={dg.AssetKey("scores")}),
        tags={
            "dagster/asset_partition_range_start": KEYS[0],
            "dagster/asset_partition_range_end": KEYS[2],
        },
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey("scores")}),
    )
    line.arrive("raw", KEYS[1], version="corrected")
    assert line.carried() == {"view": [KEYS[1]]}
    line.arrive("scores", *KEYS[:3])
    line.instance.report_run_canceled(run)
    assert line.carried() == {"scores": [KEYS[1]]}


def test_what_was_asked_for_and_not_made_is_not_asked_for_at_every_tick(line: Line) -> None:
    """Somebody stopped the run, or it is still waiting to begin."""
    first = _requested(line)
    assert first == {"view": KEYS[:3]}
    assert _requested(line) == {}
    line.arrive("raw", KEYS[1], version="corrected")
    assert _requested(line) == {"view": [KEYS[1]]}


def _requested(line: Line) -> dict[str, list[str]]:
    """What one tick asks for; none of it is made."""
    daemon = line.daemon
    evaluated = dg.evaluate_automation_conditions(
        line.definitions, line.instance, cursor=daemon._automation
    )
    daemon._automation = evaluated.cursor
    return {
        result.key.to_user_string(): sorted(
            key for key in evaluated.get_requested_partitions(result.key) if key
        )
        for result in evaluated.results
        if result.true_subset.size
    }


def test_many_days_become_one_request_that_the_daemon_cuts_into_ranges(line: Line) -> None:
    """And not one run for each day."""
    evaluated = dg.evaluate_automation_conditions(line.definitions, line.instance)
    requests = build_run_requests(
        entity_subsets=[result.true_subset for result in evaluated.results],
        asset_graph=line.definitions.resolve_asset_graph(),
        run_tags={},
        emit_backfills=automation_sensor().emit_backfills,
    )
    [request] = [request for request in requests if request.requires_backfill_daemon()]
    assert len(requests) == 1
    subset = request.asset_graph_subset
    assert subset is not None
    assert (
        sorted(subset.get_partitions_subset(dg.AssetKey("view")).get_partition_keys()) == (KEYS[:3])
    )


def test_the_sensor_runs_where_the_environment_names_it() -> None:
    """Elsewhere somebody has to turn it on."""
    assert automation_sensor().default_status == dg.DefaultSensorStatus.STOPPED
    with running(lambda name: name == "automation") as defined:
        assert automation_sensor().default_status == dg.DefaultSensorStatus.RUNNING
    assert defined == {"automation"}


def test_no_stage_re_opens_its_days_for_other_content_of_one_without(tmp_path: Path) -> None:
    """In the whole graph of a use case: whoever depends on a table without days says so."""
    with dg.DagsterInstance.ephemeral() as instance:
        definitions = make_project(tmp_path, instance, 8931).definitions
        graph = definitions.resolve_asset_graph()
        undated = [
            key for key in graph.materializable_asset_keys if not graph.get(key).partitions_def
        ]
        dated = [key for key in graph.materializable_asset_keys if graph.get(key).partitions_def]
        for version in ("1", "2"):
            for key in undated:
                event = dg.AssetMaterialization(key, tags={"dagster/data_version": version})
                instance.report_runless_asset_event(event)
            if version == "1":
                for key in dated:
                    event = dg.AssetMaterialization(key, partition="2024-03-01")
                    instance.report_runless_asset_event(event)
                before = dg.evaluate_automation_conditions(definitions, instance)
                assert before.total_requested == 0
        after = dg.evaluate_automation_conditions(definitions, instance, cursor=before.cursor)
        asked = {result.key for result in after.results if result.true_subset.size}
        assert asked & set(dated) == set()
