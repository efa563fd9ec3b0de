"""Runs of a tick: which assets and days go together."""

import dagster as dg
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.replay.ticks import by_day

A, B, C = (dg.AssetKey(["uc", name]) for name in "abc")


def test_days_that_ask_for_the_same_assets_share_a_run() -> None:
    """A range in one run costs one commit per table."""
    found = by_day({A: ["2013-03-01", "2013-03-02"], B: ["2013-03-01", "2013-03-02"]})
    assert found == [([A, B], ["2013-03-01", "2013-03-02"])]


def test_an_older_day_is_computed_before_a_newer_one_that_may_look_back_on_it() -> None:
    """Assets look back on days before theirs, never on later ones."""
    found = by_day({A: ["2013-03-02", "2013-03-01"], B: ["2013-03-02"]})
    assert found == [([A], ["2013-03-01"]), ([A, B], ["2013-03-02"])]


def test_days_with_a_gap_are_runs_of_their_own() -> None:
    """A range would compute what nobody asked for."""
    found = by_day({A: ["2013-03-01", "2013-03-03"]})
    assert found == [([A], ["2013-03-01"]), ([A], ["2013-03-03"])]


def test_assets_without_days_come_first_in_one_run() -> None:
    """What has days may depend on them."""
    found = by_day({A: ["2013-03-01"], B: [], C: []})
    assert found == [([B, C], []), ([A], ["2013-03-01"])]


DAYS = [f"2013-03-{day:02d}" for day in range(1, 15)]


@given(st.dictionaries(st.sampled_from([A, B, C]), st.sets(st.sampled_from(DAYS), min_size=1)))
def test_each_requested_day_of_each_asset_is_in_exactly_one_run(
    requested: dict[dg.AssetKey, set[str]],
) -> None:
    """Nothing is lost, done twice, or added."""
    runs = by_day({key: sorted(days) for key, days in requested.items()})
    done = [(key, day) for assets, days in runs for key in assets for day in days]
    asked = [(key, day) for key, days in requested.items() for day in days]
    assert sorted(done, key=str) == sorted(asked, key=str)
