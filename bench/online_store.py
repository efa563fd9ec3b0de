"""Looking up three views for one request: p50 and p99, by store, against Feast on the same stores.

Ours is what the model server does for an event-only request of one row: entity keys from the
request, one batched look-up in the store, decoding, the rule of the point-in-time join with the
TTL, features by name, and the record for the prediction log. Feast's is
``get_online_features(...).to_dict()`` in a process of its own. Stores take turns, in one run; all
have to find the same values. LMDB and SQLite are embedded; the platform ships LMDB.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import polars as pl

from bench._online_store_sqlite import SqliteStore
from bench.report import Result, compared, limited, unmeasured
from mlops_assets.adapters.online_store import OnlineStore, open_store
from mlops_assets.adapters.online_store.publishing import Fresh, publish
from mlops_assets.core.online import OnlineConfig, OnlineView, layout_of
from mlops_assets.core.online_rows import entities, still_needed
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.requests import PredictionRequest, request_schema
from mlops_assets.serving.online_features import OnlineFeatures

P50_US, P99_US = 60.0, 1000.0
TIMES_FEAST = 10.0
PER_ROUND = 50
_SEED = 7
_UTC = pl.Datetime("us", "UTC")

VIEWS = (
    OnlineView("delays", {"airline": "string"}, tuple(f"delay_{n}" for n in range(6)), (), None),
    OnlineView("weather", {"airport": "string"}, tuple(f"weather_{n}" for n in range(8)), (), None),
    OnlineView(
        "aircraft",
        {"tailnum": "string"},
        tuple(f"aircraft_{n}" for n in range(3)),
        ("maker",),
        None,
    ),
)

LookUps = Callable[[int, int], list[float]]
"""Looks up so many rows from a place on, and says how many seconds each took."""


@dataclass(frozen=True)
class Problem:
    """Tables to look up in, and the entities of each look-up."""

    frames: Mapping[str, pl.DataFrame]
    rows: Sequence[Mapping[str, str]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes, and the peer."""
    parser.add_argument("--entities", type=int, help="of each view (default: 50,000)")
    parser.add_argument("--rounds", type=int, help=f"of {PER_ROUND} look-ups (default: 60)")
    parser.add_argument(
        "--feast", metavar="PYTHON", help="interpreter of an environment with feast[redis]"
    )


def main(options: argparse.Namespace) -> list[Result]:
    """Every store, and Feast where it is."""
    many = options.entities or (2_000 if options.quick else 50_000)
    rounds = options.rounds or (10 if options.quick else 60)
    problem = build(many, rounds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(redis_server(folder))
        contestants: dict[str, LookUps] = {}
        stores: dict[str, OnlineStore] = {
            "lmdb": open_store(str(folder / "lmdb"), 1.0),
            "sqlite": SqliteStore(str(folder / "sqlite.db")),
        }
        if redis is not None:
            stores["redis"] = open_store(f"{redis}/0", 5.0)
        written: dict[str, float] = {}
        servers: dict[str, OnlineFeatures] = {}
        for name, store in stores.items():
            start = time.perf_counter()
            servers[name] = fill(store, problem)
            written[name] = time.perf_counter() - start
            contestants[name] = ours(servers[name], problem)
        peers = ["sqlite", *(["redis"] if redis is not None else [])] if options.feast else []
        if peers:
            write(problem, folder)
        for peer in peers:
            url = "sqlite" if peer == "sqlite" else f"{redis},db=1"
            lookups, values = stack.enter_context(feast(options.feast, folder, url))
            check_values(servers[peer], problem, values)
            contestants[f"feast {peer}"] = lookups
        seconds = measured(contestants, rounds)
        work = {name: ours(server, problem, time.thread_time) for name, server in servers.items()}
        worked = measured(work, rounds)
    return results(seconds, worked, written, many, bool(options.feast))


def build(many: int, rounds: int) -> Problem:
    """Tables of ``many`` entities each, and random entities to look up."""
    rng = np.random.default_rng(_SEED)
    at = datetime.now(UTC) - timedelta(hours=1)
    frames: dict[str, pl.DataFrame] = {}
    for view in VIEWS:
        (key,) = view.keys
        columns: dict[str, object] = {
            key: [f"{key}{n:06d}" for n in range(many)],
            "event_time": [at] * many,
            "known_at": [at] * many,
        }
        for name in view.floats:
            columns[name] = rng.normal(size=many).astype(np.float32)
        for name in view.categories:
            columns[name] = [f"maker{n}" for n in rng.integers(0, 6, many)]
        frames[view.name] = pl.DataFrame(
            columns, schema_overrides={"event_time": _UTC, "known_at": _UTC}
        )
    picks = rng.integers(0, many, ((rounds + 1) * PER_ROUND, len(VIEWS)))
    keys = [key for view in VIEWS for key in view.keys]
    rows = [
        {key: f"{key}{n:06d}" for key, n in zip(keys, pick, strict=True)} for pick in picks.tolist()
    ]
    return Problem(frames, rows)


BASE = request_schema(
    Signature(
        inputs=tuple(
            FeatureField(name=name, type="float" if name in view.floats else "category")
            for view in VIEWS
            for name in (*view.floats, *view.categories)
        ),
        output="late",
    )
)


def fill(store: OnlineStore, problem: Problem) -> OnlineFeatures:
    """Materialize the tables, and serve them."""
    config = OnlineConfig("bench", layout_of(VIEWS), "", VIEWS, None, 0, "error", 5.0)
    now = datetime.now(UTC)
    fresh = {
        view.name: Fresh(
            entities(still_needed(problem.frames[view.name], view, now, timedelta(0)), view),
            {}, 1, None,
        )
        for view in VIEWS
    }  # fmt: skip
    publish(store, "bench", config.space, 0, fresh, ())
    return OnlineFeatures(config, store)


def ours(
    server: OnlineFeatures, problem: Problem, clock: Callable[[], float] = time.perf_counter
) -> LookUps:
    """The model server's part of an event-only request, in seconds of ``clock``."""

    def run(first: int, count: int) -> list[float]:
        taken: list[float] = []
        for row in problem.rows[first : first + count]:
            request = PredictionRequest(1, {k: [v] for k, v in row.items()}, {}, None, None)
            start = clock()
            server.complete(request, BASE)
            taken.append(clock() - start)
        return taken

    return run


def measured(contestants: Mapping[str, LookUps], rounds: int) -> dict[str, list[float]]:
    """Seconds of each look-up, the contestants in turns; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for n in range(rounds + 1):
        for name, run in contestants.items():
            taken = run(n * PER_ROUND, PER_ROUND)
            if n:
                seconds[name] += taken
    return seconds


def results(
    seconds: Mapping[str, Sequence[float]],
    worked: Mapping[str, Sequence[float]],
    written: Mapping[str, float],
    many: int,
    feast: bool,
) -> list[Result]:
    """p50 and p99 in microseconds, ratios to Feast, and what filling the store took.

    Processor time is told beside: on a machine with other work, p99 is how long one waits for it.
    """
    found: list[Result] = []
    at = {
        name: {q: float(np.quantile(taken, q / 100)) * 1e6 for q in (50, 99)}
        for name, taken in seconds.items()
    }
    shipped = {"lmdb": "shipped"}
    for name in ("lmdb", "sqlite", "redis"):
        if name not in at:
            found.append(unmeasured(name, "µs, p50", "", "no redis-server: apt-get install it"))
            continue
        embedded = name != "redis"
        for q, goal in ((50, P50_US), (99, P99_US)):
            note = shipped.get(name, "")
            if embedded or q == 99:
                found.append(limited(name, f"µs, p{q}", at[name][q], goal, note=note))
            else:
                found.append(Result(name, f"µs, p{q}", at[name][q], None, "", None, None, None))
        for q in (50, 99):
            value = float(np.quantile(worked[name], q / 100)) * 1e6
            metric = f"µs of processor time, p{q}"
            found.append(Result(name, metric, value, None, "", None, None, None))
        value = written[name] / (len(VIEWS) * many) * 1e6
        found.append(Result(name, "µs per entity, written", value, None, "", None, None, None))
    for name in ("sqlite", "redis"):
        peer = f"feast {name}"
        if peer not in at:
            why = "no redis-server" if feast else "give --feast PYTHON"
            found.append(unmeasured(name, "µs, p50", peer, why))
            continue
        for q in (50, 99):
            goal = 1 / TIMES_FEAST if q == 50 else None
            note = f"{at[peer][q] / at[name][q]:.0f} times as fast"
            found.append(
                compared(name, f"µs, p{q}", at[name][q], at[peer][q], peer, goal=goal, note=note)
            )
    return found


def write(problem: Problem, folder: Path) -> None:
    """The problem for another process."""
    kinds = [
        {
            "name": view.name,
            "entity": next(iter(view.keys)),
            "features": dict.fromkeys(view.floats, "float")
            | dict.fromkeys(view.categories, "category"),
        }
        for view in VIEWS
    ]
    (folder / "problem.json").write_text(json.dumps(kinds))
    (folder / "rows.json").write_text(json.dumps(list(problem.rows)))
    for name, frame in problem.frames.items():
        frame.write_parquet(folder / f"{name}.parquet")


@contextmanager
def feast(
    python: str, folder: Path, url: str
) -> Iterator[tuple[LookUps, Mapping[str, list[object]]]]:
    """Feast's look-ups, and the values of the first 50."""
    script = Path(__file__).with_name("_online_store_feast.py")
    # The script's folder is on its path, and no module of ours has a name of Feast's.
    process = subprocess.Popen(
        [python, str(script), str(folder), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "feast.log").open("wb"),
        text=True,
        # An environment of its own: nothing of this one's.
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
    )
    stdin, stdout = cast("TextIO", process.stdin), cast("TextIO", process.stdout)

    def ask(line: str) -> str:
        stdin.write(line + "\n")
        stdin.flush()
        for answer in stdout:
            if answer.startswith(("[", "{")):
                return answer
        raise RuntimeError((folder / "feast.log").read_text()[-2000:])

    try:
        for line in stdout:
            if line.strip() == "ready":
                break
        else:
            raise RuntimeError((folder / "feast.log").read_text()[-2000:])
        values = cast("dict[str, list[object]]", json.loads(ask("values")))
        yield lambda first, count: json.loads(ask(f"{first} {count}")), values
    finally:
        process.kill()
        process.wait()


def check_values(
    server: OnlineFeatures, problem: Problem, values: Mapping[str, list[object]]
) -> None:
    """Both find the same. Raises ValueError otherwise."""
    for n, row in enumerate(problem.rows[:50]):
        request = PredictionRequest(1, {k: [v] for k, v in row.items()}, {}, None, None)
        for name, column in server.complete(request, BASE).request.columns.items():
            if column[0] != values[name][n]:
                raise ValueError(f"{name} of {row}: {column[0]} here, {values[name][n]} in Feast")


@contextmanager
def redis_server(folder: Path) -> Iterator[str | None]:
    """A Redis without a disk; None where there is no redis-server."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
