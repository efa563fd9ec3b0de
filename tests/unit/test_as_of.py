"""What was known when: rows and columns of a dataset, and the features computed from them."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlops_assets
from mlops_assets.adapters.validation import validate
from mlops_assets.core.as_of import as_of
from mlops_assets.core.schema import conform
from mlops_assets.core.spec import DatasetSpec, problems
from mlops_assets.core.windows import Window, day_start
from mlops_assets.defs.flight_delays import features, labels, sources, suites
from mlops_assets.testing import compute_view, load_spec

SPEC = load_spec(Path(mlops_assets.__file__).parent / "defs" / "flight_delays" / "defs.yaml")
START = datetime(2013, 3, 1, tzinfo=UTC)

# A storm, both changes of clocks, a holiday, an ordinary day.
DAYS = [
    date(2013, 2, 9),
    date(2013, 3, 8),
    date(2013, 3, 10),
    date(2013, 6, 12),
    date(2013, 11, 3),
    date(2013, 11, 28),
]
DAILY = [name for name, view in SPEC.feature_views.items() if view.partitioned]

TRIPS = DatasetSpec.model_validate(
    {
        "description": "Trips.",
        "source": "sources:trips",
        "columns": {
            "trip": "string",
            "planned": "timestamp",
            "left": "timestamp",
            "delay": "int32",
            "arrived": "timestamp",
            "late": "bool",
        },
        "key": ["trip"],
        "event_time": "planned",
        "known_at": "arrived",
        "known_later": ["late"],
        "known_since": {"left": "left", "delay": "left"},
    }
)
WHOLE = TRIPS.model_copy(update={"known_later": [], "known_since": {}})


def trips(*times: tuple[int | None, int | None]) -> pa.Table:
    """A trip for each minute of leaving and of arriving."""

    def at(minute: int | None) -> datetime | None:
        return None if minute is None else START + timedelta(minutes=minute)

    frame = pl.DataFrame(
        [
            (str(n), START, at(left), left, at(arrived), True)
            for n, (left, arrived) in enumerate(times)
        ],
        schema={
            "trip": pl.String,
            "planned": pl.Datetime("us", "UTC"),
            "left": pl.Datetime("us", "UTC"),
            "delay": pl.Int32,
            "arrived": pl.Datetime("us", "UTC"),
            "late": pl.Boolean,
        },
        orient="row",
    )
    return conform(frame, TRIPS.columns, "trips")


def at(minute: int) -> datetime:
    """An instant."""
    return START + timedelta(minutes=minute)


def test_an_outcome_is_null_until_it_is_known() -> None:
    """With the time at which it is known, and a departure is known before the arrival."""
    table = trips((5, 30), (None, 40), (5, None))
    found = as_of(table, TRIPS, at(4))
    assert found.column("late").to_pylist() == [None, None, None]
    assert found.column("left").to_pylist() == [None, None, None]
    found = as_of(table, TRIPS, at(5))
    assert found.column("delay").to_pylist() == [5, None, 5]
    assert found.column("arrived").to_pylist() == [None, None, None]
    found = as_of(table, TRIPS, at(30))
    assert found.column("late").to_pylist() == [True, None, None]
    assert found.column("arrived").to_pylist() == [at(30), None, None]
    assert found.schema.equals(table.schema)


def test_a_row_that_appears_whole_is_not_there_before() -> None:
    """Nor one of which nothing says when it was known."""
    table = trips((5, 30), (5, 40), (5, None))
    for minute, rows in ((29, []), (30, ["0"]), (40, ["0", "1"])):
        assert as_of(table, WHOLE, at(minute)).column("trip").to_pylist() == rows


def test_without_known_at_all_is_known() -> None:
    """A dataset that says nothing about it is as its source has it."""
    dataset = WHOLE.model_copy(update={"known_at": None})
    assert as_of(trips((5, None)), dataset, at(0)).equals(trips((5, None)))


TIMES = st.tuples(*[st.none() | st.integers(0, 60)] * 2)


@given(st.lists(TIMES, max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_to_know_and_then_to_forget_is_to_never_have_known(
    times: list[tuple[int | None, int | None]], one: int, other: int
) -> None:
    """What was known at the earlier of two instants does not depend on the later."""
    table = trips(*times)
    for dataset in (TRIPS, WHOLE):
        later = as_of(table, dataset, at(max(one, other)))
        assert as_of(later, dataset, at(min(one, other))).equals(
            as_of(table, dataset, at(min(one, other)))
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known_at": "late"}, "not of type timestamp"),
        ({"known_since": {"left": "gone"}}, "no column 'gone'"),
        ({"known_since": {"left": "delay"}}, "not of type timestamp"),
        ({"known_since": {"planned": "left"}}, "known with the row"),
        ({"known_since": {"late": "left"}}, "name it once"),
        ({"known_later": []}, "needs known_later"),
        ({"known_at": None}, "needs the column"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    """Before a replay runs on it."""
    dataset = TRIPS.model_copy(update=changes)
    spec = SPEC.model_copy(update={"datasets": {**SPEC.datasets, "trips": dataset}})
    assert any(message in str(problem) for problem in problems(spec))


@pytest.fixture(scope="module")
def year() -> Mapping[str, pa.Table]:
    """The datasets with days, whole."""
    window = Window(date(2013, 1, 1), date(2014, 1, 1), SPEC.timezone)
    return {
        name: conform(getattr(sources, name)(window), SPEC.datasets[name].columns, name)
        for name in ("flights", "weather")
    }


def known_by(year: Mapping[str, pa.Table], now: datetime) -> dict[str, pl.DataFrame]:
    """The datasets as they were known."""
    return {
        name: pl.DataFrame(as_of(table, SPEC.datasets[name], now)) for name, table in year.items()
    }


def night_after(day: date) -> datetime:
    """03:00 on the next morning, in New York."""
    return day_start(day + timedelta(days=1), SPEC.timezone) + timedelta(hours=3)


@pytest.mark.parametrize("view", DAILY)
def test_a_days_features_are_final_in_the_night_after(
    view: str, year: Mapping[str, pa.Table]
) -> None:
    """Though some of its flights are still in the air: nothing that comes later changes a row."""
    function = getattr(features, SPEC.feature_views[view].function.partition(":")[2])
    whole = {name: pl.DataFrame(table) for name, table in year.items()}
    for day in DAYS:
        window = Window(day, day + timedelta(days=1), SPEC.timezone)
        then = compute_view(SPEC, view, function, window, known_by(year, night_after(day)))
        now = compute_view(SPEC, view, function, window, whole)
        keys = [*SPEC.feature_views[view].entity, "event_time", "known_at"]
        assert then.sort(keys).equals(now.sort(keys))
        assert now.height > 0


def test_labels_appear_with_their_delay(year: Mapping[str, pa.Table]) -> None:
    """Each when its flight lands; in the night after some are missing, two days later none."""
    day = date(2013, 6, 12)
    window = Window(day, day + timedelta(days=1), SPEC.timezone)
    whole = labels.late(window, pl.DataFrame(year["flights"])).sort("event_id")
    missing: list[int] = []
    for hours in (-12, 0, 3, 48):
        now = window.end_time + timedelta(hours=hours)
        found = labels.late(window, known_by(year, now)["flights"]).sort("event_id")
        known = pl.col("known_at") <= now
        assert found["event_id"].equals(whole["event_id"])
        assert found.filter(known).equals(whole.filter(known))
        unknown = found.filter(pl.col("known_at").is_null())
        assert unknown["label"].null_count() == unknown.height
        assert found.height == unknown.height + whole.filter(known).height
        missing.append(unknown.height)
    assert missing[0] > missing[1] > missing[2] > missing[3] == 0


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_a_day_that_is_not_all_known_is_accepted(day: date, year: Mapping[str, pa.Table]) -> None:
    """Flights in the air are no mistake of the data."""
    now = night_after(day)
    window = Window(day, day + timedelta(days=1), SPEC.timezone)
    inside = pl.col("event_time").is_between(window.start_time, window.end_time, closed="left")
    for name, frame in known_by(year, now).items():
        table = conform(frame.filter(inside), SPEC.datasets[name].columns, name)
        dataset = SPEC.datasets[name]
        result = validate(
            {str(day): table}, getattr(suites, name)(), {}, dataset.quarantine_limit, dataset.key
        )
        assert result.refused == {}


@pytest.mark.parametrize("gone", ["known_at", "cancelled", "diverted"])
def test_a_part_of_an_outcome_is_refused(gone: str, year: Mapping[str, pa.Table]) -> None:
    """An outcome comes whole: what happened, and since when it is known."""
    day = date(2013, 6, 12)
    window = Window(day, day + timedelta(days=1), SPEC.timezone)
    frame = sources.flights(window).with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col(gone)).alias(gone)
    )
    table = conform(frame, SPEC.datasets["flights"].columns, "flights")
    result = validate({str(day): table}, suites.flights(), {}, 0.01, ["event_id"])
    assert any(gone in why for why in result.refused[str(day)])
