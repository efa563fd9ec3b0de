"""Views of the event itself, computed from the columns that a request carries.

The functions are those of training: a request is a small table of the events' dataset, of which
only what is known when a prediction is asked is not null. Only a server whose use case has such
views imports this module, and polars with it.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

import polars as pl

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.online import ComputedViews, KeyValue, OnlineView
from mlops_assets.core.polars_types import POLARS_TYPES
from mlops_assets.core.requests import RequestError
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, KNOWN_AT, ColumnType
from mlops_assets.core.windows import Window

Features = dict[str, list[str | None] | list[float | None]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Computing:
    """A use case's functions, resolved. Raises PermanentError for one that is not there."""

    def __init__(self, config: ComputedViews) -> None:
        self.given = config.given
        self.views = config.views
        self._config = config
        self._functions = {view: _resolved(name) for view, name in config.functions.items()}
        self._events = _resolved(config.events)

    def run(
        self,
        given: Mapping[str, Sequence[KeyValue | None]],
        event_times: Sequence[int],
        asked_at: int,
        views: Sequence[OnlineView],
    ) -> tuple[Features, dict[str, list[KeyValue | None]]]:
        """The features of ``views`` and the entity columns, for each row of a request.

        ``given`` has its columns; times are in microseconds since 1970. Of a view's rows about an
        event the one is used that the point-in-time join uses. Raises RequestError 422 where a
        function cannot take the event.
        """
        frame, window = self._table(given, event_times)
        entity = self._called("the events' function", self._events, window, frame)
        places = {str(event): n for n, event in enumerate(entity[EVENT_ID])}
        rows = [places.get(str(n)) for n in range(frame.height)]
        keys = {
            name: _at(entity[name], rows)
            for name in entity.columns
            if name not in (EVENT_ID, EVENT_TIME)
        }
        features: Features = {}
        for view in views:
            what = f"view {view.name!r}"
            found = self._called(what, self._functions[view.name], window, frame)
            features |= _features(found, view, event_times, asked_at)
        return features, keys

    def _table(
        self, given: Mapping[str, Sequence[KeyValue | None]], event_times: Sequence[int]
    ) -> tuple[pl.DataFrame, Window]:
        """The request as rows of the events' dataset; the key is the row's number."""
        config, rows = self._config, len(event_times)
        columns: list[pl.Series] = []
        for name, kind in config.columns.items():
            if name == config.key:
                column = pl.Series(name, [str(n) for n in range(rows)], pl.String)
            elif name == config.event_time:
                column = pl.Series(name, event_times, pl.Int64).cast(POLARS_TYPES["timestamp"])
            elif name in config.given:
                column = _typed(name, given[name], kind)
            else:
                column = pl.Series(name, [None] * rows, POLARS_TYPES[kind])
            columns.append(column)
        zone = ZoneInfo(config.timezone)
        first, last = (
            (_EPOCH + timedelta(microseconds=at)).astimezone(zone).date()
            for at in (min(event_times), max(event_times))
        )
        return pl.DataFrame(columns), Window(first, last + timedelta(days=1), config.timezone)

    def _called(
        self, what: str, function: Callable[..., object], window: Window, frame: pl.DataFrame
    ) -> pl.DataFrame:
        try:
            return cast("pl.DataFrame", function(window, frame))
        except Exception as error:
            # What a team's function raises is about the event that it was given.
            raise RequestError(422, f"{what} cannot be computed from the event: {error}") from error


def _resolved(name: str) -> Callable[..., object]:
    module, _, function = name.partition(":")
    try:
        return cast("Callable[..., object]", getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError) as error:
        raise PermanentError(
            f"cannot load {name!r}: {error}; the server's image needs the use case's code"
        ) from error


def _typed(name: str, values: Sequence[KeyValue | None], kind: ColumnType) -> pl.Series:
    try:
        if kind == "timestamp":
            return pl.Series(name, values, pl.Int64).cast(POLARS_TYPES[kind])
        return pl.Series(name, values, POLARS_TYPES[kind])
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        raise RequestError(422, f"input {name!r} does not fit {kind}: {error}") from error


def _at(column: pl.Series, rows: Sequence[int | None]) -> list[KeyValue | None]:
    if isinstance(column.dtype, pl.Datetime):
        column = column.to_physical()
    values = column.to_list()
    return [None if row is None else values[row] for row in rows]


def _features(
    found: pl.DataFrame, view: OnlineView, event_times: Sequence[int], asked_at: int
) -> Features:
    """Each event's features: of its rows the last that holds and is known, unless expired."""
    ordered = found.sort(EVENT_TIME, KNOWN_AT, maintain_order=True)
    used: list[int | None] = [None] * len(event_times)
    times = ordered.select(EVENT_ID, pl.col(EVENT_TIME, KNOWN_AT).to_physical()).rows()
    for n, (event, event_time, known_at) in enumerate(times):
        row = int(event)
        if event_time <= event_times[row] and known_at <= asked_at:
            expired = view.ttl is not None and event_times[row] - event_time > view.ttl
            used[row] = None if expired else n
    features: Features = {}
    for name in view.floats:
        values = ordered[name].cast(pl.Float32).fill_nan(None).to_list()
        features[name] = [None if n is None else values[n] for n in used]
    for name in view.categories:
        texts = ordered[name].cast(pl.String).to_list()
        features[name] = [None if n is None else texts[n] for n in used]
    return features
