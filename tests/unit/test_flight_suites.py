"""The expectations of the flight tables, on real days and on broken ones."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import mlops_assets
from mlops_assets.adapters.validation import ValidationResult, validate
from mlops_assets.core.quality import QUARANTINE, Suite
from mlops_assets.core.schema import conform
from mlops_assets.core.windows import Window
from mlops_assets.defs.flight_delays import features, sources, suites
from mlops_assets.testing import compute_view, load_spec

Change = Callable[[pl.DataFrame], pl.DataFrame]

SPEC = load_spec(Path(mlops_assets.__file__).parent / "defs" / "flight_delays" / "defs.yaml")

# A blizzard, a broken instrument, both changes of clocks, the emptiest day, half a day of weather.
DAYS = [
    date(2013, 2, 9),
    date(2013, 2, 12),
    date(2013, 3, 10),
    date(2013, 11, 3),
    date(2013, 11, 28),
    date(2013, 12, 30),
]


def window(day: date) -> Window:
    """One day."""
    return Window(day, day + timedelta(days=1), SPEC.timezone)


def rows(name: str, day: date) -> pa.Table:
    """A dataset's rows of one day, all where it has no days."""
    function = getattr(sources, name)
    frame = function(window(day)) if SPEC.datasets[name].partitioned else function()
    return conform(frame, SPEC.datasets[name].columns, name)


def judged(name: str, tables: Mapping[str, pa.Table]) -> ValidationResult:
    """What the platform makes of partitions of a dataset, in usual weeks."""
    dataset = SPEC.datasets[name]
    usual = {"flights": 930, "weather": 72}.get(name, 0)
    history = {f"2012-12-{day}": usual for day in range(10, 32)} if usual else {}
    return validate(tables, getattr(suites, name)(), history, dataset.quarantine_limit, dataset.key)


@pytest.mark.parametrize("name", list(SPEC.datasets))
def test_real_days_are_accepted(name: str) -> None:
    """Holidays, storms and changes of clocks are data, not mistakes."""
    days = DAYS if SPEC.datasets[name].partitioned else DAYS[:1]
    result = judged(name, {day.isoformat(): rows(name, day) for day in days})
    assert result.refused == {}
    assert sorted(result.accepted) == [day.isoformat() for day in days]


def test_a_broken_instrument_is_set_aside() -> None:
    """A wind of 1,048 miles an hour goes to the side table; the day's other hours go on."""
    result = judged("weather", {"2013-02-12": rows("weather", date(2013, 2, 12))})
    assert result.quarantined.column("wind_speed").to_pylist() == [pytest.approx(1048.36, abs=0.01)]
    assert "wind_speed" in result.quarantined.column("reason").to_pylist()[0]
    assert result.accepted["2013-02-12"].num_rows == 71


def test_a_blizzard_is_a_warning() -> None:
    """More than half of the flights cancelled is worth a look, and is true."""
    result = judged("flights", {"2013-02-09": rows("flights", date(2013, 2, 9))})
    failed = [found for found in result.expectations if not found.success]
    assert {(found.columns, found.severity) for found in failed} == {
        (("departed_at",), "warning"),
        (("rows_ratio",), "warning"),
    }


def test_flights_twice_are_set_aside() -> None:
    """Of an exact copy one stays."""
    table = rows("flights", DAYS[2])
    result = judged("flights", {"2013-03-10": pa.concat_tables([table, table.slice(0, 3)])})
    assert result.quarantined.num_rows == 3
    assert result.accepted["2013-03-10"].num_rows == table.num_rows


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame.head(100), "rows"),
        (
            lambda frame: frame.with_columns(
                origin=pl.when(pl.col("hour") > 12).then(pl.lit("BOS")).otherwise("origin")
            ),
            "quarantine",
        ),
        (
            lambda frame: frame.with_columns(known_at=pl.lit(None, pl.Datetime("us", "UTC"))),
            "known_at",
        ),
        (
            lambda frame: frame.with_columns(known_at=pl.col("departed_at") - pl.duration(hours=1)),
            "known_at",
        ),
        (lambda frame: frame.with_columns(hour=pl.lit(24, pl.Int32)), "hour"),
    ],
    ids=["few rows", "another airport", "no known_at", "known before departure", "hour 24"],
)
def test_a_broken_day_is_refused(change: Change, reason: str) -> None:
    """With the column or the count that is wrong."""
    frame = pl.DataFrame(rows("flights", DAYS[3]))
    table = conform(change(frame), SPEC.datasets["flights"].columns, "flights")
    result = judged("flights", {"2013-11-03": table})
    assert list(result.refused) == ["2013-11-03"]
    assert any(reason in why for why in result.refused["2013-11-03"])


@pytest.mark.parametrize("name", list(SPEC.feature_views))
def test_real_features_are_accepted(name: str) -> None:
    """On the emptiest day and the shortest, as the platform judges them."""
    view = SPEC.feature_views[name]
    tables: dict[str, pa.Table] = {}
    for day in (DAYS[2], DAYS[4]) if view.partitioned else DAYS[:1]:
        seen = window(day).with_lookback(view.lookback_days)
        datasets = {
            source: getattr(sources, source)(seen)
            if SPEC.datasets[source].partitioned
            else getattr(sources, source)()
            for source in view.datasets
        }
        function = getattr(features, view.function.partition(":")[2])
        tables[day.isoformat()] = compute_view(
            SPEC, name, function, window(day), datasets
        ).to_arrow()
    result = validate(tables, getattr(suites, name)(), {}, 0, [*view.entity, "event_time"])
    assert result.refused == {}


@pytest.mark.parametrize("name", [*SPEC.datasets, *SPEC.feature_views])
def test_every_table_has_a_suite(name: str) -> None:
    """defs.yaml names it, and it says something about rows; views cannot set rows aside."""
    described = SPEC.datasets.get(name) or SPEC.feature_views[name]
    assert described.suite == f"suites:{name}"
    suite: Suite = getattr(suites, name)()
    assert suite.rows
    assert bool(suite.partitions) == described.partitioned
    if name in SPEC.feature_views:
        assert all(expectation.meta != QUARANTINE for expectation in suite.rows)
