"""What an endpoint serves: its transitions, and who answers whom."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.replica_reports import (
    ModelTotals,
    ReplicaReport,
    is_stale,
    not_applied,
    refusals,
    total,
)
from mlops_assets.core.rollout_state import (
    Release,
    ServedModel,
    abort,
    deployed,
    first_release,
    position,
    promote,
    replace_watched,
    reverted,
    serve_only,
    set_share,
    side,
    start_rollout,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def model(version: int) -> ServedModel:
    """A registered model."""
    return ServedModel(version=version, sha256=f"{version:064x}", artifact=f"{version}.ubj")


ONE, TWO, THREE = model(1), model(2), model(3)
ALONE = first_release("flights", ONE, NOON, "first")
SHADOW = start_rollout(ALONE, TWO, "r1", NOON, "better")
CANARY = set_share(SHADOW, 0.25, NOON, "no worse")


def test_a_rollout_goes_from_shadow_over_canary_to_champion() -> None:
    """Each step is the next revision, with its time and reason."""
    assert (SHADOW.mode, SHADOW.champion, SHADOW.challenger) == ("shadow", ONE, TWO)
    assert SHADOW.share == 0
    assert (CANARY.mode, CANARY.share, CANARY.rollout_id) == ("canary", 0.25, "r1")
    half = set_share(CANARY, 0.5, LATER, "still no worse")
    done = promote(half, LATER, "better")
    assert [r.revision for r in (ALONE, SHADOW, CANARY, half, done)] == [1, 2, 3, 4, 5]
    assert (done.mode, done.champion, done.challenger, done.rollout_id) == (
        "champion",
        TWO,
        None,
        "",
    )
    assert (done.changed_at, done.reason) == (LATER, "better")


def test_a_promoted_model_may_be_watched_against_the_former_one() -> None:
    """Which stands in, under the same rollout, and is back at once when it has to."""
    watched = promote(CANARY, LATER, "better", watch=True)
    assert (watched.champion, watched.challenger, watched.mode) == (TWO, ONE, "watch")
    assert (watched.rollout_id, watched.revision) == ("r1", 4)
    assert serve_only(watched, ONE, LATER, "worse after all").champion == ONE
    assert abort(watched, LATER, "settled").champion == TWO
    at_once = replace_watched(ALONE, TWO, "r2", LATER, "at once")
    assert (at_once.champion, at_once.challenger, at_once.revision) == (TWO, ONE, 2)


@pytest.mark.parametrize("release", [SHADOW, CANARY])
def test_an_aborted_rollout_leaves_the_champion_alone(release: Release) -> None:
    """As it was before."""
    ended = abort(release, LATER, "worse")
    assert (ended.mode, ended.champion, ended.challenger, ended.share) == ("champion", ONE, None, 0)


def test_a_deployment_of_what_serves_changes_nothing() -> None:
    """A rollout against it goes on; another champion ends it."""
    assert deployed(CANARY, "flights", ONE, LATER, "again") == CANARY
    other = deployed(CANARY, "flights", THREE, LATER, "by hand")
    assert (other.champion, other.mode, other.revision) == (THREE, "champion", 4)
    assert deployed(None, "flights", ONE, NOON, "first") == ALONE


def test_what_does_not_fit_the_state_is_refused() -> None:
    """With what to do instead."""
    with pytest.raises(PermanentError, match=r"is under way .*promote or abort it first"):
        start_rollout(SHADOW, THREE, "r2", NOON, "")
    with pytest.raises(PermanentError, match="version 1 of flights is the champion already"):
        start_rollout(ALONE, ONE, "r2", NOON, "")
    for share in (0.25, 0.1, 0, 1.5):
        with pytest.raises(PermanentError, match="give a larger one"):
            set_share(CANARY, share, NOON, "")
    for transition in (promote, abort):
        with pytest.raises(PermanentError, match="no rollout of flights is under way"):
            transition(ALONE, NOON, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "shadow"},
        {"challenger": TWO},
        {"rollout_id": "r1"},
        {"mode": "canary", "challenger": TWO, "rollout_id": "r1"},
        {"mode": "shadow", "challenger": TWO, "rollout_id": "r1", "share": 0.5},
        {"share": 1.5},
        {"revision": 0},
    ],
)
def test_a_state_that_no_transition_gives_is_refused(changes: dict[str, object]) -> None:
    """It was edited by hand, or is damaged."""
    with pytest.raises(ValidationError):
        Release.model_validate(ALONE.model_dump() | changes)


def test_a_revision_that_was_refused_is_followed_by_what_was_before() -> None:
    """Under a new number: replicas that saw the refused one see a change."""
    back = reverted(CANARY, SHADOW, LATER, "refused")
    assert back.revision == CANARY.revision + 1
    assert back.model_copy(update={"revision": 2, "changed_at": NOON, "reason": "better"}) == SHADOW


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_share_only_moves_callers_to_the_challenger(
    key: str, one: float, other: float
) -> None:
    """Nobody goes back and forth."""
    less, more = sorted((one, other))
    sides = [
        side(CANARY.model_copy(update={"share": share}), key) for share in (0.0, less, more, 1.0)
    ]
    moved = [found == "challenger" for found in sides]
    assert moved == sorted(moved)
    assert (sides[0], sides[-1]) == ("champion", "challenger")


@given(st.text(max_size=20), st.text(max_size=8))
def test_the_same_key_has_the_same_place(key: str, rollout: str) -> None:
    """In [0, 1), also for text that is not UTF-8."""
    place = position(rollout, key)
    assert place == position(rollout, key)
    assert 0 <= place < 1
    assert 0 <= position(rollout, key + "\ud800") < 1


@given(st.text(min_size=1, max_size=8), st.floats(0.01, 0.99))
def test_keys_spread_as_the_share_says(rollout: str, share: float) -> None:
    """Within what chance allows five standard deviations from it: once in two million rollouts."""
    keys = 2000
    found = sum(position(rollout, f"caller {n}") < share for n in range(keys))
    assert abs(found - keys * share) < 5 * (keys * share * (1 - share)) ** 0.5 + 1


def test_rollouts_are_independent_of_each_other() -> None:
    """Those who try the one are no likelier than others to try the next."""
    keys = [f"caller {n}" for n in range(20_000)]
    first = {key for key in keys if position("r1", key) < 0.2}
    both = sum(position("r2", key) < 0.2 for key in first)
    expected = 0.2 * len(first)
    assert abs(both - expected) < 5 * (expected * 0.8) ** 0.5


def test_only_a_canary_is_split() -> None:
    """In shadow the champion answers everybody."""
    keys = [f"caller {n}" for n in range(100)]
    assert {side(release, key) for release in (ALONE, SHADOW) for key in keys} == {"champion"}
    assert {side(CANARY, key) for key in keys} == {"champion", "challenger"}


def totals(requests: int, role: str = "champion", rollout: str = "r1") -> ModelTotals:
    """What a model did."""
    return ModelTotals.model_validate(
        {
            "rollout_id": rollout,
            "version": 1 if role == "champion" else 2,
            "role": role,
            "requests": requests,
            "rows": 2 * requests,
            "returned": requests,
            "errors": 1,
            "skipped": 3,
            "seconds": 0.5,
            "latency": (requests, 0, 0),
        }
    )


def report(replica: str, **changes: object) -> ReplicaReport:
    """A report at noon."""
    content: dict[str, object] = {
        "replica": replica,
        "instance": replica.partition("-")[0],
        "workers": 1,
        "use_case": "flights",
        "revision": 2,
        "refused": None,
        "champion": 1,
        "challenger": 2,
        "ready": True,
        "error": None,
        "at": NOON,
        "ended": False,
        "lost_log_records": 0,
        "totals": (),
    }
    return ReplicaReport.model_validate(content | changes)


def test_a_report_that_is_not_renewed_is_stale() -> None:
    """As is the last one of a replica that ended."""
    assert not is_stale(report("a"), NOON + timedelta(seconds=15))
    assert is_stale(report("a"), NOON + timedelta(seconds=16))
    assert is_stale(report("a", ended=True), NOON)


def test_a_revision_is_applied_when_every_process_says_so() -> None:
    """Of each server that runs; others do not count."""
    reports = [
        report("a-0", workers=2),
        report("a-1", workers=2, revision=1),
        report("b"),
        report("gone", revision=1),
    ]
    assert not_applied(reports, ["a", "b", "new"], 2) == ("a", "new")
    assert not_applied([*reports, report("a-1", workers=2, revision=3)], ["a", "b"], 2) == ()
    assert not_applied([report("b", ready=False), report("b", ended=True)], ["b"], 2) == ("b",)


def test_a_refusal_is_told_with_its_reason() -> None:
    """Once, however many replicas say it, and of the revision that is asked about alone."""
    reports = [
        report("a", revision=1, refused=2, error="cut"),
        report("b", refused=2, error="cut"),
        report("gone", refused=2, error="away"),
    ]
    assert refusals(reports, ["a", "b"], 2) == ("cut",)
    assert refusals(reports, ["a", "b"], 1) == ()


def test_counts_add_up_over_replicas_that_are_gone_too() -> None:
    """Those of one rollout, by version and role."""
    reports = [
        report("a", totals=(totals(5), totals(2, "challenger"), totals(100, rollout="r0"))),
        report("b", totals=(totals(7),), ended=True),
    ]
    champion, challenger = total(reports, "r1")
    assert (champion.role, champion.requests, champion.rows, champion.latency) == (
        "champion",
        12,
        24,
        (12, 0, 0),
    )
    assert (champion.errors, champion.skipped, champion.seconds) == (2, 6, 1.0)
    assert (challenger.version, challenger.requests) == (2, 2)
    assert total(reports, "r2") == ()
