"""Retraining policies as defs.yaml has them."""

import json
from typing import Any

import pytest
from policy_support import (
    DRIFT,
    spec_of,
)
from pydantic import ValidationError

from mlops_assets.core.retraining_spec import RetrainingSpec, problems


def test_the_spec_is_written_as_yaml_has_it() -> None:
    """And what is not given has its default: never."""
    assert RetrainingSpec().policy.kind == "never"
    nested = {"kind": "any_of", "policies": [DRIFT, {"kind": "every", "days": 28}]}
    spec = spec_of(nested)
    assert RetrainingSpec.model_validate(json.loads(spec.model_dump_json())) == spec
    assert list(problems(spec)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "sometimes"},
        {"kind": "drift"},
        {"kind": "drift", "above": 0.2, "below": 0.1},
        {"kind": "every", "days": 0},
        {"kind": "any_of", "policies": [DRIFT]},
        {"above": 0.2},
    ],
)
def test_a_policy_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    """Unknown kinds and fields, missing and impossible values."""
    with pytest.raises(ValidationError):
        spec_of(wrong)


@pytest.mark.parametrize(
    ("policy", "place", "says"),
    [
        ({**DRIFT, "clear_below": 0.3}, "retraining.policy.clear_below", "choose a lower one"),
        ({"kind": "performance", "worse_by": 0.1, "clear_below": 0.2},
         "retraining.policy.clear_below", "choose a lower one"),
        ({"kind": "every", "days": 3}, "retraining.policy.days", "sooner than the cooldown of 7"),
        ({"kind": "any_of", "policies": [DRIFT, {"kind": "never"}]},
         "retraining.policy.policies.1", "remove it"),
    ],
)  # fmt: skip
def test_a_contradiction_is_one_problem_at_its_place(
    policy: dict[str, Any], place: str, says: str
) -> None:
    """One mistake, one problem, with what to change."""
    (problem,) = problems(spec_of(policy, cooldown_days=7))
    assert ".".join(map(str, problem.path)) == place
    assert says in problem.message


def test_every_field_says_what_it_is_with_its_default() -> None:
    """The schema is the documentation."""
    schema = RetrainingSpec.model_json_schema()
    for name, part in {"RetrainingSpec": schema, **schema["$defs"]}.items():
        assert part["description"], name
        assert part["additionalProperties"] is False, name
        for name_of, described in part["properties"].items():
            text = described.get("description", "")
            assert text.endswith("."), f"{name}.{name_of}"
            assert (name_of in part.get("required", [])) != ("Default" in text), f"{name}.{name_of}"
