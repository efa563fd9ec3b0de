"""Alerts: one sensor per use case that looks at what is known, and tells people what changed.

It reads small documents and what Dagster's event log has since its cursor, never data. What should
be open is written down first, then the alert log is brought to it, then channels are sent what they
have not got: a tick that dies anywhere is made up for by the next one. A tick without news reads no
table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
from pydantic import AwareDatetime

from mlops_assets.adapters import alerts, documents
from mlops_assets.core.alert_text import Links
from mlops_assets.core.alert_watch import Watch, has_news, settled
from mlops_assets.core.alerts import Policy
from mlops_assets.core.records import Record
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.alerting import events
from mlops_assets.lifecycle.alerting.sources import Look, Place, look_around, look_slowly
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.switches import default_status

INTERVAL_SECONDS = 30
DOCUMENT = "alerting"

POLICY = Policy()

LOOK_EVERY = timedelta(minutes=5)
"""Between looks at what changes slowly: failing sensors and stale assets."""

_FLUSH_SECONDS = 10.0
"""Of a tick, which other use cases' ticks wait for; what is left over is sent by the next."""


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
    happened = events.happened_since(instance, spec, known.events if known else None)
    look = Look(spec, platform, now, before or Watch(settled=False))
    look.happened(happened.events)
    look_around(look, decided=happened.decided or before is None)
    looked = known.looked if known is not None else None
    if looked is None or abs(now - looked) >= LOOK_EVERY:
        looked = now
        look_slowly(look, instance, place)
    reached = Cursor(events=happened.cursor, looked=looked)
    watch = look.result()
    if not look.notices and not has_news(look.watch, watch.open, now, policy):
        if _told(watch) != _told(look.watch):
            documents.write(platform.documents_url, spec.name, DOCUMENT, watch)
        message = f"nothing new, {len(watch.open)} open"
        return Tick(reached, message, tuple(look.evaluations))
    message = _tell(look, watch, policy)
    return Tick(reached, message, tuple(look.evaluations))


def _told(watch: Watch) -> tuple[Watch, list[object]]:
    """The memory without when each open alert was seen last, which is now: it is no news, and to
    write it down would cost each tick of a use case with an open alert two waits for the disk.
    """
    opened = [(one.alert.model_dump(exclude={"at"}), one.members, one.told) for one in watch.open]
    return watch.model_copy(update={"open": ()}), list(opened)


def _tell(look: Look, watch: Watch, policy: Policy) -> str:
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
