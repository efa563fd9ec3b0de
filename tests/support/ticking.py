"""Sensors and conditions ticked in turns, their runs executed here, until nothing is asked for."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from lifecycle_support import Project

from mlops_assets import clock
from mlops_assets.lifecycle.arrivals.sensor import new_data_sensor
from mlops_assets.replay.ticks import Daemon, Ran

MOST_ROUNDS = 12


def set_clock(path: Path, at: datetime) -> None:
    """Make ``at`` the time, for a process whose MLOPS_CLOCK names ``path``; it stands still."""
    clock.write(path, clock.ReplayClock(at=at, since=datetime(2026, 1, 1, tzinfo=UTC)))


def daemon_of(project: Project) -> Daemon:
    """A daemon for the project's assets and its sensor of new data."""
    name = f"{project.spec.name}_new_data"
    definitions = project.definitions
    if name not in {sensor.name for sensor in definitions.sensors or ()}:
        sensor = new_data_sensor(project.spec, project.functions)
        definitions = dg.Definitions.merge(definitions, dg.Definitions(sensors=[sensor]))
    return Daemon(definitions, project.instance)


def look(daemon: Daemon, sensor: str, cursor: str | None = None) -> SensorExecutionData:
    """What a tick of ``sensor`` asks for and says, with nothing of it done or remembered."""
    context = dg.build_sensor_context(
        instance=daemon.instance,
        cursor=cursor,
        definitions=daemon.definitions,
        sensor_name=sensor,
        resources=dict(daemon.definitions.resources or {}),
    )
    with context:
        return daemon.definitions.resolve_sensor_def(sensor).evaluate_tick(context)


def until_quiet(daemon: Daemon, sensor: str, rounds: int = MOST_ROUNDS) -> list[Ran]:
    """Every run of alternating ticks of ``sensor`` and of the conditions, until neither asks.

    Fails when they do not come to rest.
    """
    ran: list[Ran] = []
    for _ in range(rounds):
        new = [*daemon.tick(sensor), *daemon.automate(most=10)]
        if not new:
            return ran
        ran += new
    raise AssertionError(f"still asked for after {rounds} rounds: {made(ran[-3:])}")


def made(ran: Iterable[Ran]) -> dict[str, list[str]]:
    """The days of each asset that the runs were for, each as often as it ran, in order.

    An asset without days has an empty text for each run.
    """
    found: dict[str, list[str]] = {}
    for run in ran:
        for asset in run.assets:
            found.setdefault(asset, []).extend(_days(run.partitions))
    return {asset: sorted(days) for asset, days in sorted(found.items())}


def _days(partitions: tuple[str, str] | None) -> list[str]:
    if partitions is None:
        return [""]
    first, last = (datetime.fromisoformat(day) for day in partitions)
    return [(first + timedelta(days=n)).date().isoformat() for n in range((last - first).days + 1)]
