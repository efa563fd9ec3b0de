"""Rollouts of a real challenger in a real server: shadow, canary, watch, and back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from rollout_support import DAY, MINUTE, Stage, make_template, stage_at
from serving_support import wait_for

from mlops_assets import clock
from mlops_assets.adapters import ledger
from mlops_assets.adapters.endpoints import local
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.ledger_replay import replayed_ledger
from mlops_assets.core.promotion_ledger import Begun, Decided, UnderWay, folded
from mlops_assets.core.replica_reports import total
from mlops_assets.core.rollout_state import Release
from mlops_assets.core.rollout_text import live_at
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.alerting import sensor as alerting
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.rollout import actions
from mlops_assets.lifecycle.rollout.actions import Manual
from mlops_assets.lifecycle.rollout.evidence import Known, reported
from mlops_assets.lifecycle.rollout.follow import follow
from mlops_assets.lifecycle.rollout.tick import Cursor, tick
from mlops_assets.rollout import Place, show_status


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a champion and an admitted challenger."""
    return make_template(tmp_path_factory.mktemp("rollout"))


@pytest.fixture
def stage(
    template: Path, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """A project of its own; its server ends with the test."""
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    with dg.DagsterInstance.ephemeral() as instance:
        found = stage_at(template, tmp_path, instance, free_port)
        yield found
        local.stop("visits", found.project.places.endpoints)


def _counted(stage: Stage, requests: int) -> None:
    """Wait until the server has reported so many requests of the challenger."""

    def reached() -> bool:
        under_way = stage.book.state.under_way
        assert under_way is not None
        totals = total(reported(stage.spec, stage.platform), under_way.rollout.rollout_id)
        return sum(part.requests for part in totals if part.version == 2) >= requests

    wait_for(reached)


def _decisions(stage: Stage) -> list[str]:
    return [one.decision.action for one in stage.book.records if isinstance(one, Decided)]


def test_a_challenger_goes_through_shadow_and_canary_and_is_promoted_and_settled(
    stage: Stage,
) -> None:
    """On real traffic and labels; live decisions are those of the replay, and the past is known."""
    release = stage.serve()
    assert (release.mode, release.champion.version, release.challenger.version) == ("shadow", 1, 2)
    assert (stage.alias("champion"), stage.alias("challenger")) == (1, 2)
    sent = stage.send()
    _counted(stage, sent)
    assert stage.tick(MINUTE).log[-1].split(": ")[1] == "wait"
    assert stage.project.run(["prediction_log", "rollout_evidence"], (DAY, DAY)).success
    shadow_until = stage.now
    stage.tick(10 * MINUTE)
    assert (stage.release.mode, stage.release.share) == ("canary", 0.5)
    sent += stage.send("again-")
    _counted(stage, sent)
    assert "waits for quality" in stage.tick(10 * MINUTE).message
    stage.at(timedelta(days=2))
    evidence = ["prediction_log", "outcomes", "rollout_evidence"]
    assert stage.project.run(evidence, (DAY, DAY)).success
    stage.tick()
    assert (stage.release.mode, stage.release.champion.version) == ("watch", 2)
    assert (stage.alias("champion"), stage.alias("challenger")) == (2, None)
    assert stage.promotion().champion.version == 2
    stage.tick(timedelta(hours=2))
    assert (stage.release.mode, stage.release.champion.version) == ("champion", 2)
    actions = _decisions(stage)
    assert [each for each in actions if each != "wait"] == ["step", "promote", "settle"]
    found = replayed_ledger(stage.book.records)
    assert found.replayed == tuple(decision for decision, _ in found.live)
    then = live_at(stage.book.records, shadow_until)
    assert (then.wanted.mode, then.wanted.champion.version) == ("shadow", 1)


def test_a_broken_challenger_is_dropped(stage: Stage) -> None:
    """Requests that only it fails on; the champion answers on, as before."""
    stage.serve()
    stage.report(1, 200, 0)
    stage.report(2, 100, 100)
    stage.tick(MINUTE)
    assert (stage.release.mode, stage.release.champion.version) == ("champion", 1)
    assert _decisions(stage) == ["abort"]
    assert (stage.alias("champion"), stage.alias("challenger")) == (1, None)
    assert not [one for one in stage.tick(MINUTE).log if "refused" in one]
    assert len([one for one in stage.book.records if isinstance(one, Begun)]) == 1


def test_a_promoted_model_that_fails_is_taken_back_and_people_are_told(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Release, alias and documents name the former champion again; the alert is critical."""
    stage.tell()
    stage.tick()
    _order(stage, "promote")
    stage.tick()
    assert (stage.release.mode, stage.alias("champion")) == ("watch", 2)
    assert stage.promotion().champion.version == 2
    watch = _alerts(stage, None)
    stage.report(1, 200, 0)
    stage.report(2, 100, 100)
    stage.tick(MINUTE)
    assert (stage.release.mode, stage.release.champion.version) == ("champion", 1)
    assert (stage.alias("champion"), stage.alias("challenger")) == (1, None)
    assert (stage.promotion().champion.version, stage.promotion().decision) == (1, "refused")
    capsys.readouterr()
    _alerts(stage, watch)
    assert "[critical] visits: rollback, v2-" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["promote", "abort"])
@pytest.mark.parametrize("done", ["recorded", "followed"])
def test_what_a_killed_tick_has_left_undone_the_next_one_does(
    stage: Stage, action: Manual, done: str
) -> None:
    """Killed between ledger and release, or between release and alias; with another cursor too."""
    stage.tell()
    stage.tick()
    assert stage.release.mode == "shadow"
    _order(stage, action)
    assert stage.release.mode == "shadow"
    if done == "followed":
        follow(stage.spec, stage.platform, stage.release, stage.now, 5.0)
    assert stage.alias("champion") == 1
    stage.cursor = Cursor()
    stage.tick()
    champion = {"promote": 2, "abort": 1}[action]
    assert stage.release.champion.version == stage.alias("champion") == champion
    assert stage.promotion().champion.version == champion
    before = stage.book.records
    stage.tick()
    assert stage.book.records == before


def test_a_run_that_dies_between_admission_and_rollout_is_made_up_for(stage: Stage) -> None:
    """The gate has admitted, nothing has begun; the sensor begins it, once."""
    stage.tell()
    assert stage.book.state.admitted is not None
    assert "shadow with version 2" in stage.tick().message
    stage.tick()
    assert sum(isinstance(one, Begun) for one in stage.book.records) == 1


def test_two_daemons_decide_once(stage: Stage) -> None:
    """Both tick at the same moment on the same evidence; each rollout ends once, for both."""
    stage.tell()
    stage.tick()
    stage.report(1, 200, 0)
    stage.report(2, 100, 100)
    now = stage.at(MINUTE)

    def daemon(_: int) -> object:
        return tick(stage.spec, stage.platform, Cursor(), now)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(daemon, range(2)))
    assert _decisions(stage) == ["wait", "abort"]
    assert (stage.release.mode, stage.release.champion.version) == ("champion", 1)


def test_an_order_that_comes_too_late_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy drops the challenger while a person promotes it: the person is told."""
    stage.tell()
    stage.tick()
    stage.report(1, 200, 0)
    stage.report(2, 100, 100)
    gathered = actions.gathered
    ticks: list[object] = []

    def slowly(
        spec: UseCaseSpec,
        platform: Platform,
        lake: Lake,
        under_way: UnderWay,
        release: Release,
        now: datetime,
    ) -> Known:
        if not ticks:
            ticks.append(None)
            stage.tick(MINUTE)
        return gathered(spec, platform, lake, under_way, release, now)

    monkeypatch.setattr(actions, "gathered", slowly)
    with pytest.raises(PermanentError, match=r"decided by somebody else .* mlops rollout history"):
        _order(stage, "promote")
    assert _decisions(stage) == ["wait", "abort"]
    assert stage.release.champion.version == 1


def test_a_clock_that_goes_back_decides_nothing_twice(stage: Stage) -> None:
    """Nor does it count a request twice."""
    stage.tell()
    stage.tick()
    stage.report(1, 50, 0)
    stage.report(2, 50, 0)
    stage.tick(61 * MINUTE)
    stage.tick(-90 * MINUTE)
    stage.tick(90 * MINUTE)
    under_way = stage.book.state.under_way
    assert under_way is not None
    assert under_way.evidence.requests == 50
    assert set(_decisions(stage)) == {"wait"}


def test_a_challenger_that_no_replica_can_load_ends_before_it_began(stage: Stage) -> None:
    """Its file is damaged: the endpoint is deployed, and says why there is no rollout."""
    challenger = stage.platform.tracking().version("visits", 2)
    damaged = Path(challenger.artifact).read_bytes()
    Path(challenger.artifact).write_bytes(damaged[:-1])
    try:
        release = stage.serve()
    finally:
        Path(challenger.artifact).write_bytes(damaged)
    assert (release.mode, release.champion.version) == ("champion", 1)
    (last,) = [one for one in stage.book.records if isinstance(one, Decided)]
    assert last.decision.action == "abort"
    assert "refused" in last.decision.reasons[0]


def test_a_newer_challenger_supersedes_an_older_one(stage: Stage) -> None:
    """The older rollout is recorded as ended before the newer one begins."""
    stage.tell()
    stage.tick()
    newer = stage.platform.tracking().version("visits", 2).model_copy(update={"version": 3})
    actions.started(stage.spec, stage.platform, stage.release, newer, stage.now, "ann", "newer")
    abort, begun = stage.book.records[-2:]
    assert isinstance(abort, Decided)
    assert abort.decision.reasons[0] == "superseded by version 3"
    assert isinstance(begun, Begun)
    assert (begun.by, begun.rollout.challenger) == ("ann", 3)
    everything = ledger.everything(stage.project.ledgers, "visits")
    waits = [one for one in everything if one not in stage.book.records]
    assert [one.decision.action for one in waits if isinstance(one, Decided)] == ["wait"]
    assert folded(everything) == stage.book.state


def test_status_says_who_is_where(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """What is served, by which replica, and what the guards say."""
    stage.serve()
    stage.tick()
    assert show_status(Place(stage.spec, stage.platform)) == 0
    said = capsys.readouterr().out
    assert "visits: version 1; version 2 in shadow" in said
    assert "waits in shadow" in said


def test_the_asset_shows_the_rollout(stage: Stage) -> None:
    """Guards, history and the plot of the confidence sequences."""
    stage.tell()
    stage.tick()
    stage.report(1, 200, 1)
    stage.report(2, 200, 0)
    stage.tick(61 * MINUTE)
    result = stage.project.run(["rollout"])
    assert result.success
    (event,) = result.asset_materializations_for_node("visits__rollout")
    assert event.metadata["serves"].value == "version 1; version 2 in shadow"
    assert "| errors |" in str(event.metadata["guards"].value)
    assert "data:image/png" in str(event.metadata["plot"].value)


def _order(stage: Stage, action: Manual) -> None:
    spec, platform = stage.spec, stage.platform
    actions.decided(spec, platform, stage.release, action, stage.now, "ann", "a test")


def _alerts(stage: Stage, cursor: alerting.Cursor | None) -> alerting.Cursor:
    instance = stage.project.instance
    return alerting.tick(stage.spec, stage.platform, instance, cursor, stage.now).cursor
