"""What a study of trials keeps, when it ends, and what it says."""

from collections.abc import Sequence

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from training_support import SAMPLING, use_case_spec

from mlops_assets.core.spec import ModelSpec, UseCaseSpec, problems
from mlops_assets.core.tuning import (
    AS_CONFIGURED,
    State,
    TrialRecord,
    TuningRecord,
    configured,
    cost_of,
    enough,
    finished,
    rounded,
    spent,
    study_name,
    to_paste,
    trials_markdown,
)
from mlops_assets.core.tuning_spec import Choice, Range, TuningSpec, contains

SPACE = {
    "max_depth": {"low": 2, "high": 6},
    "subsample": {"low": 0.5, "high": 1.0, "step": 0.1},
    "learning_rate": {"low": 0.01, "high": 0.3, "log": True},
    "grow_policy": {"choices": ["depthwise", "lossguide"]},
}


def _tuning(**changes: object) -> TuningSpec:
    return TuningSpec.model_validate({"space": SPACE, **changes})


def _spec(tuning: TuningSpec, **model: object) -> UseCaseSpec:
    model_spec = ModelSpec.model_validate({"parameters": SAMPLING, **model})
    return use_case_spec(model_spec).model_copy(update={"tuning": tuning})


def _trial(
    number: int,
    log_loss: float | None = 0.5,
    state: State = "complete",
    seconds: float = 36,
    reason: str = "",
) -> TrialRecord:
    return TrialRecord(
        number=number,
        state=state,
        parameters={"max_depth": number},
        log_loss=log_loss,
        rounds=10,
        seconds=seconds,
        reason=reason,
        mlflow_run_id="run",
    )


def _record(trials: Sequence[TrialRecord]) -> TuningRecord:
    return TuningRecord(
        use_case="late_flights",
        study="late_flights-a-b",
        training_set="a" * 64,
        trials=tuple(trials),
        stopped="5 trials of 5 have ended",
        cost=spent(trials, 1.0),
        currency="USD",
        price_per_hour=1.0,
        budget=None,
        mlflow_run_id="run",
    )


@pytest.mark.parametrize(
    ("each", "problem"),
    [
        ({"low": 3, "high": 3}, "3 is not below high, 3"),
        ({"low": 0.0, "high": 1.0, "log": True}, "needs a low above 0"),
        ({"low": 0.1, "high": 1.0, "log": True, "step": 0.1}, "needs a low above 0, and no step"),
        ({"low": 1, "high": 9, "step": 0.5}, "0.5 is no whole number"),
        ({"low": 1, "high": 3, "step": 4}, "leads past high"),
        ({"choices": ["a", "b", "a"]}, "the same value stands there twice"),
    ],
)
def test_a_space_that_contradicts_itself_is_refused_with_its_place(
    each: dict[str, object], problem: str
) -> None:
    """The problem names the parameter's field in defs.yaml."""
    spec = _spec(_tuning(space={"max_depth": each}))
    (found,) = [one for one in problems(spec) if one.path[0] == "tuning"]
    assert found.path[:3] == ("tuning", "space", "max_depth")
    assert problem in str(found)


def test_a_space_without_contradictions_has_no_problem() -> None:
    """Of each kind of parameter one."""
    assert not [one for one in problems(_spec(_tuning())) if one.path[0] == "tuning"]


def test_whole_numbers_are_told_from_numbers_with_decimals() -> None:
    """By how both ends are written."""
    assert Range(low=3, high=9).whole
    assert not Range(low=3.0, high=9.0).whole
    assert not Range.model_validate({"low": 3, "high": 9.5}).whole


@pytest.mark.parametrize(
    ("each", "inside", "outside"),
    [
        (Range(low=2, high=6), [2, 6, 3.0], [1, 7, 3.5, True, "3"]),
        (Range(low=0.5, high=1.0, step=0.1), [0.5, 0.8, 1.0], [0.55, 1.1]),
        (Choice(choices=["a", 1]), ["a", 1], ["b", True, 1.0]),
    ],
)
def test_what_a_range_contains(
    each: Range | Choice, inside: list[object], outside: list[object]
) -> None:
    """Both ends, and steps of it only."""
    assert all(contains(each, value) for value in inside)  # pyright: ignore[reportArgumentType]
    assert not any(contains(each, value) for value in outside)  # pyright: ignore[reportArgumentType]


def test_the_first_trial_is_what_defs_yaml_has_inside_the_space() -> None:
    """What is outside is drawn instead."""
    spec = _spec(_tuning(), parameters={"max_depth": 3, "subsample": 0.95, "gamma": 1.0})
    assert configured(spec, _tuning()) == {"max_depth": 3}


def test_a_study_is_another_one_for_other_rows_or_another_search() -> None:
    """And the same one for more trials or a larger budget."""
    tuning = _tuning(trials=10, budget_usd=1)
    spec = _spec(tuning)
    name = study_name(spec, tuning, "a" * 64)
    more = _tuning(trials=99, budget_usd=5)
    assert study_name(_spec(more), more, "a" * 64) == name
    others = [
        study_name(spec, tuning, "b" * 64),
        study_name(spec, _tuning(seed=8), "a" * 64),
        study_name(spec, _tuning(patience=8), "a" * 64),
        study_name(spec, _tuning(rounds=8), "a" * 64),
        study_name(spec, _tuning(space={"max_depth": SPACE["max_depth"]}), "a" * 64),
        study_name(_spec(tuning, early_stopping_rounds=3), tuning, "a" * 64),
        study_name(_spec(tuning, parameters={"gamma": 1}), tuning, "a" * 64),
    ]
    assert len({name, *others}) == 1 + len(others)


def test_a_study_ends_with_its_trials() -> None:
    """What failed is not one of them."""
    trials = [_trial(0), _trial(1, None, "failed"), _trial(2, state="pruned")]
    assert enough(trials, 3, None, 1.0) is None
    assert enough(trials, 2, None, 1.0) == "2 trials of 2 have ended"


def test_a_study_ends_before_a_trial_that_would_pass_its_budget() -> None:
    """It is expected to take as long as the longest one did; what failed is paid too."""
    trials = [_trial(0, seconds=36), _trial(1, None, "failed", seconds=72)]
    # 0.01 and 0.02 are spent, and 0.02 may come.
    assert enough(trials, 10, 0.0501, 1.0) is None
    said = enough(trials, 10, 0.0499, 1.0)
    assert said is not None
    assert "may cost 0.02" in said
    assert "0.03 of the budget of 0.0499" in said
    assert enough([], 10, 1e-9, 1.0) is None


@given(
    seconds=st.lists(st.floats(0.1, 1000), max_size=30),
    budget=st.floats(0.001, 2),
    price=st.floats(0.01, 5),
)
def test_no_trial_that_takes_no_longer_than_those_before_it_passes_the_budget(
    seconds: list[float], budget: float, price: float
) -> None:
    """After the first one, about which nothing is known."""
    trials: list[TrialRecord] = []
    for number, each in enumerate(seconds):
        if enough(trials, 100, budget, price) is not None:
            break
        longest = max((one.seconds for one in trials), default=each)
        trials.append(_trial(number, seconds=min(each, longest)))
    if len(trials) > 1:
        assert spent(trials, price) <= budget * (1 + 1e-9)


@given(st.floats(1e-6, 1e6))
def test_numbers_are_tried_as_a_person_would_write_them(value: float) -> None:
    """In four digits, and again the same."""
    short = rounded(value)
    assert short == pytest.approx(value, rel=1e-3)
    assert rounded(short) == short
    assert rounded(3) == 3


def test_the_best_trial_is_complete_and_the_first_of_equals() -> None:
    """A pruned one may look better where it was stopped."""
    record = _record(
        [_trial(0, 0.5), _trial(1, 0.4), _trial(2, 0.4), _trial(3, 0.3, "pruned"), _trial(4, 0.6)]
    )
    assert record.best == _trial(1, 0.4)
    assert _record([]).best is None


def test_what_is_pasted_keeps_the_parameters_that_were_not_searched() -> None:
    """And small numbers stay numbers in YAML."""
    spec = _spec(_tuning(), parameters={"max_depth": 3, "gamma": 1})
    best = _trial(1).model_copy(update={"parameters": {"max_depth": 5, "alpha": 1e-05}})
    pasted = yaml.safe_load(to_paste(spec, best))
    assert pasted == {"model": {"parameters": {"max_depth": 5, "gamma": 1, "alpha": 1e-05}}}


def test_the_table_has_the_best_trials_first_and_what_they_gain() -> None:
    """Failed ones are not in it; a bar in a reason does not end a cell."""
    record = _record(
        [
            _trial(0, 0.5, reason=AS_CONFIGURED),
            _trial(1, None, "failed"),
            _trial(2, 0.45, "pruned", reason="a|b"),
            _trial(3, 0.4),
        ]
    )
    table = trials_markdown(record)
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| 3", "| 0", "| 2"]
    assert "0.10000 below 0.50000" in table
    assert "a\\|b" in table
    assert "3 trials, 1 of them pruned" in table


def test_a_record_survives_its_document() -> None:
    """Whole numbers stay whole, and texts texts."""
    trial = _trial(0).model_copy(update={"parameters": {"a": 3, "b": 0.5, "c": "x", "d": True}})
    record = _record([trial])
    again = TuningRecord.model_validate_json(record.model_dump_json())
    assert again == record
    kinds = [type(value) for value in again.trials[0].parameters.values()]
    assert kinds == [int, float, str, bool]
    assert finished(again.trials) == [again.trials[0]]
    assert cost_of(3600, 2.0) == 2.0
