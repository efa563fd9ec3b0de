"""The platform's server against the servers that teams use, each with one worker and one model.

200 trees on 20 columns of real flights. Requests of one row and of 100, from 16 connections that
each send the next one as soon as the last is answered; all servers run at once, and are asked in
turn, round by round. Ours logs, checks and counts as in production. Packaged peers are mlflow,
MLServer and BentoML; a minimal FastAPI app and the floor (HTTP, and a prediction of rows that are
there already) show what the packaging costs.

``--peers DIR`` has a virtual environment for each peer: DIR/mlflow, DIR/mlserver, DIR/bentoml and
DIR/fastapi. Peers that are not there are not measured. docs/serving.md says how to make them.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench._serving_load import Load, Measured, run
from bench._serving_model import problem
from bench._serving_servers import BIG, Running, floor, ours, peers, started
from bench.report import Result, compared, limited, unmeasured

CONNECTIONS = 16
PACKAGED = ("mlflow models serve", "MLServer", "BentoML")
GOAL_PACKAGED = {1: 1 / 8, BIG: 1 / 2.5}
GOAL_MLFLOW = 1 / 25
GOAL_P99 = 2.0
VCPUS = 4
"""Of the instance that the price is for: a worker keeps one busy."""

NAMES = {
    "mlflow": "mlflow models serve",
    "mlserver": "MLServer",
    "bentoml": "BentoML",
    "fastapi": "minimal FastAPI",
}
WALL = "µs a request, 16 connections"
PROCESSOR = "processor µs a request"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where the peers are, and how long each is asked."""
    default = Path(os.environ.get("MLOPS_BENCH_PEERS", "peers"))
    parser.add_argument("--peers", type=Path, default=default, help="folder of environments")
    parser.add_argument("--rounds", type=int, help="measured rounds (default: 7)")
    parser.add_argument("--seconds", type=float, help="of each measurement (default: 3)")


class _Samples:
    """What was measured of one server and size of request, round by round."""

    def __init__(self) -> None:
        self.closed: list[Measured] = []
        self.cpu_s: list[float] = []
        self.half: list[Measured] = []

    def micros(self) -> float:
        """Median time between two answers."""
        return statistics.median(
            1e6 / m.per_second if m.requests else float("inf") for m in self.closed
        )

    def processor(self) -> float:
        """Median processor time of an answer."""
        return statistics.median(self.cpu_s) * 1e6

    def failed(self) -> int:
        """Requests without an answer, or with another status than 200."""
        return sum(m.failed for m in (*self.closed, *self.half))


Found = dict[tuple[str, int], _Samples]


def main(options: argparse.Namespace) -> list[Result]:
    """All servers that are there."""
    rounds = options.rounds or (2 if options.quick else 7)
    seconds = options.seconds or (1.0 if options.quick else 3.0)
    # So that the servers end with the benchmark, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    asked = problem()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        candidates = [ours(asked, folder / "ours"), floor(asked, folder / "floor")]
        missing: list[str] = []
        for peer in peers(asked, folder / "peers", options.peers):
            if isinstance(peer, str):
                missing.append(NAMES[peer])
            else:
                candidates.append(peer)
        servers = [stack.enter_context(started(each, asked)) for each in candidates]
        found: Found = {}
        for number in range(rounds + 1):
            samples = _round(servers, seconds)
            if number:  # the first warms up
                for key, sample in samples.items():
                    into = found.setdefault(key, _Samples())
                    into.closed += sample.closed
                    into.cpu_s += sample.cpu_s
                    into.half += sample.half
        memory = {server.candidate.name: server.memory_mib() for server in servers}
    return _results(found, memory, missing)


def _round(servers: Sequence[Running], seconds: float) -> Found:
    found: Found = {}
    for rows in (1, BIG):
        for server in servers:
            sample = found[server.candidate.name, rows] = _Samples()
            before = server.cpu_s()
            measured = _ask(server, rows, seconds, None)
            sample.closed.append(measured)
            sample.cpu_s.append((server.cpu_s() - before) / max(1, measured.requests))
            if server.candidate.name in ("ours", "floor"):
                sample.half.append(_ask(server, rows, seconds, measured.per_second / 2))
    return found


def _ask(server: Running, rows: int, seconds: float, rate: float | None) -> Measured:
    load = Load(server.port, server.candidate.path, server.bodies(rows), CONNECTIONS, seconds, rate)
    return run(load)


def _results(found: Found, memory: dict[str, float], missing: Sequence[str]) -> list[Result]:
    from mlops_assets.adapters.prices import price_of

    results: list[Result] = []
    for rows in (1, BIG):
        case = "single rows" if rows == 1 else f"batches of {rows}"
        mine = found["ours", rows]
        others = {
            name: sample for (name, n), sample in found.items() if n == rows and name != "ours"
        }
        packaged = [name for name in PACKAGED if name in others]
        best = min(packaged, key=lambda name: others[name].micros(), default=None)
        for name, sample in others.items():
            goal = GOAL_PACKAGED[rows] if name == best else None
            if rows == 1 and name == PACKAGED[0]:
                goal = GOAL_MLFLOW
            note = f"{1e6 / mine.micros():,.0f} and {1e6 / sample.micros():,.0f} requests a second"
            note += ", the best packaged peer" if name == best else ""
            results.append(
                compared(case, WALL, mine.micros(), sample.micros(), name, goal=goal, note=note)
            )
            results.append(compared(case, PROCESSOR, mine.processor(), sample.processor(), name))
        results += [unmeasured(case, WALL, name, "not installed, see --peers") for name in missing]
        results += _half_load(case, mine, found["floor", rows])
        failed = mine.failed()
        results.append(limited(case, "requests of ours that failed", failed, 0))
        price = price_of("cpu")
        cost = price.per_hour / VCPUS / 3600 * mine.micros() / rows
        for name in packaged:
            theirs = price.per_hour / VCPUS / 3600 * others[name].micros() / rows
            metric = f"{price.currency} per million predictions"
            note = f"one of {VCPUS} vCPUs of {price.instance}"
            results.append(compared(case, metric, cost, theirs, name, note=note))
    for name, mib in memory.items():
        if name != "ours":
            results.append(compared("replica", "memory, MiB", memory["ours"], mib, name))
    return results


def _half_load(case: str, mine: _Samples, bare: _Samples) -> list[Result]:
    def median(samples: _Samples, field: str) -> float:
        return statistics.median(float(getattr(m, field)) for m in samples.half)

    return [
        compared(
            f"{case}, at half of what each can",
            f"{quantile}, ms",
            median(mine, field),
            median(bare, field),
            "floor",
            goal=goal,
        )
        for quantile, field, goal in (("p50", "p50_ms", None), ("p99", "p99_ms", GOAL_P99))
    ]
