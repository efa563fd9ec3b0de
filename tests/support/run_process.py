"""Runs of the tests' use case in processes of their own, that can be killed anywhere.

A process that has loaded all libraries waits for orders and forks for each run: a run then costs
what it does, not what Python imports. It has used none of the libraries, so none has threads yet
that a fork would lose.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg

FAILED = 3
"""The exit code of a run that failed."""

_LIBRARIES = (
    "dagster._core.execution.plan.execute_plan",
    "deltalake",
    "great_expectations.expectations",
    "mlops_assets.adapters.validation.engine",
    "pandas",
    "polars",
    "pyarrow.dataset",
)

_FOR_TRAINING = ("mlflow", "mlops_assets.adapters.xgboost_engine")


@dataclass(frozen=True)
class Order:
    """A run of ``assets`` for the days from first to last, of the use case kept in ``folder``.

    At ``die``, ``module:function:before:n`` or ``…:after:n``, the run's process kills itself: when
    that function is called, or has returned, for the n-th time.
    """

    folder: str
    assets: tuple[str, ...]
    days: tuple[str, str] | None = None
    die: str | None = None
    port: int = 8931


@dataclass
class Runs:
    """The process that forks runs."""

    process: "subprocess.Popen[str]"

    def __call__(self, *orders: Order) -> list[int]:
        """Run all orders at the same time; their exit codes, negative for a signal."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([asdict(order) for order in orders]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def run_processes() -> Iterator[Runs]:
    """A process that forks runs, for the block."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Runs(process)
    finally:
        process.kill()
        process.wait()


def instance_of(folder: Path) -> dg.DagsterInstance:
    """The SQLite instance of the runs in ``folder``."""
    (folder / "instance").mkdir(parents=True, exist_ok=True)
    settings = {"telemetry": {"enabled": False}}
    return dg.DagsterInstance.local_temp(str(folder / "instance"), overrides=settings)


def _kill_at(point: str) -> None:
    """Have this process killed at ``point``."""
    module, function, when, number = point.split(":")
    owner: object = importlib.import_module(module)
    *parents, name = function.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    calls = 0

    def counted(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == int(number) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if calls == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def _run(order: Order) -> int:
    from lifecycle_support import make_project

    folder = Path(order.folder)
    os.environ["VISITS_FAULTS"] = str(folder / "faults.json")
    log = os.open(folder / "run.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if order.die is not None:
        _kill_at(order.die)
    with instance_of(folder) as instance:
        result = make_project(folder, instance, order.port).run(order.assets, order.days)
        for event in result.get_step_failure_events():
            print(event.step_failure_data.error)
    return 0 if result.success else FAILED


def _fork(order: Order) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _run(order)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child


def main() -> None:
    """Fork for each line of orders, and answer with a line of exit codes."""
    for library in _LIBRARIES:
        importlib.import_module(library)
    for line in sys.stdin:
        orders = [Order(**order) for order in json.loads(line)]
        if any("model" in order.assets for order in orders):
            for library in _FOR_TRAINING:
                importlib.import_module(library)
        children = [_fork(order) for order in orders]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
