"""``mlops replay``: the past day by day as if it were live, beside `dagster dev`.

The driver moves the clock and asks the endpoint; that days come in, are computed, watched and
trained on is the sensors' work, on the same clock.
"""

import contextlib
import fcntl
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mlops_assets import clock
from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window, day_start
from mlops_assets.lifecycle.platform import Places
from mlops_assets.replay.traffic import Sent, requests_of, send

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

DEFAULT_SPEED = "1d/10s"

CHUNK_DAYS = 14
"""Days whose requests are computed at a time: what a few seconds take, and memory holds."""

LAST_ARRIVAL = time(6)
"""When the clock stops on the last morning: the data of the day before has come in by then."""

_SPEED = re.compile(r"(\d+(?:\.\d+)?)([smhd])/(\d*(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C has ended."""


@dataclass(frozen=True)
class Span:
    """From when until when is replayed, as instants of the replay's time."""

    start: datetime
    end: datetime


def speed_of(text: str) -> float:
    """Replayed seconds per second: ``1d/10s`` is a day in ten seconds, ``max`` (0) means no waits.

    Raises PermanentError for anything else.
    """
    if text == "max":
        return 0.0
    found = _SPEED.fullmatch(text)
    if found is not None:
        amount, unit, per, per_unit = found.groups()
        seconds = float(per or 1) * _SECONDS[per_unit]
        if float(amount) > 0 and seconds > 0:
            return float(amount) * _SECONDS[unit] / seconds
    raise PermanentError(
        f"speed {text!r} is none: give replayed time / real time, as in 1d/10s, 1d/1h or 6h/1m "
        "(s, m, h, d), or max"
    )


def run_replay(
    use_case: str, first: date | None = None, until: date | None = None, speed: str = DEFAULT_SPEED
) -> int:
    """Replay the use case of this repository beside `dagster dev`; see :func:`replay`."""
    from rich.console import Console

    from mlops_assets.definitions import STATE, local_places
    from mlops_assets.testing import load_spec

    speed_of(speed)
    folder = Path(__file__).parents[1] / "defs" / use_case
    if not (folder / "defs.yaml").exists():
        raise PermanentError(f"there is no use case {use_case}: {folder}/defs.yaml is missing")
    spec = load_spec(folder / "defs.yaml")
    functions = Functions(f"mlops_assets.defs.{use_case}", folder)
    clock_file = Path(os.environ.setdefault(clock.ENV, str(STATE / "replay" / "clock.json")))
    return replay(Console(), spec, functions, local_places(), clock_file, first, until, speed)


def replay(
    console: "Console",
    spec: UseCaseSpec,
    functions: Functions,
    places: Places,
    clock_file: Path,
    first: date | None,
    until: date | None,
    speed: str,
) -> int:
    """Replay until it is over or interrupted; returns the exit code, 1 with requests unanswered.

    ``first`` is the first day, which sets the clock (back, if need be); default: where the clock
    stands, or else the day after the training window. ``until`` is the day on whose morning it
    ends, when the data of the day before has come in (default: the end of the data).
    MLOPS_CLOCK of this process has to name ``clock_file``.

    Raises PermanentError for days outside the data, while another replay moves the clock, and when
    nothing was deployed.
    """
    rate = speed_of(speed)
    with alone(clock_file), _interruptible():
        span = span_of(spec, clock_file, first, until)
        try:
            url = serve(spec, places)
            console.print(
                f"{spec.name} from {_local(span.start, spec)} to {_local(span.end, spec)} at "
                f"{speed}, asking {url}. Ctrl-C stops; the clock is {clock_file}."
            )
            with _told(console, spec, span) as on_answer:
                sent = drive(spec, functions, url, clock_file, span, rate, on_answer)
        except KeyboardInterrupt:
            console.print(
                f"\nThe clock stands at {_local(clock.shown(clock_file), spec)}. Go on with: "
                f"mlops replay {spec.name} --speed {speed}"
            )
            return INTERRUPTED
    console.print(f"The replay is over: {sent.requests:,} requests were answered.")
    if sent.unanswered:
        console.print(f"[red]{sent.unanswered:,} were not[/], the last because {sent.error}")
    return 1 if sent.unanswered else 0


def span_of(spec: UseCaseSpec, clock_file: Path, first: date | None, until: date | None) -> Span:
    """What is replayed, with the clock set to its start. See :func:`replay`."""
    last = until or spec.end
    if last is None:
        raise PermanentError(f"the data of {spec.name} has no end: give --until")
    inside = f"the data, {spec.start} to {spec.end or 'now'}: choose a day in it"
    if last <= spec.start or (spec.end is not None and last > spec.end):
        raise PermanentError(f"--until {last} is outside {inside}")
    end = datetime.combine(last, LAST_ARRIVAL, ZoneInfo(spec.timezone)).astimezone(UTC)
    if first is None and clock.read(clock_file) is not None:
        start = clock.shown(clock_file)
        if start >= end:
            raise PermanentError(
                f"the replay is over: its clock {clock_file} shows {_local(start, spec)}; give "
                "--from to begin another one, or a later --until"
            )
        return Span(start, end)
    day = first or spec.training_set.end
    if not spec.start <= day < last:
        raise PermanentError(f"--from {day} is not before --until {last} or outside {inside}")
    start = day_start(day, spec.timezone)
    clock.restart(clock_file, start)
    return Span(start, end)


def serve(spec: UseCaseSpec, places: Places) -> str:
    """The URL of the endpoint, started again in this process's environment: an answer carries the
    server's time, and a server that was started before may not be on the replay's clock.

    Raises PermanentError when nothing was deployed yet.
    """
    from mlops_assets.adapters import documents
    from mlops_assets.adapters.endpoints import local
    from mlops_assets.adapters.endpoints.targets import LOCAL_READY_S

    found = local.find(spec.name, places.endpoints) or documents.read(
        places.documents, spec.name, "endpoint", EndpointRecord
    )
    if found is None:
        raise PermanentError(
            f"{spec.name} has no endpoint to ask: run `make demo`, or materialize "
            f"{spec.name}/endpoint and what it needs, first"
        )
    local.stop(spec.name, places.endpoints)
    champion = found.release.champion
    record = local.deploy(
        spec.name, champion, spec.endpoint, places.endpoints, LOCAL_READY_S, "replayed"
    )
    return record.url


def drive(
    spec: UseCaseSpec,
    functions: Functions,
    url: str,
    clock_file: Path,
    span: Span,
    speed: float,
    on_answer: Callable[[datetime], None] = lambda _: None,
) -> Sent:
    """Ask what is asked in ``span``, in its time, and let the clock run to its end at ``speed``.

    However it ends, the clock stands afterwards.
    """
    seconds: list[float] = []
    unanswered, error = 0, None
    try:
        for rows in _chunks(spec, functions, span):
            # What was computed meanwhile took no time of the replay's.
            clock.set_speed(clock_file, speed)
            sent = send(spec, url, rows, clock_file, on_answer)
            seconds += sent.seconds
            unanswered, error = unanswered + sent.unanswered, sent.error or error
        clock.set_speed(clock_file, speed)
        clock.sleep_until(clock_file, span.end)
    finally:
        clock.set_speed(clock_file, 0)
    return Sent(tuple(seconds), unanswered, error)


def _chunks(spec: UseCaseSpec, functions: Functions, span: Span) -> "Iterator[pl.DataFrame]":
    """The requests of the span, some days at a time, all in the order in which they are asked."""
    import polars as pl

    from mlops_assets.lifecycle.training_set import ASKED_AT

    zone = ZoneInfo(spec.timezone)
    # What is asked on a day may be about the next days.
    lead_days = -(-timedelta(minutes=spec.events.lead_minutes) // timedelta(days=1))
    first, last = (instant.astimezone(zone).date() for instant in (span.start, span.end))
    for day in (first + timedelta(days=n) for n in range(0, (last - first).days + 1, CHUNK_DAYS)):
        chunk_end = min(day + timedelta(days=CHUNK_DAYS), last + timedelta(days=1))
        events_end = min(chunk_end + timedelta(days=lead_days), spec.end or date.max)
        if day < events_end:
            rows = requests_of(spec, functions, Window(day, events_end, spec.timezone))
            begin, end = (day_start(edge, spec.timezone) for edge in (day, chunk_end))
            yield rows.filter(pl.col(ASKED_AT).is_between(begin, min(end, span.end), closed="left"))


@contextlib.contextmanager
def alone(clock_file: Path) -> Iterator[None]:
    """One driver per clock: two would ask everything twice. The lock ends with its process."""
    clock_file.parent.mkdir(parents=True, exist_ok=True)
    with (clock_file.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermanentError(
                f"another replay moves {clock_file}: stop it, or wait until it is over"
            ) from None
        yield


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the replay as Ctrl-C does, which reaches no background job of a shell."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _told(
    console: "Console", spec: UseCaseSpec, span: Span
) -> Iterator[Callable[[datetime], None]]:
    """What tells of each answer: a bar on a terminal, elsewhere a line a day."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    zone = ZoneInfo(spec.timezone)
    asked: dict[date, int] = {}

    def line(at: datetime) -> None:
        day = at.astimezone(zone).date()
        if day not in asked:
            told()
        asked[day] = asked.get(day, 0) + 1

    def told() -> None:
        for day, requests in list(asked.items())[-1:]:
            console.print(f"{day}: {requests:,} requests asked")

    if not console.is_terminal or console.is_dumb_terminal:
        yield line
        told()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        total = (span.end - span.start).total_seconds()
        task = progress.add_task(_local(span.start, spec), total=total)

        def bar(at: datetime) -> None:
            passed = (at - span.start).total_seconds()
            progress.update(task, completed=passed, description=_local(at, spec))

        yield bar


def _local(instant: datetime, spec: UseCaseSpec) -> str:
    return f"{instant.astimezone(ZoneInfo(spec.timezone)):%Y-%m-%d %H:%M}"
