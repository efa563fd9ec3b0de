"""Predictions: a day's events scored in one batch with what the endpoint serves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.rollout_state import EndpointRecord, ServedModel
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, ColumnType, UseCaseSpec
from mlops_assets.core.windows import window_of
from mlops_assets.lifecycle.arrivals.inputs import (
    blocked,
    digests_of,
    entries_of,
    inputs_now,
    predictions_stage,
    recording,
)
from mlops_assets.lifecycle.assets import (
    DAY_BACKFILL,
    asset_key,
    common,
    contiguous,
    days,
    placed,
    table_name,
)
from mlops_assets.lifecycle.automation import carries
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.publish import Published, PublishEvents, events
from mlops_assets.lifecycle.training_set import ASKED_AT, events_with_features

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake, WriteResult

SCORE = "score"
COLUMNS: dict[str, ColumnType] = {
    EVENT_ID: "string",
    EVENT_TIME: "timestamp",
    ASKED_AT: "timestamp",
    SCORE: "float32",
    "model_version": "int64",
    "model_sha256": "string",
}


def score(
    spec: UseCaseSpec,
    functions: Functions,
    lake: "Lake",
    champion: ServedModel,
    partitions: Sequence[str],
) -> "WriteResult":
    """Score every event of the days ``partitions`` and publish the scores, as one commit."""
    import polars as pl

    from mlops_assets.adapters.models import read_model
    from mlops_assets.core.inference import encode_frame, predict
    from mlops_assets.core.schema import conform, split_by_day

    window = window_of(partitions, spec.timezone)
    model = read_model(spec.name, champion)
    rows = events_with_features(spec, functions, lake, window)
    scores = predict(model, encode_frame(rows, model.signature))
    name = table_name(spec, "predictions")
    scored = rows.select(
        EVENT_ID,
        EVENT_TIME,
        ASKED_AT,
        pl.Series(SCORE, scores),
        pl.lit(champion.version, dtype=pl.Int64).alias("model_version"),
        pl.lit(champion.sha256).alias("model_sha256"),
    )
    table = conform(scored, COLUMNS, f"table {name}")
    tables = split_by_day(table, EVENT_TIME, window, name)
    return lake.write(name, tables, [EVENT_TIME, EVENT_ID])


def _joined(writes: "Sequence[WriteResult]") -> "WriteResult | None":
    """Writes to one table, one after the other, as one."""
    from mlops_assets.adapters.lake import WriteResult

    if not writes:
        return None
    return WriteResult(
        writes[-1].table,
        writes[-1].version,
        tuple(state for write in writes for state in write.written),
        tuple(state for write in writes for state in write.unchanged),
    )


def predictions_asset(spec: UseCaseSpec, functions: Functions) -> dg.AssetsDefinition:
    """The asset that scores a day in batch."""
    key = asset_key(spec, "predictions")

    @dg.asset(
        **common(
            spec,
            "predictions",
            f"Probability of {spec.label.name} for each event of a day, by the champion.",
            [spec.model.engine, "deltalake"],
        ),
        **placed(spec, "predictions"),
        partitions_def=days(spec),
        backfill_policy=DAY_BACKFILL,
        deps=[asset_key(spec, name) for name in (spec.events.dataset, *spec.feature_views)],
        automation_condition=carries(
            undated=[
                asset_key(spec, "endpoint"),
                *(
                    asset_key(spec, name)
                    for name, view in spec.feature_views.items()
                    if not view.partitioned
                ),
            ],
            compared=True,
        ),
        ins={"endpoint": dg.AssetIn(asset_key(spec, "endpoint"))},
        metadata={"table": table_name(spec, "predictions")},
    )
    def _predictions(
        context: dg.AssetExecutionContext, platform: Platform, endpoint: EndpointRecord
    ) -> PublishEvents:
        partitions = context.partition_keys
        champion = endpoint.release.champion
        lake = platform.lake()
        inputs = inputs_now(spec, predictions_stage(spec), lake, partitions)
        left_out = blocked(spec, inputs)
        sound = contiguous(
            [partition for partition in partitions if partition not in left_out],
            window_of(partitions, spec.timezone).partitions,
        )
        published = Published(
            write=_joined([score(spec, functions, lake, champion, run) for run in sound])
        )
        made_of = {partition: found.joint for partition, found in inputs.items()}
        entries = entries_of(made_of, digests_of(published))
        with recording(platform, spec, "predictions", entries):
            yield from events(
                key,
                published,
                suite=None,
                partitioned=True,
                blocked=left_out,
                metadata={
                    "model_version": champion.version,
                    "model_sha256": champion.sha256,
                },
            )

    return _predictions
