"""Alerts: one sensor per use case that looks at what is known, and tells people what changed.

It reads small documents and what Dagster's event log has since its cursor, never data. What should
be open is written down first, then the alert log is brought to it, then channels are sent what they
have not got: a tick that dies anywhere is made up for by the next one. A tick without news reads no
table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import dagster as dg
from pydantic import AwareDatetime

from mlops_assets.adapters import alerts, documents
from mlops_assets.core import conditions, happenings
from mlops_assets.core.alert_text import Links, asset_page
from mlops_assets.core.alert_watch import Open, Seen, Teller, Watch, applied, has_news, settled
from mlops_assets.core.alerts import Alert, Key, Policy
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.monitoring_records import DriftRecord, PerformanceRecord
from mlops_assets.core.records import EndpointRecord, PromotionRecord, Record
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle import alert_events
from mlops_assets.lifecycle.dataset_checks import deadline_evaluation
from mlops_assets.lifecycle.freshness import late
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.switches import default_status

INTERVAL_SECONDS = 30
DOCUMENT = "alerting"

POLICY = Policy()

LOOK_EVERY = timedelta(minutes=5)
"""Between looks at what changes slowly: failing sensors and stale assets."""

_PING_SECONDS = 2.0
_FLUSH_SECONDS = 10.0
"""Of a tick, which other use cases' ticks wait for; what is left over is sent by the next."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Place:
    """Where a sensor runs, as Dagster names it; None outside a code location."""

    location: str
    repository: str


class Cursor(Record):
    """How far the last tick came."""

    events: int
    """Number of the last event that it has read."""
    looked: AwareDatetime
    """When it looked at what changes slowly."""


@dataclass(frozen=True)
class Tick:
    """What a tick did."""

    cursor: Cursor
    message: str
    evaluations: tuple[dg.AssetCheckEvaluation, ...] = ()


def alerts_sensor(spec: UseCaseSpec) -> dg.SensorDefinition:
    """The sensor that tells the use case's owners what they should know."""
    name = f"{spec.name}_alerts"

    @dg.sensor(
        name=name,
        description=f"Tells the owners of {spec.name} what fails, drifts, is late or was decided.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status(name),
    )
    def _alerts(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        from mlops_assets import clock

        origin = context.code_location_origin
        place = (
            Place(origin.location_name, context.repository_name)
            if origin is not None and context.repository_name
            else None
        )
        cursor = _parsed(context.cursor)
        found = tick(spec, platform, context.instance, cursor, clock.now(), place)
        return dg.SensorResult(
            skip_reason=dg.SkipReason(found.message),
            cursor=found.cursor.model_dump_json(),
            asset_events=list(found.evaluations),
        )

    return _alerts


def _parsed(cursor: str | None) -> Cursor | None:
    try:
        return Cursor.model_validate_json(cursor) if cursor else None
    except ValueError:
        return None  # Another release's: the sensor looks some way back.


def tick(
    spec: UseCaseSpec,
    platform: Platform,
    instance: dg.DagsterInstance,
    cursor: Cursor | None,
    now: datetime,
    place: Place | None = None,
    policy: Policy = POLICY,
) -> Tick:
    """Look at everything once, record what changed and send what is not delivered.

    Raises what the lake raises, and PermanentError for channels that are not configured right.
    """
    before = documents.read(platform.documents_url, spec.name, DOCUMENT, Watch)
    # Without a memory, what is open has to be found again in the events behind the cursor.
    known = cursor if before is not None else None
    happened = alert_events.happened_since(instance, spec, known.events if known else None)
    look = _Look(spec, platform, now, before or Watch(settled=False))
    look.apply(happenings.happened(look.teller, happened.events, look.watch.open))
    _look_around(look, decided=happened.decided or before is None)
    looked = known.looked if known is not None else None
    if looked is None or abs(now - looked) >= LOOK_EVERY:
        looked = now
        _look_slowly(look, instance, place)
    reached = Cursor(events=happened.cursor, looked=looked)
    watch = look.result()
    if not look.notices and not has_news(look.watch, watch.open, now, policy):
        if watch != look.watch:
            documents.write(platform.documents_url, spec.name, DOCUMENT, watch)
        message = f"nothing new, {len(watch.open)} open"
        return Tick(reached, message, tuple(look.evaluations))
    message = _tell(look, watch, policy)
    return Tick(reached, message, tuple(look.evaluations))


class _Look:
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

    def apply(self, opened: tuple[Open, ...]) -> None:
        """Take ``opened`` for what is open."""
        self.open = opened

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
            return  # The next tick asks again.

    def result(self) -> Watch:
        """The memory after this tick."""
        changed = {
            "open": self.open,
            "seen": self.seen,
            "told": self.told,
            "silent": self.silent,
        }
        return self.watch.model_copy(update=changed)


def _look_around(look: _Look, *, decided: bool) -> None:
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
    look.ask("promotion", lambda: _promotions(look))
    if decided:
        look.ask("retraining", lambda: _retraining(look))
    for name, dataset in spec.datasets.items():
        if dataset.partitioned:
            look.ask(f"inputs/{name}", lambda name=name: _late(look, name))
    look.ask("endpoint", lambda: _endpoint(look))
    page = asset_page([spec.name])
    look.add(happenings.broken(teller, "document", look.problems, page, look.open))


def _look_slowly(look: _Look, instance: dg.DagsterInstance, place: Place | None) -> None:
    spec, teller = look.spec, look.teller
    if spec.end is None:
        look.add(happenings.stale(teller, alert_events.stale_assets(instance, spec), look.open))
    if place is not None:
        failing = alert_events.failing_sensors(
            instance, place.location, place.repository, _sensors(spec)
        )
        page = "/automation"
        look.add(happenings.broken(teller, "sensor", failing, page, look.open))


def _sensors(spec: UseCaseSpec) -> list[str]:
    return [f"{spec.name}_new_data", f"{spec.name}_retraining"]


def _promotions(look: _Look) -> Seen:
    """Decisions since the last tick; the document says that there are some, the ledger which."""
    from mlops_assets.adapters import ledger

    url, name = look.platform.documents_url, look.spec.name
    last = documents.read(url, name, "promotion", PromotionRecord)
    if last is None:
        return Seen()
    identity = f"{last.version} {last.decision} {last.evaluation_digest}"
    if look.seen.get("promotion") == identity:
        return Seen()
    decided = ledger.decisions(look.platform.lake(), name)
    # History that nobody was told while it was new is not told.
    first = look.told.get("promotions", max(0, len(decided) - 1))
    look.seen["promotion"] = identity
    look.told["promotions"] = len(decided)
    return conditions.promotions(look.teller, decided[first:])


def _retraining(look: _Look) -> Seen:
    """Trainings since the last decision that was looked at, and what the budget holds back."""
    from mlops_assets.adapters import decisions

    book = decisions.book(look.platform.lake(), look.spec.name)
    trainings = book.history.trainings
    first = look.told.get("trainings", max(0, len(trainings) - 1))
    look.told["trainings"] = len(trainings)
    started = trainings[first:]
    reasons = book.decisions if started else ()
    notices = conditions.trainings(look.teller, started, reasons).notices
    waits = conditions.put_off(look.teller, book.history.last, look.open)
    return Seen(waits.holds, waits.ended, notices)


def _late(look: _Look, name: str) -> Seen:
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


def _endpoint(look: _Look) -> Seen:
    from mlops_assets.adapters.endpoints.client import connect, request
    from mlops_assets.adapters.endpoints.state import paths_of

    name = look.spec.name
    record = documents.read(look.platform.documents_url, name, "endpoint", EndpointRecord)
    local = paths_of(name, look.platform.endpoints_dir)
    given_up = Path(local.folder).exists() and not local.endpoint.exists()
    if record is None or given_up:
        look.silent = 0
        return happenings.endpoint(look.teller, "", 0, look.open)
    try:
        with connect(record.url, _PING_SECONDS) as connection:
            status, _ = request(connection, "GET", "/v2/health/ready")
    except TransientError:
        status = 0
    # Counted no further than it matters, so that a long outage does not write each tick.
    silent = 0 if status == 200 else min(look.silent + 1, happenings.SILENT_TICKS)
    look.silent = silent
    return happenings.endpoint(look.teller, record.url, silent, look.open)


def _tell(look: _Look, watch: Watch, policy: Policy) -> str:
    """Write down what should be open, bring the log to it, send, and remember that it is done."""
    spec, platform, now = look.spec, look.platform, look.now
    url = platform.documents_url
    # What ledgers were told so far is remembered last: a notice that is told twice is one entry.
    intended = watch.model_copy(
        update={"settled": False, "seen": look.watch.seen, "told": look.watch.told}
    )
    documents.write(url, spec.name, DOCUMENT, intended)
    lake = platform.lake()
    observed = [one.alert.model_copy(update={"at": now}) for one in watch.open]
    history = alerts.settle(lake, spec.name, [*observed, *look.notices], look.ended, policy, now)
    channels = alerts.channels_of(platform.alert_channels.split(","))
    links = Links(platform.dagster_url, platform.runbooks_url)
    report = alerts.flush(
        lake,
        channels,
        policy,
        links,
        now,
        pauses_s=(0.5,),
        budget_s=_FLUSH_SECONDS,
        use_case=spec.name,
    )
    kept = [delivered for delivered in report if delivered.outcome == "kept"]
    documents.write(url, spec.name, DOCUMENT, settled(watch, history, len(kept), now))
    return _summary(watch, report, kept)


def _summary(
    watch: Watch, report: Sequence[alerts.Delivered], kept: Sequence[alerts.Delivered]
) -> str:
    sent = sum(delivered.outcome == "delivered" for delivered in report)
    reasons = sorted({delivered.reason for delivered in kept})
    waits = f"; {len(kept)} wait: {'; '.join(reasons)}" if kept else ""
    return f"{len(watch.open)} open, {sent} messages delivered{waits}"
