"""What orchestration costs: the demo's stages through Dagster against the same functions plainly.

Each side runs in fresh processes and folders, in turn, and pays for importing the libraries that
its stages use. Dagster's side is one process with an instance configured as the repository's; it
also pays for importing Dagster, loading definitions, and all that the assets add to the functions:
plots, tables, events. Both must produce the same tables and the same model.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import Result, compared

GOAL = 1.3
QUICK_DAYS = 3
_ROOT = Path(__file__).resolve().parents[1]
_TIMEOUT_SECONDS = 900  # eight times what the demo takes on two idle cores


@dataclass(frozen=True)
class _Run:
    """One process: seconds by stage on the wall and of processors, and what it produced."""

    wall: Mapping[str, float]
    cpu: Mapping[str, float]
    results: Mapping[str, object]


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many days, how often."""
    parser.add_argument(
        "--days", type=int, help=f"training window in days (default the demo's, quick {QUICK_DAYS})"
    )
    parser.add_argument("--repeats", type=int, help="rounds (default 3, quick 1)")


def main(options: argparse.Namespace) -> list[Result]:
    """Median seconds of both sides, in all and by stage."""
    days = options.days or (QUICK_DAYS if options.quick else None)
    repeats = options.repeats or (1 if options.quick else 3)
    runs: dict[str, list[_Run]] = {"dagster": [], "plain": []}
    for number in range(repeats):
        # Whoever comes second finds files in the cache: each side is that in turn.
        for side in sorted(runs, reverse=number % 2 == 0):
            runs[side].append(_run(side, days))
    _check_same([run for side in runs.values() for run in side])
    dagster, plain = runs["dagster"], runs["plain"]
    case = "demo's window" if days is None else f"{days} days"
    spread = f"rounds: {repeats}; ours {_range(dagster)}, plain {_range(plain)} s"
    return [
        compared(
            f"{case}, all stages",
            "wall seconds",
            statistics.median(sum(run.wall.values()) for run in dagster),
            statistics.median(sum(run.wall.values()) for run in plain),
            "plain script",
            goal=GOAL,
            note=spread,
        ),
        compared(
            f"{case}, all stages",
            "CPU seconds",
            statistics.median(sum(run.cpu.values()) for run in dagster),
            statistics.median(sum(run.cpu.values()) for run in plain),
            "plain script",
            goal=GOAL,
            note="less shaken by what else the machine does",
        ),
        *(
            compared(
                stage,
                "wall seconds",
                statistics.median(run.wall[stage] for run in dagster),
                statistics.median(run.wall[stage] for run in plain),
                "plain script",
                note=_NOTES.get(stage, ""),
            )
            for stage in plain[0].wall
        ),
    ]


_NOTES = {
    "set-up": "import Dagster, load definitions, open the instance; the script reads the YAML",
    "endpoint": "most of it waits for the server to be ready",
}


def _run(side: str, days: int | None) -> _Run:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench._overhead_run", side, "--port", str(_free_port())]
        done = subprocess.run(
            command + ([] if days is None else ["--days", str(days)]),
            cwd=folder,
            env=_environment(folder),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the {side} side failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return _Run(found["wall"], found["cpu"], found["results"])


def _environment(folder: str) -> dict[str, str]:
    """The environment of one side, with nothing of this checkout's instance."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # Without bytecode every process would compile everything, on both sides alike.
        if name not in ("MLOPS_STATE", "PYTHONDONTWRITEBYTECODE")
    }
    return kept | {
        "DAGSTER_HOME": folder,
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # As `make` and `mlops` set them for whoever runs the demo.
        "DAGSTER_EVENT_BATCH_SIZE": "200",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check_same(runs: Sequence[_Run]) -> None:
    for name in {name for run in runs for name in run.results}:
        expected = runs[0].results.get(name)
        if any(run.results.get(name) != expected for run in runs):
            raise RuntimeError(f"the sides differ in {name}: they did not do the same work")


def _range(runs: Sequence[_Run]) -> str:
    totals = [sum(run.wall.values()) for run in runs]
    return f"{min(totals):.1f} to {max(totals):.1f}"
