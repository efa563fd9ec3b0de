"""What a team writes about its prediction problem: the fields of defs.yaml.

Each stage's part is a module of its own, whose names are here too. Shapes and single values are
checked by pydantic; what needs more than one field is checked by :func:`problems`, which returns
each problem with its place.
"""

from collections.abc import Iterator
from datetime import date
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from mlops_assets.core.data_spec import (
    DatasetSpec,
    EventsSpec,
    FeatureViewSpec,
    FileSource,
    LabelSpec,
    dataset_problems,
)
from mlops_assets.core.endpoint_spec import EndpointSpec, ReplicasSpec
from mlops_assets.core.errors import SpecError
from mlops_assets.core.model_spec import (
    EvaluationSpec,
    GateRule,
    GateSpec,
    Metric,
    ModelSpec,
    RaySpec,
    TrainingSetSpec,
    model_problems,
    training_problems,
)
from mlops_assets.core.monitoring_spec import MonitoringSpec
from mlops_assets.core.online_spec import OnlineSpec
from mlops_assets.core.online_spec import problems as online_problems
from mlops_assets.core.retraining_spec import RetrainingSpec
from mlops_assets.core.retraining_spec import problems as retraining_problems
from mlops_assets.core.rollout_spec import RolloutSpec
from mlops_assets.core.rollout_spec import problems as rollout_problems
from mlops_assets.core.spec_names import (
    EVENT_ID,
    EVENT_TIME,
    KNOWN_AT,
    LABEL,
    RESERVED_COLUMNS,
    RESERVED_TABLES,
    STAGES,
    ColumnType,
    FeatureType,
    Name,
    Owner,
)
from mlops_assets.core.spec_part import Spec
from mlops_assets.core.tuning_spec import TuningSpec
from mlops_assets.core.tuning_spec import problems as tuning_problems

__all__ = [
    "EVENT_ID",
    "EVENT_TIME",
    "KNOWN_AT",
    "LABEL",
    "STAGES",
    "ColumnType",
    "DatasetSpec",
    "EndpointSpec",
    "EvaluationSpec",
    "EventsSpec",
    "FeatureType",
    "FeatureViewSpec",
    "FileSource",
    "GateRule",
    "GateSpec",
    "LabelSpec",
    "Metric",
    "ModelSpec",
    "RaySpec",
    "ReplicasSpec",
    "TrainingSetSpec",
    "UseCaseSpec",
    "problems",
]


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
        yield from dataset_problems(("datasets", name), dataset)
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
    yield from training_problems(spec)
    yield from retraining_problems(spec.retraining)
    if spec.tuning is not None:
        yield from tuning_problems(spec.tuning)
    yield from online_problems(spec)
    yield from rollout_problems(spec.rollout)
    yield from model_problems(spec)


def _name_problems(at: tuple[str, ...], name: str) -> Iterator[SpecError]:
    """Tables and assets of the platform's own that a table called ``name`` would collide with."""
    if name in RESERVED_TABLES or name.endswith("__quarantine"):
        yield SpecError(at, f"{name!r} is a name of the platform's own; choose another")
    if name == "window":
        yield SpecError(at, "'window' is what functions call their first argument; choose another")


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
            if feature in RESERVED_COLUMNS:
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
