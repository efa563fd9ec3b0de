"""Loading definitions: use cases from YAML against the same assets written in Python."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.report import Result, compared

_FLIGHTS = Path(__file__).parents[1] / "mlops_assets" / "defs" / "flight_delays"


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many use cases."""
    parser.add_argument("--counts", type=int, nargs="+", help="default 1 10 100 500, quick 1 10 50")
    parser.add_argument("--repeats", type=int, help="rounds (default 3)")


def main(options: argparse.Namespace) -> list[Result]:
    """CPU seconds from a fresh process with Dagster imported to a loaded repository, in turn."""
    counts = options.counts or ([1, 10, 50] if options.quick else [1, 10, 100, 500])
    repeats = options.repeats or 3
    results: list[Result] = []
    per_use_case: list[float] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            _copies(Path(folder), count)
            ours, theirs = [], []
            for _ in range(repeats):
                ours.append(_measure(folder, "ours", count))
                theirs.append(_measure(folder, "by_hand", count))
        best, by_hand = min(ours), min(theirs)
        per_use_case.append(best / count)
        results.append(
            compared(
                f"{count} use cases",
                "CPU seconds to load",
                best,
                by_hand,
                "written by hand",
                goal=1.5,
            )
        )
    most, fewer = counts[-1], counts[-2]
    results.append(
        compared(
            f"{most} against {fewer} use cases",
            "CPU seconds per use case",
            per_use_case[-1],
            per_use_case[-2],
            f"ours at {fewer}",
            goal=1.25,
            note="1 is linear",
        )
    )
    return results


def _copies(folder: Path, count: int) -> None:
    """``count`` copies of the flight-delay use case, each with its own name and port."""
    text = (_FLIGHTS / "defs.yaml").read_text()
    package = folder / "copies"
    (package / "defs").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "defs" / "__init__.py").touch()
    for n in range(count):
        target = package / "defs" / f"case_{n}"
        target.mkdir()
        for source in _FLIGHTS.glob("*.py"):
            shutil.copy(source, target)
        named = text.replace("name: flight_delays", f"name: case_{n}", 1)
        (target / "defs.yaml").write_text(named)


def _measure(folder: str, kind: str, count: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench._load_definitions", kind, str(count), folder],
        # Where bytecode is not kept, every process would compile every use case's functions.
        env={name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads(done.stdout)
    _check_assets(found["assets"], count)
    return float(found["seconds"])


def _check_assets(assets: int, count: int) -> None:
    expected = 26 * count
    if assets != expected:
        raise RuntimeError(f"loaded {assets} assets, expected {expected}: the sides differ")
