"""Results of a benchmark: as a table for people, as JSON for machines."""

import gc
import importlib.metadata
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

T = TypeVar("T")

_PACKAGES = (
    "dagster",
    "deltalake",
    "duckdb",
    "feast",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "xgboost",
)


@dataclass(frozen=True)
class Result:
    """One number of ours, beside one of another.

    ``metric`` names the quantity and its unit; less is better. ``ratio`` is ours / other.
    ``goal`` is the largest ratio or, where there is no ratio, the largest value of ours that is
    wanted; ``met`` says whether it is. What was not measured is None, and ``note`` says why.
    """

    case: str
    metric: str
    ours: float | None
    other: float | None
    other_name: str
    ratio: float | None
    goal: float | None
    met: bool | None
    note: str = ""


def compared(
    case: str,
    metric: str,
    ours: float,
    other: float,
    other_name: str,
    *,
    goal: float | None = None,
    note: str = "",
) -> Result:
    """A cost of ours against a peer's; ``goal`` is the largest ratio that is wanted."""
    ratio = ours / other
    met = None if goal is None else ratio <= goal
    return Result(case, metric, ours, other, other_name, ratio, goal, met, note)


def limited(
    case: str,
    metric: str,
    ours: float,
    limit: float,
    *,
    other: float | None = None,
    other_name: str = "",
    note: str = "",
) -> Result:
    """A count of ours that has to be at most ``limit``; a peer's count is shown beside it."""
    return Result(case, metric, ours, other, other_name, None, limit, ours <= limit, note)


def unmeasured(case: str, metric: str, other_name: str, why: str) -> Result:
    """A peer that could not be measured here."""
    return Result(case, metric, None, None, other_name, None, None, None, why)


def interleaved(
    contestants: Mapping[str, Callable[[], T]], repeats: int
) -> tuple[dict[str, float], dict[str, T]]:
    """Median seconds of each contestant over ``repeats`` rounds, and what each returned.

    Each round runs all of them in turn, so that a busy moment of the machine hits all alike; a
    first round warms up and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    returned: dict[str, T] = {}
    for _ in range(repeats + 1):
        for name, run in contestants.items():
            returned.pop(name, None)
            gc.collect()
            start = time.perf_counter()
            returned[name] = run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}, returned


def print_table(name: str, results: Sequence[Result], console: Console) -> None:
    """Print ``results``; a missed goal and a peer that was not measured stand out."""
    table = Table(title=f"bench {name}", title_justify="left", caption_justify="left")
    for column in ("case", "metric"):
        table.add_column(column)
    for column in ("ours", "other"):
        table.add_column(column, justify="right")
    table.add_column("peer")
    for column in ("ratio", "goal"):
        table.add_column(column, justify="right")
    table.add_column("met")
    table.add_column("note")
    for result in results:
        met = {None: "", True: "[green]yes[/]", False: "[bold red]NO[/]"}[result.met]
        skipped = result.ours is None
        table.add_row(
            result.case,
            result.metric,
            _number(result.ours),
            _number(result.other),
            result.other_name,
            "[bold yellow]NOT MEASURED[/]" if skipped else _number(result.ratio),
            "" if result.goal is None else f"≤ {_number(result.goal)}",
            met,
            f"[yellow]{result.note}[/]" if skipped else result.note,
        )
    console.print(table)


def write_json(name: str, results: Sequence[Result], folder: Path) -> Path:
    """Write ``results`` with machine and versions to ``folder``/NAME.json, and return its path."""
    about = {"machine": machine(), "versions": versions()}
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps([asdict(result) | about for result in results], indent=2))
    unfinished.replace(path)
    return path


def machine() -> dict[str, str | int]:
    """The machine that the numbers hold for: processor, usable cores, memory in MiB."""
    # Linux's files; elsewhere the fields say less.
    cpu, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    model = re.search(r"model name\s*:\s*(.+)", cpu.read_text()) if cpu.exists() else None
    total = re.search(r"MemTotal:\s*(\d+)", memory.read_text()) if memory.exists() else None
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "memory_mib": int(total[1]) // 1024 if total else 0,
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that benchmarks are about."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
