"""Training sets: events joined point-in-time with feature views and labels, frozen by content."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import TrainingSetRecord
from mlops_assets.core.spec import (
    EVENT_ID,
    EVENT_TIME,
    KNOWN_AT,
    LABEL,
    ColumnType,
    UseCaseSpec,
)
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.assets import (
    asset_key,
    common,
    placed,
    table_name,
    view_lookback_days,
)
from mlops_assets.lifecycle.feature_views import needed_days, read_days
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.tables import Tables

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.pit import View

TRAINING_SETS = "training_sets"
"""The table of all training sets of a use case, one partition per content digest."""

DAY = "day"
PART = "part"
ASKED_AT = "asked_at"
LABEL_KNOWN_AT = "label_known_at"


class TrainingWindow(dg.Config):
    """Another window than the one in defs.yaml, for one run."""

    end: str | None = None
    """First day after the window, ISO date; default: training_set.end of defs.yaml."""
    days: int | None = None
    """Length in days; default: training_set.days of defs.yaml."""


def training_window(spec: UseCaseSpec, config: TrainingWindow | None = None) -> Window:
    """The window to train on; PermanentError when it is not inside the use case's time."""
    end, length = spec.training_set.end, spec.training_set.days
    if config is not None and config.end is not None:
        try:
            end = date.fromisoformat(config.end)
        except ValueError as error:
            raise PermanentError(f"end: {config.end!r} is no ISO date like 2013-03-01") from error
    if config is not None and config.days is not None:
        length = config.days
    first = end - timedelta(days=length)
    kept = spec.training_set.validation_days + spec.training_set.holdout_days
    if length <= kept:
        raise PermanentError(
            f"days: {length} days leave none to train on after {kept} of validation and holdout"
        )
    if first < spec.start or (spec.end is not None and end > spec.end):
        raise PermanentError(
            f"the window {first} to {end} is not inside the data, {spec.start} to {spec.end}: "
            "choose another end or fewer days"
        )
    return Window(first, end, spec.timezone)


def retraining_window(spec: UseCaseSpec, labelled_until: date) -> Window:
    """The window of a retraining: up to the newest labelled day, as long as defs.yaml says.

    PermanentError when that leaves nothing to train on.
    """
    end = labelled_until if spec.end is None else min(labelled_until, spec.end)
    since_start = (end - spec.start).days
    days = min(spec.retraining.window_days or since_start, since_start)
    return training_window(spec, TrainingWindow(end=end.isoformat(), days=days))


def events_with_features(
    spec: UseCaseSpec, functions: Functions, tables: Tables, window: Window
) -> "pl.DataFrame":
    """The window's events with the features known when each prediction is asked.

    One row per event, in event order: event_id, event_time, asked_at, entity columns, features.
    """
    from mlops_assets.core.pit import point_in_time_join

    events = asked_events(spec, functions, tables, window)
    return point_in_time_join(events, _views(spec, tables, window))


def asked_events(
    spec: UseCaseSpec, functions: Functions, tables: Tables, window: Window
) -> "pl.DataFrame":
    """The window's events in order: event_id, event_time, entity columns, and asked_at, when each
    should be asked about.
    """
    import polars as pl

    from mlops_assets.core.leakage import check_events

    source = read_days(spec, tables, spec.events.dataset, window, 0)
    events = cast("pl.DataFrame", functions.resolve(spec.events.function)(window, source))
    lead = timedelta(minutes=spec.events.lead_minutes)
    asked = events.with_columns((pl.col(EVENT_TIME) - lead).alias(ASKED_AT))
    check_events(asked)
    return asked.sort(EVENT_TIME, EVENT_ID)


def _views(spec: UseCaseSpec, tables: Tables, window: Window) -> "list[View]":
    """The rows of each feature view that the window's events may use."""
    import polars as pl

    from mlops_assets.core.leakage import check_view
    from mlops_assets.core.pit import View

    views: list[View] = []
    for name, view in spec.feature_views.items():
        partitions = (
            needed_days(spec, window, view_lookback_days(view)) if view.partitioned else None
        )
        rows = tables.read(table_name(spec, name), partitions=partitions)
        views.append(
            View(
                name=name,
                frame=cast("pl.DataFrame", pl.from_arrow(rows)),
                entity=tuple(view.entity),
                features=tuple(view.features),
                ttl=timedelta(hours=view.ttl_hours) if view.ttl_hours is not None else None,
            )
        )
        check_view(views[-1])
    return views


def build(
    spec: UseCaseSpec, functions: Functions, lake: "Lake", window: Window
) -> TrainingSetRecord:
    """Join, check for leakage and freeze the training set of ``window``.

    Every event of the window is joined. Those without a label that is known by the window's end
    are counted as unlabelled and left out. Raises LeakageError, MissingPartitionsError, and
    PermanentError when a part of the window has no labelled event.
    """
    from mlops_assets.core.digest import table_digest

    events = labelled_events(spec, functions, lake, window)
    table = frozen_rows(spec, window, events)
    digest = table_digest(table)
    lake.write(table_name(spec, TRAINING_SETS), {digest: table}, [EVENT_TIME, EVENT_ID])
    first_days = _first_days(spec, window)
    return TrainingSetRecord(
        use_case=spec.name,
        digest=digest,
        first=window.first,
        validation_first=first_days["validation"],
        holdout_first=first_days["holdout"],
        end=window.end,
        rows=table.num_rows,
        positives=sum(table[LABEL].to_pylist()),
        unlabelled=events.height - table.num_rows,
        table_versions={
            table_name(spec, name): lake.version(table_name(spec, name))
            for name in (*spec.datasets, *spec.feature_views)
        },
    )


def labelled_events(
    spec: UseCaseSpec, functions: Functions, tables: Tables, window: Window
) -> "pl.DataFrame":
    """The window's events with features, ``label`` (null without an outcome) and
    ``label_known_at``, in event order, also of labels that are known after the window's end.

    Raises LeakageError and MissingPartitionsError.
    """
    import polars as pl

    from mlops_assets.core.leakage import check_joined, check_labels
    from mlops_assets.core.pit import point_in_time_join

    events, views = asked_events(spec, functions, tables, window), _views(spec, tables, window)
    source = read_days(spec, tables, spec.label.dataset, window, 0)
    labels = cast("pl.DataFrame", functions.resolve(spec.label.function)(window, source))
    check_labels(events, labels)
    outcomes = labels.select(EVENT_ID, LABEL, pl.col(KNOWN_AT).alias(LABEL_KNOWN_AT))
    joined = point_in_time_join(events, views, with_known_at=True).join(
        outcomes, on=EVENT_ID, how="left", maintain_order="left"
    )
    check_joined(joined, views, LABEL)
    return joined


def frozen_rows(spec: UseCaseSpec, window: Window, events: "pl.DataFrame") -> "pa.Table":
    """The training set of ``window`` from its :func:`labelled_events`: those whose label is known
    by the window's end, with their day and part.

    Raises PermanentError when a part of the window has no such event.
    """
    import polars as pl

    from mlops_assets.core.schema import conform

    known = pl.col(LABEL).is_not_null() & (pl.col(LABEL_KNOWN_AT) <= window.end_time)
    frozen = _with_parts(spec, window, events.filter(known))
    columns = _columns(spec)
    return conform(frozen.select(list(columns)), columns, f"training set of {spec.name}")


def _first_days(spec: UseCaseSpec, window: Window) -> dict[str, date]:
    """The first day of each part of the window."""
    holdout = window.end - timedelta(days=spec.training_set.holdout_days)
    validation = holdout - timedelta(days=spec.training_set.validation_days)
    return {"train": window.first, "validation": validation, "holdout": holdout}


def _with_parts(spec: UseCaseSpec, window: Window, rows: "pl.DataFrame") -> "pl.DataFrame":
    """``rows`` with each event's day and part: train, then validation, then holdout."""
    import polars as pl

    first_days = _first_days(spec, window)
    day = pl.col(EVENT_TIME).dt.convert_time_zone(spec.timezone).dt.date()
    part = (
        pl.when(day < first_days["validation"])
        .then(pl.lit("train"))
        .when(day < first_days["holdout"])
        .then(pl.lit("validation"))
        .otherwise(pl.lit("holdout"))
    )
    divided = rows.with_columns(day.dt.strftime("%Y-%m-%d").alias(DAY), part.alias(PART))
    found = set(divided[PART].unique().to_list())
    for name, first in first_days.items():
        if name not in found:
            raise PermanentError(
                f"{spec.name}: no labelled event falls into the {name} part of the window, which "
                f"begins on {first}; lengthen the window or check the labels"
            )
    return divided


def _columns(spec: UseCaseSpec) -> dict[str, ColumnType]:
    """The columns of a frozen training set."""
    features: dict[str, ColumnType] = {
        name: "string" if kind == "category" else "float32"
        for name, kind in spec.feature_types.items()
    }
    return {
        EVENT_ID: "string",
        EVENT_TIME: "timestamp",
        ASKED_AT: "timestamp",
        DAY: "string",
        PART: "string",
        **features,
        LABEL: "int32",
    }


def read_training_set(spec: UseCaseSpec, lake: "Lake", record: TrainingSetRecord) -> "pl.DataFrame":
    """The frozen rows of ``record``, ordered by event time and id."""
    import polars as pl

    table = lake.read(table_name(spec, TRAINING_SETS), partitions=[record.digest])
    return cast("pl.DataFrame", pl.from_arrow(table)).sort(EVENT_TIME, EVENT_ID)


def training_set_asset(spec: UseCaseSpec, functions: Functions) -> dg.AssetsDefinition:
    """The asset that freezes a training set."""
    upstreams = {*spec.feature_views, spec.events.dataset, spec.label.dataset}

    @dg.asset(
        **common(
            spec,
            "training_set",
            "Events joined with what was known when each prediction is asked, and their labels; "
            "frozen and identified by content.",
            ["polars", "deltalake"],
        ),
        **placed(spec, "training_set"),
        deps=[asset_key(spec, name) for name in sorted(upstreams)],
        metadata={"table": table_name(spec, TRAINING_SETS)},
    )
    def _training_set(
        config: TrainingWindow, platform: Platform
    ) -> dg.MaterializeResult[TrainingSetRecord]:
        record = build(spec, functions, platform.lake(), training_window(spec, config))
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(record.digest),
            metadata={
                "dagster/row_count": record.rows,
                "positives": record.positives,
                "base_rate": record.positives / record.rows,
                "unlabelled": record.unlabelled,
                "window": f"{record.first} to {record.end} ({spec.timezone})",
                "validation_from": record.validation_first.isoformat(),
                "holdout_from": record.holdout_first.isoformat(),
                "digest": record.digest,
                "table_versions": dg.MetadataValue.json(record.table_versions),
            },
        )

    return _training_set
