"""A day's paired scores as sums over blocks: what a rollout's comparisons rest on."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from mlops_assets.core.outcomes import ASKED_AT, OUTCOME_KNOWN, REQUEST_ID
from mlops_assets.core.rollout_evidence import block_of, paired_block, quality_rows, score_rows
from mlops_assets.core.rollout_records import Evidence, PairedBlock, merged
from mlops_assets.core.rollout_spec import RolloutSpec, Unit
from mlops_assets.core.spec import EVENT_ID, LABEL, ColumnType

COLUMNS: dict[str, ColumnType] = {
    "rollout_id": "string",
    "guard": "string",
    "unit": "string",
    "start": "timestamp",
    "end": "timestamp",
    "requests": "int64",
    "rows": "int64",
    **dict.fromkeys(("d", "b", "dd", "db", "bb"), "float64"),
}
"""One row per rollout, guard, length of block (``hour`` or ``day``) and block; the rest is as
PairedBlock has it."""

_UNITS: tuple[Unit, ...] = ("hour", "day")


@dataclass(frozen=True)
class Versions:
    """Which model a rollout calls champion and which challenger, until its end."""

    rollout_id: str
    champion: int
    challenger: int


def by_version(pairs: pl.DataFrame, versions: Versions) -> pl.DataFrame:
    """Pairs with ``champion_score`` and ``challenger_score`` as the rollout's models', whose roles
    change when it is promoted; without those that a model failed on.
    """
    roles = pl.col("champion_version"), pl.col("challenger_version")
    straight = (roles[0] == versions.champion) & (roles[1] == versions.challenger)
    swapped = (roles[0] == versions.challenger) & (roles[1] == versions.champion)
    first, second = pl.col("champion_score"), pl.col("challenger_score")
    known = pairs.filter(straight | swapped, first.is_not_null(), second.is_not_null())
    return known.with_columns(
        pl.when(swapped).then(second).otherwise(first).alias("champion_score"),
        pl.when(swapped).then(first).otherwise(second).alias("challenger_score"),
    )


def score_blocks(pairs: pl.DataFrame, unit: Unit, zone: ZoneInfo) -> Iterator[PairedBlock]:
    """The divergence of scores, per block; ``pairs`` as :func:`by_version` gives them."""
    for (start, end), rows in _by_block(pairs, unit, zone):
        scores = [rows[f"{role}_score"].to_numpy() for role in ("champion", "challenger")]
        yield paired_block(start, end, rows.height, score_rows(*scores))


def quality_blocks(
    pairs: pl.DataFrame, outcomes: pl.DataFrame, unit: Unit, zone: ZoneInfo
) -> Iterator[PairedBlock]:
    """The difference of log-loss, per block in which the answers were given.

    ``outcomes`` are a day's, columns of core.outcomes: the last answer about each event, with its
    label. Events whose outcome is known and that have no label count for nothing.
    """
    last = pairs.drop_nulls(EVENT_ID).sort(ASKED_AT, REQUEST_ID)
    last = last.unique([EVENT_ID, ASKED_AT], keep="last", maintain_order=True)
    about = outcomes.filter(~pl.col(OUTCOME_KNOWN) | pl.col(LABEL).is_not_null())
    found = last.join(about.select(EVENT_ID, ASKED_AT, LABEL), on=[EVENT_ID, ASKED_AT], how="inner")
    for (start, end), rows in _by_block(found, unit, zone):
        labelled = rows.drop_nulls(LABEL)
        columns = (LABEL, "champion_score", "challenger_score")
        values = [labelled[name].to_numpy() for name in columns]
        quality = quality_rows(*values) if labelled.height else None
        yield paired_block(start, end, rows.height, quality)


def table_of(
    pairs: pl.DataFrame, outcomes: pl.DataFrame, versions: Versions, zone: ZoneInfo
) -> pl.DataFrame:
    """The evidence of one rollout as rows of ``COLUMNS``.

    ``pairs`` are those of the rollout that belong to the day, and those that its ``outcomes`` are
    about: the former are told by the column ``of_day``.
    """
    known = by_version(pairs, versions)
    rows: list[dict[str, object]] = []
    for unit in _UNITS:
        blocks = {
            "scores": score_blocks(known.filter("of_day"), unit, zone),
            "quality": quality_blocks(known, outcomes, unit, zone),
        }
        for guard, found in blocks.items():
            own: dict[str, object] = {
                "rollout_id": versions.rollout_id,
                "guard": guard,
                "unit": unit,
            }
            rows += [own | block.model_dump() for block in found]
    types = {"start": pl.Datetime("us", "UTC"), "end": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS), schema_overrides=types)


def evidence_of(rows: pl.DataFrame, rollout_id: str, spec: RolloutSpec) -> Evidence:
    """What the table's rows say about a rollout, in the units of ``spec``; blocks that lie in two
    partitions are added up.
    """
    found = Evidence()
    for guard, guard_spec in (("scores", spec.scores), ("quality", spec.quality)):
        if guard_spec is None:
            continue
        unit = "day" if guard_spec.unit == "day" else "hour"
        chosen = rows.filter(rollout_id=rollout_id, guard=guard, unit=unit)
        for row in chosen.drop("rollout_id", "guard", "unit").sort("start").to_dicts():
            block = PairedBlock.model_validate(row)
            found = merged(found, Evidence.model_validate({guard: (block,)}))
    return found


def _by_block(
    rows: pl.DataFrame, unit: Unit, zone: ZoneInfo
) -> Iterator[tuple[tuple[datetime, datetime], pl.DataFrame]]:
    if unit == "day":
        keyed = rows.with_columns(
            pl.col(ASKED_AT).dt.convert_time_zone(zone.key).dt.date().alias("_")
        )
    else:
        keyed = rows.with_columns(pl.col(ASKED_AT).dt.truncate("1h").alias("_"))
    ordered = keyed.sort(ASKED_AT, REQUEST_ID, "row")
    for _, part in ordered.group_by("_", maintain_order=True):
        yield block_of(unit, part[ASKED_AT][0], zone), part.drop("_")
