"""Checks of feature views: they keep their promises, a day alone equals the day within a year, and
nothing reaches back from the future.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl
import yaml

from mlops_assets.core.polars_types import POLARS_TYPES
from mlops_assets.core.spec import (
    EVENT_TIME,
    KNOWN_AT,
    FeatureViewSpec,
    UseCaseSpec,
    problems,
)
from mlops_assets.core.windows import Window

ViewFunction = Callable[..., pl.DataFrame]
"""A feature view's function: a Window and the datasets by name, to its rows."""

Known = Mapping[str, str | Mapping[str, str]]
"""When a dataset's values become known, by dataset: the timestamp column after which a row exists,
or, by column, the timestamp column after which its value does (other columns are always known)."""


def load_spec(path: Path) -> UseCaseSpec:
    """The use case that the defs.yaml at ``path`` describes.

    Raises pydantic's ValidationError for a wrong field, and the first SpecError of
    :func:`mlops_assets.core.spec.problems` for fields that contradict each other.
    """
    spec = UseCaseSpec.model_validate(yaml.safe_load(path.read_text("utf-8"))["attributes"])
    for problem in problems(spec):
        raise problem
    return spec


def compute_view(
    spec: UseCaseSpec,
    view: str,
    function: ViewFunction,
    window: Window,
    datasets: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    """The rows of ``view`` for ``window``, computed from what the platform hands its function.

    ``datasets`` are whole tables by name; the function sees the window's days and the view's
    ``lookback_days`` before them.
    """
    described = spec.feature_views[view]
    seen = window.with_lookback(described.lookback_days)
    inputs: dict[str, pl.DataFrame] = {}
    for name in described.datasets:
        event_time = spec.datasets[name].event_time
        rows = datasets[name]
        if spec.datasets[name].partitioned and event_time is not None:
            rows = _within(rows, event_time, seen)
        inputs[name] = rows
    return function(window, **inputs)


def assert_matches_spec(spec: UseCaseSpec, view: str, frame: pl.DataFrame, window: Window) -> None:
    """``frame`` is what defs.yaml promises of ``view`` for ``window``.

    Its columns have their types, keys and times are complete, there is one row for each entity,
    event time and known-at time, and every event time lies in the window.
    """
    described = spec.feature_views[view]
    expected = _columns(spec, described)
    for column, kind in expected.items():
        found = frame.schema.get(column)
        if found != kind:
            raise AssertionError(
                f"view {view!r}, column {column!r}: expected {kind}, found {found or 'no column'}"
            )
    extra = [column for column in frame.columns if column not in expected]
    if extra:
        raise AssertionError(f"view {view!r}: columns that are not in defs.yaml: {extra}")
    keys = [*described.entity, EVENT_TIME, KNOWN_AT]
    for column in keys:
        missing = frame.filter(pl.col(column).is_null())
        if missing.height:
            raise AssertionError(
                f"view {view!r}: {column!r} is null in {missing.height} rows, e.g. {_row(missing)}"
            )
    twice = frame.filter(frame.select(keys).is_duplicated()).sort(keys)
    if twice.height:
        raise AssertionError(f"view {view!r}: two rows share {', '.join(keys)}: {_row(twice)}")
    outside = frame.join(_within(frame, EVENT_TIME, window), on=keys, how="anti")
    if described.partitioned and outside.height:
        raise AssertionError(
            f"view {view!r}: {outside.height} rows lie outside of {window.first} to {window.end}, "
            f"e.g. {_row(outside.sort(keys))}"
        )


def assert_partition_equals_whole(
    spec: UseCaseSpec,
    view: str,
    function: ViewFunction,
    window: Window,
    datasets: Mapping[str, pl.DataFrame],
) -> None:
    """Each day of ``window`` has the same rows computed alone and computed with the others.

    ``datasets`` are whole tables by name; each computation sees only what the platform would hand
    it, so that a lookback that is too short shows.
    """
    whole = compute_view(spec, view, function, window, datasets)
    assert_matches_spec(spec, view, whole, window)
    for day in window.days:
        alone = Window(day, day + timedelta(days=1), window.timezone)
        part = compute_view(spec, view, function, alone, datasets)
        assert_matches_spec(spec, view, part, alone)
        difference = _difference(
            spec.feature_views[view],
            _within(whole, EVENT_TIME, alone),
            part,
            ("computed with the days around it", "computed alone"),
        )
        if difference:
            raise AssertionError(
                f"view {view!r}, day {day}: {difference}; let it depend on nothing before its "
                "lookback_days and nothing after its day, or lengthen lookback_days"
            )


def assert_no_future(
    spec: UseCaseSpec,
    view: str,
    function: ViewFunction,
    window: Window,
    datasets: Mapping[str, pl.DataFrame],
    *,
    known: Known,
    instant: datetime,
) -> None:
    """What becomes known after ``instant`` has no part in rows known by then.

    The view is computed from ``datasets`` as they are, with every value that becomes known later
    replaced by another, and with none of them. Rows with ``known_at <= instant`` have to be the
    same. ``known`` says when values become known; a value whose time is null never does.
    """
    now = _known_by(compute_view(spec, view, function, window, datasets), instant)
    if now.is_empty():
        raise AssertionError(
            f"view {view!r}: no row is known by {instant}: choose a later instant or another window"
        )
    for how in ("other", "missing"):
        changed = {
            name: _with_another_future(
                spec, name, rows, known=known[name], instant=instant, how=how
            )
            if name in known
            else rows
            for name, rows in datasets.items()
        }
        if all(changed[name].equals(datasets[name]) for name in datasets):
            raise AssertionError(
                f"view {view!r}: nothing becomes known after {instant}: choose an earlier instant"
            )
        then = _known_by(compute_view(spec, view, function, window, changed), instant)
        difference = _difference(
            spec.feature_views[view], now, then, ("as it is", f"with {how} values later")
        )
        if difference:
            raise AssertionError(
                f"view {view!r} uses what becomes known after {instant}: {difference}"
            )


def _with_another_future(
    spec: UseCaseSpec,
    dataset: str,
    rows: pl.DataFrame,
    *,
    known: str | Mapping[str, str],
    instant: datetime,
    how: Literal["other", "missing"],
) -> pl.DataFrame:
    if isinstance(known, str):
        if how == "missing":
            return rows.filter(pl.col(known) <= instant)
        fixed = {*spec.datasets[dataset].key, spec.datasets[dataset].event_time, known}
        known = {column: known for column in rows.columns if column not in fixed}
    return rows.with_columns(
        pl.when(pl.col(time) > instant)
        .then(_another(column, rows.schema[column]) if how == "other" else None)
        .otherwise(pl.col(column))
        .alias(column)
        for column, time in known.items()
    )


def _another(column: str, kind: pl.DataType) -> pl.Expr:
    """A value of the same type that is not the column's; an instant moves further into future."""
    value = pl.col(column)
    if isinstance(kind, pl.Boolean):
        return ~value
    if isinstance(kind, pl.Datetime):
        return value + pl.duration(days=1)
    if isinstance(kind, pl.String):
        return value + "?"
    return (value + 1000).cast(kind)


def _difference(
    view: FeatureViewSpec, left: pl.DataFrame, right: pl.DataFrame, names: Sequence[str]
) -> str | None:
    """The first row and feature in which two frames differ; None when they are equal."""
    keys = [*view.entity, EVENT_TIME, KNOWN_AT]
    for one, other, name in ((left, right, names[0]), (right, left, names[1])):
        only = one.join(other, on=keys, how="anti").sort(keys)
        if only.height:
            return f"{only.height} rows are there only when {name}, first {_row(only.select(keys))}"
    both = left.sort(keys).join(right, on=keys, how="left", suffix="__right", maintain_order="left")
    for feature in view.features:
        differing = both.filter(~pl.col(feature).eq_missing(pl.col(f"{feature}__right")))
        if differing.height:
            row = differing.row(0, named=True)
            return (
                f"feature {feature!r} differs in {differing.height} rows, first "
                f"{_row(differing.select(keys))}: {row[feature]} {names[0]}, "
                f"{row[f'{feature}__right']} {names[1]}"
            )
    return None


def _columns(spec: UseCaseSpec, view: FeatureViewSpec) -> dict[str, pl.DataType]:
    types = spec.entity_types
    entity = {column: POLARS_TYPES[types.get(column, "string")] for column in view.entity}
    features = {
        name: pl.String() if kind == "category" else pl.Float32()
        for name, kind in view.features.items()
    }
    times = dict.fromkeys((EVENT_TIME, KNOWN_AT), POLARS_TYPES["timestamp"])
    return {**entity, **times, **features}


def _within(frame: pl.DataFrame, column: str, window: Window) -> pl.DataFrame:
    return frame.filter(
        pl.col(column).is_between(window.start_time, window.end_time, closed="left")
    )


def _known_by(frame: pl.DataFrame, instant: datetime) -> pl.DataFrame:
    return frame.filter(pl.col(KNOWN_AT) <= instant)


def _row(frame: pl.DataFrame) -> str:
    return ", ".join(f"{name}={value}" for name, value in frame.row(0, named=True).items())
