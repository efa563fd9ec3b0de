"""The retraining sensor: when it decides, what it requests, and what becomes of that."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from retraining_support import Live, performance_record, retrained

from mlops_assets.adapters import decisions
from mlops_assets.adapters.prices import training_cost
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.retraining_records import outstanding
from mlops_assets.core.retraining_spec import RetrainingSpec, problems
from mlops_assets.core.spec import TrainingSetSpec
from mlops_assets.lifecycle.platform import Places
from mlops_assets.lifecycle.retraining.sensor import retraining_asset
from mlops_assets.lifecycle.training_set import retraining_window

DAY = date(2024, 4, 11)
MORNING = datetime(2024, 4, 12, 1, tzinfo=UTC)
"""Three o'clock in Berlin, after DAY."""

LiveOf = Callable[..., Live]


@pytest.fixture
def live_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveOf]:
    """A use case with version 1, trained until April 10, on the morning after DAY."""
    monkeypatch.setenv("MLOPS_CLOCK", str(tmp_path / "clock.json"))
    with dg.DagsterInstance.ephemeral() as instance:

        def live(described: dict[str, Any] | None = None, **guards: Any) -> Live:
            spec = retrained(described, **guards)
            made = Live(spec, Places.under(tmp_path), instance, tmp_path / "clock.json")
            made.at(MORNING)
            made.champion(1, date(2024, 4, 10))
            return made

        yield live


def _next_day(live: Live, n: int, drift: float = 0.3, version: int = 1) -> None:
    """It is ``n`` mornings later, and monitoring has looked at the day before."""
    live.at(MORNING + timedelta(days=n))
    live.tells(DAY + timedelta(days=n), drift, version=version)


def test_without_a_champion_nothing_is_decided(tmp_path: Path, live_of: LiveOf) -> None:
    """The tick says so, and so it does while nothing is known about the champion."""
    live = live_of()
    (tmp_path / "documents" / "visits" / "promotion.json").unlink()
    assert live.tick().skip_message == "visits has no champion: promote a first model"
    live.champion(2, date(2024, 4, 10))
    live.tells(DAY, 0.9, version=1)
    assert live.tick().skip_message == "nothing is known about version 2 yet"
    assert live.book.taken == 0


def test_a_no_is_recorded_with_its_numbers_and_shown(live_of: LiveOf) -> None:
    """In the ledger, in the tick, and as numbers that the asset page charts."""
    live = live_of()
    live.tells(DAY, 0.1)
    found = live.tick()
    assert found.skip_message == "no, version 1 on 2024-04-11: drift 0.1 is not above 0.2"
    assert found.run_requests == []
    (decision,) = live.book.decisions
    assert (decision.retrain, decision.numbers["drift"]) == (False, 0.1)
    record = live.instance.get_latest_materialization_event(dg.AssetKey(["visits", "retraining"]))
    assert record is not None
    assert record.asset_materialization is not None
    shown = {name: entry.value for name, entry in record.asset_materialization.metadata.items()}
    assert (shown["decision"], shown["drift"], shown["next_possible"]) == ("no", 0.1, "now")
    assert shown["price"] == training_cost(600, "cpu")
    assert "drift 0.1 is not above 0.2" in str(shown["history"])


def test_a_decision_to_retrain_requests_one_run_of_the_whole_line(live_of: LiveOf) -> None:
    """On the window by rule, and tagged so that its end is found again."""
    live = live_of()
    live.tells(DAY, 0.3, labelled_until=date(2024, 4, 11))
    (request,) = live.tick().run_requests
    assert request.run_key == "visits:2024-04-11.v1:1"
    names = [key.path[-1] for key in request.asset_selection]
    assert names == ["training_set", "model", "evaluation", "promotion", "endpoint"]
    window = {"end": "2024-04-11", "days": 41}
    assert request.run_config == {"ops": {"visits__training_set": {"config": window}}}
    assert request.tags["mlops/use_case"] == "visits"
    assert request.tags["mlops/retraining"] == request.run_key
    assert request.tags["mlops/signal"] == "2024-04-11.v1"
    assert "drift 0.3 is above 0.2" in request.tags["mlops/reasons"]
    definitions = live.definitions.resolve_implicit_global_asset_job_def()
    assert definitions.execute_in_process(
        instance=live.instance,
        asset_selection=request.asset_selection,
        run_config=request.run_config,
    ).success


def test_nothing_new_is_not_decided_again(live_of: LiveOf) -> None:
    """Not after an hour either; other numbers are, and so is the next day."""
    live = live_of()
    live.tells(DAY, 0.1)
    live.tick()
    for hours in (0, 0.5, 2):
        live.at(MORNING + timedelta(hours=hours))
        assert live.tick().skip_message == "unchanged since 2024-04-12 03:00"
    live.tells(DAY, 0.15)
    assert "drift 0.15" in live.tick().skip_message
    live.at(MORNING + timedelta(hours=22))
    assert "drift 0.15" in live.tick().skip_message
    assert live.book.taken == 3


def test_a_changed_policy_is_applied_at_once(live_of: LiveOf) -> None:
    """As after a deploy: the cursor of the old one does not hold it back."""
    live = live_of()
    live.tells(DAY, 0.1)
    live.tick()
    deployed = live_of({"kind": "drift", "above": 0.05})
    deployed.cursor = live.cursor
    assert len(deployed.tick().run_requests) == 1


def test_the_policy_never_costs_one_decision_a_day(live_of: LiveOf) -> None:
    """And in between it does not even look: a document that nobody could read goes unseen."""
    live = live_of({"kind": "never"})
    for n in range(3):
        _next_day(live, n)
        assert "the policy is never to retrain" in live.tick().skip_message
        live.write("drift", performance_record(DAY, 1, DAY))
        assert "unchanged since" in live.tick().skip_message
    assert live.book.taken == 3


def test_the_end_of_a_training_is_recorded_with_its_cost(live_of: LiveOf) -> None:
    """Then its champion is judged, and the signal is answered."""
    live = live_of()
    live.tells(DAY, 0.3)
    (request,) = live.tick().run_requests
    assert "day 2024-04-11 has raised its signal" in live.tick().skip_message
    run_id = live.run(request, "success", seconds=1200)
    live.champion(2, date(2024, 4, 12))
    said = live.tick().skip_message
    assert said == (
        "training visits:2024-04-11.v1:1 succeeded after 1200 s, for 0.064 USD; nothing is known "
        "about version 2 yet"
    )
    (training,) = live.book.history.trainings
    assert (training.outcome, training.dagster_run_id) == ("succeeded", run_id)
    assert (training.seconds, training.cost) == (1200, training_cost(1200, "cpu"))
    _next_day(live, 1, 0.0, version=2)
    assert live.tick().skip_message.startswith("no, version 2 on 2024-04-12")
    last = live.book.history.last
    assert last is not None
    assert last.numbers["price"] == training_cost(1200, "cpu")
    assert last.state.pending is None


def test_a_training_in_progress_holds_the_next_back(live_of: LiveOf) -> None:
    """Its run is looked at in each tick, and requested no second time."""
    live = live_of(lost_after_hours=100)
    live.tells(DAY, 0.3)
    (request,) = live.tick().run_requests
    live.run(request, None)
    for n in (1, 2):
        _next_day(live, n)
        found = live.tick()
        assert found.run_requests == []
        assert "which is in progress, answers it" in found.skip_message
    assert len(outstanding(live.book.history)) == 1


@pytest.mark.parametrize("how", ["failure", "interrupted"])
def test_a_training_that_fails_is_tried_again_up_to_the_cap(live_of: LiveOf, how: str) -> None:
    """A process that was told to stop has failed like any other."""
    live = live_of(attempts_per_signal=2, attempts_per_day=2)
    live.tells(DAY, 0.3)
    keys: list[str] = []
    for _ in range(3):
        found = live.tick()
        for request in found.run_requests:
            keys.append(request.run_key)
            live.run(request, how)
    assert keys == ["visits:2024-04-11.v1:1", "visits:2024-04-11.v1:2"]
    assert "signal 2024-04-11.v1 is given up: attempt 2 failed" in found.skip_message
    assert [t.outcome for t in live.book.history.trainings] == ["failed", "failed"]
    _next_day(live, 1)
    (again,) = live.tick().run_requests
    assert again.run_key == "visits:2024-04-12.v1:1"


def test_a_training_that_somebody_cancels_is_not_started_again(live_of: LiveOf) -> None:
    """Whoever did it has the cooldown to mend what was wrong."""
    live = live_of(cooldown_days=3)
    live.tells(DAY, 0.3)
    (request,) = live.tick().run_requests
    live.run(request, "cancelled")
    said = live.tick().skip_message
    assert "training visits:2024-04-11.v1:1 cancelled after 600 s" in said
    assert "given up: its training was cancelled" in said
    asked = []
    for n in (1, 2, 3):
        _next_day(live, n)
        asked.append([request.run_key for request in live.tick().run_requests])
    assert asked == [[], [], ["visits:2024-04-12.v1:1"]]


def test_what_is_put_off_is_tried_in_each_tick_and_recorded_once_an_hour(live_of: LiveOf) -> None:
    """It starts as soon as nothing holds it back."""
    live = live_of()
    live.tells(DAY, 0.3, labelled_until=date(2024, 4, 10))
    assert "put off (labels)" in live.tick().skip_message
    for minutes in (10, 20, 59):
        live.at(MORNING + timedelta(minutes=minutes))
        assert live.tick().skip_message == "unchanged since 2024-04-12 03:00"
    live.at(MORNING + timedelta(hours=1))
    assert "put off (labels)" in live.tick().skip_message
    assert live.book.taken == 2
    live.tells(DAY, 0.3, labelled_until=date(2024, 4, 12))
    (request,) = live.tick().run_requests
    assert request.run_key == "visits:2024-04-11.v1:1"


def test_a_stale_input_holds_a_training_back(live_of: LiveOf) -> None:
    """Dagster's own freshness state decides; when it passes again, the training starts."""
    live = live_of()
    live.tells(DAY, 0.3)
    _freshness(live, "FAIL")
    assert "inputs are late: visits/visits" in live.tick().skip_message
    _freshness(live, "PASS")
    assert len(live.tick().run_requests) == 1


def _freshness(live: Live, state: str) -> None:
    from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

    change = FreshnessStateChange(
        key=dg.AssetKey(["visits", "visits"]),
        previous_state=FreshnessState.UNKNOWN,
        new_state=FreshnessState(state),
        state_change_timestamp=MORNING.timestamp(),
    )
    live.instance._report_runless_asset_event(change)


def test_the_window_of_a_retraining_is_all_data_or_as_long_as_said() -> None:
    """Up to the newest label, after the end of the first training's window too."""
    spec = retrained()
    window = retraining_window(spec, date(2024, 6, 1))
    assert (window.first, window.end) == (date(2024, 3, 1), date(2024, 6, 1))
    short = retraining_window(retrained(window_days=30), date(2024, 6, 1))
    assert (short.first, short.end) == (date(2024, 5, 2), date(2024, 6, 1))
    long = retraining_window(retrained(window_days=300), date(2024, 6, 1))
    assert long == window
    ended = spec.model_copy(update={"end": date(2024, 5, 1)})
    assert retraining_window(ended, date(2024, 6, 1)).end == date(2024, 5, 1)
    with pytest.raises(PermanentError, match="leave none to train on"):
        retraining_window(spec, date(2024, 3, 8))


def test_no_training_is_decided_that_has_no_window(live_of: LiveOf) -> None:
    """The tick fails with what to change, and the ledger promises nothing."""
    live = live_of()
    kept = TrainingSetSpec(end=date(2024, 4, 10), days=60, validation_days=20, holdout_days=20)
    live.spec = live.spec.model_copy(update={"training_set": kept, "start": date(2024, 3, 10)})
    live.__post_init__()
    live.tells(DAY, 0.3)
    with pytest.raises(PermanentError, match="leave none to train on"):
        live.tick()
    assert live.book.taken == 0


def test_the_asset_names_its_ledger_and_policy() -> None:
    """What an auditor looks for first."""
    spec = retrained()
    asset = retraining_asset(spec)
    assert asset.key == dg.AssetKey(["visits", "retraining"])
    assert (asset.group_name, list(asset.owners)) == ("visits", ["team:tests"])
    assert asset.metadata["table"] == decisions.table("visits")
    assert {dep.asset_key.path[-1] for dep in asset.deps} == {"drift", "performance", "promotion"}


def test_the_examples_of_the_guide_load_and_agree_with_themselves() -> None:
    """Pasted as they stand."""
    guide = (Path(__file__).parents[2] / "docs" / "retraining.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        spec = RetrainingSpec.model_validate(yaml.safe_load(example)["retraining"])
        assert list(problems(spec)) == []


def test_the_guides_way_to_read_the_ledger_works(
    live_of: LiveOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the ledger of a use case that has decided."""
    live = live_of()
    live.tells(DAY, 0.3)
    live.tick()
    monkeypatch.setattr("mlops_assets.definitions.STATE", Path(live.places.lake).parent)
    guide = (Path(__file__).parents[2] / "docs" / "retraining.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(code.replace("flight_delays", "visits"), {})  # noqa: S102 - it is what people paste
    said = capsys.readouterr().out
    assert "True None drift 0.3 is above 0.2" in said
    assert "visits:2024-04-11.v1:1 running" in said
