"""Why a view's features differ from the lake's: what may have gone wrong, tried one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.core.online import EXPIRED, MISSING, TIMED_OUT, RowLookup, made_of
from mlops_assets.core.parity_records import Cause
from mlops_assets.core.pit import ASKED_AT, View, known_at_column, point_in_time_join
from mlops_assets.core.spec import EVENT_TIME

ROW_TIME = "_row_time"
"""The event time of the row that the join used."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_NEAR = timedelta(seconds=1)
"""Two clocks that agree are no further apart, for a second's worth of network and queue."""

Bools = npt.NDArray[np.bool_]

FormerView = Callable[[str, int], "View | None"]
"""The view of a name at a version of its table; None where that is not readable any more."""

Named = dict[int, tuple[Cause, str]]
"""Causes with their details, by row of a case."""


@dataclass(frozen=True)
class Case:
    """The answers about one view that differ, and what was served."""

    view: View
    asked: pl.DataFrame
    """event_id, event_time, asked_at and entity columns of each."""
    served: pl.DataFrame
    """Its features."""
    had: Mapping[str, Bools]
    """Whether the answering model had the feature."""
    lookups: Sequence[RowLookup | None]

    def joined(self, view: View | None = None, **columns: pl.Series | pl.Expr) -> pl.DataFrame:
        """The join of these answers, with some things otherwise."""
        events = self.asked.with_columns(**columns) if columns else self.asked
        return view_joined(events, view or self.view)

    def explained(self, joined: pl.DataFrame) -> Bools:
        """Whether all features of each answer are those of ``joined``."""
        return all_equal(self.served, joined, self.view.features, self.had)


def causes_of(case: Case, truth: pl.DataFrame, former: FormerView, timezone: str) -> Named:
    """The cause of each of the case's answers for which there is one; ``truth`` is their join."""
    named = _from_lookups(case, truth, former)
    tried = [_expired(case, truth), _known_later(case, truth)]
    before, shifted = _row_before(case, truth), _shifted(case, timezone)
    corrected = {row: why for row, why in before.items() if why[0] != "stale_store"}
    # A row too old is what an old generation gives, and a wrong clock too. What was sent comes from
    # no generation of ours.
    sent = [
        n for n, one in enumerate(case.lookups) if one is None or case.view.name not in one.views
    ]
    clocks = {row: shifted[row] for row in sent if row in shifted}
    for found in (*tried, corrected, clocks, before, shifted):
        named = found | named
    return named


def _from_lookups(case: Case, truth: pl.DataFrame, former: FormerView) -> Named:
    """What the endpoint wrote down about its look-ups explains."""
    name, named = case.view.name, Named()
    of = {row: one for row, one in enumerate(case.lookups) if one is not None}
    used = {row: one.views[name] for row, one in of.items() if name in one.views}
    for row, (state, *_) in used.items():
        if state == TIMED_OUT:
            named[row] = "timeout", "the online store did not answer in time"
    _from_times(case, of, named)
    _from_keys(case, {row: of[row] for row in used}, named)
    _from_generations(case, truth, used, former, named)
    for row, (state, row_time, *_) in used.items():
        if row in named:
            continue
        if state == EXPIRED and row_time is not None:
            named[row] = (
                "expired_ttl",
                f"the row of {_at(row_time)} was taken for expired; the endpoint has another TTL",
            )
        elif state == MISSING:
            named[row] = "missing_entity", "the store had no row of the entity, the lake has one"
    return named


def _from_times(case: Case, of: Mapping[int, RowLookup], named: Named) -> None:
    """Answers whose event was taken to be at another time, which explains what was served."""
    theirs = case.asked[EVENT_TIME].to_list()
    off = {
        row: one
        for row, one in of.items()
        if abs(_instant(one.event_time) - theirs[row]) > _NEAR and row not in named
    }
    if not off:
        return
    times = [_instant(off[row].event_time) if row in off else at for row, at in enumerate(theirs)]
    explained = case.explained(case.joined(event_time=_instants(EVENT_TIME, times)))
    for row, one in off.items():
        # What was computed from the event cannot be computed again here.
        if explained[row] or case.view.name in one.computed:
            named[row] = (
                "clock",
                f"the event was taken to be at {_at(one.event_time)}, and is at "
                f"{theirs[row].isoformat()}: {_apart(_instant(one.event_time) - theirs[row])}",
            )


def _from_keys(case: Case, of: Mapping[int, RowLookup], named: Named) -> None:
    """Answers for which another entity was looked up than the event's."""
    keys = case.asked.select(
        pl.col(name).to_physical() if case.asked.schema[name] == pl.Datetime("us", "UTC") else name
        for name in case.view.entity
    ).rows()
    for row, one in of.items():
        asked = tuple(one.keys.get(column) for column in case.view.entity)
        if row in named or asked == keys[row]:
            continue
        shown = (
            f"{', '.join(case.view.entity)} was {_shown(asked)}, the event's is {_shown(keys[row])}"
        )
        named[row] = ("missing_entity" if None in asked else "other_entity"), shown


def _from_generations(
    case: Case,
    truth: pl.DataFrame,
    used: Mapping[int, tuple[str, int | None, int | None, str]],
    former: FormerView,
    named: Named,
) -> None:
    """Answers that got what the lake had when the store was materialized."""
    buckets = {row: bucket for row, (*_, bucket) in used.items() if bucket and row not in named}
    now = truth[ROW_TIME].to_list()
    for bucket in sorted(set(buckets.values())):
        version, as_of = made_of(bucket)
        view = former(case.view.name, version)
        if view is None:
            continue
        then = case.joined(view)
        explained, before = case.explained(then), then[ROW_TIME].to_list()
        for row, of in buckets.items():
            if of != bucket or not explained[row]:
                continue
            made = f"the store was materialized as of {_at(as_of)}"
            if now[row] is not None and before[row] != now[row]:
                named[row] = "stale_store", f"{made}, without the row of {now[row].isoformat()}"
            else:
                named[row] = "late_correction", f"{made}, and the row was changed after"


def _expired(case: Case, truth: pl.DataFrame) -> Named:
    """What a row that has expired explains."""
    joined = case.joined(replace(case.view, ttl=None))
    return _named(
        case, joined, truth, "expired_ttl", lambda at: f"the row of {at} has expired and was used"
    )


def _known_later(case: Case, truth: pl.DataFrame) -> Named:
    """What became known only after the answer explains."""
    joined = case.joined(asked_at=pl.lit(_NEVER).cast(pl.Datetime("us", "UTC")))
    return _named(
        case, joined, truth, "late_correction",
        lambda at: f"a value of the row of {at} was used that became known later",
    )  # fmt: skip


def _row_before(case: Case, truth: pl.DataFrame) -> Named:
    """What was known just before the right row explains; and a request that carried nothing."""
    known = truth[known_at_column(case.view.name)]
    times = [
        asked if at is None else at - _MICROSECOND
        for at, asked in zip(known.to_list(), case.asked[ASKED_AT].to_list(), strict=True)
    ]
    joined = case.joined(asked_at=_instants(ASKED_AT, times))
    named: Named = {}
    nothing = np.all(
        [case.served[name].is_null().to_numpy() for name in case.view.features], axis=0
    )
    now, before = truth[ROW_TIME].to_list(), joined[ROW_TIME].to_list()
    explained = case.explained(joined)
    for row in range(case.asked.height):
        if nothing[row]:
            named[row] = "missing_entity", "nothing was sent or found, and the lake has a row"
        elif explained[row] and before[row] == now[row]:
            named[row] = (
                "late_correction",
                f"the row of {_iso(now[row])} was used as before a correction that was known",
            )
        elif explained[row]:
            named[row] = (
                "stale_store",
                f"the row of {_iso(before[row])} was used, that of {_iso(now[row])} was known",
            )
    return named


def _shifted(case: Case, timezone: str) -> Named:
    """What another clock or time zone explains: an hour, or the zone's distance from UTC."""
    zone = ZoneInfo(timezone)
    offsets = {
        timedelta(hours=1),
        *(
            at.astimezone(zone).utcoffset() or timedelta(0)
            for at in case.asked[EVENT_TIME].to_list()
        ),
    }
    shifts = sorted({s for offset in offsets for s in (offset, -offset) if offset}, key=abs)
    named: Named = {}
    for shift in shifts:
        joined = case.joined(
            event_time=pl.col(EVENT_TIME) + shift, asked_at=pl.col(ASKED_AT) + shift
        )
        for row in np.flatnonzero(case.explained(joined)):
            named.setdefault(int(row), ("clock", f"as of {_apart(shift)}"))
    return named


def _named(
    case: Case,
    joined: pl.DataFrame,
    truth: pl.DataFrame,
    cause: Cause,
    detail: Callable[[str], str],
) -> Named:
    """Answers that ``joined`` explains with a row, where the right one is another or none."""
    rows = joined[ROW_TIME].to_list()
    explained = case.explained(joined)
    return {
        row: (cause, detail(_iso(rows[row])))
        for row in range(truth.height)
        if explained[row] and rows[row] is not None
    }


def view_joined(events: pl.DataFrame, view: View) -> pl.DataFrame:
    """The view's features for ``events``, with the event time and known-at time of the row used."""
    timed = replace(
        view,
        frame=view.frame.with_columns(pl.col(EVENT_TIME).alias(ROW_TIME)),
        features=(*view.features, ROW_TIME),
    )
    columns = list(dict.fromkeys([EVENT_TIME, ASKED_AT, *view.entity]))
    joined = point_in_time_join(events.select(columns), [timed], with_known_at=True)
    return joined.select(*view.features, ROW_TIME, known_at_column(view.name))


def all_equal(
    served: pl.DataFrame, joined: pl.DataFrame, features: Sequence[str], had: Mapping[str, Bools]
) -> Bools:
    """Whether all features of each answer that its model had are equal."""
    result = np.ones(joined.height, dtype=np.bool_)
    for name in features:
        ours, theirs = served[name], joined[name]
        if theirs.dtype.is_numeric():
            ours = ours.cast(pl.Float32).fill_nan(None)
            theirs = theirs.cast(pl.Float32).fill_nan(None)
        else:
            ours, theirs = ours.cast(pl.String), theirs.cast(pl.String)
        result &= ours.eq_missing(theirs).to_numpy() | ~had[name]
    return result


def _instants(name: str, times: Sequence[datetime]) -> pl.Series:
    return pl.Series(name, times, pl.Datetime("us", "UTC"))


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _at(microseconds: int) -> str:
    return _instant(microseconds).isoformat()


def _iso(at: datetime | None) -> str:
    return "no time" if at is None else at.isoformat()


def _apart(distance: timedelta) -> str:
    hours = abs(distance) / timedelta(hours=1)
    return f"{hours:g} h {'later' if distance > timedelta(0) else 'earlier'}"


def _shown(values: Sequence[object]) -> str:
    return ", ".join("null" if value is None else str(value)[:40] for value in values)
