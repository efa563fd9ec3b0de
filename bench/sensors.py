"""Ticks of every use case's sensors: of 1, 100 and 500 use cases that have ten months behind them.

Each number of use cases has a process of its own, which finds documents, ledgers and alerts that
another one has written. Beside our sensors one that does nothing shows what Dagster itself costs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.report import Result, compared, limited

GOAL_SECONDS = 10.0
GOAL_COUNT = 500
"""All sensors of 500 use cases, within 10 seconds; of fewer, in proportion."""

GROWTH = 1.25
SENSORS = ("new_data", "retraining", "alerts")
FLOOR = "empty"

_ROOT = Path(__file__).resolve().parents[1]
_TIMEOUT_SECONDS = 3600


@dataclass(frozen=True)
class Measured:
    """What a process has printed about ``count`` use cases: (wall, CPU) seconds, MiB."""

    count: int
    first: Mapping[str, Sequence[float]]
    idle: Mapping[str, Sequence[float]]
    looked: Sequence[float]
    reopened: Sequence[float]
    new_day: Mapping[str, Sequence[float]]
    requests: int
    settled: int
    mib: Mapping[str, float]

    @property
    def idle_wall(self) -> float:
        """Of an idle tick of all sensors."""
        return sum(self.idle[kind][0] for kind in SENSORS)

    @property
    def idle_cpu(self) -> float:
        """Of an idle tick of all sensors."""
        return sum(self.idle[kind][1] for kind in SENSORS)


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many use cases."""
    parser.add_argument("--counts", type=int, nargs="+", help="default 1 100 500, quick 1 10 25")
    parser.add_argument(
        "--automation", type=int, nargs="*", help="of the conditions; default counts, quick 1 4"
    )


def main(options: argparse.Namespace) -> list[Result]:
    """Seconds of all sensors' ticks, their growth, and the most memory."""
    counts = options.counts or ([1, 10, 25] if options.quick else [1, 100, 500])
    automated = [1, 4] if options.quick else counts
    if options.automation is not None:
        automated = options.automation
    measured = [_ticked(count) for count in counts]
    results = [result for each in measured for result in of_count(each)]
    if len(measured) > 1:
        results += growth(measured[-2], measured[-1])
    return results + automation({count: _automated(count) for count in automated})


def of_count(found: Measured) -> list[Result]:
    """The rows about one number of use cases."""
    case = f"{found.count} use cases, idle" if found.count > 1 else "1 use case, idle"
    floor = 3 * found.idle[FLOOR][1]
    return [
        limited(
            case,
            "seconds, all sensors",
            found.idle_wall,
            GOAL_SECONDS * found.count / GOAL_COUNT,
            note=f"{1000 * found.idle_wall / found.count:.1f} ms per use case",
        ),
        compared(
            case,
            "CPU seconds, all sensors",
            found.idle_cpu,
            floor,
            "3 empty sensors",
            note=", ".join(f"{kind} {found.idle[kind][1]:.3g}" for kind in SENSORS),
        ),
        _row(
            case,
            "CPU seconds, new_data that looks at its sources",
            found.looked[1],
            "every 5 minutes; two of five datasets are read, three days each",
        ),
        _row(
            case,
            "CPU seconds, empty sensors that open their instance",
            found.reopened[1],
            "as a code server does for each tick; on SQLite, Dagster checks its schema each time",
        ),
        _row(
            case.replace("idle", "first tick"),
            "CPU seconds, all sensors",
            sum(found.first[kind][1] for kind in SENSORS),
            "without a cursor: all is compared, a decision and an alert are recorded; "
            f"{_each(found.first)}; {found.settled} more until nothing is left to do",
        ),
        _row(
            case.replace("idle", "a new day"),
            "CPU seconds, all sensors",
            sum(found.new_day[kind][1] for kind in SENSORS),
            f"asks for {found.requests} runs; {_each(found.new_day)}",
        ),
        _row(
            case,
            "peak RSS in MiB",
            found.mib["idle"],
            f"{found.mib['definitions']:.0f} with definitions loaded, {found.mib['first']:.0f} "
            "after first ticks",
        ),
    ]


def growth(fewer: Measured, more: Measured) -> list[Result]:
    """How seconds grow from ``fewer`` use cases to ``more``."""
    case = f"{more.count} against {fewer.count} use cases"
    return [
        compared(
            case,
            f"{what} per use case",
            of_more / more.count,
            of_fewer / fewer.count,
            f"ours at {fewer.count}",
            goal=GROWTH,
            note="1 is linear",
        )
        for what, of_more, of_fewer in (
            ("idle CPU seconds", more.idle_cpu, fewer.idle_cpu),
            (
                "CPU seconds of a new day",
                sum(more.new_day[kind][1] for kind in SENSORS),
                sum(fewer.new_day[kind][1] for kind in SENSORS),
            ),
        )
    ]


def automation(found: Mapping[int, Mapping[str, Sequence[float]]]) -> list[Result]:
    """The rows about the declarative conditions, by number of use cases."""
    results = [
        _row(
            f"{count} use cases, conditions" if count > 1 else "1 use case, conditions",
            "CPU seconds, idle evaluation",
            each["idle"][1],
            f"Dagster's own evaluation, in its daemon; the first one {each['first'][1]:.3g}",
        )
        for count, each in found.items()
    ]
    if len(found) > 1:
        fewer, more = sorted(found)[-2:]
        results.append(
            compared(
                f"{more} against {fewer} use cases, conditions",
                "idle CPU seconds per use case",
                found[more]["idle"][1] / more,
                found[fewer]["idle"][1] / fewer,
                f"at {fewer}",
                goal=GROWTH,
                note="1 is linear",
            )
        )
    return results


def _each(seconds: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{kind} {seconds[kind][1]:.3g}" for kind in SENSORS)


def _row(case: str, metric: str, ours: float, note: str) -> Result:
    return Result(case, metric, ours, None, "", None, None, None, note)


def _ticked(count: int) -> Measured:
    with tempfile.TemporaryDirectory() as folder, _endpoint() as port:
        _run("bench._sensors_state", folder, str(count), folder, str(port))
        found = json.loads(_run("bench._sensors_run", folder, str(count), folder))
        return Measured(count=count, **found)


def _automated(count: int) -> Mapping[str, Sequence[float]]:
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(_run("bench._sensors_automation", folder, str(count), folder))


def _run(module: str, folder: str, *arguments: str) -> str:
    """The last line of what the module prints in a process of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MLOPS_STATE", "DAGSTER_HOME", "PYTHONDONTWRITEBYTECODE")
    }
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=_ROOT,
        env=kept
        | {
            "MLOPS_CLOCK": str(Path(folder) / "clock.json"),
            "DAGSTER_EVENT_BATCH_SIZE": "200",
            "DO_NOT_TRACK": "1",
        },
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return (done.stdout.splitlines() or [""])[-1]


@contextmanager
def _endpoint() -> Iterator[int]:
    """The port of a server that is ready, and nothing else, for all use cases."""

    class Ready(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Say that it is."""
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing else."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
