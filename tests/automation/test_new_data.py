"""New, late and corrected data, ticked until nothing is asked for: what runs, and what does not."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import visits.sources as source
from lifecycle_support import Project, make_project
from ticking import daemon_of, look, made, set_clock, until_quiet
from visits import suites

from mlops_assets import clock
from mlops_assets.adapters import inputs
from mlops_assets.core.errors import TransientError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.arrivals.requests import MOST_ATTEMPTS
from mlops_assets.replay.ticks import Daemon

SENSOR = "visits_new_data"
DAYS = [f"2024-03-{day:02}" for day in range(1, 32)]


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A use case in which nothing happened yet; its clock stands where a test puts it."""
    monkeypatch.setenv("VISITS_FAULTS", str(tmp_path / "faults.json"))
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield make_project(tmp_path, instance, 8931)


@pytest.fixture
def project(strict: Project) -> Project:
    """The same without checks of its rows, which take longer than all else."""
    return _changed(strict, suite=None)


def _changed(project: Project, **fields: object) -> Project:
    """``project`` with other ``fields`` of its dataset visits."""
    spec = project.spec.model_dump()
    spec["datasets"]["visits"] |= fields
    return replace(project, spec=UseCaseSpec.model_validate(spec))


def _morning_after(project: Project, day: int) -> None:
    """The clock shows 03:00 in Berlin on the day after the ``day``th of March."""
    at = datetime(2024, 3, 1, 2, tzinfo=UTC) + timedelta(days=day)
    set_clock(project.faults_file.with_name("clock.json"), at)


def _settled(project: Project, days: int) -> Daemon:
    """A daemon that carried the first ``days`` of March through."""
    _morning_after(project, days)
    daemon = daemon_of(project)
    until_quiet(daemon, SENSOR)
    return daemon


def test_new_days_are_ingested_and_carried_once(project: Project) -> None:
    """All days so far in one run, then each new day, and nothing when nothing is new."""
    _morning_after(project, 3)
    daemon = daemon_of(project)
    ran = until_quiet(daemon, SENSOR)
    assert made(ran) == {
        "shop_returns": DAYS[:3],
        "shop_sizes": [""],
        "shops": [""],
        "visit": DAYS[:3],
        "visits": DAYS[:3],
    }
    assert [run.success for run in ran] == [True] * 4
    assert until_quiet(daemon, SENSOR) == []
    _morning_after(project, 4)
    new = {"shop_returns": DAYS[3:4], "visit": DAYS[3:4], "visits": DAYS[3:4]}
    assert made(until_quiet(daemon, SENSOR)) == new
    assert look(daemon, SENSOR).skip_message == "nothing is new"


def test_a_corrected_day_re_opens_what_it_touches_and_only_that(project: Project) -> None:
    """The view that looks back three days has four days made again, the other view one."""
    daemon = _settled(project, 8)
    project.faults({"2024-03-06": "corrected"})
    assert made(until_quiet(daemon, SENSOR)) == {
        "shop_returns": DAYS[5:8],
        "visit": ["2024-03-06"],
        "visits": ["2024-03-06"],
    }
    # The fourth is older than the newest days that are read again: without an inventory, its
    # correction stays unknown.
    project.faults({"2024-03-06": "corrected", "2024-03-04": "corrected"})
    assert until_quiet(daemon, SENSOR) == []


def test_a_day_that_comes_in_other_order_or_twice_is_the_same_day(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rows a day has counts, not how they are delivered."""
    daemon = _settled(project, 4)
    honest = source.visits
    monkeypatch.setattr(source, "visits", lambda window: honest(window).reverse())
    assert until_quiet(daemon, SENSOR) == []


def test_a_day_that_comes_late_is_made_with_all_that_waited_for_it(project: Project) -> None:
    """Days after it were held back where they look back to it, and only there."""
    project.faults({"2024-03-03": "empty"})
    daemon = _settled(project, 8)
    assert sorted(project.lake.states("visits/visits")) == [*DAYS[:2], *DAYS[3:8]]
    assert sorted(project.lake.states("visits/visit")) == [*DAYS[:2], *DAYS[3:8]]
    assert sorted(project.lake.states("visits/shop_returns")) == [*DAYS[:2], *DAYS[6:8]]
    project.faults({})
    ran = until_quiet(daemon, SENSOR)
    assert made(ran) == {
        "shop_returns": DAYS[2:6],
        "visit": ["2024-03-03"],
        "visits": ["2024-03-03"],
    }
    assert all(run.success for run in ran)


def test_a_refused_day_is_not_tried_again_until_the_source_repairs_it(strict: Project) -> None:
    """However old it is by then; its neighbours do not wait."""
    project = strict
    project.faults({"2024-03-02": "duplicated"})
    _morning_after(project, 9)
    daemon = daemon_of(project)
    first = until_quiet(daemon, SENSOR)
    assert made(first)["visits"] == DAYS[:9]
    entry = inputs.recorded(project.places.documents, "visits", "visits")["2024-03-02"]
    assert entry.digest == ""
    assert until_quiet(daemon, SENSOR) == []
    project.faults({})
    assert made(until_quiet(daemon, SENSOR)) == {
        "shop_returns": DAYS[1:5],
        "visit": ["2024-03-02"],
        "visits": ["2024-03-02"],
    }


def test_a_day_of_wrong_types_fails_once_and_keeps_no_other_day_out(project: Project) -> None:
    """It is seen as one failed run that names it; repaired, it comes in."""
    project.faults({"2024-03-02": "wrong_type"})
    _morning_after(project, 3)
    daemon = daemon_of(project)
    ran = until_quiet(daemon, SENSOR)
    assert made(ran)["visits"] == DAYS[:3]
    assert list(project.lake.states("visits/visits")) == [DAYS[0], DAYS[2]]
    project.faults({})
    assert made(until_quiet(daemon, SENSOR))["visits"] == ["2024-03-02"]


def test_a_day_for_which_the_source_raises_is_named_and_keeps_no_other_day_out(
    project: Project,
) -> None:
    """It is asked for when the source has it again."""
    project.faults({"2024-03-02": "a fault that the source does not know"})
    _morning_after(project, 3)
    daemon = daemon_of(project)
    assert made(until_quiet(daemon, SENSOR))["visits"] == [DAYS[0], DAYS[2]]
    said = str(look(daemon, SENSOR).skip_message)
    assert "the source of visits failed for 2024-03-02: ValueError: unknown fault" in said
    project.faults({})
    assert made(until_quiet(daemon, SENSOR))["visits"] == ["2024-03-02"]


def test_a_run_that_keeps_failing_is_tried_three_times_and_then_waits_for_a_change(
    strict: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tick says so; other content at the source is asked for again."""
    project = strict

    def broken() -> object:
        raise RuntimeError("the suite is broken")

    monkeypatch.setattr(suites, "visits", broken)
    _morning_after(project, 1)
    daemon = daemon_of(project)
    ran = until_quiet(daemon, SENSOR)
    assert made(ran)["visits"] == DAYS[:1] * MOST_ATTEMPTS
    for _ in range(2):
        assert daemon.tick(SENSOR) == []
        assert "3 runs in a row did not make it" in str(look(daemon, SENSOR).skip_message)
    project.faults({DAYS[0]: "corrected"})
    assert made(daemon.tick(SENSOR)) == {"visits": DAYS[:1]}


def test_a_source_that_fails_is_named_and_does_not_stop_the_others(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tick succeeds; when the source is back, its days come in."""

    def away(window: Window) -> pl.DataFrame:
        raise TransientError("the source is away")

    honest = source.visits
    monkeypatch.setattr(source, "visits", away)
    _morning_after(project, 2)
    daemon = daemon_of(project)
    assert made(until_quiet(daemon, SENSOR)) == {"shop_sizes": [""], "shops": [""]}
    said = str(look(daemon, SENSOR).skip_message)
    assert "the source of visits failed: TransientError: the source is away" in said
    monkeypatch.setattr(source, "visits", honest)
    assert made(until_quiet(daemon, SENSOR))["visits"] == DAYS[:2]


def test_a_new_daemon_repeats_nothing_and_loses_nothing(project: Project) -> None:
    """Neither cursor is needed: what was made is written down."""
    _settled(project, 4)
    assert until_quiet(daemon_of(project), SENSOR) == []
    project.faults({"2024-03-04": "corrected"})
    assert made(until_quiet(daemon_of(project), SENSOR)) == {
        "shop_returns": ["2024-03-04"],
        "visit": ["2024-03-04"],
        "visits": ["2024-03-04"],
    }


def test_a_crash_between_request_and_run_has_the_same_run_asked_for_again(project: Project) -> None:
    """Two daemons ask for the same run by the same key, so that there is one."""
    _morning_after(project, 2)
    asked = [_requests(project, cursor) for cursor in (None, None, "none of this release")]
    assert len(asked[0]) == 2
    assert asked[0] == asked[1] == asked[2]
    daemon = daemon_of(project)
    ran = until_quiet(daemon, SENSOR)
    assert {run.tags["dagster/run_key"] for run in ran if "dagster/run_key" in run.tags} == {
        key for key, _, _ in asked[0]
    }


def _requests(project: Project, cursor: str | None) -> list[tuple[str | None, list[str], str]]:
    """Key, assets and first day of each run that a tick asks for; none of them is made."""
    requests = look(daemon_of(project), SENSOR, cursor).run_requests or ()
    return [
        (
            request.run_key,
            [key.path[-1] for key in request.asset_selection or ()],
            request.tags.get("dagster/asset_partition_range_start", ""),
        )
        for request in requests
    ]


def test_an_asset_that_a_run_is_under_way_for_is_not_asked_for(project: Project) -> None:
    """Others are; afterwards it is asked for what is still new."""
    daemon = _settled(project, 2)
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        run_id="0f0b6cb1-1b5b-4c5a-9c58-5b9a5f3f2a11",
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({project.key("visits")}),
        tags={"dagster/partition": "2024-03-03"},
    )
    project.instance.add_run(run)
    _morning_after(project, 3)
    assert daemon.tick(SENSOR) == []
    project.instance.delete_run(run.run_id)
    assert made(until_quiet(daemon, SENSOR))["visits"] == ["2024-03-03"]


def test_a_clock_that_goes_back_asks_for_nothing_and_takes_nothing_away(project: Project) -> None:
    """Days of the future are left alone until they are over again."""
    daemon = _settled(project, 4)
    before = project.lake.states("visits/visits")
    _morning_after(project, 2)
    assert until_quiet(daemon, SENSOR) == []
    assert project.lake.states("visits/visits") == before
    _morning_after(project, 5)
    assert made(until_quiet(daemon, SENSOR))["visits"] == ["2024-03-05"]


def test_a_lost_record_has_that_partition_made_once_more(project: Project) -> None:
    """Its content is the same, so nothing follows from it."""
    daemon = _settled(project, 4)
    path = Path(inputs.place(project.places.documents, "visits", "visit"))
    before = project.lake.states("visits/visit")
    path.write_text(
        json.dumps({d: e for d, e in json.loads(path.read_text()).items() if d != DAYS[1]})
    )
    assert made(until_quiet(daemon, SENSOR)) == {"visit": DAYS[1:2]}
    assert project.lake.states("visits/visit") == before


def test_a_long_empty_stretch_does_not_keep_later_days_out(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More days than one tick reads are empty before the first that is not."""
    honest = source.visits
    monkeypatch.setattr(
        source,
        "visits",
        lambda window: honest(window).filter(
            pl.col("visited_at") >= datetime(2024, 4, 4, tzinfo=UTC)
        ),
    )
    _morning_after(project, 36)
    daemon = daemon_of(project)
    asked = [daemon.tick(SENSOR), daemon.tick(SENSOR), daemon.tick(SENSOR)]
    assert made(asked[1]) == {"visits": ["2024-04-04", "2024-04-05"]}
    assert asked[2] == []


def _listed(project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The same use case, with an inventory that a test writes."""
    monkeypatch.setenv("VISITS_LISTED", str(folder / "listed.json"))
    return _changed(project, inventory="listed:visits")


def test_with_an_inventory_no_row_is_read_to_find_out_and_a_correction_is_never_too_old(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version of the same rows has the day read again, and nothing follows."""
    project = _listed(project, tmp_path, monkeypatch)
    listed = tmp_path / "listed.json"
    listed.write_text(json.dumps(dict.fromkeys(DAYS[:10], "1")))
    daemon = _settled(project, 9)
    read: list[Window] = []
    honest = source.visits

    def watched(window: Window) -> pl.DataFrame:
        read.append(window)
        return honest(window)

    monkeypatch.setattr(source, "visits", watched)
    assert until_quiet(daemon, SENSOR) == []
    assert read == []
    listed.write_text(json.dumps({**dict.fromkeys(DAYS[:10], "1"), DAYS[1]: "2", DAYS[4]: "2"}))
    project.faults({DAYS[4]: "corrected"})
    assert made(until_quiet(daemon, SENSOR)) == {
        "shop_returns": DAYS[4:8],
        "visit": [DAYS[4]],
        "visits": [DAYS[1], DAYS[4]],
    }
    assert [window.first for window in read] == [date(2024, 3, 2), date(2024, 3, 5)]


def test_a_day_that_the_inventory_has_and_the_source_has_not_is_asked_for_once(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed run says so; a new version of the day is a new chance."""
    project = _listed(project, tmp_path, monkeypatch)
    listed = tmp_path / "listed.json"
    listed.write_text(json.dumps({DAYS[0]: "1"}))
    project.faults({DAYS[0]: "empty"})
    _morning_after(project, 1)
    daemon = daemon_of(project)
    assert made(until_quiet(daemon, SENSOR))["visits"] == DAYS[:1]
    project.faults({})
    assert until_quiet(daemon, SENSOR) == []
    listed.write_text(json.dumps({DAYS[0]: "2"}))
    assert made(until_quiet(daemon, SENSOR)) == {
        "shop_returns": DAYS[:1],
        "visit": DAYS[:1],
        "visits": DAYS[:1],
    }


def test_materializing_again_what_did_not_change_re_opens_nothing(project: Project) -> None:
    """A run of many days by hand; only the day of other content is carried on."""
    daemon = _settled(project, 4)
    project.faults({DAYS[2]: "corrected"})
    assert project.run(["visits"], (DAYS[0], DAYS[3])).success
    assert made(daemon.automate()) == {"shop_returns": DAYS[2:3], "visit": DAYS[2:3]}
    assert made(until_quiet(daemon, SENSOR)) == {"shop_returns": DAYS[3:4]}
