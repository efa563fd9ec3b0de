"""The event log as sensors of many use cases read it: each event once, each use case its own."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events
from sqlalchemy import delete, insert, select

from mlops_assets.lifecycle.alerting import feed
from mlops_assets.lifecycle.alerting.feed import Checked, Ended, Feed, feed_of


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on SQLite."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


def _check(instance: dg.DagsterInstance, use_case: str, name: str = "fresh") -> int:
    """Reports a check of the use case; returns the event's number."""
    evaluation = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey([use_case, "visits"]), check_name=name, passed=True, metadata={}
    )
    instance.report_runless_asset_event(evaluation)
    return _last(instance)


def _last(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_maximum_record_id() or 0


def _since(
    found: Feed, instance: dg.DagsterInstance, use_case: str, after: int
) -> tuple[list[int], int]:
    logged, until = found.since(instance, use_case, after, _last(instance))
    return [one.number for one in logged], until


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been parsed so far."""
    texts: list[str] = []
    original = feed._parsed

    def counted(text: str) -> object:
        texts.append(text)
        return original(text)

    monkeypatch.setattr(feed, "_parsed", counted)
    return texts


def test_each_event_is_parsed_once_for_all_use_cases(
    instance: dg.DagsterInstance, parsed: list[str]
) -> None:
    """However many ask, and however often: their cost grows with what happened, not with them."""
    shared = Feed()
    numbers = {name: [_check(instance, name) for _ in range(3)] for name in ("a", "b", "c")}
    for _ in range(2):
        for name, own in numbers.items():
            assert _since(shared, instance, name, 0) == (own, _last(instance))
    assert len(parsed) == 9
    new = _check(instance, "b")
    assert _since(shared, instance, "a", 0)[0] == numbers["a"]
    assert _since(shared, instance, "b", numbers["b"][-1]) == ([new], new)
    assert len(parsed) == 10


def test_a_run_is_told_to_each_use_case_of_its_assets(instance: dg.DagsterInstance) -> None:
    """And to no other; it ends for both where it made assets of both."""
    keys = [dg.AssetKey(["a", "visits"]), dg.AssetKey(["b", "visits"])]

    @dg.asset(key=keys[0])
    def _visits() -> None: ...

    @dg.asset(key=keys[1])
    def _others() -> None: ...

    job = dg.Definitions(assets=[_visits, _others]).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, asset_selection=keys[:1]).success
    assert job.execute_in_process(instance=instance, asset_selection=keys).success
    shared = Feed()
    runs = {
        name: [
            one.selected
            for one in shared.since(instance, name, 0, _last(instance))[0]
            if isinstance(one, Ended) and one.succeeded
        ]
        for name in ("a", "b", "c")
    }
    both = frozenset(keys)
    assert runs == {"a": [frozenset(keys[:1]), both], "b": [both], "c": []}


def test_an_event_that_shows_after_those_that_follow_it_is_not_lost(
    instance: dg.DagsterInstance, parsed: list[str]
) -> None:
    """As a transaction that was slow to commit: it is dealt out in its place."""
    shared = Feed()
    first, late, third = (_check(instance, "a") for _ in range(3))
    with instance.event_log_storage.index_connection() as connection:  # pyright: ignore[reportAttributeAccessIssue]
        row = connection.execute(select(Events).where(Events.c.id == late)).mappings().one()
        connection.execute(delete(Events).where(Events.c.id == late))
    assert _since(shared, instance, "a", 0) == ([first, third], third)
    with instance.event_log_storage.index_connection() as connection:  # pyright: ignore[reportAttributeAccessIssue]
        connection.execute(insert(Events).values(dict(row)))
    fourth = _check(instance, "b")
    assert _since(shared, instance, "a", 0) == ([first, late, third], fourth)
    assert len(parsed) == 4


def test_a_tick_reads_so_many_events_and_the_next_one_goes_on(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, parsed: list[str]
) -> None:
    """Whose events they are does not matter: a quiet use case's tick reads on for the busy one."""
    monkeypatch.setattr(feed, "MOST_EVENTS", 4)
    numbers = [_check(instance, "busy") for _ in range(6)]
    quiet = _check(instance, "quiet")
    shared = Feed()
    assert _since(shared, instance, "quiet", 0) == ([], numbers[3])
    assert len(parsed) == 4
    assert _since(shared, instance, "busy", 0) == (numbers, quiet)
    assert _since(shared, instance, "quiet", numbers[3]) == ([quiet], quiet)
    assert len(parsed) == 7


def test_memory_is_bounded_and_who_is_behind_it_loses_nothing(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sensor that was off for long reads the log itself, some at a time."""
    monkeypatch.setattr(feed, "KEPT", 6)
    monkeypatch.setattr(feed, "MOST_EVENTS", 4)
    numbers = [_check(instance, "a" if n % 2 else "b") for n in range(20)]
    shared = Feed()
    while _since(shared, instance, "b", 0)[1] < numbers[-1] and len(shared._numbers) < 6:
        pass
    for _ in range(5):
        _since(shared, instance, "b", numbers[-1])
        assert len(shared._numbers) <= 6
    found: list[int] = []
    after = 0
    while after < numbers[-1]:
        own, after = _since(shared, instance, "a", after)
        found += own
    assert found == numbers[1::2]


def test_a_log_that_was_wiped_begins_again(instance: dg.DagsterInstance) -> None:
    """Its numbers do too."""
    shared = Feed()
    for _ in range(3):
        _check(instance, "a")
    _since(shared, instance, "a", 0)
    instance.event_log_storage.wipe()
    number = _check(instance, "a")
    logged, until = shared.since(instance, "a", 0, number)
    assert [one.number for one in logged] == [number] == [until]
    assert isinstance(logged[0], Checked)


def test_a_log_has_one_feed_for_the_process(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """A code server opens the instance for each tick; another instance's log is another one."""
    with dg.DagsterInstance.from_ref(instance.get_ref()) as again:
        assert feed_of(again) is feed_of(instance)
    (tmp_path / "other").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "other")) as other:
        assert feed_of(other) is not feed_of(instance)
    with dg.DagsterInstance.ephemeral() as one, dg.DagsterInstance.ephemeral() as two:
        assert feed_of(one) is feed_of(one)
        assert feed_of(one) is not feed_of(two)
