"""One process of the detection benchmark: a use case that is live in ``FOLDER``, and ``SCENARIO``.

The use case is the tests' own, with an endpoint that is asked over HTTP; the daemon is the replay's,
whose sensors tick in rounds. Where a fault begins, rounds are counted until somebody is told or a
training is asked for.
"""

import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg

from bench._sensors_run import instance_in
from mlops_assets import clock
from mlops_assets.adapters import documents
from mlops_assets.adapters.endpoints import local
from mlops_assets.core.records import EndpointRecord
from mlops_assets.core.retraining_spec import RetrainingSpec
from mlops_assets.core.spec import TrainingSetSpec, UseCaseSpec
from mlops_assets.core.windows import Window, day_start
from mlops_assets.lifecycle.platform import Places
from mlops_assets.lifecycle.retraining_runs import TRAINING
from mlops_assets.replay.fast import arrival_of
from mlops_assets.replay.ticks import Daemon, Ran
from mlops_assets.replay.traffic import requests_of, send

TICK = timedelta(seconds=30)
MOST_ROUNDS = 12
MOST_DAYS = 10

TRAINED_UNTIL = date(2024, 3, 21)
GOOD_DAYS = 7
"""Live before the fault: a whole window of monitoring."""


@dataclass(frozen=True)
class Scenario:
    """A fault from a day on, and what should come of it."""

    fault: str
    days: int
    """How many days it lasts."""
    kinds: tuple[str, ...] = ()
    """Of the alert; empty where a training is waited for."""
    policy: Mapping[str, object] | None = None
    at_deadline: bool = False
    """Nothing comes: rounds are counted from the deadline on."""


SCENARIOS: Mapping[str, Scenario] = {
    "refused": Scenario("negative", 1, ("failed_check",)),
    "missing": Scenario("empty", 1, ("freshness",), at_deadline=True),
    "few_rows": Scenario("half", 1, ("volume",)),
    "drift_alert": Scenario("scaled", MOST_DAYS, ("drift",)),
    "loss_alert": Scenario("flipped", MOST_DAYS, ("performance_loss",)),
    "drift_retraining": Scenario("scaled", MOST_DAYS, policy={"kind": "drift", "above": 0.1}),
    "loss_retraining": Scenario(
        "flipped", MOST_DAYS, policy={"kind": "performance", "worse_by": 0.05}
    ),
}


@dataclass(frozen=True)
class Round:
    """One tick of every sensor: what ran, seconds of all, and those of the runs."""

    ran: tuple[Ran, ...]
    seconds: float
    run_seconds: float


@dataclass(frozen=True)
class Detected:
    """What was waited for: ``days`` of data and, of the last one, ``rounds`` of ticks."""

    days: int
    rounds: int
    seconds: float
    """Of ticks and runs in those rounds."""
    run_seconds: float
    runs: int
    """That had to end before it, one behind the other."""
    what: str


class Live:
    """The use case and its daemon, in a time that is moved."""

    def __init__(self, folder: Path, scenario: Scenario, port: int) -> None:
        # The tests' own: on the path of this process alone.
        from lifecycle_support import Project, spec_of_visits

        self.clock_file = Path(os.environ[clock.ENV])
        self.sent_file = folder / "alerts.jsonl"
        clock.set_to(self.clock_file, arrival_of(TRAINED_UNTIL - timedelta(days=1), ZONE))
        places = replace(Places.under(folder), alert_channels=f"jsonl:{self.sent_file}")
        self.project = Project(
            _spec(spec_of_visits(port), scenario),
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

    def pass_day(self, day: date) -> None:
        """Ask the endpoint about the events of ``day``; its data comes in on the next morning."""
        known = documents.read(
            self.project.places.documents, self.spec.name, "endpoint", EndpointRecord
        )
        if known is None:
            raise RuntimeError("there is no endpoint")
        window = Window(day, day + timedelta(days=1), ZONE)
        rows = requests_of(self.spec, self.project.functions, window)
        sent = send(self.spec, known.url, rows, self.clock_file)
        if sent.unanswered:
            raise RuntimeError(f"{sent.unanswered} requests were not answered: {sent.error}")
        clock.set_to(self.clock_file, arrival_of(day, ZONE))

    def round(self) -> Round:
        """One tick of each sensor, and the runs that they ask for; then time goes on."""
        begun = time.perf_counter()
        name, ran, run_seconds = self.spec.name, [], 0.0
        ticks: Sequence[Callable[[], list[Ran]]] = (
            lambda: self.daemon.tick(f"{name}_new_data"),
            lambda: self.daemon.automate(most=1),
            lambda: self.daemon.tick(f"{name}_retraining"),
            lambda: self.daemon.tick(f"{name}_alerts"),
        )
        for tick in ticks:
            found = tick()
            ran += found
            run_seconds += sum(self._seconds_of(each) for each in found)
        seconds = time.perf_counter() - begun
        clock.set_to(self.clock_file, clock.now() + TICK)
        return Round(tuple(ran), seconds, run_seconds)

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

    def until(self, happened: Callable[[Round], str]) -> tuple[list[Round], str]:
        """Rounds until ``happened`` says what, or until they come to rest without."""
        rounds: list[Round] = []
        for _ in range(MOST_ROUNDS):
            rounds.append(self.round())
            if what := happened(rounds[-1]):
                return rounds, what
            # What nobody asks for in two rounds does not come without other data.
            if len(rounds) > 2 and not rounds[-1].ran and not rounds[-2].ran:
                break
        return rounds, ""


ZONE = "Europe/Berlin"


def _spec(visits: UseCaseSpec, scenario: Scenario) -> UseCaseSpec:
    policy = scenario.policy or {"kind": "never"}
    return visits.model_copy(
        update={
            "training_set": TrainingSetSpec(
                end=TRAINED_UNTIL, days=20, validation_days=3, holdout_days=5
            ),
            "retraining": RetrainingSpec.model_validate({"policy": policy, "cooldown_days": 0}),
        }
    )


def detect(live: Live, scenario: Scenario) -> Detected:
    """Deploy, let good days pass, and then those of the fault until it is found."""
    live.deploy()
    first = TRAINED_UNTIL + timedelta(days=GOOD_DAYS)
    faults = {first + timedelta(days=n): scenario.fault for n in range(scenario.days)}
    live.project.faults({day.isoformat(): fault for day, fault in faults.items()})
    for n in range(GOOD_DAYS):
        live.pass_day(TRAINED_UNTIL + timedelta(days=n))
        live.settle()
    told = len(live.sent())

    def happened(of: Round) -> str:
        if not scenario.kinds:
            started = [run for run in of.ran if TRAINING in run.tags]
            return f"a training of {', '.join(started[0].assets)}" if started else ""
        new = [
            each
            for each in live.sent()[told:]
            if each["event"] == "raised" and each["kind"] in scenario.kinds
        ]
        return f"{new[0]['kind']}, {new[0]['subject']}" if new else ""

    for number, day in enumerate(faults, start=1):
        live.pass_day(day)
        if scenario.at_deadline:
            live.settle()
            due = live.spec.datasets["visits"].due_hours
            end = day_start(day + timedelta(days=1), ZONE)
            clock.set_to(live.clock_file, end + timedelta(hours=due))
        rounds, what = live.until(happened)
        if what:
            runs = [run for each in rounds for run in each.ran if TRAINING not in run.tags]
            return Detected(
                days=number,
                rounds=len(rounds),
                seconds=sum(each.seconds for each in rounds),
                run_seconds=sum(each.run_seconds for each in rounds),
                runs=len(runs),
                what=what,
            )
    raise RuntimeError(f"{scenario.fault} was not found in {scenario.days} days")


def main() -> None:
    """``FOLDER SCENARIO``: print what was detected as JSON."""
    warnings.simplefilter("ignore")
    folder, scenario = Path(sys.argv[1]), SCENARIOS[sys.argv[2]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    live = Live(folder, scenario, port)
    try:
        print(json.dumps(asdict(detect(live, scenario))))
    finally:
        local.stop(live.spec.name, live.project.places.endpoints)
        live.project.instance.dispose()


if __name__ == "__main__":
    main()
