"""From a bad day's arrival to the alert, and from a drifted day's to the retraining run.

The tests' use case is live, with an endpoint that is asked over HTTP and a clock that is moved; the
source does something wrong. What is counted are rounds of ticks, one of each sensor, from the
arrival of the day's data; runs are executed in the same process, inside the tick that asks for
them. What that means in production follows from the sensors' interval.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.report import Result

INTERVAL_SECONDS = 30
_ROOT = Path(__file__).resolve().parents[1]
_TIMEOUT_SECONDS = 1800


class Detected(NamedTuple):
    """What a process has printed; see :class:`bench._detection_run.Detected`."""

    case: str
    event: str
    days: int
    rounds: int
    seconds: float
    runs: int
    idle: int
    what: str


def main(options: argparse.Namespace) -> list[Result]:
    """Rounds and seconds until each fault is told, and until it is trained on."""
    stories = ["quick"] if options.quick else ["drift", "loss"]
    return [result for story in stories for result in rows(_story(story))]


def rows(found: Sequence[Detected]) -> list[Result]:
    """Two rows for each thing that was waited for."""
    results: list[Result] = []
    for one in found:
        case = f"{one.case}: {one.event}"
        behind = "" if one.days == 1 else f"on day {one.days} of the fault; "
        results += [
            _row(case, "rounds of ticks", one.rounds, f"{behind}{one.what}"),
            _row(
                case,
                "seconds of ticks and runs",
                one.seconds,
                f"{one.runs} runs, one behind the other; in production, at a tick each "
                f"{INTERVAL_SECONDS} s, {in_production(one)}: computed, and without the start of "
                "each run's process",
            ),
        ]
    return results


def in_production(one: Detected) -> str:
    """Bounds of the seconds where sensors tick by themselves, between which chance decides.

    The arrival, and the end of each run, waits for the next tick of the sensor that it is for: not
    at all, or for an interval. A round in which nothing runs is an interval of waiting. Here the
    sensors behind a run come in the same round, so that rounds alone say too little.
    """
    least = one.idle * INTERVAL_SECONDS + one.seconds
    return f"{least:.0f} to {least + (one.runs + 1) * INTERVAL_SECONDS:.0f} s"


def _row(case: str, metric: str, ours: float, note: str) -> Result:
    return Result(case, metric, ours, None, "", None, None, None, note)


def _story(name: str) -> list[Detected]:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "bench._detection_run", folder, name],
            cwd=_ROOT,
            env=_environment(Path(folder)),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the story {name!r} failed:\n{done.stderr[-3000:]}")
    return [Detected(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def _environment(folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MLOPS_STATE", "DAGSTER_HOME", "PYTHONDONTWRITEBYTECODE")
    }
    support = str(_ROOT / "tests" / "support")
    return kept | {
        "MLOPS_CLOCK": str(folder / "clock.json"),
        # Read by the tests' source.
        "VISITS_FAULTS": str(folder / "faults.json"),
        "PYTHONPATH": os.pathsep.join(filter(None, [support, os.environ.get("PYTHONPATH")])),
        "DAGSTER_EVENT_BATCH_SIZE": "200",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
