"""A replay at full speed in one process: traffic, arrivals and sensors, one day after the other."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mlops_assets.adapters import documents
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.monitoring_records import DriftRecord, PerformanceRecord
from mlops_assets.core.records import PromotionRecord
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.replay.ticks import Daemon, Ran

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.core.retraining_records import Decision
    from mlops_assets.replay.traffic import Sent

ARRIVAL = time(6)
"""When a day's data has come in, on the morning after. Three in ten days have flights that land
later still: their outcomes come a day late, and re-open their day."""


@dataclass(frozen=True)
class Step:
    """What a replayed day brought; records are the newest ones, if there are any."""

    day: date
    sent: "Sent"
    runs: tuple[Ran, ...]
    drift: DriftRecord | None
    performance: PerformanceRecord | None
    decision: "Decision | None"
    promotion: PromotionRecord | None
    """Where a retraining of this day has ended in a decision about its model."""
    alerts: tuple[str, ...]
    """Titles of what the console was told."""
    seconds: float


def arrival_of(day: date, timezone: str) -> datetime:
    """When ``day`` has come in, in UTC."""
    local = datetime.combine(day + timedelta(days=1), ARRIVAL, ZoneInfo(timezone))
    return local.astimezone(UTC)


def replay_days(
    daemon: Daemon,
    platform: Platform,
    spec: UseCaseSpec,
    rows: "pl.DataFrame",
    clock_file: Path,
    days: list[date],
    on_run: Callable[[str], None] = lambda _: None,
) -> Iterator[Step]:
    """Each of ``days`` as if it were live; the clock of ``clock_file`` is moved through them.

    ``rows`` are the requests (:func:`mlops_assets.replay.traffic.requests_of`), in the order of
    being asked. Every sensor ticks once the day has come in. Raises PermanentError when nothing
    serves.
    """
    import polars as pl

    from mlops_assets import clock
    from mlops_assets.replay.traffic import send

    zone = spec.timezone
    for day in days:
        begun = monotonic()
        endpoint = documents.read(platform.documents_url, spec.name, "endpoint", EndpointRecord)
        if endpoint is None:
            raise PermanentError(
                f"{spec.name} has no endpoint: materialize {spec.name}/endpoint first"
            )
        came, comes = arrival_of(day - timedelta(days=1), zone), arrival_of(day, zone)
        asked = pl.col("asked_at")
        sent = send(spec, endpoint.url, rows.filter((asked >= came) & (asked < comes)), clock_file)
        clock.set_to(clock_file, comes)
        on_run(f"{day}: {sent.requests} requests answered; its data comes in")
        runs = [*daemon.tick(f"{spec.name}_new_data"), *daemon.automate()]
        started = daemon.tick(f"{spec.name}_retraining")
        promotion = None
        if started:
            # The end of the training is recorded, as the daemon's next tick would do.
            daemon.tick(f"{spec.name}_retraining")
            promotion = documents.read(
                platform.documents_url, spec.name, "promotion", PromotionRecord
            )
        if spec.rollout.strategy == "guarded":
            daemon.tick(f"{spec.name}_rollout")
        told = io.StringIO()
        with contextlib.redirect_stderr(told):
            daemon.tick(f"{spec.name}_alerts")
        yield Step(
            day=day,
            sent=sent,
            runs=(*runs, *started),
            drift=documents.read(platform.documents_url, spec.name, "drift", DriftRecord),
            performance=documents.read(
                platform.documents_url, spec.name, "performance", PerformanceRecord
            ),
            decision=_last_decision(platform, spec),
            promotion=promotion,
            alerts=tuple(line for line in told.getvalue().splitlines() if line.startswith("[")),
            seconds=monotonic() - begun,
        )


def _last_decision(platform: Platform, spec: UseCaseSpec) -> "Decision | None":
    from mlops_assets.adapters import decisions

    return decisions.book(platform.ledgers(), spec.name).history.last
