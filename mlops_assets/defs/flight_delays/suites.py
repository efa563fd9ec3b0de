"""What is expected of the tables. Critical (the default) refuses a partition, a warning does not,
and QUARANTINE moves the rows that break the rule aside.

Bounds are what can be true of a flight or of weather, with room to spare, and not what 2013
happened to bring: a storm that grounds half of the flights is data, not a mistake.
"""

# pyright: reportPrivateImportUsage=false
# (great_expectations documents its expectations under this name, without marking them exported.)

from typing import TYPE_CHECKING

from mlops_assets.core.quality import QUARANTINE, Suite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from great_expectations.expectations.expectation import Expectation

ORIGINS = ["EWR", "JFK", "LGA"]

_CARRIER = r"^[0-9A-Z]{2}$"
_AIRPORT = r"^[A-Z]{3}$"

_DELAY = (-180, 1440)
"""Minutes; a flight later than a day is a different flight."""


def flights() -> Suite:
    """Scheduled flights: what identifies them is complete, clocks are in order.

    A flight that is still under way has no outcome and no ``known_at`` yet.
    """
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    quarantined = {
        "distance": (10, 12_000),
        "dep_delay": _DELAY,
        "arr_delay": _DELAY,
        "air_time": (10, 1200),
    }
    return Suite(
        rows=[
            *_present(
                "event_id",
                "event_time",
                "scheduled_arrival",
                "carrier",
                "flight",
                "origin",
                "dest",
                "hour",
                "minute",
            ),
            *(
                gxe.ExpectColumnValuesToNotBeNull(
                    column=column, row_condition=Column(known).is_not_null()
                )
                for column, known in (
                    ("cancelled", "known_at"),
                    ("diverted", "known_at"),
                    ("known_at", "cancelled"),
                    ("known_at", "arrived_at"),
                )
            ),
            gxe.ExpectColumnValuesToBeUnique(column="event_id", meta=QUARANTINE),
            gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=ORIGINS, meta=QUARANTINE),
            gxe.ExpectColumnValuesToMatchRegex(column="carrier", regex=_CARRIER, meta=QUARANTINE),
            gxe.ExpectColumnValuesToMatchRegex(column="dest", regex=_AIRPORT, meta=QUARANTINE),
            *_between({"hour": (0, 23), "minute": (0, 59)}),
            *(
                gxe.ExpectColumnValuesToBeBetween(
                    column=name, min_value=low, max_value=high, meta=QUARANTINE
                )
                for name, (low, high) in quarantined.items()
            ),
            *(
                gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                    column_A=later,
                    column_B=earlier,
                    or_equal=True,
                    ignore_row_if="either_value_is_missing",
                )
                for earlier, later in (
                    ("event_time", "scheduled_arrival"),
                    ("departed_at", "arrived_at"),
                    ("departed_at", "known_at"),
                    ("arrived_at", "known_at"),
                )
            ),
            _mostly_present("departed_at", 0.75),
            _mostly_present("known_at", 0.75),
        ],
        partitions=_rows_like_before(least=200, most=5000),
    )


def weather() -> Suite:
    """Hourly observations: one per station and hour, within what instruments can read."""
    import great_expectations.expectations as gxe

    readings = {
        "temp": (-60, 130),
        "dewp": (-80, 110),
        "humid": (0, 100),
        "wind_dir": (0, 360),
        # Miles an hour; the strongest gust ever measured was 253.
        "wind_speed": (0, 200),
        "wind_gust": (0, 260),
        "precip": (0, 12),
        "pressure": (850, 1090),
        "visib": (0, 100),
    }
    return Suite(
        rows=[
            *_present("origin", "event_time", "known_at"),
            gxe.ExpectCompoundColumnsToBeUnique(
                column_list=["origin", "event_time"], meta=QUARANTINE
            ),
            gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=ORIGINS, meta=QUARANTINE),
            *(
                gxe.ExpectColumnValuesToBeBetween(
                    column=name, min_value=low, max_value=high, meta=QUARANTINE
                )
                for name, (low, high) in readings.items()
            ),
            _mostly_present("temp", 0.95),
            _mostly_present("visib", 0.95),
            _mostly_present("pressure", 0.5),
        ],
        # Three stations and 25 hours on the day that clocks go back.
        partitions=_rows(least=24, most=75, usual=(66, 75)),
    )


def planes() -> Suite:
    """Aircraft: one row each."""
    import great_expectations.expectations as gxe

    return Suite(
        rows=[
            gxe.ExpectTableRowCountToBeBetween(min_value=1000, max_value=100_000),
            *_present("tailnum", "manufacturer", "model", "engines", "seats"),
            gxe.ExpectColumnValuesToBeUnique(column="tailnum", meta=QUARANTINE),
            *_between({"year": (1920, 2014), "engines": (1, 8), "seats": (1, 900)}),
            _mostly_present("year", 0.9),
        ]
    )


def airlines() -> Suite:
    """Carriers: one row each, with a name."""
    import great_expectations.expectations as gxe

    return Suite(
        rows=[
            gxe.ExpectTableRowCountToBeBetween(min_value=5, max_value=1000),
            *_present("carrier", "name"),
            gxe.ExpectColumnValuesToBeUnique(column="carrier"),
            gxe.ExpectColumnValuesToMatchRegex(column="carrier", regex=_CARRIER),
        ]
    )


def airports() -> Suite:
    """Airports: one row each, somewhere on earth."""
    import great_expectations.expectations as gxe

    return Suite(
        rows=[
            gxe.ExpectTableRowCountToBeBetween(min_value=500, max_value=50_000),
            *_present("faa", "name", "lat", "lon"),
            gxe.ExpectColumnValuesToBeUnique(column="faa"),
            *_between({"lat": (-90, 90), "lon": (-180, 180), "tz": (-12, 14)}),
            _mostly_present("tzone", 0.99),
        ]
    )


def schedule() -> Suite:
    """One row for each flight, complete."""
    import great_expectations.expectations as gxe

    bounds = {
        "distance": (10, 12_000),
        "scheduled_minutes": (20, 1200),
        "hour": (0, 23),
        "minute_of_day": (0, 1439),
        "weekday": (1, 7),
        "day_of_year": (1, 366),
        "days_to_holiday": (0, 10),
        "days_since_holiday": (0, 10),
    }
    return Suite(
        rows=[
            *_present("event_id", "event_time", "known_at", "carrier", "origin", "dest", *bounds),
            gxe.ExpectColumnValuesToBeUnique(column="event_id"),
            gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=ORIGINS),
            *_between(bounds),
        ],
        partitions=_rows_like_before(least=200, most=5000),
    )


def carrier_delays() -> Suite:
    """One row for each carrier that flies on the day."""
    return Suite(
        rows=[
            *_delays("carrier", ["airline"], cancelled=True),
            _mostly_present("carrier_late_7d", 0.9),
        ],
        partitions=_rows_like_before(least=5, most=100),
    )


def origin_delays() -> Suite:
    """One row for each airport."""
    return Suite(
        rows=[
            *_delays("origin", ["airport"], cancelled=True),
            _mostly_present("origin_late_7d", 0.9),
        ],
        partitions=_rows(least=1, most=3, usual=(3, 3)),
    )


def route_delays() -> Suite:
    """One row for each route that is flown on the day."""
    return Suite(
        rows=[
            *_delays("route", ["airport", "destination"], cancelled=False),
            _mostly_present("route_late_7d", 0.8),
        ],
        partitions=_rows_like_before(least=50, most=1000),
    )


def aircraft_delays() -> Suite:
    """One row for each aircraft that flies on the day."""
    return Suite(
        rows=[
            *_delays("aircraft", ["tailnum"], cancelled=False),
            _mostly_present("aircraft_late_7d", 0.5),
        ],
        partitions=_rows_like_before(least=150, most=5000),
    )


def origin_recent() -> Suite:
    """One row for each airport and hour with flights in the three hours before."""
    return Suite(
        rows=[
            *_identified(["airport"]),
            *_between(
                {
                    "origin_dep_delay_3h": _DELAY,
                    "origin_late_3h": (0, 1),
                    "origin_waiting_3h": (0, 1),
                }
            ),
        ],
        partitions=_rows(least=20, most=75, usual=(45, 75)),
    )


def weather_hourly() -> Suite:
    """One row for each airport and hour that was observed."""
    return Suite(
        rows=[
            *_identified(["airport"]),
            *_between(
                {
                    "temp": (-60, 130),
                    "humid": (0, 100),
                    "wind_speed": (0, 200),
                    "precip": (0, 12),
                    "visib": (0, 100),
                }
            ),
            _mostly_present("temp", 0.95),
        ],
        partitions=_rows(least=24, most=75, usual=(66, 75)),
    )


def congestion() -> Suite:
    """One row for each airport and hour with scheduled departures."""
    import great_expectations.expectations as gxe

    return Suite(
        rows=[
            *_identified(["airport"]),
            *_present("departures_1h", "departures_3h"),
            *_between({"departures_1h": (1, 200), "departures_3h": (1, 600)}),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="departures_3h", column_B="departures_1h", or_equal=True
            ),
        ],
        partitions=_rows(least=20, most=75, usual=(45, 75)),
    )


def aircraft() -> Suite:
    """One row for each aircraft."""
    import great_expectations.expectations as gxe

    return Suite(
        rows=[
            gxe.ExpectTableRowCountToBeBetween(min_value=1000, max_value=100_000),
            *_identified(["tailnum"]),
            *_between({"aircraft_age": (-1, 100), "aircraft_seats": (1, 900)}),
            *_present("aircraft_maker"),
        ]
    )


def _delays(prefix: str, keys: list[str], *, cancelled: bool) -> "list[Expectation]":
    shares = ["late", "cancelled"] if cancelled else ["late"]
    bounds = {f"{prefix}_{name}_{days}": (0, 1) for name in shares for days in ("1d", "7d")}
    bounds |= {f"{prefix}_dep_delay_{days}": _DELAY for days in ("1d", "7d")}
    return [*_identified(keys), *_between(bounds)]


def _identified(keys: list[str]) -> "list[Expectation]":
    """Keys and times are complete, and there is one row for each key and event time."""
    import great_expectations.expectations as gxe

    return [
        *_present(*keys, "event_time", "known_at"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=[*keys, "event_time"]),
    ]


def _present(*columns: str) -> "Iterable[Expectation]":
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnValuesToNotBeNull(column=column) for column in columns]


def _mostly_present(column: str, share: float) -> "Expectation":
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return gxe.ExpectColumnValuesToNotBeNull(
        column=column, mostly=share, severity=FailureSeverity.WARNING
    )


def _between(bounds: dict[str, tuple[int, int]]) -> "Iterable[Expectation]":
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)
        for name, (low, high) in bounds.items()
    ]


def _rows(least: int, most: int, usual: tuple[int, int]) -> "list[Expectation]":
    """Refuses a partition of fewer or more rows, warns where they are not the usual ones."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=least, max_value=most),
        gxe.ExpectColumnValuesToBeBetween(
            column="rows",
            min_value=usual[0],
            max_value=usual[1],
            severity=FailureSeverity.WARNING,
        ),
    ]


def _rows_like_before(least: int, most: int) -> "list[Expectation]":
    """Refuses a partition of half or twice the rows of the weeks before, warns much earlier."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=least, max_value=most),
        gxe.ExpectColumnValuesToBeBetween(column="rows_ratio", min_value=0.5, max_value=2),
        gxe.ExpectColumnValuesToBeBetween(
            column="rows_ratio",
            min_value=0.75,
            max_value=1.25,
            severity=FailureSeverity.WARNING,
        ),
    ]
