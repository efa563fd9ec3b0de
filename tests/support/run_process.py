"""A run of the tests' use case in a process of its own, that can be killed anywhere.

``python run_process.py FOLDER PORT ASSETS DAYS [POINT]`` materializes ``ASSETS`` for the days
``FIRST:LAST`` on the SQLite instance in ``FOLDER``. ``POINT`` is ``NAME:EVENT:N``: at the n-th call
or return of the function ``NAME`` (qualified, e.g. ``Lake.write``) the process kills itself.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import dagster as dg

FAILED = 3
"""The exit code of a run that failed."""


def start_run(
    folder: Path,
    port: int,
    assets: Sequence[str],
    days: tuple[str, str],
    die_at: str | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a run of the use case whose things are in ``folder``."""
    command = [sys.executable, __file__, str(folder), str(port), ",".join(assets), ":".join(days)]
    environment = os.environ | {"VISITS_FAULTS": str(folder / "faults.json")}
    return subprocess.Popen(
        [*command, *([die_at] if die_at else [])],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "run.err").open("ab"),
    )


def instance_of(folder: Path) -> dg.DagsterInstance:
    """The SQLite instance of the runs in ``folder``."""
    (folder / "instance").mkdir(parents=True, exist_ok=True)
    return dg.DagsterInstance.local_temp(str(folder / "instance"))


def _kill_at(point: str) -> None:
    """Kill this process at ``point``, in whatever thread it comes to pass."""
    name, event, number = point.rsplit(":", 2)
    left = int(number)

    def watch(frame: FrameType, what: str, argument: object) -> None:
        nonlocal left
        if what == event and frame.f_code.co_qualname == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(watch)
    sys.setprofile(watch)


def main() -> int:
    """Run once; the exit code is 0 when the run succeeded."""
    sys.path.insert(0, str(Path(__file__).parent))
    from lifecycle_support import make_project

    folder, port, assets, days = Path(sys.argv[1]), *sys.argv[2:5]
    first, last = days.split(":")
    with instance_of(folder) as instance:
        project = make_project(folder, instance, int(port))
        for point in sys.argv[5:]:
            _kill_at(point)
        return 0 if project.run(assets.split(","), (first, last)).success else FAILED


if __name__ == "__main__":
    sys.exit(main())
