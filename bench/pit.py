"""The training set's point-in-time join against what a team would write by hand, and Feast.

Two problems, each of three views with entities of different shapes:

- one clock: what holds is known at once, so that one ASOF join on the event time solves it;
- two clocks: measurements known hours later, 1 % of them corrected later still; weather with a
  fixed delay and a TTL; a schedule known days ahead. The peers are told, view by view, which time
  to join on and which view has corrections; the platform's join is not.

Every peer gets its own kind of table, made before the clock starts, and returns every event in the
given order. All results have to be equal, and equal to brute force on a sample.
"""

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from bench.report import Result, compared, interleaved, limited, unmeasured
from mlops_assets.core.pit import ASKED_AT, View, point_in_time_join
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, KNOWN_AT

GOAL = 1.2
SECONDS = "seconds, median"
LOST = "label rows lost"
SAMPLE = 60
LEAD = timedelta(hours=1)
ROWS_PER_ENTITY = 50
_UTC = pl.Datetime("us", "UTC")
_START = datetime(2013, 1, 1, tzinfo=UTC)
_HOUR = 3_600_000_000
_YEAR = 365 * 24 * _HOUR


@dataclass(frozen=True)
class HandView:
    """A view, and what the author of a join by hand knows about it.

    ``on``: the time that decides for this view. ``corrected``: whether rows known later may be of
    an earlier event time, which a join on ``known_at`` has to leave out.
    """

    view: View
    on: str
    corrected: bool


@dataclass(frozen=True)
class Problem:
    """Events and views to join."""

    name: str
    events: pl.DataFrame
    views: tuple[HandView, ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes and repeats."""
    parser.add_argument("--labels", type=int, help="events to join (default: 1,000,000)")
    parser.add_argument("--rows", type=int, help="rows of each view (default: as many as labels)")
    parser.add_argument("--repeats", type=int, help="measured rounds (default: 5)")
    parser.add_argument("--feast-labels", type=int, help="events for Feast (default: 100,000)")


def main(options: argparse.Namespace) -> list[Result]:
    """Both problems against every peer that is installed."""
    labels = options.labels or (100_000 if options.quick else 1_000_000)
    rows = options.rows or labels
    repeats = options.repeats or (3 if options.quick else 5)
    feast_labels = options.feast_labels or (5_000 if options.quick else 100_000)
    results: list[Result] = []
    for build in (one_clock, two_clocks):
        results += against_hand_written(build(labels, rows), repeats)
    return results + against_feast(one_clock(feast_labels, feast_labels))


def one_clock(labels: int, rows: int) -> Problem:
    """Rows are known when they hold, and predictions are asked at the event."""
    views = _views(rows)
    events = _events(labels, views).with_columns(pl.col(EVENT_TIME).alias(ASKED_AT))
    return Problem("one clock", events, tuple(HandView(v, EVENT_TIME, False) for v in views))


def two_clocks(labels: int, rows: int) -> Problem:
    """Rows are known later or earlier than they hold; predictions are asked an hour ahead."""
    delays, weather, schedule = _views(rows)
    rng = np.random.default_rng(11)
    lag = pl.Series(rng.integers(_HOUR, 6 * _HOUR, delays.frame.height)).cast(pl.Duration("us"))
    known = delays.frame.with_columns((pl.col(EVENT_TIME) + lag).alias(KNOWN_AT))
    corrections = known.sample(fraction=0.01, seed=12).with_columns(
        pl.col(KNOWN_AT) + pl.duration(hours=30), pl.col("mean_delay") + 1
    )
    delays = _with_frame(delays, pl.concat([known, corrections]))
    weather = _with_frame(
        weather, weather.frame.with_columns(pl.col(EVENT_TIME).dt.offset_by("1h").alias(KNOWN_AT))
    )
    schedule = _with_frame(
        schedule,
        schedule.frame.with_columns(pl.col(EVENT_TIME).dt.offset_by("-7d").alias(KNOWN_AT)),
    )
    events = _events(labels, (delays, weather, schedule)).with_columns(
        (pl.col(EVENT_TIME) - LEAD).alias(ASKED_AT)
    )
    hand = (
        HandView(delays, KNOWN_AT, True),
        HandView(weather, KNOWN_AT, False),
        HandView(schedule, EVENT_TIME, False),
    )
    return Problem("two clocks", events, hand)


def against_hand_written(problem: Problem, repeats: int) -> list[Result]:
    """Ours and the peers, interleaved, on one problem."""
    views = [each.view for each in problem.views]
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: point_in_time_join(problem.events, views),
        "polars join_asof": lambda: join_by_polars(problem),
        "pandas merge_asof": pandas_join(problem),
    }
    if importlib.util.find_spec("duckdb"):
        contestants["duckdb ASOF"] = duckdb_join(problem)
    seconds, returned = interleaved(contestants, repeats)
    joined = {name: as_polars(frame) for name, frame in returned.items()}
    ours = joined.pop("ours")
    for name, theirs in joined.items():
        require_equal(ours, theirs, f"{problem.name}: {name}")
    require_brute_force(ours, problem)
    size = f"{problem.name}, {ours.height:,} labels, {len(views)} views"
    results = [
        compared(size, SECONDS, seconds["ours"], seconds[name], name, goal=GOAL) for name in joined
    ]
    if "duckdb ASOF" not in joined:
        why = "duckdb is not installed: pip install 'mlops-assets[bench]'"
        results.append(unmeasured(size, SECONDS, "duckdb ASOF", why))
    lost = problem.events.height - ours[EVENT_ID].n_unique()
    note = f"all results equal; equal to brute force on {SAMPLE} events"
    results.append(limited(size, LOST, lost, 0, note=note))
    return results


def against_feast(problem: Problem) -> list[Result]:
    """Ours against Feast's local stores, on one problem that Feast can express."""
    size = f"{problem.name}, {problem.events.height:,} labels, {len(problem.views)} views"
    views = [each.view for each in problem.views]
    results: list[Result] = []
    for store, module in (("dask", "feast"), ("duckdb", "ibis")):
        name = f"feast ({store} store)"
        if not importlib.util.find_spec("feast") or not importlib.util.find_spec(module):
            missing = "feast" if not importlib.util.find_spec("feast") else "feast[duckdb]"
            results.append(unmeasured(size, SECONDS, name, f"{missing} is not installed"))
            continue
        from bench._feast_pit import feast_join

        with feast_join(problem.events, views, store) as join:
            contestants = {"ours": lambda: point_in_time_join(problem.events, views), name: join}
            seconds, returned = interleaved(contestants, 1)
        ours, theirs = as_polars(returned["ours"]), as_polars(returned[name])
        kept = ours.filter(pl.col(EVENT_ID).is_in(theirs[EVENT_ID].to_list())).sort(EVENT_ID)
        features = [feature for view in views for feature in view.features]
        same = kept.select(features).equals(
            theirs.sort(EVENT_ID).select(features).cast(kept.select(features).schema)
        )
        note = "equal on the rows it kept" if same else "its features DIFFER on the rows it kept"
        results += [
            compared(size, SECONDS, seconds["ours"], seconds[name], name, goal=GOAL, note=note),
            limited(
                size,
                LOST,
                problem.events.height - ours[EVENT_ID].n_unique(),
                0,
                other=problem.events.height - theirs[EVENT_ID].n_unique(),
                other_name=name,
            ),
        ]
    return results


def join_by_polars(problem: Problem) -> pl.DataFrame:
    """Plain polars: events sorted once (both of their times at once), an ASOF join a view."""
    joined = problem.events.with_row_index("__n").sort(EVENT_TIME)
    for hand in problem.views:
        view, entity = hand.view, list(hand.view.entity)
        rows = view.frame.sort([KNOWN_AT, EVENT_TIME] if hand.corrected else hand.on)
        if hand.corrected:
            latest = pl.col(EVENT_TIME).cum_max().over(entity)
            rows = rows.filter(pl.col(EVENT_TIME) >= latest)
        rows = rows.rename({EVENT_TIME: "__row_time", KNOWN_AT: "__row_known"})
        joined = joined.join_asof(
            rows,
            left_on=EVENT_TIME if hand.on == EVENT_TIME else ASKED_AT,
            right_on="__row_time" if hand.on == EVENT_TIME else "__row_known",
            by=entity,
            check_sortedness=False,
            coalesce=False,
        )
        if view.ttl is not None:
            fresh = pl.col(EVENT_TIME) - pl.col("__row_time") <= view.ttl
            joined = joined.with_columns(pl.when(fresh).then(pl.col(view.features)))
        joined = joined.drop("__row_time", "__row_known")
    return joined.sort("__n").drop("__n")


def pandas_join(problem: Problem) -> Callable[[], object]:
    """Plain pandas: the same, with merge_asof."""
    import pandas as pd

    events = problem.events.to_pandas()
    frames = [hand.view.frame.to_pandas() for hand in problem.views]

    def join() -> object:
        joined = events.sort_values(EVENT_TIME).reset_index(names="__n")
        for hand, frame in zip(problem.views, frames, strict=True):
            view, entity = hand.view, list(hand.view.entity)
            rows = frame.sort_values([KNOWN_AT, EVENT_TIME] if hand.corrected else hand.on)
            if hand.corrected:
                latest = rows.groupby(entity)[EVENT_TIME].cummax()
                rows = rows.loc[rows[EVENT_TIME] >= latest]
            rows = rows.rename(columns={EVENT_TIME: "__row_time", KNOWN_AT: "__row_known"})
            joined = pd.merge_asof(
                joined,
                rows,
                left_on=EVENT_TIME if hand.on == EVENT_TIME else ASKED_AT,
                right_on="__row_time" if hand.on == EVENT_TIME else "__row_known",
                by=entity,
            )
            if view.ttl is not None:
                expired = ~(joined[EVENT_TIME] - joined["__row_time"] <= view.ttl)
                joined.loc[expired, list(view.features)] = None
            joined = joined.drop(columns=["__row_time", "__row_known"])
        return joined.sort_values("__n").drop(columns="__n")

    return join


def duckdb_join(problem: Problem) -> Callable[[], object]:
    """Plain DuckDB: one query of ASOF joins over its own tables."""
    import duckdb  # pyright: ignore[reportMissingImports] # only in the bench extra

    connection = duckdb.connect()
    # DuckDB reads the frames by the names of these variables.
    events = problem.events.with_row_index("__n")  # noqa: F841
    connection.execute("CREATE TABLE events AS SELECT * FROM events")
    selected, joins = [f"e.{column}" for column in problem.events.columns], []
    for n, hand in enumerate(problem.views):
        view = hand.view
        rows = view.frame  # noqa: F841
        connection.execute(f"CREATE TABLE v{n} AS SELECT * FROM rows")  # noqa: S608
        entity = ", ".join(view.entity)
        table = f"v{n}"
        if hand.corrected:
            records = f"max({EVENT_TIME}) OVER (PARTITION BY {entity} ORDER BY {KNOWN_AT})"
            table = f"(SELECT * FROM v{n} QUALIFY {EVENT_TIME} >= {records})"  # noqa: S608
        asked = EVENT_TIME if hand.on == EVENT_TIME else ASKED_AT
        same = " AND ".join(f"e.{column} = r{n}.{column}" for column in view.entity)
        joins.append(f"ASOF LEFT JOIN {table} r{n} ON {same} AND e.{asked} >= r{n}.{hand.on}")
        for feature in view.features:
            value = f"r{n}.{feature}"
            if view.ttl is not None:
                ttl = view.ttl // timedelta(microseconds=1)
                fresh = f"e.{EVENT_TIME} - r{n}.{EVENT_TIME} <= to_microseconds({ttl})"
                value = f"CASE WHEN {fresh} THEN {value} END AS {feature}"
            selected.append(value)
    query = f"SELECT {', '.join(selected)} FROM events e {' '.join(joins)} ORDER BY e.__n"  # noqa: S608
    return lambda: connection.sql(query).to_arrow_table()


def as_polars(frame: object) -> pl.DataFrame:
    """A contestant's answer as polars; this conversion is not on the peer's clock."""
    if isinstance(frame, pl.DataFrame):
        return frame
    import pandas as pd
    import pyarrow as pa

    if isinstance(frame, pd.DataFrame):
        return pl.from_pandas(frame, nan_to_null=True)
    assert isinstance(frame, pa.Table)
    return pl.DataFrame(pl.from_arrow(frame))


def require_equal(ours: pl.DataFrame, theirs: pl.DataFrame, what: str) -> None:
    """Fail unless both have the same rows in the same order."""
    theirs = theirs.select(ours.columns).cast(ours.schema)
    if not ours.equals(theirs):
        different = [c for c in ours.columns if not ours[c].equals(theirs[c])]
        raise AssertionError(f"{what} gives another result in {', '.join(different)}")


def require_brute_force(ours: pl.DataFrame, problem: Problem) -> None:
    """Fail unless a sample of events has what looking at every row gives."""
    for n in np.random.default_rng(5).integers(0, ours.height, SAMPLE):
        event = ours.row(int(n), named=True)
        for hand in problem.views:
            view = hand.view
            row = (
                view.frame.lazy()
                .filter(
                    pl.col(EVENT_TIME) <= event[EVENT_TIME],
                    pl.col(KNOWN_AT) <= event[ASKED_AT],
                    *(pl.col(column).eq(pl.lit(event[column])) for column in view.entity),
                )
                .sort(EVENT_TIME, KNOWN_AT)
                .last()
                .filter(view.ttl is None or pl.col(EVENT_TIME) >= event[EVENT_TIME] - view.ttl)
                .select(view.features)
                .collect()
            )
            expected = row.row(0) if row.height else (None,) * len(view.features)
            found = tuple(event[feature] for feature in view.features)
            if found != expected:
                raise AssertionError(f"{problem.name}: {event} should have {expected}")


def _views(rows: int) -> tuple[View, View, View]:
    """Delays by aircraft (a string), weather by place (a string and a number), schedule by route
    (a number), with the rows in the order of time, as daily partitions give them.
    """
    rng = np.random.default_rng(7)
    entities = max(1, rows // ROWS_PER_ENTITY)

    def frame(**columns: pl.Series) -> pl.DataFrame:
        times = pl.Series(np.sort(rng.integers(0, _YEAR, rows))) + int(_START.timestamp() * 1e6)
        frame = pl.DataFrame(columns | {EVENT_TIME: times.cast(_UTC), KNOWN_AT: times.cast(_UTC)})
        return frame.unique([*columns, EVENT_TIME], keep="first", maintain_order=True)

    def floats(count: int) -> pl.Series:
        return pl.Series(rng.normal(size=count).astype(np.float32))

    entity = rng.integers(0, entities, rows)
    delays = frame(tail=_names("N", entity))
    delays = delays.with_columns(mean_delay=floats(delays.height), late_share=floats(delays.height))
    entity = rng.integers(0, entities, rows)
    weather = frame(airport=_names("K", entity // 4), runway=pl.Series(entity % 4))
    sky = pl.Series(["clear", "cloud", "rain", "snow"])
    weather = weather.with_columns(
        wind=floats(weather.height),
        visibility=floats(weather.height),
        sky=sky.gather(pl.Series(rng.integers(0, 4, weather.height))),
    )
    schedule = frame(route=pl.Series(rng.integers(0, entities, rows)))
    schedule = schedule.with_columns(
        seats=floats(schedule.height), congestion=floats(schedule.height)
    )
    return (
        View("delays", delays, ("tail",), ("mean_delay", "late_share"), None),
        View(
            "weather",
            weather,
            ("airport", "runway"),
            ("wind", "visibility", "sky"),
            timedelta(days=5),
        ),
        View("schedule", schedule, ("route",), ("seats", "congestion"), None),
    )


def _events(labels: int, views: tuple[View, ...]) -> pl.DataFrame:
    """Events in no order, of the views' entities; 1 % have no aircraft yet."""
    rng = np.random.default_rng(9)
    entities = max(1, min(view.frame.height for view in views) // ROWS_PER_ENTITY)
    tail, place = rng.integers(0, entities, labels), rng.integers(0, entities, labels)
    times = pl.Series(rng.integers(0, _YEAR, labels)) + int(_START.timestamp() * 1e6)
    known = pl.Series(rng.random(labels) >= 0.01)
    return pl.DataFrame(
        {
            EVENT_ID: np.arange(labels),
            EVENT_TIME: times.cast(_UTC),
            "tail": _names("N", tail),
            "airport": _names("K", place // 4),
            "runway": place % 4,
            "route": rng.integers(0, entities, labels),
        }
    ).with_columns(pl.when(known).then(pl.col("tail")))


def _names(prefix: str, numbers: np.ndarray) -> pl.Series:
    return pl.select(pl.lit(prefix) + pl.Series(numbers).cast(pl.String).str.zfill(6)).to_series()


def _with_frame(view: View, frame: pl.DataFrame) -> View:
    return View(view.name, frame, view.entity, view.features, view.ttl)
