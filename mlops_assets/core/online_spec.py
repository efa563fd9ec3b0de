"""What a team writes about online features: the fields of ``online`` in defs.yaml."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec_names import EVENT_ID, ColumnType, FeatureType
from mlops_assets.core.spec_part import Spec

if TYPE_CHECKING:
    from mlops_assets.core.spec import UseCaseSpec


class OnlineSpec(Spec):
    """Requests may carry the event only: the server looks its features up in the online store.

    Views are looked up by their entity columns. A view of the event itself, keyed by `event_id`, is
    sent with the request, or computed from it.
    """

    on_timeout: Literal["default", "error"] = Field(
        default="default",
        description="What a request gets when the store does not answer in time: `default`, its "
        "looked-up features count as missing; `error`, status 503. Default: default.",
    )
    timeout_ms: float = Field(
        default=50,
        gt=0,
        le=10_000,
        description="Time that a look-up of all views may take, in milliseconds. Default: 50.",
    )
    history_minutes: float = Field(
        default=60,
        ge=0,
        le=10_080,
        description="How far back an event may lie when it is asked about, in minutes before the "
        "store was materialized; what only earlier events need is not kept. Default: 60.",
    )
    computed: list[str] = Field(
        default=[],
        description="Views keyed by `event_id` that the server computes from `event_columns` with "
        "the view's own function. It imports the use case's code and polars for that. Default: "
        "none, their features are sent.",
    )
    event_columns: list[str] = Field(
        default=[],
        description="Columns of the events' dataset that a request carries instead of features and "
        "entity columns; the others are null. Needed with `computed`. Default: none.",
    )


_NO_KEYS = ("float32", "float64")


def sent_as(kind: "ColumnType") -> "FeatureType":
    """The type of input that carries a column of ``kind`` in a request; instants are text."""
    return "category" if kind in ("string", "timestamp") else "float"


def problems(spec: "UseCaseSpec") -> Iterator[SpecError]:
    """Each contradiction between ``online`` and the rest of ``spec``, with its place."""
    online = spec.online
    if online is None:
        return
    for n, name in enumerate(online.computed):
        at = ("online", "computed", n)
        view = spec.feature_views.get(name)
        if view is None:
            known = ", ".join(spec.feature_views)
            yield SpecError(at, f"there is no feature view {name!r}; known: {known}")
        elif view.entity != [EVENT_ID]:
            yield SpecError(
                at, f"{name!r} is about {', '.join(view.entity)}, not the event: it is looked up"
            )
        elif view.datasets != [spec.events.dataset] or view.lookback_days:
            yield SpecError(
                at,
                f"{name!r} reads more than the event: a request carries one row of "
                f"{spec.events.dataset!r} and no days before; send its features instead",
            )
    if bool(online.computed) != bool(online.event_columns):
        yield SpecError(
            ("online", "event_columns"),
            "computed views need the columns that a request carries, and only they do",
        )
    dataset = spec.datasets.get(spec.events.dataset)
    for name, view in spec.feature_views.items():
        for column in view.entity:
            if EVENT_ID not in view.entity and spec.entity_types.get(column) in _NO_KEYS:
                yield SpecError(
                    ("feature_views", name, "entity"),
                    f"{column!r} is a number that identifies nothing reliably, and cannot be "
                    "looked up; use text or whole numbers",
                )
    if dataset is None or not online.computed:
        return
    if len(dataset.key) != 1 or dataset.columns.get(dataset.key[0]) != "string":
        yield SpecError(
            ("online", "computed"),
            f"the key of {spec.events.dataset!r} has to be one string column, so that the rows of "
            "a request can be told apart",
        )
    for n, column in enumerate(online.event_columns):
        at = ("online", "event_columns", n)
        if column not in dataset.columns:
            known = ", ".join(dataset.columns)
            yield SpecError(at, f"{spec.events.dataset!r} has no column {column!r}; known: {known}")
        elif column in (*dataset.key, dataset.event_time):
            yield SpecError(at, f"{column!r} is given by event_id and event_time; leave it out")
        elif spec.feature_types.get(column, sent_as(dataset.columns[column])) != sent_as(
            dataset.columns[column]
        ):
            yield SpecError(
                at,
                f"the feature {column!r} is {spec.feature_types[column]}, and this column another "
                "type of input; rename one of them",
            )
