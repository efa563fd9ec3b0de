"""What it costs to import the code location, against Dagster alone."""

import argparse
import statistics
import subprocess
import sys

from bench.report import Result, compared, limited

HEAVY = (
    "mlflow", "evidently", "great_expectations", "xgboost", "sklearn", "boto3", "kubernetes",
)  # fmt: skip
_OURS = "import mlops_assets.definitions"
_DAGSTER = "import dagster"


def add_options(parser: argparse.ArgumentParser) -> None:
    """How often to measure."""
    parser.add_argument("--repeats", type=int, help="rounds (default 15, quick 5)")


def main(options: argparse.Namespace) -> list[Result]:
    """Median seconds and modules of fresh interpreters that import one or the other, in turn."""
    repeats = options.repeats or (5 if options.quick else 15)
    seconds: dict[str, list[float]] = {_OURS: [], _DAGSTER: []}
    modules: dict[str, set[str]] = {}
    for round_number in range(repeats + 1):
        for statement, taken in seconds.items():
            measured, modules[statement] = _import(statement)
            if round_number:  # the first compiles bytecode and fills the file cache
                taken.append(measured)
    ours, dagster = modules[_OURS], modules[_DAGSTER]
    loaded = [name for name in HEAVY if name in ours]
    return [
        compared(
            "definitions module",
            "median seconds",
            statistics.median(seconds[_OURS]),
            statistics.median(seconds[_DAGSTER]),
            "import dagster",
            goal=1.3,
        ),
        compared(
            "definitions module", "modules", len(ours), len(dagster), "import dagster", goal=1.3
        ),
        limited(
            "definitions module",
            "heavy libraries",
            len(loaded),
            0,
            note=", ".join(loaded) or f"none of {', '.join(HEAVY)}",
        ),
    ]


def _import(statement: str) -> tuple[float, set[str]]:
    code = (
        "import sys, time\nbegun = time.perf_counter()\n"
        f"{statement}\n"
        "print(time.perf_counter() - begun)\nprint('\\n'.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    first, *names = done.stdout.split()
    return float(first), set(names)
