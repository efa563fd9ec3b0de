"""The evidence of rollouts in the lake: paired scores of both models, summed up by day and hour."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg

from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import window_of
from mlops_assets.lifecycle.assets import DAY_BACKFILL, asset_key, common, days, placed, table_name
from mlops_assets.lifecycle.automation import carries
from mlops_assets.lifecycle.outcomes import OUTCOMES, reach_days
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.prediction_log import PREDICTION_LOG, paired_scores
from mlops_assets.lifecycle.publish import Published, PublishEvents, events

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from mlops_assets.adapters.chain import Ledgers
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.rollout_pairs import Versions
    from mlops_assets.core.rollout_records import Evidence
    from mlops_assets.core.rollout_spec import RolloutSpec

ROLLOUT_EVIDENCE = "rollout_evidence"

_KEY = ("rollout_id", "guard", "unit", "start")


def summed(
    spec: UseCaseSpec, lake: "Lake", ledgers: "Ledgers", partitions: Sequence[str]
) -> "dict[str, pa.Table]":
    """The evidence of the days ``partitions``: scores of the requests of a day, and the quality on
    its events. Days without a rollout are left out.
    """
    from mlops_assets.core.schema import conform

    name = table_name(spec, ROLLOUT_EVIDENCE)
    rollouts = _rollouts(spec, ledgers)
    found: dict[str, pa.Table] = {}
    for day in partitions:
        rows = _of_day(spec, lake, day, rollouts)
        if rows is not None and rows.height:
            from mlops_assets.core.rollout_pairs import COLUMNS

            found[day] = conform(rows, COLUMNS, f"table {name}")
    return found


def read_evidence(
    spec: UseCaseSpec, lake: "Lake", rollout_id: str, policy: "RolloutSpec"
) -> "Evidence":
    """The paired comparisons of a rollout, as far as they are in the lake."""
    import polars as pl

    from mlops_assets.core.rollout_pairs import evidence_of
    from mlops_assets.core.rollout_records import Evidence

    name = table_name(spec, ROLLOUT_EVIDENCE)
    version = lake.version(name)
    if version < 0:
        return Evidence()
    known = _last_read.get((lake.root, spec.name))
    if known is None or known[0] != version:
        try:
            known = version, pl.DataFrame(lake.read(name))
        except MissingPartitionsError:
            return Evidence()
        _last_read[lake.root, spec.name] = known
    return evidence_of(known[1], rollout_id, policy)


_last_read: "dict[tuple[str, str], tuple[int, pl.DataFrame]]" = {}
"""The sums of each use case as they were read last, and the table's version."""


def _rollouts(spec: UseCaseSpec, ledgers: "Ledgers") -> "list[Versions]":
    from mlops_assets.adapters import ledger
    from mlops_assets.core.promotion_ledger import Begun
    from mlops_assets.core.rollout_pairs import Versions

    read = ledger.book(ledgers, spec.name)
    begun = (one.rollout for one in read.records if isinstance(one, Begun))
    return [Versions(one.rollout_id, one.champion, one.challenger) for one in begun]


def _of_day(
    spec: UseCaseSpec, lake: "Lake", day: str, rollouts: "Sequence[Versions]"
) -> "pl.DataFrame | None":
    import polars as pl

    from mlops_assets.core.outcomes import ASKED_AT, COLUMNS
    from mlops_assets.core.rollout_pairs import table_of
    from mlops_assets.core.schema import arrow_schema

    window = window_of([day], spec.timezone)
    asked = window.with_lookback(reach_days(spec)).partitions
    zone = ZoneInfo(spec.timezone)
    present = lake.read_present(table_name(spec, OUTCOMES), [day], list(COLUMNS))
    outcomes = pl.DataFrame(arrow_schema(COLUMNS).empty_table() if present is None else present)
    inside = pl.col(ASKED_AT).is_between(window.start_time, window.end_time, closed="left")
    parts: list[pl.DataFrame] = []
    for versions in rollouts:
        pairs = paired_scores(spec, lake, asked, versions.rollout_id)
        if pairs.height:
            parts.append(table_of(pairs.with_columns(of_day=inside), outcomes, versions, zone))
    return pl.concat(parts) if parts else None


def rollout_evidence_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that sums up what both models of a rollout said about the same requests."""
    key = asset_key(spec, ROLLOUT_EVIDENCE)

    @dg.asset(
        **common(
            spec,
            ROLLOUT_EVIDENCE,
            "Champion and challenger on the same requests of a day: sums of the divergence of "
            "their scores, and of the difference of their log-loss on the day's events.",
            ["polars", "deltalake"],
        ),
        **placed(spec, ROLLOUT_EVIDENCE),
        partitions_def=days(spec),
        backfill_policy=DAY_BACKFILL,
        automation_condition=carries(optional=[asset_key(spec, OUTCOMES)]),
        deps=[asset_key(spec, name) for name in (PREDICTION_LOG, OUTCOMES)],
        # A day may have no rollout.
        output_required=False,
        metadata={"table": table_name(spec, ROLLOUT_EVIDENCE)},
    )
    def _rollout_evidence(context: dg.AssetExecutionContext, platform: Platform) -> PublishEvents:
        lake = platform.lake()
        tables = summed(spec, lake, platform.ledgers(), context.partition_keys)
        write = None
        if tables:
            write = lake.write(table_name(spec, ROLLOUT_EVIDENCE), tables, _KEY)
        yield from events(
            key,
            Published(write=write),
            suite=None,
            partitioned=True,
            by_partition={day: _metadata(table) for day, table in tables.items()},
            absent=tuple(day for day in context.partition_keys if day not in tables),
        )

    return _rollout_evidence


def _metadata(table: "pa.Table") -> Mapping[str, object]:
    import polars as pl

    rows = pl.DataFrame(table).filter(unit="day")
    of = {guard: rows.filter(guard=guard) for guard in ("scores", "quality")}
    return {
        "rollouts": ", ".join(sorted(set(rows["rollout_id"]))),
        "compared": int(of["scores"]["rows"].sum()),
        "labelled": int(of["quality"]["rows"].sum()),
    }
