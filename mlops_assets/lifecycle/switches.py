"""Which sensors run: named one by one, per environment, where the code location is defined."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import dagster as dg

_RUNS: ContextVar[Callable[[str], bool] | None] = ContextVar("_RUNS", default=None)


@contextmanager
def running(runs: Callable[[str], bool]) -> Iterator[set[str]]:
    """Sensors that are defined inside the block run by themselves where ``runs`` says so.

    Gives the names of the sensors that were defined.
    """
    defined: set[str] = set()

    def ask(name: str) -> bool:
        defined.add(name)
        return runs(name)

    token = _RUNS.set(ask)
    try:
        yield defined
    finally:
        _RUNS.reset(token)


def default_status(name: str) -> dg.DefaultSensorStatus:
    """Whether the sensor ``name`` runs by itself: off, unless the environment names it."""
    runs = _RUNS.get()
    if runs is not None and runs(name):
        return dg.DefaultSensorStatus.RUNNING
    return dg.DefaultSensorStatus.STOPPED
