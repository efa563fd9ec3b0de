"""One process of the sensors benchmark: tick the sensors of ``COUNT`` use cases in ``FOLDER``.

A tick is what Dagster's code server does when the daemon asks it for one, in this process and on an
instance that is open: neither gRPC nor the daemon's own record of the tick is in it. A code server
opens its instance for each tick, which is measured apart.
"""

import json
import os
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import dagster as dg
from dagster._core.definitions.sensor_definition import (
    SensorEvaluationContext,
    SensorExecutionData,
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin

from bench._sensors_state import NOW, functions, spec_of
from mlops_assets import clock
from mlops_assets.lifecycle.arrivals.sensor import INTERVAL_SECONDS, LOOK_AGAIN
from mlops_assets.lifecycle.platform import Places, Platform, resources_at
from mlops_assets.lifecycle.use_case import use_case_definitions

SENSORS = ("new_data", "retraining", "alerts")
FLOOR = "empty"
"""A sensor that does nothing, beside each use case's own."""

PASSES = 3
"""Idle ticks of each sensor; the median counts."""

MOST_TICKS = 50

_ROOT = Path(__file__).resolve().parents[1]

Said = SensorExecutionData


class Seconds(NamedTuple):
    """On the wall, and of this process on a processor."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Seconds":
        """The clocks' readings."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, before: "Seconds") -> "Seconds":
        return Seconds(self.wall - before.wall, self.cpu - before.cpu)


def empty_sensor(name: str) -> dg.SensorDefinition:
    """What Dagster itself costs: a sensor with the platform's resource that skips."""

    @dg.sensor(name=name)
    def _empty(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
        del context, platform
        return dg.SkipReason("nothing is new")

    return _empty


class Ticks:
    """All sensors, ticked in turn as the daemon does, with their cursors."""

    def __init__(self, count: int, folder: Path, instance: dg.DagsterInstance) -> None:
        shared, specs = functions(), [spec_of(number) for number in range(count)]
        self.names = {kind: [f"{spec.name}_{kind}" for spec in specs] for kind in (FLOOR, *SENSORS)}
        places = replace(
            Places.under(folder / "state"), alert_channels=f"jsonl:{folder / 'alerts.jsonl'}"
        )
        definitions = dg.Definitions.merge(
            *(use_case_definitions(spec, shared) for spec in specs),
            dg.Definitions(
                sensors=[empty_sensor(name) for name in self.names[FLOOR]],
                resources=resources_at(places),
            ),
        )
        self.repository = definitions.get_repository_def()
        self.instance = instance
        self.cursors: dict[str, str | None] = {}

    def tick(self, kind: str, *, reopened: bool = False) -> tuple[Seconds, list[Said]]:
        """One tick of every use case's sensor of ``kind``: seconds in all, and what each said.

        ``reopened``: each opens the instance for itself, as in a code server.
        """
        said: list[Said] = []
        begun = Seconds.now()
        for name in self.names[kind]:
            said.append(self._evaluate(name, reopened=reopened))
            self.cursors[name] = said[-1].cursor
        seconds = Seconds.now() - begun
        for found in said:
            for event in found.asset_events:
                self.instance.report_runless_asset_event(event)
        return seconds, said

    def settle(self) -> int:
        """Tick until no cursor moves: what first ticks report is read by others, some at a time.

        Returns how many ticks of each sensor that took.
        """
        for number in range(1, MOST_TICKS + 1):
            before = dict(self.cursors)
            for kind in SENSORS:
                self.tick(kind)
            if self.cursors == before:
                return number
        raise RuntimeError(f"sensors were still busy after {MOST_TICKS} ticks")

    def _evaluate(self, name: str, *, reopened: bool) -> Said:
        """As ``dagster._grpc.impl.get_external_sensor_execution`` does."""
        sensor = self.repository.get_sensor_def(name)
        resources = self.repository.get_top_level_resources()
        with SensorEvaluationContext(
            self.instance.get_ref(),
            last_tick_completion_time=None,
            last_run_key=None,
            cursor=self.cursors.get(name),
            log_key=None,
            repository_name=self.repository.name,
            repository_def=self.repository,
            sensor_name=name,
            resources={key: resources[key] for key in sensor.required_resource_keys},
            code_location_origin=RegisteredCodeLocationOrigin("bench"),
            instance=None if reopened else self.instance,
        ) as context:
            return sensor.evaluate_tick(context)


def measure(count: int, folder: Path) -> dict[str, object]:
    """Seconds of all use cases' ticks, by sensor: the first ones, idle ones, and with a new day."""
    instance = instance_in(folder / "dagster")
    ticks = Ticks(count, folder, instance)
    before = peak_mib()
    kinds = (FLOOR, *SENSORS)
    first = {kind: ticks.tick(kind)[0] for kind in kinds}
    settled = ticks.settle()
    warm = peak_mib()
    idle: dict[str, list[Seconds]] = {kind: [] for kind in kinds}
    for _ in range(PASSES):
        _wait(timedelta(seconds=INTERVAL_SECONDS))
        for kind, seconds in idle.items():
            took, said = ticks.tick(kind)
            check_idle(kind, said)
            seconds.append(took)
    peak = peak_mib()
    _wait(LOOK_AGAIN)
    looked, said = ticks.tick("new_data")
    check_idle("new_data", said)
    reopened, _ = ticks.tick(FLOOR, reopened=True)
    clock.set_to(Path(os.environ[clock.ENV]), NOW + timedelta(days=1))
    new_day: dict[str, Seconds] = {}
    requests = 0
    for kind in SENSORS:
        new_day[kind], said = ticks.tick(kind)
        requests += sum(len(each.run_requests or ()) for each in said)
    instance.dispose()
    return {
        "first": first,
        "idle": {kind: _median(seconds) for kind, seconds in idle.items()},
        "looked": looked,
        "reopened": reopened,
        "new_day": new_day,
        "requests": requests,
        "settled": settled,
        "mib": {"definitions": before, "first": warm, "idle": peak},
    }


def _wait(time_passed: timedelta) -> None:
    clock.set_to(Path(os.environ[clock.ENV]), clock.now() + time_passed)


def _median(seconds: Sequence[Seconds]) -> Seconds:
    wall, cpu = zip(*seconds, strict=True)
    return Seconds(statistics.median(wall), statistics.median(cpu))


def check_idle(kind: str, said: Sequence[SensorExecutionData]) -> None:
    """Raise RuntimeError for a tick that was not idle: its seconds would be of something else."""
    for each in said:
        busy = bool(each.run_requests or each.asset_events)
        if kind == "new_data":
            busy = busy or not json.loads(each.cursor or "{}").get("seen")
        if kind == "alerts":
            busy = busy or not (each.skip_message or "").startswith("nothing new")
        if kind == "retraining":
            busy = busy or not (each.skip_message or "").startswith("unchanged")
        if busy:
            raise RuntimeError(f"a tick of {kind} was not idle: {each.skip_message}")


def instance_in(folder: Path) -> dg.DagsterInstance:
    """An instance that is configured as the repository's."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (_ROOT / "dagster.yaml").read_text().replace(".mlops/dagster", str(folder))
    (folder / "dagster.yaml").write_text(text)
    return dg.DagsterInstance.from_config(str(folder))


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 1024 if sys.platform != "darwin" else kib / 2**20


def main() -> None:
    """Print the measurements as JSON."""
    warnings.simplefilter("ignore")
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    print(json.dumps(measure(count, folder)))


if __name__ == "__main__":
    main()
