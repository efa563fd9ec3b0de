"""The spot policy: where the next attempt runs, and when there is none."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.compute import ComputeProfile
from mlops_assets.core.compute_orphans import ACTIVE_FOR, KEPT_FOR, RunState, orphaned
from mlops_assets.core.compute_pods import End
from mlops_assets.core.compute_policy import Attempt, Placement, Stop, place

START = datetime(2026, 1, 1, tzinfo=UTC)

TRANSIENT: list[End] = ["interrupted", "error", "crashed"]
HOPELESS: list[End] = ["memory", "image", "configuration", "deadline", "failed"]


def known(attempts: int = 3, error_retries: int = 2) -> dict[str, ComputeProfile]:
    """A spot profile with these budgets, and its fallback."""
    return {
        "spot": ComputeProfile(
            description="Spot.",
            capacity="spot",
            price="cpu_spot",
            fallback="sure",
            attempts=attempts,
            error_retries=error_retries,
        ),
        "sure": ComputeProfile(description="Sure.", capacity="on_demand", price="cpu_on_demand"),
    }


def after(
    profiles: dict[str, ComputeProfile], ends: list[End]
) -> tuple[list[Attempt], Placement | Stop]:
    """The attempts that end like ``ends``, as far as the policy goes on, and what follows."""
    attempts: list[Attempt] = []
    decided = place("spot", profiles, attempts)
    for end in ends:
        if isinstance(decided, Stop):
            break
        profile = decided.profile
        attempts.append(
            Attempt(
                number=len(attempts),
                profile=profile,
                capacity=profiles[profile].capacity,
                launched=START,
                begun=START,
                ended=START + timedelta(seconds=60),
                end=end,
                reason=f"it was {end}",
            )
        )
        decided = place("spot", profiles, attempts)
    return attempts, decided


def test_a_step_starts_on_the_profile_that_its_asset_names() -> None:
    """At once."""
    _, decided = after(known(), [])
    assert decided == Placement("spot", 0.0, "the first attempt")


@given(st.integers(1, 10), st.integers(0, 5))
def test_all_attempts_but_the_last_are_on_spot(attempts: int, error_retries: int) -> None:
    """And there are as many as the profile allows."""
    made, decided = after(known(attempts, error_retries), ["interrupted"] * 30)
    assert [a.profile for a in made] == ["spot"] * (attempts - 1) + (
        ["sure"] if attempts > 1 else ["spot"]
    )
    assert isinstance(decided, Stop)
    assert f"interrupted {attempts} times" in decided.reason


@given(st.lists(st.sampled_from(TRANSIENT), max_size=40), st.integers(1, 8), st.integers(0, 6))
def test_interruptions_and_errors_have_budgets_of_their_own(
    ends: list[End], attempts: int, error_retries: int
) -> None:
    """It goes on exactly as long as neither is spent, in whatever order they come."""
    made, decided = after(known(attempts, error_retries), ends)
    interruptions = sum(a.end == "interrupted" for a in made)
    errors = len(made) - interruptions
    spent = interruptions >= attempts or errors > error_retries
    assert isinstance(decided, Stop) == spent
    assert interruptions <= attempts
    assert errors <= error_retries + 1
    if not spent:
        assert len(made) == len(ends)


@given(st.lists(st.sampled_from(TRANSIENT), max_size=10), st.sampled_from(HOPELESS))
def test_what_would_end_the_same_again_ends_it(ends: list[End], last: End) -> None:
    """Whatever is left of the budgets; the reason is kept."""
    made, decided = after(known(11, 11), [*ends, last])
    assert made[-1].end == last
    assert isinstance(decided, Stop)
    assert f"it was {last}" in decided.reason


@given(st.lists(st.sampled_from([*TRANSIENT, "unschedulable"]), max_size=20))
def test_a_step_does_not_go_back_to_spot_from_its_fallback(ends: list[End]) -> None:
    """Where it went because spot was gone, or for its last attempt."""
    made, decided = after(known(5, 5), ends)
    placed = [a.profile for a in made]
    if isinstance(decided, Placement):
        placed.append(decided.profile)
    if "sure" in placed:
        assert set(placed[placed.index("sure") :]) == {"sure"}


def test_without_capacity_it_goes_to_on_demand_and_then_gives_up() -> None:
    """With what the scheduler said."""
    made, decided = after(known(), ["unschedulable", "unschedulable"])
    assert [a.profile for a in made] == ["spot", "sure"]
    assert isinstance(decided, Stop)
    assert "it was unschedulable; add nodes that fit the profile 'sure'" in decided.reason


@given(st.integers(1, 18))
def test_the_wait_after_an_error_grows_to_a_bound(errors: int) -> None:
    """An interruption waits for nothing but a node."""
    _, decided = after(known(3, 20), ["crashed"] * errors)
    _, more = after(known(3, 20), ["crashed"] * (errors + 1))
    assert isinstance(decided, Placement)
    assert isinstance(more, Placement)
    assert 0 < decided.delay_seconds <= more.delay_seconds <= 120
    _, interrupted = after(known(), ["interrupted"])
    assert isinstance(interrupted, Placement)
    assert interrupted.delay_seconds == 0


@given(st.floats(-600, 600))
def test_clocks_that_differ_give_no_negative_time(skew: float) -> None:
    """Nodes have clocks of their own."""
    attempt = Attempt(
        number=0,
        profile="spot",
        capacity="spot",
        launched=START,
        begun=START,
        ended=START + timedelta(seconds=skew),
    )
    assert attempt.seconds == pytest.approx(max(0.0, skew), abs=1e-5)


@given(st.timedeltas(timedelta(0), timedelta(days=3)), st.booleans())
def test_the_jobs_of_a_run_that_goes_on_are_never_removed(age: timedelta, finished: bool) -> None:
    """Whatever their age."""
    run = RunState("STARTED", None)
    assert orphaned(created=START, finished=finished, run=run, now=START + age) is None


@given(st.timedeltas(timedelta(0), timedelta(days=3)), st.booleans(), st.booleans())
def test_what_a_run_left_behind_is_removed_after_its_time(
    age: timedelta, finished: bool, known_run: bool
) -> None:
    """Soon where it still runs, later where only its output is left."""
    run = RunState("FAILURE", START) if known_run else None
    reason = orphaned(created=START, finished=finished, run=run, now=START + age)
    assert (reason is not None) == (age >= (KEPT_FOR if finished else ACTIVE_FOR))
