"""Drift from profiles: what it costs, against Evidently and NannyML on the same windows.

Each tool gets two windows of 28 days and 20 features, in a process of its own; importing it and
reading the rows are not timed. Memory is the most that the process had, with imports and rows:
the peers need all rows of both windows at once, profiles one day's.

Scores are compared with those of the values themselves, by SciPy. The peers' Jensen-Shannon
distances of numbers depend on their bins, which differ (NannyML's Doane against our deciles).
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from bench.report import Result, compared, limited, unmeasured
from mlops_assets.core.daily_profiles import DailyProfiles, daily
from mlops_assets.core.drift import compare
from mlops_assets.core.layouts import layout_of
from mlops_assets.core.profiles import Profile, profile
from mlops_assets.core.spec import FeatureType

_ROOT = Path(__file__).resolve().parents[1]
DAYS = 28
PEERS = {"evidently": "Evidently DataDriftPreset", "nannyml": "NannyML univariate"}
SECONDS = "seconds"
MEMORY = "peak MiB of the process"
TYPES: dict[str, FeatureType] = {f"number_{n}": "float" for n in range(15)} | {
    f"category_{n}": "category" for n in range(5)
}
# Their mass is within a few of the equally wide bins that NannyML makes.
SKEWED = ("number_1", "number_6", "number_11")
GOALS = {
    "wasserstein": (0.01, "numbers, in standard deviations"),
    "jensen_shannon": (1e-6, "categories"),
}


@dataclass(frozen=True)
class Run:
    """One tool on two windows."""

    seconds: float
    peak_mib: float
    before_mib: float
    scores: dict[str, dict[str, float]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes, and where NannyML is."""
    parser.add_argument("--rows", type=int, nargs="+", help="rows a window, against the peers")
    parser.add_argument("--alone", type=int, help="rows a window, ours alone")
    parser.add_argument(
        "--nannyml", help="Python of an environment that has NannyML (default: this one)"
    )


def main(options: argparse.Namespace) -> list[Result]:
    """From profiles, then from rows at each size."""
    sizes = options.rows or ([20_000] if options.quick else [100_000, 1_000_000])
    alone = options.alone or (200_000 if options.quick else 10_000_000)
    pythons = {"evidently": sys.executable, "nannyml": options.nannyml or sys.executable}
    results = [*from_profiles(), *building(200_000 if options.quick else 1_000_000)]
    for size in sizes:
        results += against_peers(size, pythons)
    return results + on_our_own(alone)


def from_profiles() -> list[Result]:
    """Any window against any window, without rows."""
    rng = np.random.default_rng(1)
    reference = day_of(rng, 20_000, 0.0)
    layout = layout_of(reference, TYPES)
    first = date(2023, 1, 1)
    profiles = {
        first + timedelta(days=n): profile(
            with_gaps(rng, day_of(rng, 1000, 0.0 if n < 365 else 0.3)), layout
        )
        for n in range(365 + DAYS)
    }
    year = daily(profiles, layout)
    change = first + timedelta(days=365)
    windows = year.between(first, change), year.between(change, date.max)
    texts = {day: each.model_dump_json() for day, each in profiles.items()}

    def read() -> DailyProfiles:
        return daily({d: Profile.model_validate_json(text) for d, text in texts.items()}, layout)

    case = f"20 features, 365 days against {DAYS}"
    size = sum(map(len, texts.values())) / len(texts) / 1024
    return [
        limited(
            case,
            "ms, median, with p-values",
            1000 * median_seconds(lambda: compare(*windows), 30),
            20,
            note="DailyProfiles to Drift",
        ),
        limited(
            case,
            "ms, median, JSON to arrays",
            1000 * median_seconds(read, 5),
            1000,
            note=f"{size:.1f} kB a day; once for any number of windows",
        ),
    ]


def building(rows: int) -> list[Result]:
    """Profiles from rows in memory."""
    frame = day_of(np.random.default_rng(2), rows, 0.0)
    layout = layout_of(frame, TYPES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    seconds = median_seconds(lambda: profile(frame, layout), 5) * 1_000_000 / rows
    note = f"{1 / seconds:.2f} million rows a second on {cores} cores"
    return [limited(f"profile of {rows:,} x 20", "seconds a million rows", seconds, 1, note=note)]


def against_peers(rows: int, pythons: dict[str, str]) -> list[Result]:
    """Time, memory and scores at one size."""
    case = f"two windows of {rows:,} x 20"
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_windows(folder, rows)
        ours = our_run(folder)
        exact = run_tool("exact", folder, sys.executable)
        assert exact is not None
        measure = "kolmogorov_smirnov"
        error = furthest(ours.scores[measure], exact.scores[measure])
        metric = f"{measure} (numbers), largest error"
        results.append(limited(case, metric, error, 1 / 64, other=0, other_name="SciPy"))
        for tool, peer in PEERS.items():
            theirs = run_tool(tool, folder, pythons[tool])
            if theirs is None:
                why = f"{tool} is not installed; --{tool} names an environment that has it"
                results += [unmeasured(case, metric, peer, why) for metric in (SECONDS, MEMORY)]
                continue
            note = f"before the comparison: {ours.before_mib:.0f} and {theirs.before_mib:.0f}"
            results += [
                compared(case, SECONDS, ours.seconds, theirs.seconds, peer),
                compared(case, MEMORY, ours.peak_mib, theirs.peak_mib, peer, note=note),
                *agreement(case, ours, theirs, exact, peer),
            ]
    return results


def agreement(case: str, ours: Run, theirs: Run, exact: Run, peer: str) -> list[Result]:
    """The largest differences from exact scores, ours and the peer's."""
    results: list[Result] = []
    for measure, (goal, what) in GOALS.items():
        if measure in theirs.scores:
            errors = [
                furthest(run.scores[measure], exact.scores[measure]) for run in (ours, theirs)
            ]
            metric = f"{measure} ({what}), largest error"
            results.append(limited(case, metric, errors[0], goal, other=errors[1], other_name=peer))
    numbers = theirs.scores["jensen_shannon"]
    skewed = [name for name in numbers if name in SKEWED]
    even = {
        name: numbers[name] for name in numbers if TYPES[name] == "float" and name not in SKEWED
    }
    if even:
        found = ours.scores["jensen_shannon"]
        largest = max(skewed, key=lambda name: found[name])
        note = (
            f"but for log-normal: {found[largest]:.2f}, in equally wide bins {numbers[largest]:.2f}"
        )
        metric = "jensen_shannon (numbers), largest difference"
        results.append(
            limited(case, metric, furthest(found, even), 0.1, other_name=peer, note=note)
        )
    return results


def furthest(scores: dict[str, float], expected: dict[str, float]) -> float:
    """The largest difference over the columns of ``expected``."""
    return max(abs(scores[name] - value) for name, value in expected.items())


def on_our_own(rows: int) -> list[Result]:
    """A size where the peers are out of the question."""
    case = f"two windows of {rows:,} x 20"
    with tempfile.TemporaryDirectory() as name:
        write_windows(Path(name), rows)
        run = run_tool("ours", Path(name), sys.executable)
    assert run is not None
    return [
        limited(case, SECONDS, run.seconds, 2 * rows / 1_000_000),
        limited(case, MEMORY, run.peak_mib, 4096, note="one day's rows at a time"),
    ]


def our_run(folder: Path) -> Run:
    """The median of three processes, by time."""
    runs = [run for _ in range(3) if (run := run_tool("ours", folder, sys.executable))]
    return sorted(runs, key=lambda run: run.seconds)[1]


def run_tool(tool: str, folder: Path, python: str) -> Run | None:
    """The tool in a fresh process; None if its environment has not got it."""
    if tool in PEERS and python == sys.executable and not importlib.util.find_spec(tool):
        return None
    command = [python, "-W", "ignore", "-m", "bench._drift_run", tool, str(folder)]
    environment = {
        **os.environ,
        "DO_NOT_TRACK": "1",
        "NML_DISABLE_USAGE_LOGGING": "1",
    }
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{tool} failed:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Run(found["seconds"], found["peak_mib"], found["before_mib"], found["scores"])


def write_windows(folder: Path, rows: int) -> None:
    """One file a day for each window; the current one has moved."""
    rng = np.random.default_rng(3)
    for side, moved in (("reference", 0.0), ("current", 1.0)):
        (folder / side).mkdir()
        for n in range(DAYS):
            day = day_of(rng, rows // DAYS, moved)
            day.write_parquet(folder / side / f"{n:02}.parquet", compression="uncompressed")


def day_of(rng: np.random.Generator, rows: int, moved: float) -> pl.DataFrame:
    """A day of 15 numbers of five shapes and 5 categories of 5 to 45 values. The n-th number moves
    by ``moved`` x n / 30 standard deviations; two categories move too.
    """
    shapes: list[Callable[[int], np.ndarray]] = [
        lambda n: rng.normal(size=n),
        lambda n: rng.lognormal(size=n),
        lambda n: rng.standard_t(4, size=n),
        lambda n: rng.poisson(4, size=n),
        lambda n: np.round(rng.uniform(0, 100, size=n)),
    ]
    wander = 0.05 * rng.normal(size=15)
    columns: dict[str, pl.Series] = {}
    for n in range(15):
        values = shapes[n % 5](rows)
        shift = (moved * n / 30 + wander[n]) * (30 if n % 5 == 4 else 1)
        # Counts stay whole numbers.
        moves = rng.poisson(abs(shift), rows) if n % 5 == 3 else shift
        columns[f"number_{n}"] = pl.Series((values + moves).astype(np.float32))
    for n in range(5):
        size = 5 + 10 * n
        shares = 1 / np.arange(1, size + 1) ** (1 + (0.5 * moved if n < 2 else 0))
        codes = rng.choice(size, rows, p=shares / shares.sum())
        names = pl.Series([f"value {code:03}" for code in range(size)])
        columns[f"category_{n}"] = names.gather(codes)
    return pl.DataFrame(columns)


def with_gaps(rng: np.random.Generator, frame: pl.DataFrame) -> pl.DataFrame:
    """Without a value in about 5 % of each column's rows."""
    kept = rng.uniform(size=(len(TYPES), frame.height)) > 0.05
    return frame.with_columns(
        pl.when(pl.Series(keep)).then(pl.col(name)).alias(name)
        for name, keep in zip(TYPES, kept, strict=True)
    )


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """After a first run that warms up."""
    run()
    taken: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
