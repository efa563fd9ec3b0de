"""A view's rows as the online store keeps them: those that a request may still need, encoded."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import cast

import numpy as np
import polars as pl

from mlops_assets.core.online import (
    Entity,
    KeyValue,
    OnlineView,
    StoredRow,
    encode_rows,
    entity_key,
)
from mlops_assets.core.spec import EVENT_TIME, KNOWN_AT


def still_needed(
    rows: pl.DataFrame, view: OnlineView, as_of: datetime, history: timedelta
) -> pl.DataFrame:
    """Those of ``rows``, of the lake at ``as_of``, that a request from then on may get.

    A request's event is at most ``history`` older than ``as_of``. Of the rows of an entity that
    hold by then and are known, each such request prefers the greatest (event time, known-at time):
    it is kept alone. Rows that hold or become known later are all kept, but for those that a
    correction known by ``as_of`` replaces. The result is sorted by entity, event time, known-at
    time. Rows with a null in an entity column are left out: no request can name them.

    Exact: for such requests the rule of core.online.row_used finds the same row as in all rows.
    """
    keys = list(view.keys)
    known = pl.col(KNOWN_AT) <= as_of
    # The last known row of each event time replaces the known ones before it; of those that hold
    # by the oldest event that is asked about, the last one replaces all others.
    settled = known & (pl.col(EVENT_TIME) <= as_of - history)
    return (
        rows.filter(pl.all_horizontal(pl.col(keys).is_not_null()))
        .sort(*keys, EVENT_TIME, KNOWN_AT, maintain_order=True)
        .with_columns(_known=known, _settled=settled)
        .filter(~pl.col("_known") | pl.struct(*keys, EVENT_TIME, "_known").is_last_distinct())
        .filter(~pl.col("_settled") | pl.struct(*keys, "_settled").is_last_distinct())
        .drop("_known", "_settled")
    )


def entities(rows: pl.DataFrame, view: OnlineView) -> Iterator[Entity]:
    """The entities of ``rows``, which are sorted as :func:`still_needed` sorts them."""
    if rows.is_empty():
        return
    width = 4 * len(view.floats)
    numbers = rows.select(pl.col(name).cast(pl.Float32).fill_null(np.nan) for name in view.floats)
    packed = numbers.to_numpy().astype("<f4", order="C").tobytes() if width else b""
    texts = (
        [list(row) for row in rows.select(view.categories).rows()]
        if view.categories
        else [cast("list[str | None]", [])] * rows.height
    )
    times = rows.select(pl.col(EVENT_TIME, KNOWN_AT).to_physical()).rows()
    keys = cast("list[tuple[KeyValue, ...]]", rows.select(_plain(rows, view)).rows())
    found: list[StoredRow] = []
    before = keys[0]
    for n, key in enumerate(keys):
        if key != before:
            yield Entity(entity_key(before), encode_rows(found), len(found))
            found, before = [], key
        event_time, known_at = times[n]
        found.append((event_time, known_at, packed[n * width : (n + 1) * width], texts[n]))
    yield Entity(entity_key(before), encode_rows(found), len(found))


def _plain(rows: pl.DataFrame, view: OnlineView) -> list[pl.Expr]:
    """The entity columns as text, whole numbers and truth values."""
    return [
        pl.col(name).to_physical() if isinstance(rows.schema[name], pl.Datetime) else pl.col(name)
        for name in view.keys
    ]
