"""The only place that asks what time it is.

The time is the machine's, unless the environment variable MLOPS_CLOCK names a document that says
otherwise: a replay's clock, which all processes of a replay share. Its time is

    at + (machine's time - since) * speed, but never later than ``until``.

With speed 0 it stands still until the replay moves it. A running one stops at ``until``, the next
thing that the replay has to do: it never runs ahead of what has happened, also when the replay is
slow or was killed.
"""

import json
import os
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlops_assets.core.errors import PermanentError

ENV = "MLOPS_CLOCK"

MOST_LAG_S = 2.0
"""Seconds that a running replay may be late and still catch up; what is more is let go, as after
the machine has slept."""


@dataclass(frozen=True)
class ReplayClock:
    """A clock that showed ``at`` when the machine's showed ``since``; both aware."""

    at: datetime
    since: datetime
    speed: float = 0.0
    until: datetime | None = None

    def shows(self, machine: datetime) -> datetime:
        """The time at the machine's time ``machine``, in UTC."""
        passed = max(0.0, (machine - self.since).total_seconds()) * self.speed
        # Compared as seconds: a fast clock that was left running is beyond all dates soon.
        if self.until is not None and passed >= (self.until - self.at).total_seconds():
            return self.until.astimezone(UTC)
        return (self.at + timedelta(seconds=passed)).astimezone(UTC)


def now() -> datetime:
    """The current instant, in UTC.

    Raises PermanentError where MLOPS_CLOCK names no clock: the machine's time would be years away.
    """
    machine = datetime.now(UTC)
    path = os.environ.get(ENV)
    if not path:
        return machine
    clock = read(Path(path))
    if clock is None:
        raise PermanentError(
            f"{ENV} names {path}, which is not there: start the replay (mlops replay), or unset it"
        )
    return clock.shows(machine)


def read(path: Path) -> ReplayClock | None:
    """The replay's clock in ``path``; None when there is none.

    Raises PermanentError for a file that is no clock, as one that was edited or cut.
    """
    try:
        found = json.loads(path.read_bytes())
        until = found["until"]
        clock = ReplayClock(
            at=_instant(found["at"]),
            since=_instant(found["since"]),
            speed=float(found["speed"]),
            until=None if until is None else _instant(until),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PermanentError(
            f"the replay's clock {path} cannot be read: {error.strerror}"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise PermanentError(
            f"{path} is no replay's clock ({error!r}): delete it and start the replay again with "
            "--from"
        ) from error
    if not 0 <= clock.speed < float("inf"):
        raise PermanentError(f"the replay's clock {path} has speed {clock.speed}: give 0 or more")
    return clock


def write(path: Path, clock: ReplayClock) -> None:
    """Make ``clock`` the time of every process that MLOPS_CLOCK sends to ``path``; atomic.

    Of several writers the last one's clock stays, whole.
    """
    content = {
        "at": clock.at.isoformat(),
        "since": clock.since.isoformat(),
        "speed": clock.speed,
        "until": None if clock.until is None else clock.until.isoformat(),
    }
    # A replay writes before each of its requests. Not synced to disk: a clock that a power cut
    # loses is one that nobody was looking at.
    partial = f"{path}.{os.getpid()}.{threading.get_ident()}.partial"
    try:
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(file, json.dumps(content).encode())
    finally:
        os.close(file)
    Path(partial).rename(path)


def shown(path: Path) -> datetime:
    """What the replay's clock in ``path`` shows, in UTC. Raises PermanentError without one."""
    clock = read(path)
    if clock is None:
        raise PermanentError(f"there is no replay's clock {path}: start the replay with --from")
    return clock.shows(datetime.now(UTC))


def set_to(path: Path, instant: datetime) -> None:
    """Let the clock stand at ``instant`` (with a zone); it is made where there is none.

    Raises PermanentError when it shows a later time already.
    """
    if read(path) is not None and (here := shown(path)) > instant:
        raise PermanentError(
            f"the replay's clock {path} shows {here.isoformat()} and does not go back to "
            f"{instant.isoformat()}: start the replay again with --from, or delete it"
        )
    restart(path, instant)


def restart(path: Path, instant: datetime) -> None:
    """Let the clock stand at ``instant`` (with a zone), though it showed a later time before."""
    write(path, ReplayClock(at=instant, since=datetime.now(UTC)))


def set_speed(path: Path, speed: float) -> datetime:
    """Let the clock go on from where it is at ``speed``, its seconds per second, and say where.

    It stays there until :func:`sleep_until` says how far it may go. Raises PermanentError without
    a clock.
    """
    here = shown(path)
    write(path, ReplayClock(at=here, since=datetime.now(UTC), speed=speed, until=here))
    return here


def sleep_until(path: Path, instant: datetime) -> None:
    """Return when the clock in ``path`` shows ``instant``, where it then stays.

    One that stands is moved there at once; one that runs really takes its time, less what it is
    late. One that shows a later time is left alone. Raises PermanentError when there is none.
    """
    machine = datetime.now(UTC)
    clock = read(path)
    if clock is None:
        raise PermanentError(f"the replay's clock {path} was deleted: start the replay again")
    here = clock.shows(machine)
    if instant <= here:
        return
    if clock.speed == 0:
        write(path, ReplayClock(at=instant, since=machine))
        return
    # When it should have shown what it shows: what came since was work, not waiting.
    due = clock.since + (here - clock.at) / clock.speed
    since = min(machine, max(due, machine - timedelta(seconds=MOST_LAG_S)))
    running = replace(clock, at=here, since=since, until=instant)
    write(path, running)
    left = (instant - here) / clock.speed - (machine - since)
    time.sleep(max(0.0, left.total_seconds()))
    if running.shows(datetime.now(UTC)) < instant:  # the machine's clock was set back meanwhile
        write(path, replace(running, since=datetime.now(UTC), at=instant))


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return found
