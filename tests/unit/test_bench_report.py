"""The benchmarks' frame: results, table, JSON, and finding benchmarks by name."""

import argparse
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from bench import __main__ as runner
from bench.report import (
    Result,
    compared,
    interleaved,
    limited,
    print_table,
    unmeasured,
    write_json,
)

FIELDS = {"case", "metric", "ours", "other", "other_name", "ratio", "goal", "met"}


def test_a_cost_meets_its_goal_up_to_the_ratio_itself() -> None:
    """The goal is the largest ratio that is wanted; without one nothing is judged."""
    assert compared("c", "seconds", 1.2, 1.0, "peer", goal=1.2).met is True
    assert compared("c", "seconds", 1.3, 1.0, "peer", goal=1.2).met is False
    without = compared("c", "seconds", 3.0, 2.0, "peer")
    assert (without.ratio, without.met) == (1.5, None)


def test_a_count_is_judged_by_itself_and_a_missing_peer_by_nothing() -> None:
    """A limit holds for ours whatever the peer's count is."""
    assert limited("c", "rows lost", 0, 0, other=12, other_name="peer").met is True
    assert limited("c", "rows lost", 1, 0).met is False
    assert unmeasured("c", "seconds", "peer", "not installed").met is None


def test_the_json_has_each_result_with_machine_and_versions(tmp_path: Path) -> None:
    """Every row stands alone, and rewriting leaves one whole file."""
    results = [compared("c", "seconds", 1.0, 2.0, "peer", goal=1.2), unmeasured("c", "s", "p", "x")]
    folder = tmp_path / "state" / "bench"
    write_json("pit", results[:1], folder)
    path = write_json("pit", results, folder)
    rows = json.loads(path.read_text())
    assert [file.name for file in folder.iterdir()] == ["pit.json"]
    assert len(rows) == 2
    assert all(row.keys() >= FIELDS | {"machine", "versions"} for row in rows)
    assert rows[0]["ratio"] == 0.5
    assert rows[1]["ours"] is None
    assert rows[0]["machine"]["cores"] >= 1
    assert rows[0]["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "polars" in rows[0]["versions"]


def test_the_table_shouts_what_was_missed_and_what_was_not_measured() -> None:
    """A peer that is not installed is not silently left out."""
    console = Console(file=io.StringIO(), width=200)
    results = [
        compared("c", "seconds", 3.0, 2.0, "slow", goal=1.2),
        unmeasured("c", "seconds", "feast", "feast is not installed"),
    ]
    print_table("pit", results, console)
    assert isinstance(console.file, io.StringIO)
    missed, skipped = (
        next(line for line in console.file.getvalue().splitlines() if word in line)
        for word in ("slow", "feast")
    )
    assert "NO" in missed
    assert "1.5" in missed
    assert "NOT MEASURED" in skipped
    assert "feast is not installed" in skipped


def test_contestants_take_turns_and_the_first_round_is_not_counted() -> None:
    """Each round runs all in the given order; the answers are the last round's."""
    turns: list[str] = []

    def contestant(name: str) -> Callable[[], int]:
        def run() -> int:
            turns.append(name)
            return len(turns)

        return run

    seconds, returned = interleaved({"a": contestant("a"), "b": contestant("b")}, repeats=2)
    assert turns == ["a", "b"] * 3
    assert returned == {"a": 5, "b": 6}
    assert seconds.keys() == {"a", "b"}


def test_benchmarks_are_the_modules_that_are_not_helpers() -> None:
    """The point-in-time join is found by its file name; the frame and helpers are not."""
    names = runner.names()
    assert "pit" in names
    assert not {"report", "__main__", "_feast_pit"} & set(names)


def add_toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    """Put a benchmark named ``toy`` beside the real ones, for this test."""
    module = ModuleType("bench.toy")

    def main(options: argparse.Namespace) -> list[Result]:
        return [compared("toy", "seconds", ratio, 1.0, "peer", goal=options.size)]

    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--size", type=float, default=1.2)

    module.__dict__.update(main=main, add_options=add_options)
    monkeypatch.setitem(sys.modules, "bench.toy", module)
    monkeypatch.setattr(runner, "names", lambda: ["toy"])
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 0), (["--quick"], 0), (["--check"], 1), (["--check", "--size", "2"], 0)],
)
def test_a_missed_goal_fails_only_when_asked_to_check(
    arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is written either way, below the state folder."""
    add_toy(tmp_path, monkeypatch, ratio=1.5)
    assert runner.main(["toy", *arguments]) == code
    assert json.loads((tmp_path / "bench" / "toy.json").read_text())[0]["case"] == "toy"


def test_an_unknown_benchmark_is_refused_with_the_known_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A typo runs nothing."""
    with pytest.raises(SystemExit):
        runner.main(["pitt"])
    assert "pit" in capsys.readouterr().err
