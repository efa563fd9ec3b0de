"""What an alerting tick looks at: each source, and what it says about what is open."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from mlops_assets.adapters import documents
from mlops_assets.core import conditions, happenings
from mlops_assets.core.alert_text import asset_page
from mlops_assets.core.alert_watch import Open, Seen, Teller, Watch, applied
from mlops_assets.core.alerts import Alert, Key
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.monitoring_records import AlarmsRecord, DriftRecord, PerformanceRecord
from mlops_assets.core.records import PromotionRecord
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.alerting import events
from mlops_assets.lifecycle.dataset_checks import deadline_evaluation
from mlops_assets.lifecycle.freshness import late
from mlops_assets.lifecycle.platform import Platform


@dataclass(frozen=True)
class Place:
    """Where a sensor runs, as Dagster names it."""

    location: str
    repository: str


class Look:
    """What one tick has found so far."""

    def __init__(self, spec: UseCaseSpec, platform: Platform, now: datetime, watch: Watch) -> None:
        self.spec = spec
        self.platform = platform
        self.now = now
        self.watch = watch
        self.teller = Teller(spec.name, tuple(spec.owners), now)
        self.open: tuple[Open, ...] = watch.open
        self.ended: dict[Key, str] = {}
        self.notices: list[Alert] = []
        self.evaluations: list[dg.AssetCheckEvaluation] = []
        self.seen = dict(watch.seen)
        self.told = dict(watch.told)
        self.silent = watch.silent
        self.problems: dict[str, str] = {}
        self.unsure: set[str] = set()

    def happened(self, events: Iterable[happenings.CheckRun | happenings.RunEnd]) -> None:
        """Take what the event log has, in its order."""
        for event in events:
            self.add(happenings.happened(self.teller, event, self.open))

    def add(self, seen: Seen) -> None:
        """Take what a source says."""
        self.open = applied(self.open, seen)
        self.ended |= seen.ended
        self.notices += seen.notices

    def ask(self, source: str, look: Callable[[], Seen]) -> None:
        """Take what ``source`` says. One that cannot be read stops no other, and is told."""
        try:
            self.add(look())
        except PermanentError as error:
            self.problems[source] = str(error)
        except TransientError:
            self.unsure.add(source)  # The next tick asks again.

    def result(self) -> Watch:
        """The memory after this tick."""
        changed = {
            "open": self.open,
            "seen": self.seen,
            "told": self.told,
            "silent": self.silent,
        }
        return self.watch.model_copy(update=changed)


def look_around(look: Look, *, decided: bool) -> None:
    """Ask the sources of each tick; the ledger of decisions only when something was ``decided``."""
    spec, url = look.spec, look.platform.documents_url
    teller = look.teller
    limit = spec.monitoring.drift_of_model
    look.ask(
        "drift",
        lambda: conditions.drift(
            teller, documents.read(url, spec.name, "drift", DriftRecord), limit, look.open
        ),
    )
    look.ask(
        "performance",
        lambda: conditions.performance(
            teller, documents.read(url, spec.name, "performance", PerformanceRecord), look.open
        ),
    )
    look.ask(
        "alarms",
        lambda: conditions.day_alarms(
            teller, documents.read(url, spec.name, "alarms", AlarmsRecord), look.open
        ),
    )
    look.ask("promotion", lambda: _promotions(look))
    if spec.rollout.strategy == "guarded":
        look.ask("rollout", lambda: _rollouts(look))
    if decided:
        look.ask("retraining", lambda: _retraining(look))
    for name, dataset in spec.datasets.items():
        if dataset.partitioned:
            look.ask(f"inputs/{name}", lambda name=name: _late(look, name))
    look.ask("endpoint", lambda: _endpoint(look))
    page = asset_page([spec.name])
    look.add(happenings.broken(teller, "document", look.problems, page, look.open, look.unsure))


def look_slowly(look: Look, instance: dg.DagsterInstance, place: Place | None) -> None:
    """Ask the sources that change slowly, in Dagster's own tables."""
    spec, teller = look.spec, look.teller
    if spec.end is None:
        look.add(happenings.stale(teller, events.stale_assets(instance, spec), look.open))
    if place is not None:
        failing = events.failing_sensors(instance, place.location, place.repository, _sensors(spec))
        page = "/automation"
        look.add(happenings.broken(teller, "sensor", failing, page, look.open))


def _sensors(spec: UseCaseSpec) -> list[str]:
    names = [f"{spec.name}_new_data", f"{spec.name}_retraining"]
    return [*names, f"{spec.name}_rollout"] if spec.rollout.strategy == "guarded" else names


def _promotions(look: Look) -> Seen:
    """Decisions since the last tick; the document says that there are some, the ledger which."""
    from mlops_assets.adapters import ledger

    url, name = look.platform.documents_url, look.spec.name
    last = documents.read(url, name, "promotion", PromotionRecord)
    if last is None:
        return Seen()
    identity = f"{last.version} {last.decision} {last.evaluation_digest}"
    if look.seen.get("promotion") == identity:
        return Seen()
    decided = ledger.decisions(look.platform.ledgers(), name)
    # History that nobody was told while it was new is not told.
    first = look.told.get("promotions", max(0, len(decided) - 1))
    look.seen["promotion"] = identity
    look.told["promotions"] = len(decided)
    return conditions.promotions(look.teller, decided[first:])


def _rollouts(look: Look) -> Seen:
    """What became of rollouts since the last tick. The ledger is read where it has grown."""
    from mlops_assets.adapters import ledger
    from mlops_assets.core.rollout_conditions import rollouts

    book = ledger.book(look.platform.ledgers(), look.spec.name)
    # History that nobody was told while it was new is not told.
    first = look.told.get("rollouts", max(0, book.state.entries - 1))
    look.told["rollouts"] = book.state.entries
    return rollouts(look.teller, book.numbered, first, look.open)


def _retraining(look: Look) -> Seen:
    """Trainings since the last decision that was looked at, and what the budget holds back."""
    from mlops_assets.adapters import decisions

    book = decisions.book(look.platform.ledgers(), look.spec.name)
    trainings = book.history.trainings
    first = look.told.get("trainings", max(0, len(trainings) - 1))
    look.told["trainings"] = len(trainings)
    started = trainings[first:]
    reasons = book.decisions if started else ()
    notices = conditions.trainings(look.teller, started, reasons).notices
    waits = conditions.put_off(look.teller, book.history.last, look.open)
    return Seen(waits.holds, waits.ended, notices)


def _late(look: Look, name: str) -> Seen:
    from mlops_assets.adapters.inputs import recorded

    spec, dataset = look.spec, look.spec.datasets[name]
    entries = recorded(look.platform.documents_url, spec.name, name)
    present = {day for day, entry in entries.items() if entry.digest}
    # What a check refused has come: that is told already.
    days = late(spec, name, present | happenings.waiting(look.open, name), look.now)
    verdict = f"{look.now.astimezone(UTC).date()} {' '.join(day.isoformat() for day in days)}"
    if look.seen.get(f"deadline/{name}") != verdict:
        look.seen[f"deadline/{name}"] = verdict
        look.evaluations.append(deadline_evaluation(spec, name, days))
    return happenings.late(look.teller, name, days, spec.timezone, dataset.due_hours, look.open)


def _endpoint(look: Look) -> Seen:
    from mlops_assets.adapters.endpoints.health import is_well
    from mlops_assets.adapters.endpoints.targets import given_up

    name, endpoints, stored = (
        look.spec.name,
        look.platform.endpoints_url,
        look.platform.documents_url,
    )
    record = documents.read(stored, name, "endpoint", EndpointRecord)
    if record is None or given_up(name, endpoints):
        look.silent = 0
        return happenings.endpoint(look.teller, "", 0, look.open)
    well = is_well(name, look.spec.endpoint, record.url, endpoints, stored)
    # Counted no further than it matters, so that a long outage does not write each tick.
    silent = 0 if well else min(look.silent + 1, happenings.SILENT_TICKS)
    look.silent = silent
    return happenings.endpoint(look.teller, record.url, silent, look.open)
