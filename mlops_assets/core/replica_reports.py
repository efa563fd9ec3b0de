"""What the replicas of an endpoint report: which revision they serve, and what its models did."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import AwareDatetime

from mlops_assets.core.records import Record
from mlops_assets.core.rollout_state import Role

STALE_S = 15.0
"""A replica reports every five seconds: one that missed three is gone, or cut off."""


class ModelTotals(Record):
    """What a model did in one role since the servers that report it began.

    Requests are those that it scored, whether its answer was returned or not.
    """

    rollout_id: str
    version: int
    role: Role
    requests: int
    rows: int
    returned: int
    """Requests whose answer the caller got."""
    errors: int
    """Requests that it failed on: they are none of ``requests``."""
    skipped: int
    """Requests that another model answered and that it was not asked about: it was too far
    behind."""
    seconds: float
    """Processor time of its scorings."""
    latency: tuple[int, ...]
    """How many of them lie in each bin of core.latency."""


class ReplicaReport(Record):
    """What one server process says about itself."""

    replica: str
    """The process, which no other shares."""
    instance: str
    """The server or pod that it belongs to."""
    workers: int
    """How many processes the server has."""
    use_case: str
    revision: int
    """The revision that it serves; 0 before the first."""
    refused: int | None
    """The revision that it could not apply, or only without its challenger; ``error`` says why."""
    champion: int | None
    """Versions that are loaded."""
    challenger: int | None
    ready: bool
    error: str | None
    at: AwareDatetime
    ended: bool
    """Whether this was the last report."""
    lost_log_records: int
    totals: tuple[ModelTotals, ...]


def is_stale(report: ReplicaReport, now: datetime) -> bool:
    """Whether its replica has ended, or does not report any more."""
    return report.ended or now - report.at > timedelta(seconds=STALE_S)


def not_applied(
    reports: Iterable[ReplicaReport], instances: Iterable[str], revision: int
) -> tuple[str, ...]:
    """Those of ``instances`` that do not say of each of their processes that it serves
    ``revision``, or a later one.
    """
    known = list(reports)
    missing: list[str] = []
    for instance in instances:
        own = [r for r in known if r.instance == instance and not r.ended]
        applied = {r.replica for r in own if r.revision >= revision and r.ready}
        if len(applied) < max((r.workers for r in own), default=1):
            missing.append(instance)
    return tuple(missing)


def refusals(
    reports: Iterable[ReplicaReport], instances: Iterable[str], revision: int
) -> tuple[str, ...]:
    """What those of ``instances`` say that refuse ``revision``, or serve it without its
    challenger; each once.
    """
    wanted = set(instances)
    said = (
        r.error or "no reason given"
        for r in reports
        if r.instance in wanted and r.refused == revision
    )
    return tuple(dict.fromkeys(said))


def total(reports: Iterable[ReplicaReport], rollout_id: str) -> tuple[ModelTotals, ...]:
    """What each model did in each role of a rollout, over all replicas, those that ended included.

    In the order of versions and roles.
    """
    found: dict[tuple[int, Role], list[ModelTotals]] = {}
    for report in reports:
        for part in report.totals:
            if part.rollout_id == rollout_id:
                found.setdefault((part.version, part.role), []).append(part)
    return tuple(_sum(parts) for _, parts in sorted(found.items()))


def _sum(parts: list[ModelTotals]) -> ModelTotals:
    return parts[0].model_copy(
        update={
            "requests": sum(part.requests for part in parts),
            "rows": sum(part.rows for part in parts),
            "returned": sum(part.returned for part in parts),
            "errors": sum(part.errors for part in parts),
            "skipped": sum(part.skipped for part in parts),
            "seconds": sum(part.seconds for part in parts),
            "latency": tuple(
                sum(counts) for counts in zip(*(part.latency for part in parts), strict=True)
            ),
        }
    )
