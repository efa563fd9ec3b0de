"""All that is known about a rollout now: what replicas report, and the sums in the lake."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mlops_assets.core.evidence_changes import changes, laid_over
from mlops_assets.core.promotion_ledger import Decided, UnderWay
from mlops_assets.core.rollout_records import Evidence, RolloutDecision
from mlops_assets.core.rollout_state import Release
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.platform import Platform

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.replica_reports import ReplicaReport
    from mlops_assets.core.rollout_counts import Counts


@dataclass(frozen=True)
class Known:
    """The evidence of now, and how far counts are in it."""

    evidence: Evidence
    counts: "Counts"


def gathered(
    spec: UseCaseSpec,
    platform: Platform,
    lake: "Lake",
    under_way: UnderWay,
    release: Release,
    now: datetime,
) -> Known:
    """The evidence of the ledger's entries, with all that came since."""
    from mlops_assets.core.rollout_counts import count, readiness
    from mlops_assets.lifecycle.rollout.paired import read_evidence

    reports = reported(spec, platform)
    counts = count(under_way, reports, spec.rollout, now)
    paired = read_evidence(spec, lake, under_way.rollout.rollout_id, spec.rollout)
    missing, said = not_serving(spec, platform, reports, release)
    known = under_way.evidence.readiness
    ready = readiness(known, now, missing, said, spec.rollout)
    new = paired.model_copy(update={"readiness": ready})
    return Known(laid_over(counts.evidence, new), counts)


def reported(spec: UseCaseSpec, platform: Platform) -> "tuple[ReplicaReport, ...]":
    """What each replica of the endpoint said last."""
    from mlops_assets.adapters.endpoints import targets

    return targets.read_reports(spec.name, platform.endpoints_url, platform.documents_url)


def not_serving(
    spec: UseCaseSpec,
    platform: Platform,
    reports: "tuple[ReplicaReport, ...]",
    release: Release,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which servers do not serve ``release``, and what those say that refuse a part of it."""
    from mlops_assets.adapters.endpoints import targets
    from mlops_assets.core.replica_reports import not_applied, refusals

    url = platform.endpoints_url
    instances = targets.expected_instances(spec.name, url, platform.documents_url)
    here = not targets.is_remote(url)
    if not instances and here and not targets.given_up(spec.name, url):
        return ("the server",), ()
    return (
        not_applied(reports, instances, release.revision),
        refusals(reports, instances, release.revision),
    )


def entry(
    spec: UseCaseSpec, under_way: UnderWay, known: Known, decision: RolloutDecision, by: str
) -> Decided:
    """The ledger's entry about ``decision``, with what is new in its evidence."""
    from mlops_assets.core.rollout_counts import new_counts

    return Decided(
        decision=decision,
        policy=spec.rollout,
        evidence=changes(under_way.evidence, known.evidence),
        counted=new_counts(under_way, known.counts),
        slow_edge=known.counts.slow_edge,
        by=by,
    )
