"""The sensor that hears of new objects in S3, so that sources there are looked at at once."""

from collections.abc import Callable
from contextlib import suppress

import dagster as dg

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import FileSource, UseCaseSpec
from mlops_assets.lifecycle import switches
from mlops_assets.lifecycle.platform import Platform

SENSOR = "new_objects"

INTERVAL_SECONDS = 10
"""An empty answer is paid for, 9,000 of them a day with half a cent."""


def new_objects_sensor() -> dg.SensorDefinition:
    """The sensor that reads the queue for all use cases: it writes down where something came, and
    each use case's own sensor looks at its sources there with its next tick.
    """

    @dg.sensor(
        name=SENSOR,
        description="Reads from the queue of S3's events where new objects came, so that sources "
        "there are looked at with the next tick.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=switches.default_status(SENSOR),
    )
    def _new_objects(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
        return dg.SkipReason(hear(platform, context.log.warning))

    return _new_objects


def hear(platform: Platform, warn: Callable[[str], None]) -> str:
    """Read what waits in the queue; what was found. Of what it does not understand ``warn`` hears.

    A message is deleted once it is written down where it came: whoever is killed before hears of
    it again. Raises PermanentError where the queue may not be read, TransientError when it does
    not answer.
    """
    from mlops_assets.adapters import object_events

    if not platform.events_url:
        return "no queue is named: MLOPS_EVENTS_QUEUE"
    found, wrong = object_events.received(platform.events_url)
    for line in wrong:
        warn(line)
    object_events.announce(platform.documents_url, found)
    object_events.delete(platform.events_url, found)
    return f"{len(found)} new objects" if found else "no object is new"


def told_of(spec: UseCaseSpec, platform: Platform) -> list[bytes]:
    """What was heard of the places of the use case's sources; other bytes after each new object."""
    from mlops_assets.adapters.object_events import announced
    from mlops_assets.adapters.sources import location_of

    if not platform.events_url:
        return []
    found: list[bytes] = []
    for name, dataset in spec.datasets.items():
        if isinstance(dataset.source, FileSource):
            with suppress(PermanentError):  # a variable that is not set: reading the source says so
                found.append(announced(platform.documents_url, location_of(dataset.source, name)))
    return found
