"""Checkpoints in a folder and in a bucket: found again, fallen back from, never in the way."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_assets import clock
from mlops_assets.adapters import storage
from mlops_assets.adapters.checkpoints import (
    Keeper,
    Place,
    _names,
    discard,
    remove_abandoned,
    use_case_url,
)
from mlops_assets.core.checkpoints import Checkpoint

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def said() -> list[str]:
    """What somebody was told."""
    return []


def keeper_at(location: str, said: list[str], key: str = KEY) -> Keeper:
    """A training's keeper at a place where others may be."""
    return Keeper(Place(location, "visits", "digest"), key, said.append)


def losses(rounds: int) -> dict[str, list[float]]:
    """Losses of so many rounds."""
    return {part: [0.5 / (n + 1) for n in range(rounds)] for part in ("train", "validation")}


def save(keeper: Keeper, rounds: int) -> bool:
    """Save so many rounds."""
    return keeper.save(rounds, losses(rounds), b"model of %d" % rounds)


def objects(keeper: Keeper) -> list[str]:
    """What lies in the training's folder."""
    return sorted(_names(keeper.url, folders=False))


def test_the_newest_is_found_first_and_old_ones_go(location: str, said: list[str]) -> None:
    """One stays to fall back to."""
    keeper = keeper_at(location, said)
    assert list(keeper.found()) == []
    assert all(save(keeper, rounds) for rounds in (20, 40, 60))
    found = list(keeper_at(location, said).found())
    assert [(each.rounds, each.model) for each in found] == [
        (60, b"model of 60"),
        (40, b"model of 40"),
    ]
    assert found[0].losses == losses(60)
    assert objects(keeper) == ["round-000040.checkpoint", "round-000060.checkpoint"]
    assert (keeper.saved, keeper.failures, said) == (3, 0, [])


def test_a_damaged_one_is_refused_and_the_one_before_is_used(
    location: str, said: list[str]
) -> None:
    """Cut, foreign and of another version: each with its reason."""
    keeper = keeper_at(location, said)
    foreign = keeper_at(location, said, OTHER)
    save(keeper, 20)
    save(foreign, 20)
    whole = storage.read_bytes(f"{keeper.url}/round-000020.checkpoint") or b""
    for rounds, data in {
        40: whole[:-5],
        60: storage.read_bytes(f"{foreign.url}/round-000020.checkpoint") or b"",
        80: whole.replace(b"mlops-checkpoint-1", b"mlops-checkpoint-9"),
    }.items():
        storage.write_bytes(f"{keeper.url}/round-{rounds:06d}.checkpoint", data)
    reader = keeper_at(location, said)
    assert [each.rounds for each in reader.found()] == [20]
    assert len(reader.refused) == 3
    for reason, words in zip(
        reader.refused,
        ("mlops-checkpoint-9", "another training", "cut or was altered"),
        strict=True,
    ):
        assert words in reason
    assert all(reader.url in line for line in said)


def test_what_others_put_there_is_left_alone(location: str, said: list[str]) -> None:
    """Neither read nor removed."""
    keeper = keeper_at(location, said)
    storage.write_bytes(f"{keeper.url}/notes.txt", b"mine")
    for rounds in (1, 2, 3):
        save(keeper, rounds)
    assert [each.rounds for each in keeper.found()] == [3, 2]
    assert "notes.txt" in objects(keeper)


def test_two_runs_of_the_same_training_do_not_harm_each_other(
    location: str, said: list[str]
) -> None:
    """The slower one overwrites what is equal, and removes nothing newer."""
    quick, slow = keeper_at(location, said), keeper_at(location, said)
    for rounds in (20, 40, 60):
        save(quick, rounds)
    for rounds in (20, 40):
        save(slow, rounds)
    assert [each.rounds for each in slow.found()] == [60, 40]
    discard(quick.url, said.append)
    save(slow, 60)
    assert [each.rounds for each in slow.found()] == [60]
    discard(slow.url, said.append)
    discard(slow.url, said.append)
    assert list(slow.found()) == []
    assert said == []


def test_each_continuation_is_counted(location: str, said: list[str]) -> None:
    """As often as a checkpoint outlived a process."""
    save(keeper_at(location, said), 20)
    for expected in (1, 2, 3):
        keeper = keeper_at(location, said)
        newest = next(iter(keeper.found()))
        keeper.resume(newest)
        assert keeper.interruptions == expected
        save(keeper, newest.rounds + 20)


def test_a_place_that_cannot_be_written_costs_a_warning_each_time(
    tmp_path: Path, said: list[str]
) -> None:
    """Full disks fail the same way; the training itself has what it needs."""
    (tmp_path / "checkpoints").write_text("in the way")
    keeper = keeper_at(str(tmp_path), said)
    assert not save(keeper, 20)
    (tmp_path / "checkpoints").unlink()
    assert save(keeper, 40)
    assert (keeper.saved, keeper.failures, len(said)) == (1, 1, 1)
    assert "20 rounds could not be saved, training goes on" in said[0]


@pytest.fixture
def clock_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[datetime]]:
    """The time, which a test may move."""
    shown = [datetime(2013, 3, 1, tzinfo=UTC)]
    monkeypatch.setattr(clock, "now", lambda: shown[0])
    yield shown


def test_trainings_that_nobody_went_on_with_are_removed_after_the_retention(
    location: str, said: list[str], clock_at: list[datetime]
) -> None:
    """Those that are still under way stay; the use case beside stays too."""
    old, fresh = keeper_at(location, said), keeper_at(location, said, OTHER)
    beside = Keeper(Place(location, "visitors", "digest"), KEY, said.append)
    for keeper in (old, beside, fresh):
        save(keeper, 20)
    clock_at[0] += timedelta(days=5)
    save(fresh, 40)
    clock_at[0] += timedelta(days=3)
    assert remove_abandoned(location, "visits", timedelta(days=7)) == 1
    assert _names(use_case_url(location, "visits"), folders=True) == [OTHER]
    assert [each.rounds for each in beside.found()] == [20]
    assert remove_abandoned(location, "unknown", timedelta(days=7)) == 0


def test_a_clock_that_goes_wrong_changes_nothing_about_what_is_newest(
    location: str, said: list[str], clock_at: list[datetime]
) -> None:
    """Rounds decide: nodes' clocks differ."""
    keeper = keeper_at(location, said)
    save(keeper, 20)
    clock_at[0] -= timedelta(days=400)
    save(keeper, 40)
    found: list[Checkpoint] = list(keeper.found())
    assert [each.rounds for each in found] == [40, 20]
