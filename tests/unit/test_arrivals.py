"""What has to be made, from what sources have and what was made of what."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.arrivals import (
    UNDATED,
    Group,
    Reads,
    Stage,
    arrived,
    content_of,
    days_to_read,
    ended_days,
    groups,
    inputs_of,
    stale,
)
from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.windows import Window

DAYS = Window(date(2024, 3, 1), date(2024, 3, 31), "UTC").partitions
VIEW = Stage("view", (Reads("raw", 3), Reads("other")))
SCORES = Stage("scores", (Reads("raw"), Reads("view", 1)))


def _entry(inputs: str, digest: str) -> PartitionInputs:
    return PartitionInputs(inputs=inputs, digest=digest)


def _made(digests: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, PartitionInputs]]:
    """Records of a use case in which all is made of what is there."""
    recorded = {
        name: {day: _entry("v", digest) for day, digest in found.items()}
        for name, found in digests.items()
    }
    known = {name: dict(found) for name, found in digests.items()}
    for stage in (VIEW, SCORES):
        made = inputs_of(stage, DAYS, known)
        known[stage.name] = {day: f"{stage.name} {day}" for day in DAYS}
        recorded[stage.name] = {
            day: _entry(found.joint, known[stage.name][day]) for day, found in made.items()
        }
    return recorded


ALL = {"raw": {day: f"raw {day}" for day in DAYS}, "other": {day: f"o {day}" for day in DAYS}}


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2024-03-05T23:00:00+00:00", "2024-03-05"),
        ("2024-03-05T22:59:59+00:00", "2024-03-04"),
        ("2024-03-31T22:00:00+00:00", "2024-03-31"),  # a day of 23 hours
        ("2024-10-27T22:59:59+00:00", "2024-10-26"),  # a day of 25 hours
        ("2024-10-27T23:00:00+00:00", "2024-10-27"),
    ],
)
def test_a_day_counts_once_it_is_over_in_the_use_case_s_time_zone(now: str, last: str) -> None:
    """Midnight in Berlin, also when clocks change."""
    days = ended_days(datetime.fromisoformat(now), date(2024, 3, 1), None, "Europe/Berlin")
    assert days is not None
    assert days.partitions[-1] == last


def test_before_the_first_day_is_over_there_is_none_and_after_the_last_no_more() -> None:
    """The use case's own first and last day bound what is looked at."""
    first = date(2024, 3, 1)
    assert ended_days(datetime(2024, 3, 1, 23, tzinfo=UTC), first, None, "UTC") is None
    days = ended_days(datetime(2025, 1, 1, tzinfo=UTC), first, date(2024, 3, 4), "UTC")
    assert days is not None
    assert days.partitions == ["2024-03-01", "2024-03-02", "2024-03-03"]


@given(
    sound=st.sets(st.sampled_from(DAYS)),
    late=st.integers(0, 5),
    most=st.integers(1, 10),
    after=st.sampled_from(["", *DAYS]),
)
def test_every_missing_day_is_looked_at_in_time(
    sound: set[str], late: int, most: int, after: str
) -> None:
    """However many days stay empty, going on behind the last one reaches each of them."""
    seen: set[str] = set()
    for _ in range(len(DAYS) // most + 2):
        missing, newest = days_to_read(sound, DAYS, late, most, after)
        assert len(missing) <= most
        assert newest == sorted(sound)[len(sound) - min(late, len(sound)) :]
        seen.update(missing)
        after = missing[-1] if len(missing) == most else after
    assert seen == set(DAYS) - sound


def test_only_another_version_is_an_arrival() -> None:
    """A refused day of the same version is none; it would be refused again."""
    recorded = {"a": _entry("1", "x"), "b": _entry("1", ""), "c": _entry("1", "x")}
    assert arrived({"a": "1", "b": "1", "c": "2", "d": "1"}, recorded) == ["c", "d"]


def test_a_late_day_touches_the_days_that_read_it_and_no_other() -> None:
    """Three days look back to it; what reads those waits for them."""
    recorded = _made(ALL)
    recorded["raw"]["2024-03-10"] = _entry("v2", "corrected")
    found = stale((VIEW, SCORES), DAYS, recorded, {})
    assert found.wanted == {"view": ("2024-03-10", "2024-03-11", "2024-03-12", "2024-03-13")}
    assert found.held
    for day in found.wanted["view"]:
        digests = {n: {d: e.digest for d, e in es.items()} for n, es in recorded.items()}
        joint = inputs_of(VIEW, DAYS, digests, {day})[day].joint
        recorded["view"][day] = _entry(joint, recorded["view"][day].digest)
    found = stale((VIEW, SCORES), DAYS, recorded, {})
    assert found.wanted == {"scores": ("2024-03-10",)}
    assert not found.held


def test_what_reads_a_partition_that_is_being_made_waits_for_it() -> None:
    """Also when it would be stale for another reason."""
    recorded = _made(ALL)
    recorded["raw"]["2024-03-10"] = _entry("v2", "corrected")
    found = stale((VIEW, SCORES), DAYS, recorded, {"other": {"2024-03-11"}})
    assert found.wanted == {"view": ("2024-03-10", "2024-03-12", "2024-03-13")}
    assert found.held


def test_a_day_that_is_not_there_holds_back_what_needs_it_and_nothing_else() -> None:
    """A refused day has no digest; the rest is carried on."""
    recorded = _made(ALL)
    recorded["raw"]["2024-03-10"] = _entry("v2", "")
    recorded["raw"]["2024-03-09"] = _entry("v2", "corrected")
    recorded["raw"]["2024-03-20"] = _entry("v2", "corrected")
    found = stale((VIEW,), DAYS, recorded, {})
    assert found.wanted["view"] == (
        "2024-03-09",
        "2024-03-20",
        "2024-03-21",
        "2024-03-22",
        "2024-03-23",
    )


def test_what_nobody_wrote_down_is_told_apart_from_what_changed() -> None:
    """It may never have been made: that is the conditions' part."""
    recorded = _made(ALL)
    del recorded["view"]["2024-03-10"]
    found = stale((VIEW,), DAYS, recorded, {})
    assert (found.wanted, found.unrecorded) == ({}, {"view": ("2024-03-10",)})


def test_nothing_is_stale_where_all_is_made_of_what_is_there() -> None:
    """The same records give the same answer, any number of times."""
    recorded = _made(ALL)
    for _ in range(2):
        found = stale((VIEW, SCORES), DAYS, recorded, {})
        assert (found.wanted, found.unrecorded, found.held) == ({}, {}, False)


@given(
    changed=st.sampled_from([(table, day) for table in ("raw", "other") for day in DAYS]),
    to=st.sampled_from(["", "other content", "f" * 64]),
    now=st.integers(1, len(DAYS)),
)
def test_a_partition_s_inputs_change_just_when_something_that_it_reads_does(
    changed: tuple[str, str], to: str, now: int
) -> None:
    """And do not depend on which later days there are when they are computed."""
    table, day = changed
    other = {**ALL, table: {**ALL[table], day: to}}
    before = inputs_of(VIEW, DAYS, ALL)
    after = inputs_of(VIEW, DAYS[:now], other)
    reach = {"raw": 3, "other": 0}[table]
    for n, key in enumerate(DAYS[:now]):
        reads = day in DAYS[max(0, n - reach) : n + 1]
        assert (after[key].joint != before[key].joint) == reads
        assert after[key].missing == ((f"{table} {day}",) if reads and not to else ())


def test_a_table_without_days_is_one_partition() -> None:
    """It follows other content of what it reads."""
    stage = Stage("sizes", (Reads("shops"),), dated=False)
    recorded = {"shops": {UNDATED: _entry("1", "x")}, "sizes": {UNDATED: _entry("old", "y")}}
    assert stale((stage,), DAYS, recorded, {}).wanted == {"sizes": (UNDATED,)}
    assert stale((stage,), DAYS, recorded, {"shops": {UNDATED}}).wanted == {}
    assert groups({"sizes": [UNDATED], "view": DAYS[:2]}, DAYS) == [
        Group(("sizes",)),
        Group(("view",), tuple(DAYS[:2])),
    ]


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.sets(st.sampled_from(DAYS), min_size=1), max_size=3
    )
)
def test_groups_are_days_in_a_row_and_cover_what_is_wanted_once(
    wanted: dict[str, set[str]],
) -> None:
    """Each day of each asset is in one run, and a run is as long as it can be."""
    found = groups(wanted, DAYS)
    assert sorted((a, d) for group in found for a in group.assets for d in group.days) == sorted(
        (asset, day) for asset, days in wanted.items() for day in days
    )
    for group in found:
        first = DAYS.index(group.days[0])
        assert list(group.days) == DAYS[first : first + len(group.days)]
        for asset in group.assets:
            around = {*DAYS[max(0, first - 1) : first], *DAYS[first + len(group.days) :][:1]}
            assert not around & wanted[asset]
    assert found == sorted(found, key=lambda group: (group.days[0], group.days[-1]))


def test_a_run_s_content_is_its_assets_days_and_versions() -> None:
    """Another version is another content; the same is the same for every daemon."""
    group = Group(("a", "b"), tuple(DAYS[:2]))
    one = content_of(group, lambda asset, day: f"{asset}{day}")
    assert one == content_of(group, lambda asset, day: f"{asset}{day}")
    assert one != content_of(group, lambda asset, day: f"{asset}{day}!")
    assert one != content_of(Group(("a",), group.days), lambda asset, day: f"{asset}{day}")
    assert len(one) == 20
