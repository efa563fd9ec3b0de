"""What a team writes about its prediction problem: the fields of defs.yaml.

Shapes and single values are checked here by pydantic; what needs more than one field is checked
by :func:`problems`, which returns each problem with its place.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StringConstraints, field_validator, model_validator

from mlops_assets.core.errors import SpecError
from mlops_assets.core.monitoring_spec import MonitoringSpec
from mlops_assets.core.online_spec import OnlineSpec
from mlops_assets.core.online_spec import problems as online_problems
from mlops_assets.core.retraining_spec import RetrainingSpec
from mlops_assets.core.retraining_spec import problems as retraining_problems
from mlops_assets.core.rollout_spec import RolloutSpec
from mlops_assets.core.rollout_spec import problems as rollout_problems
from mlops_assets.core.spec_part import Spec
from mlops_assets.core.tuning_spec import TuningSpec
from mlops_assets.core.tuning_spec import problems as tuning_problems

EVENT_ID = "event_id"
EVENT_TIME = "event_time"
KNOWN_AT = "known_at"
LABEL = "label"

STAGES = (
    *("training_set", "model", "evaluation", "promotion", "endpoint", "predictions"),
    *("prediction_log", "outcomes", "drift", "performance", "retraining", "backtest"),
)
"""The assets that every use case has, beside its datasets and feature views."""

_RESERVED_TABLES = (
    *STAGES,
    *("training_sets", "profiles", "day_profiles", "references"),
    *("performance_days", "retraining_decisions", "tuning", "alerts", "alert_deliveries"),
    *("online_features", "parity"),
    *("promotions", "rollout", "rollout_evidence"),
)
_RESERVED_COLUMNS = (
    *(EVENT_ID, EVENT_TIME, KNOWN_AT, LABEL),
    # Columns that the stages put beside the features.
    *("asked_at", "day", "part", "score"),
)

ColumnType = Literal["string", "bool", "int32", "int64", "float32", "float64", "timestamp"]
"""A dataset column's type; ``timestamp`` is an instant in UTC, in microseconds."""

FeatureType = Literal["category", "float"]
"""A feature's type: ``category`` is a string, ``float`` is 32 bits; both may be null."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]

# What the UI accepts: it names neither file nor line when it refuses one.
Owner = Annotated[
    str,
    StringConstraints(pattern=r"^(team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$"),
]
Kind = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,63}$")]


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


class TrainingSetSpec(Spec):
    """The window that a model is trained and judged on."""

    end: date = Field(description="First day after the window (ISO date).")
    days: int = Field(ge=3, le=36_600, description="Length of the window, in days.")
    validation_days: int = Field(
        default=7,
        ge=1,
        description="Days before the holdout that decide when training stops, in days. Default: 7.",
    )
    holdout_days: int = Field(
        default=14,
        ge=1,
        description="Last days of the window, kept from training for the evaluation, in days. "
        "Default: 14.",
    )


class RaySpec(Spec):
    """How a model is trained on a Ray cluster.

    The number of workers is part of the model: with another number, other rounding, other bytes.
    """

    workers: int = Field(
        default=2, ge=1, le=1000, description="Processes that share the rows. Default: 2."
    )
    cpus_per_worker: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Cores that each worker has for its share of the rows. Default: 1.",
    )
    lost_workers: int = Field(
        default=3,
        ge=0,
        description="Losses of workers that a training stands; after each, the rounds since its "
        "last checkpoint are trained again. Default: 3.",
    )


class ModelSpec(Spec):
    """How a model is trained."""

    engine: Literal["xgboost", "ray"] = Field(
        default="xgboost",
        description="Where XGBoost trains: xgboost in the step's own process, ray on the workers "
        "of a Ray cluster. Default: xgboost.",
    )
    ray: RaySpec = Field(
        default=RaySpec(),
        description="The workers of engine ray. Default: its fields' defaults.",
    )
    parameters: dict[str, float | int | str | bool] = Field(
        default={}, description="Parameters for the engine. Default: the engine's own."
    )
    rounds: int = Field(default=300, ge=1, description="Most boosting rounds. Default: 300.")
    early_stopping_rounds: int = Field(
        default=20,
        ge=1,
        description="Rounds without a better validation log-loss after which training stops. "
        "Default: 20.",
    )
    segment_rounds: int = Field(
        default=20,
        ge=1,
        description="Rounds between checkpoints: what an interruption without warning costs at "
        "most. It is part of the model: each segment draws rows and columns anew. Default: 20.",
    )
    seed: int = Field(default=7, ge=0, description="Base random seed. Default: 7.")


class EvaluationSpec(Spec):
    """How a model is judged on the holdout."""

    slices: list[Name] = Field(
        default=[], description="Features whose values split the holdout. Default: none."
    )
    report_rows: int = Field(
        default=5000,
        ge=100,
        le=50_000,
        description="Most rows per side in the Evidently report, in rows. Default: 5000.",
    )
    bootstrap_samples: int = Field(
        default=1000, ge=100, le=100_000, description="Resamples of days. Default: 1000."
    )


Metric = Literal["log_loss", "brier", "ece", "roc_auc"]


class GateRule(Spec):
    """One condition for promotion, judged by a confidence interval over resampled days.

    With ``against``, the challenger's gain on ``metric`` over that reference has to be at least
    ``at_least``; without it, the metric itself has to be within ``at_least`` and ``at_most``.
    """

    metric: Metric = Field(description="Metric that is judged.")
    against: Literal["base_rate", "champion"] | None = Field(
        default=None,
        description="Reference on the same rows. Gain is positive when the challenger is better. "
        "Default: none, the metric itself is judged.",
    )
    at_least: float | None = Field(
        default=None, description="Lower bound, in the metric's unit. Default: none."
    )
    at_most: float | None = Field(
        default=None, description="Upper bound, in the metric's unit. Default: none."
    )


class GateSpec(Spec):
    """Rules that decide whether a challenger may become champion."""

    rules: list[GateRule] = Field(min_length=1, description="All have to pass.")
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Level of the intervals (0.5 to 1). Default: 0.95."
    )


class ReplicasSpec(Spec):
    """How many servers answer, on Kubernetes."""

    min: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="Fewest servers: with 2 one answers while the other's node goes. 0 needs KEDA "
        "in the cluster, and the first request after a pause waits for a server. Default: 2.",
    )
    max: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Most servers; between the two, their number follows their load. Default: 2.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "ReplicasSpec":
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, above max {self.max}: swap them, or raise max")
        return self


class EndpointSpec(Spec):
    """Where the champion answers."""

    host: str = Field(default="127.0.0.1", description="Address to bind. Default: loopback.")
    port: int = Field(default=8900, ge=1, le=65535, description="TCP port. Default: 8900.")
    max_body_mb: float = Field(
        default=16, gt=0, le=1024, description="Largest request body, in MiB. Default: 16."
    )
    max_rows: int = Field(
        default=10_000, ge=1, description="Most rows in one request. Default: 10000."
    )
    replicas: ReplicasSpec = Field(
        default=ReplicasSpec(), description="Servers on Kubernetes. Default: 2."
    )


class UseCaseSpec(Spec):
    """One prediction problem, from data to endpoint."""

    name: Name = Field(description="Name of the use case; prefix of its asset keys.")
    description: str = Field(description="The question that the model answers.")
    owners: list[Owner] = Field(
        min_length=1, description="Who answers for it: e-mail addresses or `team:name`."
    )
    timezone: str = Field(
        default="UTC", description="IANA time zone whose days are the partitions. Default: UTC."
    )
    start: date = Field(description="First day of data (ISO date).")
    end: date | None = Field(
        default=None, description="First day after the data (ISO date). Default: data goes on."
    )
    datasets: dict[Name, DatasetSpec] = Field(min_length=1, description="Raw data, by name.")
    feature_views: dict[Name, FeatureViewSpec] = Field(
        min_length=1, description="Feature views, by name."
    )
    events: EventsSpec = Field(description="Rows to predict for.")
    label: LabelSpec = Field(description="Outcome to predict.")
    training_set: TrainingSetSpec = Field(description="Window of the training set.")
    model: ModelSpec = Field(
        default=ModelSpec(), description="How the model is trained. Default: its fields' defaults."
    )
    evaluation: EvaluationSpec = Field(
        default=EvaluationSpec(),
        description="How the model is judged. Default: its fields' defaults.",
    )
    gate: GateSpec = Field(description="When a challenger becomes champion.")
    endpoint: EndpointSpec = Field(
        default=EndpointSpec(), description="Where it answers. Default: its fields' defaults."
    )
    monitoring: MonitoringSpec = Field(
        default=MonitoringSpec(),
        description="What is watched, and how closely. Default: its fields' defaults.",
    )
    retraining: RetrainingSpec = Field(
        default=RetrainingSpec(),
        description="When the champion is trained again. Default: never.",
    )
    tuning: TuningSpec | None = Field(
        default=None,
        description="How better parameters of the model are looked for. Default: they are not.",
    )
    rollout: RolloutSpec = Field(
        default=RolloutSpec(),
        description="How a challenger that passed the gate comes to answer; see docs/rollouts.md. "
        "Default: at once.",
    )
    online: OnlineSpec | None = Field(
        default=None,
        description="Whether requests may carry the event only, and how the rest is looked up. "
        "Default: requests carry every feature.",
    )
    compute: dict[Name, Name] = Field(
        default={},
        description="Compute profile of each asset, as `model: gpu_spot`; see docs/compute.md. "
        "Default: gpu_spot for the model, cpu_spot for the backtest, cpu for every other asset.",
    )

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"{value!r} is no IANA time zone; write one like 'Europe/Berlin' or 'UTC'"
            ) from error
        return value

    @property
    def entity_types(self) -> dict[str, ColumnType]:
        """The type of each column of a dataset, by name: what entity columns are made of."""
        return {
            column: kind
            for dataset in self.datasets.values()
            for column, kind in dataset.columns.items()
        }

    @property
    def feature_types(self) -> dict[str, FeatureType]:
        """Each feature of each view with its type, in the model's order."""
        return {
            name: kind
            for view in self.feature_views.values()
            for name, kind in view.features.items()
        }


def problems(spec: UseCaseSpec) -> Iterator[SpecError]:
    """Each contradiction between the fields of ``spec``, with its place."""
    if spec.end is not None and spec.end <= spec.start:
        yield SpecError(
            ("end",),
            f"{spec.end} is not after start {spec.start}; the end is the first day that is not "
            "included: swap the dates",
        )
    for name, dataset in spec.datasets.items():
        yield from _name_problems(("datasets", name), name)
        yield from _dataset_problems(("datasets", name), dataset)
    for name, view in spec.feature_views.items():
        yield from _name_problems(("feature_views", name), name)
        yield from _view_problems(spec, name, view)
    yield from _feature_problems(spec)
    for part, source in (("events", spec.events.dataset), ("label", spec.label.dataset)):
        yield from _known_dataset((part, "dataset"), source, spec)
        if source in spec.datasets and not spec.datasets[source].partitioned:
            yield SpecError(
                (part, "dataset"), f"dataset {source!r} has no days; choose one that is partitioned"
            )
    yield from _training_problems(spec)
    yield from retraining_problems(spec.retraining)
    if spec.tuning is not None:
        yield from tuning_problems(spec.tuning)
    yield from online_problems(spec)
    yield from rollout_problems(spec.rollout)
    if spec.model.engine != "ray" and spec.model.ray != RaySpec():
        yield SpecError(
            ("model", "ray"), "only engine ray has workers: write engine: ray, or leave it out"
        )
    known = sorted(spec.feature_types)
    for n, name in enumerate(spec.evaluation.slices):
        if name not in known:
            yield SpecError(
                ("evaluation", "slices", n),
                f"there is no feature {name!r}; known: {', '.join(known)}",
            )
    for n, rule in enumerate(spec.gate.rules):
        if rule.at_least is None and rule.at_most is None:
            yield SpecError(("gate", "rules", n), "give at_least, at_most, or both")
        elif (
            rule.at_least is not None and rule.at_most is not None and rule.at_least > rule.at_most
        ):
            yield SpecError(
                ("gate", "rules", n),
                f"nothing is at least {rule.at_least} and at most {rule.at_most}; swap them",
            )


def _name_problems(at: tuple[str, ...], name: str) -> Iterator[SpecError]:
    """Tables and assets of the platform's own that a table called ``name`` would collide with."""
    if name in _RESERVED_TABLES or name.endswith("__quarantine"):
        yield SpecError(at, f"{name!r} is a name of the platform's own; choose another")
    if name == "window":
        yield SpecError(at, "'window' is what functions call their first argument; choose another")


def _dataset_problems(at: tuple[str, ...], dataset: DatasetSpec) -> Iterator[SpecError]:
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
    yield from _known_problems(at, dataset)
    if isinstance(dataset.source, FileSource) and (dataset.source.kind == "sql") != (
        dataset.source.query is not None
    ):
        yield SpecError(
            (*at, "source", "query"), "a sql source needs a query, and only a sql source has one"
        )


def _known_problems(at: tuple[str, ...], dataset: DatasetSpec) -> Iterator[SpecError]:
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


def _view_problems(spec: UseCaseSpec, name: str, view: FeatureViewSpec) -> Iterator[SpecError]:
    at = ("feature_views", name)
    if name in spec.datasets:
        yield SpecError(at, f"{name!r} is also a dataset; rename one of them")
    for source in view.datasets:
        yield from _known_dataset((*at, "datasets"), source, spec)
        dataset = spec.datasets.get(source)
        if dataset and dataset.partitioned and not view.partitioned:
            yield SpecError(
                (*at, "partitioned"),
                f"the view has one partition but reads {source!r}, which has one per day; "
                "make the view partitioned",
            )
    if view.partitioned and view.ttl_hours is None:
        yield SpecError(
            (*at, "ttl_hours"),
            "a partitioned view needs it, so that a day's join reads a bounded number of days; "
            "give the hours after which a row is no longer worth using",
        )


def _feature_problems(spec: UseCaseSpec) -> Iterator[SpecError]:
    """Features stand beside each other, and beside entities and times, in one table."""
    seen: dict[str, str] = {}
    entities = {column for view in spec.feature_views.values() for column in view.entity}
    for name, view in spec.feature_views.items():
        for feature in view.features:
            at = ("feature_views", name, "features", feature)
            if feature in _RESERVED_COLUMNS:
                yield SpecError(at, f"{feature!r} is a reserved name; choose another")
            if feature in entities:
                yield SpecError(at, f"{feature!r} is also an entity column; rename the feature")
            if feature in seen:
                yield SpecError(
                    at, f"feature {feature!r} is also in view {seen[feature]!r}; rename one of them"
                )
            seen[feature] = name


def _known_dataset(at: tuple[str, ...], name: str, spec: UseCaseSpec) -> Iterator[SpecError]:
    if name not in spec.datasets:
        yield SpecError(at, f"there is no dataset {name!r}; known: {', '.join(spec.datasets)}")


def _training_problems(spec: UseCaseSpec) -> Iterator[SpecError]:
    training = spec.training_set
    again = spec.retraining.window_days
    if again is not None and training.validation_days + training.holdout_days >= again:
        yield SpecError(
            ("retraining", "window_days"),
            f"{again} days leave none to train on after {training.validation_days} days of "
            f"validation and {training.holdout_days} of holdout; lengthen the window",
        )
    if training.validation_days + training.holdout_days >= training.days:
        yield SpecError(
            ("training_set", "days"),
            f"{training.days} days leave none to train on after {training.validation_days} days of "
            f"validation and {training.holdout_days} of holdout; lengthen the window",
        )
    first = training.end - timedelta(days=training.days)
    if first < spec.start:
        yield SpecError(
            ("training_set", "days"),
            f"the window begins on {first}, before the data does on {spec.start}; "
            "shorten it or end it later",
        )
    if spec.end is not None and training.end > spec.end:
        yield SpecError(
            ("training_set", "end"), f"{training.end} is after the data ends on {spec.end}"
        )
