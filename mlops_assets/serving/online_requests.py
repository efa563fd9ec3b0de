"""Requests that carry less than all features: what they need, and their columns as values."""

import math
import struct
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from mlops_assets.core.online import (
    KeyValue,
    OnlineConfig,
    OnlineInputs,
    OnlineView,
    floats_format,
)
from mlops_assets.core.requests import PredictionRequest, RequestError, RequestSchema
from mlops_assets.core.spec import EVENT_TIME, ColumnType

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """A view that is looked up, and which of its features go where."""

    view: OnlineView
    keys: tuple[str, ...]
    packed: struct.Struct
    nothing: tuple[float, ...]
    """The floats of an entity that is not found."""
    floats: tuple[tuple[int, str], ...]
    """Places in the row, and names, of those that were not sent."""
    categories: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What requests that carry the same columns have in common."""

    problem: str | None
    """Why they are refused."""
    views: tuple[ViewPlan, ...]
    computed: tuple[OnlineView, ...]
    computes: bool
    """Whether the event's own columns are computed from: features, or entity columns."""
    given: tuple[str, ...]
    """Sent columns that keys and computations are made of."""
    keys: tuple[str, ...]
    dropped: tuple[str, ...]
    """Sent columns that are no features."""
    categories: frozenset[str]
    floats: frozenset[str]


def plan(
    config: OnlineConfig,
    inputs: OnlineInputs,
    types: Mapping[str, ColumnType],
    base: RequestSchema,
    sent: Set[str],
) -> Plan:
    """What requests need that carry the columns ``sent``, so that they have those of ``base``.

    ``types`` are the columns that a request may carry beside features.
    """
    features = {field.name: field.type for field in base.inputs}
    absent = features.keys() - sent
    required = [field.name for field in base.inputs if field.name in base.required]
    lacking = inputs.missing(sent, required)
    problem = (
        f"input {lacking[0]!r} is missing ({len(lacking)} are: {', '.join(lacking)}); give "
        "it (null where it is not known) or all columns that it is found by"
        if lacking
        else None
    )
    raw = config.computed is not None and sent >= set(config.computed.given)
    views = tuple(
        ViewPlan(
            view,
            tuple(view.keys),
            floats_format(view),
            (math.nan,) * len(view.floats),
            tuple((n, name) for n, name in enumerate(view.floats) if name in absent),
            tuple((n, name) for n, name in enumerate(view.categories) if name in absent),
        )
        for view in config.views
        if not absent.isdisjoint((*view.floats, *view.categories))
        and (raw or sent >= view.keys.keys())
    )
    computed = tuple(
        view
        for view in (config.computed.views if config.computed is not None and raw else ())
        if not absent.isdisjoint((*view.floats, *view.categories))
    )
    keys = dict.fromkeys(key for one in views for key in one.keys)
    computes = bool(computed) or not sent >= keys.keys()
    given = (types.keys() if computes else keys.keys()) & sent
    return Plan(
        problem=problem,
        views=views,
        computed=computed,
        computes=computes,
        given=tuple(sorted(given - {EVENT_TIME})),
        keys=tuple(keys),
        dropped=tuple((types.keys() - features.keys()) & sent),
        categories=frozenset(name for name, kind in features.items() if kind == "category"),
        floats=frozenset(name for name, kind in features.items() if kind == "float"),
    )


def drop(request: PredictionRequest, names: Sequence[str]) -> None:
    """Take the columns ``names`` out, which no model has."""
    for name in names:
        request.categories.pop(name, None)
        request.floats.pop(name, None)


def event_times(request: PredictionRequest, agreed: int) -> list[int]:
    """When each event is, in microseconds since 1970: as sent, else as ``agreed``."""
    sent = request.categories.get(EVENT_TIME)
    if sent is None:
        return [agreed] * request.rows
    return [
        agreed if text is None else _instant(EVENT_TIME, row, text) for row, text in enumerate(sent)
    ]


def typed_values(name: str, kind: ColumnType, request: PredictionRequest) -> list[KeyValue | None]:
    """A sent column as values of ``kind``. Raises RequestError 422 with the row."""
    if kind == "string":
        return list(request.categories[name])
    if kind == "timestamp":
        texts = request.categories[name]
        return [None if t is None else _instant(name, row, t) for row, t in enumerate(texts)]
    numbers = request.floats[name]
    if kind in ("float32", "float64"):
        return cast("list[KeyValue | None]", list(numbers))
    for row, number in enumerate(numbers):
        if number is not None and not float(number).is_integer():
            raise RequestError(422, f"input {name!r}: {number} in row {row} is no whole number")
    if kind == "bool":
        return [None if number is None else bool(number) for number in numbers]
    return [None if number is None else int(number) for number in numbers]


def _instant(name: str, row: int, text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return (found - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        pass
    raise RequestError(
        422,
        f"input {name!r}: {text[:40]!r} in row {row} is no instant with a time zone, like "
        "2013-03-10T06:30:00+00:00",
    )
