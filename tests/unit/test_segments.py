"""Training in segments: when it saves, when it ends, which rounds stay, and what it is."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.segments import (
    MOST_CELL_ROUNDS,
    Plan,
    exact_rounds,
    kept_rounds,
    training_key,
)

PLANS = st.builds(
    Plan,
    rounds=st.integers(1, 60),
    segment_rounds=st.integers(1, 25),
    early_stopping_rounds=st.integers(1, 12),
    exact_rounds=st.just(1),
)
LOSSES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan]), min_size=60, max_size=60)


def course(plan: Plan, validation: list[float]) -> list[int]:
    """The rounds after which a training saves, until it ends."""
    saves = []
    for done in range(1, len(validation) + 1):
        losses = {"train": validation[:done], "validation": validation[:done]}
        if plan.is_saved(losses):
            saves.append(done)
        if plan.is_finished(losses):
            break
    return saves


@settings(deadline=None)
@given(PLANS, LOSSES)
def test_it_saves_after_each_segment_and_at_the_end(plan: Plan, validation: list[float]) -> None:
    """No more than a segment lies between two saves, and the end is always saved."""
    saves = course(plan, validation)
    last = saves[-1]
    whole = list(range(plan.segment_rounds, last + 1, plan.segment_rounds))
    assert saves == sorted({*whole, last})
    assert last <= plan.rounds


@settings(deadline=None)
@given(PLANS, LOSSES)
def test_it_ends_when_waiting_was_in_vain_or_at_the_most_rounds(
    plan: Plan, validation: list[float]
) -> None:
    """Neither a round earlier nor later, wherever it was cut on the way."""
    last = course(plan, validation)[-1]
    waited = [done - kept_rounds(validation[:done]) for done in range(1, last + 1)]
    assert all(wait < plan.early_stopping_rounds for wait in waited[:-1])
    assert waited[-1] >= plan.early_stopping_rounds or last == plan.rounds


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=40))
def test_the_rounds_kept_are_those_that_xgboosts_early_stopping_keeps(
    validation: list[float],
) -> None:
    """Ties go to the earlier round, and NaN is never an improvement."""
    best = 0
    for number, loss in enumerate(validation):
        if number and np.greater(validation[best], loss):  # as xgboost.callback.EarlyStopping
            best = number
    assert kept_rounds(validation) == best + 1


@settings(deadline=None)
@given(PLANS, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_the_segments_of_two_attempts_are_those_of_one_and_the_one_that_was_cut(
    plan: Plan, a: int, b: int, c: int
) -> None:
    """A segment that two attempts share counts in both."""
    first, cut, done = sorted((a, b, c))
    both = plan.segments(first, cut) + plan.segments(cut, done)
    shared = cut % plan.segment_rounds != 0 and first < cut < done
    assert both == plan.segments(first, done) + shared


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(1, 10**9), st.integers(1, 10_000))
def test_a_training_can_be_cut_in_time_and_not_more_often_than_it_has_to(
    segment: int, rows: int, features: int
) -> None:
    """A segment is a whole number of places to cut; of the numbers that do, the largest."""
    found = exact_rounds(segment, rows, features)
    assert segment % found == 0
    assert found == 1 or found * rows * features <= MOST_CELL_ROUNDS
    longer = [n for n in range(found + 1, segment + 1) if segment % n == 0]
    assert all(n * rows * features > MOST_CELL_ROUNDS for n in longer)


@settings(deadline=None)
@given(PLANS, LOSSES, st.integers(1, 25))
def test_what_is_saved_can_be_continued(plan: Plan, validation: list[float], exact: int) -> None:
    """However often a training begins afresh inside of a segment."""
    plan = replace(plan, exact_rounds=exact, segment_rounds=exact * plan.segment_rounds)
    for done in course(plan, validation):
        assert plan.can_be_cut({"train": validation[:done], "validation": validation[:done]})


KEYED = {
    "training_set": "a" * 64,
    "signature": Signature(
        inputs=(FeatureField(name="x", type="category", categories=("a", "b")),), output="y"
    ),
    "parameters": {"eta": 0.1, "seed": 7},
    "plan": Plan(rounds=10, segment_rounds=6, early_stopping_rounds=3, exact_rounds=2),
    "device": "cpu",
    "xgboost": "3.2.0",
    "machine": "x86_64",
}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("training_set", "b" * 64),
        (
            "signature",
            Signature(
                inputs=(FeatureField(name="x", type="category", categories=("b", "a")),), output="y"
            ),
        ),
        ("signature", Signature(inputs=(FeatureField(name="x", type="float"),), output="y")),
        ("parameters", {"eta": 0.1, "seed": 8}),
        ("parameters", {"eta": 0.1, "seed": 7, "subsample": 0.5}),
        ("plan", Plan(rounds=11, segment_rounds=6, early_stopping_rounds=3, exact_rounds=2)),
        ("plan", Plan(rounds=10, segment_rounds=6, early_stopping_rounds=4, exact_rounds=2)),
        ("device", "cuda"),
        ("xgboost", "3.3.0"),
        ("machine", "aarch64"),
    ],
)
def test_what_changes_the_rounds_changes_the_key(name: str, other: object) -> None:
    """Another training never finds this one's checkpoints."""
    assert training_key(**{**KEYED, name: other}) != training_key(**KEYED)  # type: ignore[arg-type]


def test_of_segments_only_what_changes_the_rounds_is_part_of_the_key() -> None:
    """Where a training begins afresh, and not how often it saves."""
    plan = KEYED["plan"]
    assert isinstance(plan, Plan)
    keys = [
        training_key(**{**KEYED, "plan": each})  # type: ignore[arg-type]
        for each in (plan, replace(plan, segment_rounds=4), replace(plan, exact_rounds=3))
    ]
    assert keys[0] == keys[1] != keys[2]
