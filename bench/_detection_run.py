"""One process of the detection benchmark: a use case that is live in ``FOLDER``, and a ``STORY``.

The use case is the tests' own, with an endpoint that is asked over HTTP; the daemon is that of
replays, whose sensors tick in rounds. Where a fault begins, rounds are counted until somebody is
told or a training is asked for.
"""

import json
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

import polars as pl

from bench._sensors_run import instance_in
from mlops_assets import clock
from mlops_assets.adapters import documents
from mlops_assets.adapters.endpoints import local
from mlops_assets.core.monitoring_spec import MonitoringSpec
from mlops_assets.core.pit import ASKED_AT
from mlops_assets.core.retraining_spec import RetrainingSpec
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.core.spec import TrainingSetSpec, UseCaseSpec
from mlops_assets.core.windows import Window, day_start
from mlops_assets.lifecycle.platform import Places
from mlops_assets.lifecycle.retraining.runs import TRAINING
from mlops_assets.replay.fast import arrival_of
from mlops_assets.replay.ticks import Daemon, Ran
from mlops_assets.replay.traffic import requests_of, send

TICK = timedelta(seconds=30)
MOST_ROUNDS = 15
"""Sources without an inventory are looked at again after ten."""

MOST_DAYS = 10

TRAINED_UNTIL = date(2024, 3, 21)
WINDOW_DAYS = 5
"""That monitoring judges: the shortest that it can. So many good days are live before a fault."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with the source from a day on, and what should come of it."""

    case: str
    kind: str
    """As the tests' source knows it."""
    alert: str = ""
    """Its kind, where there should be one."""
    training: bool = False
    """Whether a training should be asked for."""
    most_days: int = 1
    """Days that it may take; a fault of one day is repaired after it."""
    at_deadline: bool = False
    """Nothing comes: rounds are counted from the deadline on."""


@dataclass(frozen=True)
class Story:
    """Faults of one use case, one after the other, and its retraining policy."""

    policy: Mapping[str, object]
    faults: tuple[Fault, ...]


REFUSED = Fault("a day that checks refuse", "negative", "failed_check")
DRIFT = Fault("drifted days", "scaled", "drift", training=True, most_days=MOST_DAYS)
STORIES: Mapping[str, Story] = {
    "quick": Story({"kind": "drift", "above": 0.05}, (REFUSED, DRIFT)),
    "drift": Story(
        {"kind": "drift", "above": 0.05},
        (
            REFUSED,
            Fault("a day with half its rows", "half", "volume"),
            Fault("a day that does not come", "empty", "freshness", at_deadline=True),
            DRIFT,
        ),
    ),
    "loss": Story(
        {"kind": "performance", "worse_by": 0.05},
        (
            Fault(
                "days with flipped labels",
                "flipped",
                "performance_loss",
                training=True,
                most_days=MOST_DAYS,
            ),
        ),
    ),
}


@dataclass(frozen=True)
class Round:
    """One tick of every sensor: what ran, and seconds of all but trainings."""

    ran: tuple[Ran, ...]
    seconds: float


@dataclass(frozen=True)
class Detected:
    """What was waited for: ``days`` of data and, after the last one's arrival, ``rounds``."""

    case: str
    event: str
    days: int
    rounds: int
    seconds: float
    """Of the ticks and runs of those rounds, but a training itself."""
    runs: int
    """That ended before it."""
    idle: int
    """Rounds before it in which nothing ran."""
    what: str


class Live:
    """The use case and its daemon, in a time that is moved."""

    def __init__(self, folder: Path, policy: Mapping[str, object], port: int) -> None:
        # The tests' own: on the path of this process alone.
        from lifecycle_support import (  # pyright: ignore[reportMissingImports]
            Project,
            spec_of_visits,
        )

        self.clock_file = Path(os.environ[clock.ENV])
        self.sent_file = folder / "alerts.jsonl"
        clock.set_to(
            self.clock_file, arrival_of(TRAINED_UNTIL - timedelta(days=1), "Europe/Berlin")
        )
        places = replace(Places.under(folder), alert_channels=f"jsonl:{self.sent_file}")
        self.project = Project(
            _spec(spec_of_visits(port), policy),
            places,
            instance_in(folder / "dagster"),
            Path(os.environ["VISITS_FAULTS"]),
        )
        self.daemon = Daemon(self.project.definitions, self.project.instance)

    @property
    def spec(self) -> UseCaseSpec:
        """The use case's."""
        return self.project.spec

    def deploy(self) -> None:
        """The days so far, a first model and its endpoint."""
        self.settle()
        stages = ("training_set", "model", "evaluation", "promotion", "endpoint")
        if not self.project.run(stages).success:
            raise RuntimeError("the first model was not deployed")
        self.settle()

    def pass_until(self, instant: datetime) -> None:
        """Let the clock go on to ``instant``, and ask the endpoint what is asked until then."""
        known = documents.read(
            self.project.places.documents, self.spec.name, "endpoint", EndpointRecord
        )
        if known is None:
            raise RuntimeError("there is no endpoint")
        zone = ZoneInfo(self.spec.timezone)
        first, last = (at.astimezone(zone).date() for at in (clock.now(), instant))
        window = Window(first, last + timedelta(days=1), self.spec.timezone)
        rows = requests_of(self.spec, self.project.functions, window)
        sent = send(self.spec, known.url, rows.filter(pl.col(ASKED_AT) < instant), self.clock_file)
        if sent.unanswered:
            raise RuntimeError(f"{sent.unanswered} requests were not answered: {sent.error}")
        clock.set_to(self.clock_file, instant)

    def pass_day(self, day: date) -> None:
        """Let ``day`` pass, until its data has come in."""
        self.pass_until(arrival_of(day, self.spec.timezone))

    def round(self) -> Round:
        """One tick of each sensor, and the runs that they ask for; then time goes on."""
        begun = time.perf_counter()
        name = self.spec.name
        ran = [
            *self.daemon.tick(f"{name}_new_data"),
            *self.daemon.automate(most=1),
            *self.daemon.tick(f"{name}_retraining"),
            *self.daemon.tick(f"{name}_alerts"),
        ]
        seconds = time.perf_counter() - begun
        clock.set_to(self.clock_file, clock.now() + TICK)
        trainings = (run for run in ran if TRAINING in run.tags)
        return Round(tuple(ran), seconds - sum(self._seconds_of(run) for run in trainings))

    def _seconds_of(self, run: Ran) -> float:
        record = self.project.instance.get_run_record_by_id(run.run_id)
        if record is None or record.start_time is None or record.end_time is None:
            return 0.0
        return record.end_time - record.start_time

    def settle(self) -> None:
        """Rounds until nothing is asked for."""
        for _ in range(MOST_ROUNDS):
            if not self.round().ran:
                return
        raise RuntimeError(f"still busy after {MOST_ROUNDS} rounds")

    def sent(self) -> list[dict[str, str]]:
        """The alerts that were delivered."""
        if not self.sent_file.exists():
            return []
        return [json.loads(line) for line in self.sent_file.read_text().splitlines()]


def _spec(visits: UseCaseSpec, policy: Mapping[str, object]) -> UseCaseSpec:
    retraining = {"policy": policy, "cooldown_days": 0}
    return visits.model_copy(
        update={
            "training_set": TrainingSetSpec(
                end=TRAINED_UNTIL, days=20, validation_days=3, holdout_days=5
            ),
            "retraining": RetrainingSpec.model_validate(retraining),
            "monitoring": MonitoringSpec(window_days=WINDOW_DAYS),
        }
    )


def told(live: Live, story: Story) -> list[Detected]:
    """Deploy, let good days pass, and then each fault until all that should come of it has."""
    live.deploy()
    day = TRAINED_UNTIL
    for _ in range(WINDOW_DAYS):
        live.pass_day(day)
        live.settle()
        day += timedelta(days=1)
    found: list[Detected] = []
    for fault in story.faults:
        every = {day + timedelta(days=n): fault.kind for n in range(fault.most_days)}
        live.project.faults({each.isoformat(): kind for each, kind in every.items()})
        waits = {"alert": _alerts(live, "raised", fault.alert)}
        if fault.training:
            waits["training"] = _trainings
        for number in range(1, fault.most_days + 1):
            live.pass_day(day)
            if fault.at_deadline:
                live.settle()
                due = timedelta(hours=live.spec.datasets["visits"].due_hours)
                live.pass_until(day_start(day + timedelta(days=1), live.spec.timezone) + due)
            day += timedelta(days=1)
            found += waited(live, fault.case, number, waits)
            live.settle()
            if not waits:
                break
        if waits:
            raise RuntimeError(f"{fault.case}: no {' and no '.join(waits)} came")
        if fault.most_days == 1:
            live.project.faults({})
            mended = {"end of the alert": _alerts(live, "resolved", fault.alert)}
            found += waited(live, f"{fault.case}, repaired", 1, mended)
            live.settle()
    return found


Happened = Callable[[Round], str]
"""What has happened in a round, in words; empty while it has not."""


def _alerts(live: Live, event: str, kind: str) -> Happened:
    before = len(live.sent())

    def happened(_: Round) -> str:
        new = [one for one in live.sent()[before:] if (one["event"], one["kind"]) == (event, kind)]
        return f"{kind}: {new[0]['subject']}" if new else ""

    return happened


def _trainings(found: Round) -> str:
    tags = [run.tags for run in found.ran if TRAINING in run.tags]
    return tags[0]["mlops/reasons"] if tags else ""


class Ticking(Protocol):
    """What goes on in rounds."""

    def round(self) -> Round:
        """The next one."""
        ...


def waited(live: Ticking, case: str, days: int, waits: dict[str, Happened]) -> Iterator[Detected]:
    """What of ``waits``, which loses it, happens in rounds from now until it comes to rest."""
    rounds: list[Round] = []
    while waits and len(rounds) < MOST_ROUNDS:
        rounds.append(live.round())
        for event, happened in list(waits.items()):
            if what := happened(rounds[-1]):
                del waits[event]
                ran = [run for one in rounds for run in one.ran if TRAINING not in run.tags]
                yield Detected(
                    case=case,
                    event=event,
                    days=days,
                    rounds=len(rounds),
                    seconds=sum(one.seconds for one in rounds),
                    runs=len(ran),
                    idle=sum(not one.ran for one in rounds[:-1]),
                    what=what,
                )


def main() -> None:
    """``FOLDER STORY``: print what was detected as JSON."""
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    folder, story = Path(sys.argv[1]), STORIES[sys.argv[2]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    live = Live(folder, story.policy, port)
    try:
        print(json.dumps([asdict(one) for one in told(live, story)]))
    finally:
        local.stop(live.spec.name, live.project.places.endpoints)
        live.project.instance.dispose()


if __name__ == "__main__":
    main()
