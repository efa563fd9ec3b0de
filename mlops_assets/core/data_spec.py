"""What data a use case has: sources, datasets, feature views, events and labels."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec_names import ColumnType, FeatureType, FunctionName, Kind, Name
from mlops_assets.core.spec_part import Spec


class FileSource(Spec):
    """Rows read from Parquet or CSV files or from a SQL query."""

    kind: Literal["parquet", "csv", "sql"] = Field(description="Format of the source.")
    location: str = Field(
        description="Path or URL of the file, or for `sql` the database's SQLAlchemy URL. "
        "`${NAME}` is replaced by the environment variable NAME when the source is read."
    )
    query: str | None = Field(
        default=None,
        description="For `sql`: the SELECT to run. `:start` and `:end` are bound to the window's "
        "UTC instants when the dataset is partitioned. Default: none.",
    )


class DatasetSpec(Spec):
    """Raw data from a source, kept as a table in the lake."""

    description: str = Field(description="What a row is and where it comes from.")
    source: FunctionName | FileSource = Field(
        description="`module:function` in the use case's folder, or a file or SQL source. The "
        "function takes a Window when the dataset is partitioned, else nothing, and returns a "
        "polars, pandas or Arrow table."
    )
    partitioned: bool = Field(
        default=True,
        description="Whether the table has one partition per day (else one table). Default: true.",
    )
    columns: dict[str, ColumnType] = Field(
        min_length=1, description="Each column and its type, enforced when rows are written."
    )
    key: list[str] = Field(
        min_length=1, description="Columns that together identify a row, and its order."
    )
    event_time: str | None = Field(
        default=None,
        description="The timestamp column (UTC) that places a row in its day's partition. "
        "Needed when partitioned. Default: none.",
    )
    known_at: str | None = Field(
        default=None,
        description="The timestamp column (UTC) that says since when a row, or its `known_later` "
        "columns, are known. A replay shows nothing earlier. Default: none, known at once.",
    )
    known_later: list[str] = Field(
        default=[],
        description="Columns that are null until `known_at`, as the outcome of something that was "
        "planned. Default: none, the whole row appears at `known_at`.",
    )
    known_since: dict[str, str] = Field(
        default={},
        description="Columns that are known at another instant than `known_at`, each with the "
        "timestamp column (UTC) of that instant, as a departure is known before the arrival. "
        "Default: none.",
    )
    inventory: FunctionName | None = Field(
        default=None,
        description="`module:function` that says what the source has, from metadata and without "
        "reading rows: takes a Window and returns a table of `day` (ISO date) and `version` (text "
        "that changes when the day's rows do). Default: the source is read, see `late_days`.",
    )
    late_days: int = Field(
        default=3,
        ge=0,
        le=31,
        description="Without an inventory: newest days that are read again to find late and "
        "corrected rows, in days. Default: 3.",
    )
    due_hours: float = Field(
        default=12,
        gt=0,
        le=8784,
        description="Hours after a day's end by which it has to be in the lake. Default: 12.",
    )
    suite: FunctionName | None = Field(
        default=None,
        description="`module:function` that returns the Great Expectations of this table. "
        "Default: none.",
    )
    quarantine_limit: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Largest share of a partition's rows (0 to 1) that may be quarantined before "
        "the whole partition is refused. Default: 0.01.",
    )
    kinds: list[Kind] = Field(
        default=[],
        description="Tags shown on the asset in the UI, at most 3. Default: none.",
        max_length=3,
    )


class FeatureViewSpec(Spec):
    """Rows of (entity key, event time, features), computed from datasets."""

    description: str = Field(description="What the features say and about what.")
    function: FunctionName = Field(
        description="`module:function`; takes a Window and the datasets as polars frames by name, "
        "returns a polars frame with the entity, `event_time`, `known_at` and the features."
    )
    datasets: list[Name] = Field(min_length=1, description="Datasets that the function reads.")
    entity: list[str] = Field(
        min_length=1, description="Columns that identify what a row is about."
    )
    features: dict[Name, FeatureType] = Field(
        min_length=1, description="Each feature and its type (category or float)."
    )
    partitioned: bool = Field(
        default=True, description="Whether the view has one partition per day. Default: true."
    )
    lookback_days: int = Field(
        default=0,
        ge=0,
        le=366,
        description="Days before the window that the function also reads from its datasets, in "
        "days. Default: 0.",
    )
    ttl_hours: float | None = Field(
        default=None,
        gt=0,
        le=87_600,
        description="Hours after its event time for which a row may be used; an older row counts "
        "as missing. Needed when partitioned. Default: no limit.",
    )
    suite: FunctionName | None = Field(
        default=None,
        description="`module:function` that returns the Great Expectations of this view. "
        "Default: none.",
    )


class EventsSpec(Spec):
    """The rows to predict for, and when the prediction is asked."""

    dataset: Name = Field(description="Dataset that the events come from.")
    function: FunctionName = Field(
        description="`module:function`; takes a Window and the dataset as a polars frame, returns "
        "`event_id`, `event_time` and the entity columns of every feature view."
    )
    lead_minutes: float = Field(
        default=0,
        ge=0,
        le=525_600,
        description="Minutes before the event at which the prediction is asked; only what is known "
        "by then is used. Default: 0.",
    )


class LabelSpec(Spec):
    """The outcome of each event."""

    name: Name = Field(description="What the label is called in reports.")
    description: str = Field(default="", description="What a 1 means. Default: empty.")
    dataset: Name = Field(description="Dataset that the label comes from.")
    function: FunctionName = Field(
        description="`module:function`; takes a Window and the dataset as a polars frame, returns "
        "`event_id`, `label` (0, 1 or null where there is no outcome) and `known_at`."
    )


def dataset_problems(at: tuple[str, ...], dataset: DatasetSpec) -> Iterator[SpecError]:
    """Each contradiction between the fields of the dataset ``at`` a place, with its own place."""
    known = ", ".join(dataset.columns)
    for column in dataset.key:
        if column not in dataset.columns:
            yield SpecError((*at, "key"), f"there is no column {column!r}; known: {known}")
    if dataset.partitioned and dataset.event_time is None:
        yield SpecError(
            (*at, "event_time"),
            "a partitioned dataset needs the column that places a row in its day",
        )
    if dataset.event_time is not None:
        if dataset.event_time not in dataset.columns:
            yield SpecError(
                (*at, "event_time"), f"there is no column {dataset.event_time!r}; known: {known}"
            )
        elif dataset.columns[dataset.event_time] != "timestamp":
            yield SpecError(
                (*at, "event_time"), f"column {dataset.event_time!r} is not of type timestamp"
            )
    yield from _instant_problems(at, dataset)
    if isinstance(dataset.source, FileSource) and (dataset.source.kind == "sql") != (
        dataset.source.query is not None
    ):
        yield SpecError(
            (*at, "source", "query"), "a sql source needs a query, and only a sql source has one"
        )


def _instant_problems(at: tuple[str, ...], dataset: DatasetSpec) -> Iterator[SpecError]:
    """What contradicts each other in ``known_at``, ``known_later`` and ``known_since``."""
    known = ", ".join(dataset.columns)
    instants = {"known_at": [dataset.known_at] if dataset.known_at is not None else []}
    instants["known_since"] = list(dataset.known_since.values())
    later = {"known_later": dataset.known_later, "known_since": list(dataset.known_since)}
    for part in ("known_at", "known_later", "known_since"):
        for column in (*instants.get(part, ()), *later.get(part, ())):
            if column not in dataset.columns:
                yield SpecError((*at, part), f"there is no column {column!r}; known: {known}")
        for column in instants.get(part, ()):
            if dataset.columns.get(column, "timestamp") != "timestamp":
                yield SpecError((*at, part), f"column {column!r} is not of type timestamp")
        if set(later.get(part, ())) & {dataset.event_time, *dataset.key}:
            yield SpecError(
                (*at, part), "key and event_time are known with the row; leave them out"
            )
    if dataset.known_later and dataset.known_at is None:
        yield SpecError(
            (*at, "known_at"), "known_later needs the column that says since when they are known"
        )
    if dataset.known_since and not dataset.known_later:
        yield SpecError(
            (*at, "known_since"), "it needs known_later: without, a row appears whole at known_at"
        )
    for column in dataset.known_since:
        if column in (*dataset.known_later, dataset.known_at):
            yield SpecError((*at, "known_since"), f"{column!r} is known at known_at; name it once")
