"""Point-in-time join: each event with the feature rows that could be known when it was asked.

A view's rows have two times: when the fact holds (``event_time``) and when it became known
(``known_at``). Schedules are known long before they hold, measurements after, and a correction is
a second row of the same ``event_time`` that became known later. The join respects both times
whichever comes first, so that neither a late measurement nor a late correction reaches back into
a prediction that was asked before it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.core.entities import entity_keys
from mlops_assets.core.errors import SchemaError
from mlops_assets.core.spec import EVENT_TIME, KNOWN_AT

ASKED_AT = "asked_at"

_Ints = npt.NDArray[np.int64]

_LARGEST = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class View:
    """A feature view's rows.

    ``frame`` has the ``entity`` columns, ``event_time`` and ``known_at`` (UTC, microseconds) and
    the ``features``. A row may be used for events up to ``ttl`` after its event time.
    """

    name: str
    frame: pl.DataFrame
    entity: tuple[str, ...]
    features: tuple[str, ...]
    ttl: timedelta | None


def known_at_column(view: str) -> str:
    """The name under which the join reports when the used row of ``view`` became known."""
    return f"{view}__{KNOWN_AT}"


def point_in_time_join(
    events: pl.DataFrame, views: Sequence[View], *, with_known_at: bool = False
) -> pl.DataFrame:
    """``events`` with the features of each view as they were known when each event was asked.

    ``events`` has ``event_time`` and ``asked_at`` (UTC, microseconds; ``asked_at`` is the instant
    of the prediction) and every view's entity columns. Of each view an event gets the row with
    the greatest (``event_time``, ``known_at``) among the rows of its entity with
    ``row.event_time <= event.event_time`` and ``row.known_at <= event.asked_at``. The TTL is
    judged on that row: if ``event.event_time - row.event_time`` exceeds it, the features are
    null, since what was known last has expired. They are null too where no row qualifies or an
    entity column is null. Of rows equal in entity and both times the last in the frame is used
    (:func:`mlops_assets.core.leakage.check_view` refuses them).

    Every event is kept, in order, with its columns; the features follow, view by view.
    ``with_known_at`` adds ``<view>__known_at`` after each view's features: when the used row
    became known, null where none was used.

    O((n + m) log n) for n rows and m events, whatever the times: a binary search on the event
    time, then, where the row found was not known yet, a search backwards over minima of
    ``known_at``.

    Raises SchemaError for missing, clashing or wrongly typed columns and for times that are null
    or absurd.
    """
    _refuse_clashes(events, views, with_known_at)
    columns = events.get_columns()
    # The sorts and searches release the interpreter's lock: views are solved side by side.
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        used = list(pool.map(partial(_used_rows, events), views))
    for view, rows in zip(views, used, strict=True):
        columns += [view.frame[feature].gather(rows) for feature in view.features]
        if with_known_at:
            known_at = view.frame[KNOWN_AT].gather(rows)
            columns.append(known_at.alias(known_at_column(view.name)))
    return pl.DataFrame(columns)


def _used_rows(events: pl.DataFrame, view: View) -> pl.Series:
    """For each event the index of its row in the view's frame, null where there is none."""
    what = f"view {view.name!r}"
    row_time = _times(view.frame, EVENT_TIME, what)
    row_known = _times(view.frame, KNOWN_AT, what)
    event_time = _times(events, EVENT_TIME, "the events")
    asked_at = _times(events, ASKED_AT, "the events")
    used = np.full(events.height, -1, dtype=np.int64)
    if view.frame.height and events.height:
        row_key, event_key, keys = entity_keys(view.frame, events, view.entity, what)
        # A row becomes known at least min_lag after its time, so that one known by asked_at has
        # its time by asked_at - min_lag. A view with a fixed lag is solved by the first search.
        min_lag = int((row_known - row_time).min())
        latest = np.minimum(event_time, asked_at - min_lag)
        codes = _pack(row_key, row_time, event_key, latest, keys)
        order = _order(codes.rows, row_time, row_known)
        # Neighbours in sorted order search the same part of the array, which stays in the cache.
        event_order = np.argsort(codes.events)
        row_code, first_code = codes.rows[order], codes.firsts[event_order]
        found = np.searchsorted(row_code, codes.events[event_order], side="right") - 1
        # Index -1 reads the last row; whatever it says, the answer stays -1.
        found[row_code[found] < first_code] = -1
        if codes.coarse:
            _step_back(found, row_time[order], latest[event_order])
        _step_back(found, row_known[order], asked_at[event_order])
        found[row_code[found] < first_code] = -1
        used[event_order] = np.where(found >= 0, order[found], -1)
        used[event_key < 0] = -1
        if view.ttl is not None:
            ttl = view.ttl // timedelta(microseconds=1)
            used[event_time - row_time[used] > ttl] = -1
    # -1 is no index: the cast makes it null.
    return pl.Series(used).cast(pl.get_index_type(), strict=False)


def _step_back(found: _Ints, values: _Ints, limit: _Ints) -> None:
    """Move each of ``found`` back to the last row whose value is at most its limit, or to -1.

    It may end among another entity's rows: then no row of its own qualifies.
    """
    over = np.flatnonzero((values[found] > limit) & (found >= 0))
    if len(over):
        found[over] = _last_at_most(values, found[over], limit[over])


def _last_at_most(values: _Ints, before: _Ints, limit: _Ints) -> _Ints:
    """For each query the greatest index below ``before`` whose value is at most ``limit``, or -1.

    Climbs a tree of pairwise minima from ``before`` until a left neighbour has a small enough
    value in it, then descends to its last one: O(log distance) steps, each over all queries.
    """
    levels = [values]
    while len(levels[-1]) > 1:
        below = levels[-1]
        if len(below) % 2:
            below = np.append(below, _LARGEST)
        levels.append(np.minimum(below[0::2], below[1::2]))
    node = before.copy()
    waiting = np.arange(len(before))
    turned_at: list[_Ints] = []
    for level in levels:
        at = node[waiting]
        turns = (at % 2 == 1) & (level[at - 1] <= limit[waiting])
        turned_at.append(waiting[turns])
        node[waiting[turns]] -= 1
        waiting = waiting[~turns]
        node[waiting] //= 2
    node[waiting] = -1
    descending = np.empty(0, dtype=np.int64)
    for height in range(len(levels) - 1, 0, -1):
        descending = np.concatenate([descending, turned_at[height]])
        right = node[descending] * 2 + 1
        # A left neighbour is never the last node of its level: it has both children.
        fits = levels[height - 1][right] <= limit[descending]
        node[descending] = right - ~fits
    return node


@dataclass(frozen=True)
class _Codes:
    """Integers that sort by (key, time); ``firsts`` has the least code of each event's key.

    Where they are ``coarse``, neighbouring instants share a code.
    """

    rows: _Ints
    events: _Ints
    firsts: _Ints
    coarse: bool


def _pack(
    row_key: _Ints, row_time: _Ints, event_key: _Ints, event_time: _Ints, keys: int
) -> _Codes:
    """Key and time as one integer: ``key * span + offset`` with 0 <= offset < span.

    An offset is the distance in microseconds from the first row's time, without the low bits for
    which 64 do not suffice.
    """
    first, last = int(row_time.min()) - 1, int(row_time.max())
    shift = max(0, ((keys + 1) * (last - first + 1)).bit_length() - 62)
    span = (last - first >> shift) + 1
    firsts = event_key * span
    return _Codes(
        rows=row_key * span + (row_time - first >> shift),
        events=firsts + (np.clip(event_time, first, last) - first >> shift),
        firsts=firsts,
        coarse=shift > 0,
    )


def _order(code: _Ints, time: _Ints, known_at: _Ints) -> _Ints:
    """Row indices sorted by (code, time, known_at, index)."""
    order = np.argsort(code)
    ordered = code[order]
    same = ordered[1:] == ordered[:-1]
    if same.any():
        # Corrections are few: sorting them alone is cheaper than a stable sort of everything.
        tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
        rows = order[tied]
        order[tied] = rows[np.lexsort((rows, known_at[rows], time[rows], code[rows]))]
    return order


def _times(frame: pl.DataFrame, column: str, what: str) -> _Ints:
    """The instants of ``column`` in microseconds since 1970."""
    series = frame[column]
    if series.dtype != pl.Datetime("us", "UTC"):
        raise SchemaError(
            f"{what}: column {column!r} is of type {series.dtype}, not an instant in UTC in "
            "microseconds; cast it to pl.Datetime('us', 'UTC')"
        )
    if series.null_count():
        row = series.is_null().arg_max()
        raise SchemaError(
            f"{what}: column {column!r} is null in {series.null_count()} rows, the first at row "
            f"{row}; give each row its time or leave the row out"
        )
    times = cast("_Ints", series.to_physical().to_numpy())
    if len(times) and max(-int(times.min()), int(times.max())) > _LARGEST // 4:
        raise SchemaError(
            f"{what}: column {column!r} has an instant more than 70,000 years from 1970; "
            "give instants in microseconds"
        )
    return times


def _refuse_clashes(events: pl.DataFrame, views: Sequence[View], with_known_at: bool) -> None:
    _need(events, (EVENT_TIME, ASKED_AT), "the events")
    taken = dict.fromkeys(events.columns, "the events")
    for view in views:
        what = f"view {view.name!r}"
        _need(view.frame, (*view.entity, EVENT_TIME, KNOWN_AT, *view.features), what)
        _need(events, view.entity, "the events")
        for column in view.entity:
            theirs, ours = view.frame.schema[column], events.schema[column]
            if theirs != ours:
                raise SchemaError(
                    f"{what}: entity column {column!r} is of type {theirs} and of type {ours} in "
                    "the events; cast one of them"
                )
        for column in (*view.features, *([known_at_column(view.name)] if with_known_at else [])):
            if column in taken:
                raise SchemaError(
                    f"{what}: column {column!r} is also in {taken[column]}; rename one of them"
                )
            taken[column] = what


def _need(frame: pl.DataFrame, columns: Sequence[str], what: str) -> None:
    for column in columns:
        if column not in frame.columns:
            raise SchemaError(
                f"{what}: there is no column {column!r}; there are {', '.join(frame.columns)}"
            )
