"""Run one benchmark, or all of them: ``python -m bench [NAME] [options]``."""

import argparse
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

import bench
from bench.report import print_table, write_json

ROOT = Path(__file__).resolve().parent.parent


def names() -> list[str]:
    """The benchmarks that exist, by name."""
    modules = (module.name for module in pkgutil.iter_modules(bench.__path__))
    return sorted(m for m in modules if not m.startswith("_") and m != "report")


def state_folder() -> Path:
    """Where local state lives: ``$MLOPS_STATE``, by default ``.mlops`` in the repository root."""
    return Path(os.environ.get("MLOPS_STATE", ROOT / ".mlops"))


def run_all(arguments: list[str]) -> int:
    """Run each benchmark in a process of its own: none warms up or breaks another."""
    codes = [
        subprocess.run([sys.executable, "-m", "bench", name, *arguments], check=False).returncode
        for name in names()
    ]
    return max(codes, default=0)


def run_one(name: str, arguments: list[str]) -> int:
    """Run one benchmark, print its table and write its JSON."""
    module = importlib.import_module(f"bench.{name}")
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=module.__doc__)
    _add_common_options(parser)
    if hasattr(module, "add_options"):
        module.add_options(parser)
    options = parser.parse_args(arguments)
    results = module.main(options)
    # A table cut to 80 columns in a log file would hide the numbers.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    print_table(name, results, console)
    console.print(f"written to {write_json(name, results, state_folder() / 'bench')}")
    return 1 if options.check and any(result.met is False for result in results) else 0


def main(arguments: list[str]) -> int:
    """The exit code: 0 whether or not goals are met, unless ``--check`` is given."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=bench.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", nargs="?", default="all", choices=["all", *names()])
    _add_common_options(parser)
    if arguments and arguments[0] in names():
        return run_one(arguments[0], arguments[1:])
    parser.parse_args(arguments)
    return run_all([argument for argument in arguments if argument != "all"])


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal was missed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
