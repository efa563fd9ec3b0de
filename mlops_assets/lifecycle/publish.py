"""Write, audit, publish: partitions are validated before the lake shows them to anyone.

A partition that fails a critical expectation is not published, so nothing downstream can read it,
in this run or another; its sound neighbours are. Rows that break a quarantine rule move to a side
table with the reason, and are counted.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.adapters.functions import Functions

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake, PartitionState, WriteResult
    from mlops_assets.adapters.validation import ExpectationResult
    from mlops_assets.core.quality import Suite

UNPARTITIONED = "all"
"""The partition key of a table that has no days."""

EXPECTATIONS_CHECK = "expectations"
WARNINGS_CHECK = "warnings"

PARTITIONS = "partitions"
"""Metadata of a check: the partitions that it looked at, and the reason for each that failed."""

PublishEvents = Iterator[dg.AssetCheckResult | dg.AssetMaterialization | dg.MaterializeResult[None]]


@dataclass(frozen=True)
class Published:
    """What became of the partitions that a stage computed."""

    write: "WriteResult | None"
    """None when every partition was refused."""
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Reasons by partition; these are not in the table, or still there as they were before."""
    quarantined: int = 0
    """Rows moved to the side table."""
    expectations: "tuple[ExpectationResult, ...]" = ()


def publish(
    lake: "Lake",
    table: str,
    partitions: Mapping[str, "pa.Table"],
    *,
    key: Sequence[str],
    functions: Functions,
    suite: str | None,
    quarantine_limit: float,
) -> Published:
    """Validate ``partitions`` and commit those that pass, all in one commit."""
    if suite is None:
        return Published(write=lake.write(table, partitions, key))
    from mlops_assets.adapters.validation import validate

    history = {name: state.rows for name, state in lake.states(table).items()}
    result = validate(
        partitions,
        cast("Suite", functions.resolve(suite)()),
        history={name: rows for name, rows in history.items() if name not in partitions},
        quarantine_limit=quarantine_limit,
        key=key,
    )
    # Before the table itself: no row leaves it without standing in the side table.
    _keep_quarantined(lake, f"{table}__quarantine", result.accepted, result.quarantined, key)
    write = lake.write(table, result.accepted, key) if result.accepted else None
    return Published(write, result.refused, result.quarantined.num_rows, result.expectations)


def _keep_quarantined(
    lake: "Lake",
    table: str,
    partitions: Collection[str],
    quarantined: "pa.Table",
    key: Sequence[str],
) -> None:
    """Replace the side table's rows of ``partitions``: also of those that are sound by now."""
    import polars as pl

    frame = cast("pl.DataFrame", pl.from_arrow(quarantined))
    rows = {
        str(partition): group.drop("_partition").to_arrow()
        for (partition,), group in frame.group_by("_partition")
    }
    gone = [name for name in lake.states(table) if name in partitions and name not in rows]
    if gone:
        lake.remove(table, gone)
    if rows:
        lake.write(table, rows, [*key, "reason"])


def check_specs(asset: dg.AssetKey, suite: str | None) -> list[dg.AssetCheckSpec]:
    """The checks of a published table, where it has a suite."""
    if suite is None:
        return []
    return [
        dg.AssetCheckSpec(
            EXPECTATIONS_CHECK,
            asset=asset,
            blocking=True,
            description="Critical expectations: a partition that breaks one is not published.",
        ),
        dg.AssetCheckSpec(
            WARNINGS_CHECK,
            asset=asset,
            description="Expectations that warn, and rows that were quarantined.",
        ),
    ]


def events(
    asset: dg.AssetKey,
    published: Published,
    *,
    suite: str | None,
    partitioned: bool,
    blocked: Mapping[str, str] | None = None,
    metadata: Mapping[str, object] | None = None,
    by_partition: Mapping[str, Mapping[str, object]] | None = None,
    absent: Collection[str] = (),
) -> PublishEvents:
    """Tell Dagster what was published, then fail if anything was not.

    ``blocked`` are partitions that could not be computed, with the reason. The events of sound
    partitions are recorded first, so that only what depends on the others stays undone.
    ``by_partition`` is metadata of single partitions. ``absent`` are partitions with nothing to
    publish, which is no failure: they stay unmaterialized, and what follows them in the same run
    is skipped (the asset needs ``output_required=False``).
    """
    own = by_partition or {}
    if suite is not None:
        yield from _check_results(asset, published)
    states = published.write.written + published.write.unchanged if published.write else ()
    fresh = {state.partition for state in published.write.written} if published.write else set()
    bad = {**{p: "; ".join(r) for p, r in published.refused.items()}, **(blocked or {})}
    if bad:
        if partitioned:
            for state in states:
                yield _materialization(asset, state, state.partition in fresh, own)
        raise dg.Failure(
            description=_describe(asset, bad),
            metadata={"refused_partitions": dg.MetadataValue.json(bad)},
            allow_retries=False,
        )
    if absent:
        # A result would speak for every partition of the run.
        for state in states:
            yield _materialization(asset, state, state.partition in fresh, own)
        return
    alone = own.get(states[0].partition, {}) if len(states) == 1 else {}
    yield dg.MaterializeResult(
        value=None,
        asset_key=asset,
        metadata=cast("dict[str, str]", {**_summary(published), **(metadata or {}), **alone}),
        data_version=dg.DataVersion(_joint_digest(states)),
    )
    if partitioned and len(states) > 1:
        # One result speaks for all partitions of a run; each partition's own content digest is
        # recorded after it, so that it has the same version however it was materialized.
        for state in states:
            yield _materialization(asset, state, state.partition in fresh, own)


def _check_results(asset: dg.AssetKey, published: Published) -> Iterator[dg.AssetCheckResult]:
    from mlops_assets.adapters.validation import expectations_markdown

    results = published.expectations
    critical = [r for r in results if r.severity == "critical" and not r.quarantine]
    others = [r for r in results if r not in critical]
    table = dg.MetadataValue.md
    write = published.write
    states = write.written + write.unchanged if write is not None else ()
    checked = [*(state.partition for state in states), *published.refused]
    yield dg.AssetCheckResult(
        asset_key=asset,
        check_name=EXPECTATIONS_CHECK,
        passed=not published.refused,
        # The refused partitions stop what depends on them in any run: they are not in the table.
        severity=dg.AssetCheckSeverity.ERROR,
        description=_describe(asset, {p: "; ".join(r) for p, r in published.refused.items()})
        if published.refused
        else f"{len(critical)} critical expectations hold",
        metadata={
            "expectations": table(expectations_markdown(critical)),
            "failed": sum(not r.success for r in critical),
            "refused_partitions": len(published.refused),
            PARTITIONS: looked_at(checked, {p: "; ".join(r) for p, r in published.refused.items()}),
        },
    )
    failed = sum(not r.success for r in others)
    yield dg.AssetCheckResult(
        asset_key=asset,
        check_name=WARNINGS_CHECK,
        passed=failed == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{failed} of {len(others)} expectations warn; "
        f"{published.quarantined} rows quarantined",
        metadata={
            "expectations": table(expectations_markdown(others)),
            "failed": failed,
            "quarantined_rows": published.quarantined,
        },
    )


def looked_at(partitions: Collection[str], failed: Mapping[str, str]) -> dg.JsonMetadataValue:
    """Metadata of a check, under PARTITIONS: what it looked at and the reason for what failed."""
    return dg.MetadataValue.json({"checked": sorted(partitions), "failed": dict(failed)})


def _summary(published: Published) -> dict[str, object]:
    write = published.write
    if write is None:
        return {}
    states = write.written + write.unchanged
    changed = f"{len(write.written)} of {len(states)} partitions are new or changed"
    return {
        "dagster/row_count": sum(state.rows for state in states),
        "partitions_written": len(write.written),
        "partitions_unchanged": len(write.unchanged),
        "quarantined_rows": published.quarantined,
        "table_version": write.version,
        "result": changed if write.written else "unchanged: the content was there already",
    }


def _materialization(
    asset: dg.AssetKey,
    state: "PartitionState",
    written: bool,
    by_partition: Mapping[str, Mapping[str, object]],
) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        asset,
        partition=state.partition,
        metadata={
            "dagster/row_count": state.rows,
            "digest": state.digest,
            "result": "written" if written else "unchanged: the content was there already",
            **cast("Mapping[str, str]", by_partition.get(state.partition, {})),
        },
        tags={"dagster/data_version": state.digest},
    )


def _joint_digest(states: "Sequence[PartitionState]") -> str:
    """One partition's own digest; for several, a digest of theirs."""
    import hashlib

    ordered = sorted(states, key=lambda state: state.partition)
    if len(ordered) == 1:
        return ordered[0].digest
    return hashlib.sha256("\n".join(s.digest for s in ordered).encode()).hexdigest()


def _describe(asset: dg.AssetKey, bad: Mapping[str, str]) -> str:
    shown = "; ".join(f"{partition}: {reason}" for partition, reason in sorted(bad.items())[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    return (
        f"{asset.to_user_string()} was not published for {len(bad)} partitions: {shown}{more}. "
        "Correct the source or the suite and materialize these partitions again; "
        "the others are done."
    )
