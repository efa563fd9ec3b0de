"""Which Jobs in the cluster nobody needs any more."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# Whoever ends a run deletes its Jobs within seconds, where it can.
ACTIVE_FOR = timedelta(minutes=5)
KEPT_FOR = timedelta(hours=1)


@dataclass(frozen=True)
class RunState:
    """What the instance knows about a run; ``ended`` is when it ended, if it has."""

    status: str
    ended: datetime | None


def orphaned(
    *,
    created: datetime,
    finished: bool,
    run: RunState | None,
    now: datetime,
    active_for: timedelta = ACTIVE_FOR,
    kept_for: timedelta = KEPT_FOR,
) -> str | None:
    """Why a Job may be deleted; None when it may not.

    ``run`` is None where the instance knows no such run. A Job that still has a process goes
    ``active_for`` after its run's end; a finished one, whose pod still has its output,
    ``kept_for``. The Job of a run that goes on stays, whatever its age: its run worker looks after
    it.
    """
    if run is not None and run.ended is None:
        return None
    since = created if run is None or run.ended is None else max(run.ended, created)
    if now - since < (kept_for if finished else active_for):
        return None
    age = f"{(now - since).total_seconds() / 60:.0f} min"
    if run is None:
        return f"its run is not known, and it is {age} old"
    return f"its run ended {age} ago ({run.status})"
