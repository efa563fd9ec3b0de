"""The prediction log: what the endpoint answered on a day, from its log files into the lake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.spec import EVENT_ID, ColumnType, UseCaseSpec
from mlops_assets.core.windows import window_of
from mlops_assets.lifecycle.arrivals.inputs import recording
from mlops_assets.lifecycle.assets import DAY_BACKFILL, asset_key, common, days, placed, table_name
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.publish import Published, PublishEvents, events

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.prediction_logs import Predictions

PREDICTION_LOG = "prediction_log"
TORN_LINES = "torn_lines"

COLUMNS: dict[str, ColumnType] = {
    "request_id": "string",
    "row": "int32",
    EVENT_ID: "string",
    "asked_at": "timestamp",
    "model_version": "int64",
    "model_sha256": "string",
    "role": "string",
    "returned": "bool",
    "rollout_id": "string",
    "score": "float32",
    "error": "string",
    "categories": "string",
    "floats": "string",
    "looked_up": "string",
}
"""One row per row of a request; ``event_id`` is null where the caller named none, ``asked_at`` is
when it was answered. What was not ``returned`` is for comparison: another model's scores of the
same request, or the ``error`` that it had instead. ``categories`` and ``floats`` are as
core.answer_features has them, ``looked_up`` as core.online.RowLookup."""


@dataclass(frozen=True)
class Logged:
    """What became of some days' answers."""

    published: Published
    torn_lines: int
    absent: tuple[str, ...] = ()
    """Days without an answer."""
    by_day: Mapping[str, Mapping[str, object]] = field(
        default_factory=dict[str, Mapping[str, object]]
    )
    """Metadata of the other days."""
    inputs: Mapping[str, PartitionInputs] = field(default_factory=dict[str, PartitionInputs])


def collect(spec: UseCaseSpec, lake: "Lake", log_dir: str, partitions: Sequence[str]) -> Logged:
    """Publish the answers in ``log_dir`` of the days ``partitions``, as one commit.

    A day without an answer is left as it is in the lake: a log whose files are gone takes nothing
    away.
    """
    from mlops_assets.adapters.prediction_logs import log_versions, read_predictions
    from mlops_assets.core.outcomes import ORDER
    from mlops_assets.core.schema import conform, split_by_day

    window = window_of(partitions, spec.timezone)
    # Before the rows: what is written meanwhile makes the version another one, and the day is read
    # again.
    versions = log_versions(log_dir, window)
    found = read_predictions(log_dir, window.start_time, window.end_time)
    name = table_name(spec, PREDICTION_LOG)
    tables: dict[str, pa.Table] = {}
    if found.table.num_rows:
        rows = conform(_answers(found), COLUMNS, f"table {name}")
        split = split_by_day(rows, "asked_at", window, name)
        tables = {day: split[day] for day in partitions if split[day].num_rows}
    write = lake.write(name, tables, ORDER) if tables else None
    states = write.written + write.unchanged if write else ()
    digests = {state.partition: state.digest for state in states}
    return Logged(
        published=Published(write=write),
        torn_lines=found.torn_lines,
        absent=tuple(day for day in partitions if day not in tables),
        by_day={day: _numbers(tables[day]) for day in tables},
        inputs={
            day: PartitionInputs(inputs=versions[day], digest=digests.get(day, ""))
            for day in partitions
            if day in versions
        },
    )


def read_answers(spec: UseCaseSpec, lake: "Lake", partitions: Sequence[str]) -> "pl.DataFrame":
    """The answers of those of the days ``partitions`` that are in the lake, columns ``COLUMNS``;
    those that were not returned too.
    """
    import polars as pl

    from mlops_assets.core.schema import arrow_schema

    name = table_name(spec, PREDICTION_LOG)
    present = lake.states(name)
    wanted = [day for day in partitions if day in present]
    rows = lake.read(name, wanted) if wanted else arrow_schema(COLUMNS).empty_table()
    return pl.DataFrame(rows)


def paired_scores(
    spec: UseCaseSpec, lake: "Lake", partitions: Sequence[str], rollout_id: str
) -> "pl.DataFrame":
    """The scores of champion and challenger about the same requests of the days ``partitions``, in
    one rollout; columns as core.outcomes.paired has them.
    """
    import polars as pl

    from mlops_assets.core.outcomes import paired

    answers = read_answers(spec, lake, partitions)
    return paired(answers.filter(pl.col("rollout_id") == rollout_id))


def _answers(found: "Predictions") -> "pl.DataFrame":
    """The log's rows, of which there are some, with the lake's columns."""
    import polars as pl

    from mlops_assets.adapters.prediction_logs import FEATURE_PREFIX
    from mlops_assets.core.answer_features import CATEGORIES, FLOATS, encoded

    rows = pl.DataFrame(found.table).rename({"time": "asked_at", "sha256": "model_sha256"})
    returned = rows.filter("returned")
    # The features of what was not returned stand with what was.
    none = [pl.lit("{}").alias(column) for column in (CATEGORIES, FLOATS)]
    parts = [rows.filter(~pl.col("returned")).with_columns(none)]
    for answers in returned.partition_by("model_sha256", maintain_order=True):
        types = found.inputs[answers["model_sha256"][0]]
        sent = answers.select(pl.col(FEATURE_PREFIX + name).alias(name) for name in types)
        parts.append(answers.with_columns(encoded(sent, types)))
    return pl.concat(part.select(list(COLUMNS)) for part in parts)


def _numbers(answers: "pa.Table") -> dict[str, object]:
    """What the UI shows of a day."""
    import polars as pl

    rows = pl.DataFrame(answers)
    returned = rows.filter("returned")
    return {
        "requests": rows["request_id"].n_unique(),
        "without_event": returned[EVENT_ID].null_count(),
        "mean_score": returned.select(pl.col("score").cast(pl.Float64).mean()).item(),
        "compared": rows.height - returned.height,
        "model_errors": rows.height - rows["error"].null_count(),
        "models": ", ".join(
            f"{version} as {role}"
            for version, role in rows.select("model_version", "role").unique().sort(pl.all()).rows()
        ),
    }


def prediction_log_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that keeps what the endpoint answered.

    It follows the endpoint's files as a dataset follows its source: when they have something new,
    a sensor asks for the day.
    """
    key = asset_key(spec, PREDICTION_LOG)

    @dg.asset(
        **common(
            spec,
            PREDICTION_LOG,
            "What the endpoint answered on a day, with which model and role, and the features that "
            "it was asked with.",
            ["polars", "deltalake"],
        ),
        **placed(spec, PREDICTION_LOG),
        partitions_def=days(spec),
        backfill_policy=DAY_BACKFILL,
        deps=[asset_key(spec, "endpoint")],
        # A day may have no answer.
        output_required=False,
        check_specs=[
            dg.AssetCheckSpec(
                TORN_LINES,
                asset=key,
                description="Lines of the log that a kill or a full disk cut: answers that a "
                "client may have got and that are not in the table.",
            )
        ],
        metadata={"table": table_name(spec, PREDICTION_LOG)},
    )
    def _prediction_log(context: dg.AssetExecutionContext, platform: Platform) -> PublishEvents:
        from mlops_assets.adapters.endpoints.targets import prediction_log_of

        log_dir = prediction_log_of(spec.name, platform.endpoints_url, platform.documents_url)
        logged = collect(spec, platform.lake(), log_dir, context.partition_keys)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=TORN_LINES,
            passed=logged.torn_lines == 0,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{logged.torn_lines} lines of {log_dir} are cut or no answers: skipped",
            metadata={"torn_lines": logged.torn_lines},
        )
        with recording(platform, spec, PREDICTION_LOG, logged.inputs):
            yield from events(
                key,
                logged.published,
                suite=None,
                partitioned=True,
                metadata={"torn_lines": logged.torn_lines},
                by_partition=logged.by_day,
                absent=logged.absent,
            )

    return _prediction_log
