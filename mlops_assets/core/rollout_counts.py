"""Evidence from what replicas report: failed and slow requests, and who is ready.

A replica's counts only grow, for as long as its process lives, and its last report stays. What they
grew by since the last entry of the ledger is evidence of the hour in between.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from mlops_assets.core.latency import LATENCY_EDGES_S
from mlops_assets.core.promotion_ledger import Counted, UnderWay
from mlops_assets.core.replica_reports import ReplicaReport
from mlops_assets.core.rollout_evidence import block_of, slow_edge, slower
from mlops_assets.core.rollout_records import CountBlock, Evidence, Readiness, merged
from mlops_assets.core.rollout_spec import RolloutSpec

_UTC = ZoneInfo("UTC")


@dataclass(frozen=True)
class Counts:
    """What the replicas' counts add to what is known."""

    evidence: Evidence
    """All evidence, with what is new in it."""
    counted: Mapping[tuple[str, int], Counted]
    slow_edge: float | None


def edge_before(
    reports: Iterable[ReplicaReport], champion: int, rollout_id: str, spec: RolloutSpec
) -> float | None:
    """The threshold of slow requests in seconds, from the champion's requests outside of the
    rollout; None where these are too few.
    """
    if spec.latency is None:
        return None
    return _edge(reports, champion, spec.latency.quantile, without=rollout_id)


def count(
    known: UnderWay, reports: Iterable[ReplicaReport], spec: RolloutSpec, now: datetime
) -> Counts:
    """What is known about the rollout, with what ``reports`` have that no entry has.

    The requests that the threshold of slow ones is taken from are no evidence of latency.
    """
    reports = list(reports)
    edge, rollout_id = known.slow_edge, known.rollout.rollout_id
    if edge is None and spec.latency is not None:
        champion = known.rollout.champion
        edge = _edge(reports, champion, spec.latency.quantile, only=rollout_id)
    found = {(part.replica, part.version): part for part in _counted(reports, rollout_id, edge)}
    grown: dict[int, Counter[str]] = {
        known.rollout.champion: Counter(),
        known.rollout.challenger: Counter(),
    }
    for key, part in found.items():
        if part.version in grown:
            grown[part.version].update(_grown(known.counted.get(key), part))
    champion, challenger = grown.values()
    # In the middle of the time that it came in.
    start, end = block_of("hour", known.until + (now - known.until) / 2, _UTC)
    errors = CountBlock(
        start=start,
        end=end,
        champion_requests=champion["requests"] + champion["errors"],
        champion_hits=champion["errors"],
        challenger_requests=challenger["requests"] + challenger["errors"],
        challenger_hits=challenger["errors"],
    )
    latency = CountBlock(
        start=start,
        end=end,
        champion_requests=champion["requests"],
        champion_hits=champion["slow"],
        challenger_requests=challenger["requests"],
        challenger_hits=challenger["slow"],
    )
    timed = known.slow_edge is not None
    increment = Evidence(
        errors=_seen(errors), latency=_seen(latency) if timed else (), readiness=None
    )
    return Counts(merged(known.evidence, increment), found, edge)


def new_counts(known: UnderWay, counts: Counts) -> tuple[Counted, ...]:
    """The counts that differ from what the last entry has."""
    return tuple(part for key, part in counts.counted.items() if known.counted.get(key) != part)


def readiness(
    before: Readiness | None,
    now: datetime,
    missing: Iterable[str],
    said: Iterable[str],
    spec: RolloutSpec,
) -> Readiness:
    """Whether the replicas follow: ``missing`` do not serve the revision that they should, or only
    in part, and ``said`` is why.

    A refusal counts once it lasts: a store that is away for a moment refuses too.
    """
    reasons = tuple(said)
    if not reasons and not tuple(missing):
        return Readiness(at=now)
    since = before.waiting_since if before is not None else None
    since = now if since is None else min(since, now)
    lasts = now - since >= timedelta(seconds=spec.ready_within_seconds)
    return Readiness(at=now, failed=reasons if lasts else (), waiting_since=since)


def hour(moment: datetime) -> datetime:
    """The hour of UTC that it lies in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _edge(
    reports: Iterable[ReplicaReport],
    version: int,
    quantile: float,
    *,
    only: str | None = None,
    without: str | None = None,
) -> float | None:
    bins = [0] * (len(LATENCY_EDGES_S) + 1)
    for report in reports:
        for part in report.totals:
            inside = part.rollout_id == only if only is not None else part.rollout_id != without
            if part.version == version and inside:
                bins = [a + b for a, b in zip(bins, part.latency, strict=True)]
    return slow_edge(LATENCY_EDGES_S, bins, quantile)


def _counted(
    reports: Iterable[ReplicaReport], rollout_id: str, edge: float | None
) -> Iterable[Counted]:
    for report in reports:
        by_version: dict[int, Counter[str]] = {}
        for part in report.totals:
            if part.rollout_id == rollout_id:
                slow = 0 if edge is None else slower(LATENCY_EDGES_S, part.latency, edge)
                sums = {"requests": part.requests, "errors": part.errors, "slow": slow}
                by_version.setdefault(part.version, Counter()).update(sums)
        for version, sums in sorted(by_version.items()):
            yield Counted(
                replica=report.replica,
                version=version,
                requests=sums["requests"],
                errors=sums["errors"],
                slow=sums["slow"],
            )


def _grown(before: Counted | None, now: Counted) -> dict[str, int]:
    """What a replica counted since; all of it, where it began anew."""
    names = ("requests", "errors", "slow")
    values = {name: getattr(now, name) for name in names}
    if before is None or any(getattr(before, name) > values[name] for name in names):
        return values
    return {name: values[name] - getattr(before, name) for name in names}


def _seen(block: CountBlock) -> tuple[CountBlock, ...]:
    return (block,) if block.champion_requests or block.challenger_requests else ()
