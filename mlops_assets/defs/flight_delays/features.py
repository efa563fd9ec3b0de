"""Features of a flight that can be known an hour before its scheduled departure.

Each view reads only rows from its window and ``lookback_days`` before, so that a day computed
alone has the same rows as that day in a longer window: what could come from earlier is cut here,
on purpose, where a docstring says so. Sums are of whole numbers, hence exact in any order.

Keys are named apart from features (``airport`` and ``origin``), as both are columns of the
training set.
"""

from datetime import date, timedelta

import polars as pl

from mlops_assets.core.windows import Window, day_start

LATE_MINUTES = 15
"""A flight is late when it arrives, or leaves, more than this many minutes after the schedule."""

_SLOWEST_DAYS = 2
"""An outcome known more than this many days after the flight's day is not used (none is)."""

_LONGEST_DELAY = pl.duration(hours=24)
"""A departure delayed by more is not used (none is), which bounds the lookback of hourly views."""

_HOLIDAY_REACH = 10
"""Holidays further away than this many days make no difference."""

_MAKERS = {
    "AIRBUS": "airbus",
    "BOEING": "boeing",
    "BOMBARDIER": "bombardier",
    "CANADAIR": "bombardier",
    "EMBRAER": "embraer",
    "MCDONNELL": "mcdonnell_douglas",
}
"""Manufacturer by the first word of its name; the others have few aircraft each."""


def schedule(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """The flight as it was scheduled, known at the start of the day before."""
    years = range(window.first.year - 1, window.end.year + 2)
    holidays = pl.DataFrame({"holiday": sorted(day for year in years for day in holidays_of(year))})
    holidays = holidays.set_sorted("holiday")
    rows = (
        _inside(flights, window)
        .with_columns(day=_local_day("event_time", window))
        .sort("day", "event_id")
    )
    rows = rows.join_asof(
        holidays.rename({"holiday": "next"}), left_on="day", right_on="next", strategy="forward"
    ).join_asof(holidays.rename({"holiday": "last"}), left_on="day", right_on="last")
    return rows.select(
        "event_id",
        "event_time",
        known_at=_midnight(pl.col("day") - pl.duration(days=1), window.timezone),
        carrier="carrier",
        origin="origin",
        dest="dest",
        distance=_float("distance"),
        scheduled_minutes=_float(
            (pl.col("scheduled_arrival") - pl.col("event_time")).dt.total_minutes()
        ),
        hour=_float("hour"),
        minute_of_day=_float(pl.col("hour") * 60 + pl.col("minute")),
        weekday=_float(pl.col("day").dt.weekday()),
        day_of_year=_float(pl.col("day").dt.ordinal_day()),
        days_to_holiday=_float(_days_between("day", "next").clip(upper_bound=_HOLIDAY_REACH)),
        days_since_holiday=_float(_days_between("last", "day").clip(upper_bound=_HOLIDAY_REACH)),
    )


def carrier_delays(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """How late the carrier's flights were in the days before, as known when the day starts."""
    return _delays(window, flights, {"airline": "carrier"}, "carrier", cancelled=True)


def origin_delays(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """How late the airport's flights were in the days before, as known when the day starts."""
    return _delays(window, flights, {"airport": "origin"}, "origin", cancelled=True)


def route_delays(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """How late the route's flights were in the days before, as known when the day starts."""
    entity = {"airport": "origin", "destination": "dest"}
    return _delays(window, flights, entity, "route", cancelled=False)


def aircraft_delays(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """How late the aircraft's flights were in the days before, as known when the day starts."""
    return _delays(window, flights, {"tailnum": "tailnum"}, "aircraft", cancelled=False)


def origin_recent(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """Each hour: how the airport's departures of the last three hours went so far.

    ``origin_waiting_3h`` is the share of the flights scheduled in those hours, up to 15 minutes
    ago, that have not left.
    """
    hours = pl.Series("offset", [0, 1, 2])
    left = (
        _departures(window, flights)
        .select("origin", "dep_delay", first_hour=_hour_after(pl.col("departed_at")))
        .join(hours.to_frame(), how="cross")
        .group_by("origin", event_time=pl.col("first_hour") + pl.duration(hours="offset"))
        .agg(
            left=pl.len(),
            delay=pl.col("dep_delay").sum(),
            late=(pl.col("dep_delay") > LATE_MINUTES).sum(),
        )
    )
    patience = pl.duration(minutes=LATE_MINUTES)
    due = (
        flights.select(
            "origin",
            "event_time",
            "departed_at",
            first_hour=_hour_after(pl.col("event_time") + patience),
        )
        .join(hours.to_frame(), how="cross")
        .with_columns(hour=pl.col("first_hour") + pl.duration(hours="offset"))
        .filter(pl.col("hour") - pl.col("event_time") <= pl.duration(hours=3))
        .group_by("origin", event_time="hour")
        .agg(
            due=pl.len(),
            waiting=(
                pl.col("departed_at").is_null() | (pl.col("departed_at") > pl.col("hour"))
            ).sum(),
        )
    )
    rows = left.join(due, on=["origin", "event_time"], how="full", coalesce=True)
    return _inside(
        rows.select(
            "event_time",
            airport="origin",
            known_at="event_time",
            origin_dep_delay_3h=_float(pl.col("delay") / pl.col("left")),
            origin_late_3h=_float(pl.col("late") / pl.col("left")),
            origin_waiting_3h=_float(pl.col("waiting") / pl.col("due")),
        ),
        window,
    ).sort("airport", "event_time")


def weather_hourly(window: Window, weather: pl.DataFrame) -> pl.DataFrame:
    """The observation at the airport, known a quarter of an hour after it was made."""
    measures = (
        "temp",
        "dewp",
        "humid",
        "wind_speed",
        "wind_gust",
        "precip",
        "pressure",
        "visib",
    )
    return _inside(weather, window).select(
        pl.col("origin").alias("airport"),
        "event_time",
        "known_at",
        *(_float(name).alias(name) for name in measures),
    )


def congestion(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """How many departures the airport has scheduled in an hour, known on the day before."""
    hour = pl.col("event_time").dt.truncate("1h")
    per_hour = flights.group_by("origin", event_time=hour).agg(count=pl.len())
    before = per_hour.join(pl.Series("offset", [0, 1, 2]).to_frame(), how="cross")
    recent = before.group_by(
        "origin", event_time=pl.col("event_time") + pl.duration(hours="offset")
    ).agg(count_3h=pl.col("count").sum())
    day_before = _local_day("event_time", window) - pl.duration(days=1)
    return (
        _inside(per_hour.join(recent, on=["origin", "event_time"]), window)
        .select(
            "event_time",
            airport="origin",
            known_at=_midnight(day_before, window.timezone),
            departures_1h=_float("count"),
            departures_3h=_float("count_3h"),
        )
        .sort("airport", "event_time")
    )


def aircraft(window: Window, planes: pl.DataFrame) -> pl.DataFrame:
    """The aircraft as registered, known from the first day of 2013."""
    since = day_start(date(2013, 1, 1), window.timezone)
    at = pl.lit(since, dtype=pl.Datetime("us", "UTC"))
    word = pl.col("manufacturer").str.extract(r"^(\w+)")
    return planes.select(
        "tailnum",
        event_time=at,
        known_at=at,
        aircraft_age=_float(2013 - pl.col("year")),
        aircraft_seats=_float("seats"),
        aircraft_engines=_float("engines"),
        aircraft_maker=word.replace_strict(_MAKERS, default="other", return_dtype=pl.String),
    ).sort("tailnum")


def holidays_of(year: int) -> list[date]:
    """The United States' federal holidays of ``year``, on their own days, in order."""
    thursday, monday = 3, 0
    return [
        date(year, 1, 1),
        _nth(year, 1, monday, 3),
        _nth(year, 2, monday, 3),
        _nth(year, 6, monday, 1) - timedelta(days=7),  # Memorial Day: the last Monday of May
        date(year, 7, 4),
        _nth(year, 9, monday, 1),
        _nth(year, 10, monday, 2),
        date(year, 11, 11),
        _nth(year, 11, thursday, 4),
        date(year, 12, 25),
    ]


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    """The ``n``-th ``weekday`` (Monday is 0) of the month."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _delays(
    window: Window,
    flights: pl.DataFrame,
    entity: dict[str, str],
    prefix: str,
    *,
    cancelled: bool,
) -> pl.DataFrame:
    """Shares and means of the outcomes that became known on the one or seven days before.

    ``entity`` maps each key of the view to its column of ``flights``. There is a row for each
    entity with a flight scheduled on the day, good from the day's start; its features are null
    where no outcome became known. Lookback: the seven days, and ``_SLOWEST_DAYS`` for flights
    whose outcome was known on a later day than their own.
    """
    keys = list(entity)
    flights = flights.with_columns(
        flight_day=_local_day("event_time", window),
        known_day=_local_day("known_at", window),
        **{key: pl.col(column) for key, column in entity.items()},
    ).filter(pl.all_horizontal(pl.col(keys).is_not_null()))
    counts = {
        "arrived": pl.col("arr_delay").is_not_null().sum(),
        "late": (pl.col("arr_delay") > LATE_MINUTES).sum(),
        "left": pl.col("dep_delay").is_not_null().sum(),
        "delay": pl.col("dep_delay").sum().cast(pl.Int64),
        "planned": pl.len(),
        "cancelled": pl.col("cancelled").sum(),
    }
    # Each entity's counts of all outcomes up to a day: those of some days are a difference of two.
    totals = (
        flights.filter(_days_between("flight_day", "known_day").is_between(0, _SLOWEST_DAYS))
        .group_by(*keys, "known_day")
        .agg(**counts)
        .sort("known_day")
        .with_columns(pl.col(name).cast(pl.Int64).cum_sum().over(keys) for name in counts)
    )
    rows = _inside(flights, window).select(*keys, day="flight_day").unique().sort("day")
    for ago in (1, 2, 8):
        rows = rows.with_columns(known_day=pl.col("day") - pl.duration(days=ago)).join_asof(
            totals.rename({name: f"{name}_until_{ago}" for name in counts}),
            on="known_day",
            by=keys,
            check_sortedness=False,  # both are sorted, which polars sees only without groups
        )
    rows = rows.with_columns(pl.selectors.matches("_until_").fill_null(0)).with_columns(
        (pl.col(f"{name}_until_1") - pl.col(f"{name}_until_{ago}")).alias(f"{name}_{days}")
        for name in counts
        for ago, days in ((2, "1d"), (8, "7d"))
    )
    start = _midnight(pl.col("day"), window.timezone)
    shares = [("late", "late", "arrived"), ("dep_delay", "delay", "left")]
    if cancelled:
        shares.append(("cancelled", "cancelled", "planned"))
    return rows.select(
        *keys,
        start.alias("event_time"),
        start.alias("known_at"),
        *(
            _share(f"{part}_{days}", f"{whole}_{days}").alias(f"{prefix}_{name}_{days}")
            for name, part, whole in shares
            for days in ("1d", "7d")
        ),
    ).sort(*keys, "event_time")


def _departures(window: Window, flights: pl.DataFrame) -> pl.DataFrame:
    """The flights that left, on their scheduled day or within ``_LONGEST_DELAY``.

    One that left on the day before its schedule is not used: its row lies in the next partition.
    """
    return flights.filter(
        pl.col("departed_at") - pl.col("event_time") <= _LONGEST_DELAY,
        _local_day("departed_at", window) >= _local_day("event_time", window),
    )


def _share(part: str, whole: str) -> pl.Expr:
    """``part / whole``, null where there is nothing to divide by."""
    return _float(pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole)))


def _float(value: str | pl.Expr) -> pl.Expr:
    return (pl.col(value) if isinstance(value, str) else value).cast(pl.Float32)


def _days_between(earlier: str, later: str) -> pl.Expr:
    return (pl.col(later) - pl.col(earlier)).dt.total_days()


def _local_day(instant: str, window: Window) -> pl.Expr:
    return pl.col(instant).dt.convert_time_zone(window.timezone).dt.date()


def _hour_after(instant: pl.Expr) -> pl.Expr:
    """The first full hour at or after ``instant``."""
    return (instant + pl.duration(hours=1) - pl.duration(microseconds=1)).dt.truncate("1h")


def _midnight(day: pl.Expr, timezone: str) -> pl.Expr:
    return day.cast(pl.Datetime("us")).dt.replace_time_zone(timezone).dt.convert_time_zone("UTC")


def _inside(frame: pl.DataFrame, window: Window) -> pl.DataFrame:
    """The rows whose ``event_time`` lies in the window."""
    return frame.filter(
        pl.col("event_time").is_between(window.start_time, window.end_time, closed="left")
    )
