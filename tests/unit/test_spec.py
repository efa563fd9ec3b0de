"""What a team writes: documented fields, values within their bounds, no contradictions."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mlops_assets.core.spec import UseCaseSpec, problems
from mlops_assets.lifecycle import training_set

VISITS = Path(__file__).parents[1] / "support" / "visits" / "defs.yaml"

NUMBERS_SAY = (
    *("days", "hours", "minutes", "seconds", "rows", "rounds", "mib", "share", "level", "bound"),
    *("requests", "servers", "quantile (0 to 1)", "relative difference"),
)
"""Units, in the descriptions of numbers."""

WITHOUT_UNIT = {"port", "seed", "bootstrap_samples"}
"""Numbers that count or name something, as their descriptions say."""


def attributes() -> dict[str, Any]:
    """The attributes of the tests' use case, to change."""
    return yaml.safe_load(VISITS.read_text())["attributes"]


def changed(path: str, value: object) -> dict[str, Any]:
    """The attributes with ``value`` at the dotted ``path``; None takes the field away."""
    document = attributes()
    *parents, last = path.split(".")
    node: Any = document
    for part in parents:
        node = node[int(part) if isinstance(node, list) else part]
    if value is None:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return document


def found(document: dict[str, Any]) -> dict[str, str]:
    """The problems of a description, by dotted place."""
    spec = UseCaseSpec.model_validate(document)
    return {".".join(map(str, problem.path)): problem.message for problem in problems(spec)}


def fields() -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Each field of the schema with its place, its own schema, and whether it is needed."""
    schema = UseCaseSpec.model_json_schema()
    for owner, part in {"UseCaseSpec": schema, **schema["$defs"]}.items():
        for name, field in part["properties"].items():
            yield f"{owner}.{name}", field, name in part.get("required", [])


def test_the_tests_own_use_case_has_no_problems() -> None:
    """Each of the other tests changes one thing of it."""
    assert found(attributes()) == {}


@pytest.mark.parametrize(
    ("place", "field", "required"), list(fields()), ids=[place for place, _, _ in fields()]
)
def test_every_field_says_what_it_is_with_unit_and_default(
    place: str, field: dict[str, Any], required: bool
) -> None:
    """The schema is the documentation: `dg` and editors show it."""
    description = field.get("description", "")
    assert description.endswith("."), place
    assert required != ("Default" in description), place
    kinds = {option.get("type") for option in [field, *field.get("anyOf", [])]}
    if kinds & {"number", "integer"} and place.split(".")[1] not in WITHOUT_UNIT:
        assert any(unit in description.lower() for unit in NUMBERS_SAY), place


def test_every_part_of_the_schema_is_walked_and_described() -> None:
    """No part hides from the test above, and none takes fields that nobody described."""
    schema = UseCaseSpec.model_json_schema()
    places = {place for place, _, _ in fields()}
    assert {"FileSource.query", "GateRule.at_least", "EndpointSpec.port"} <= places
    for name, part in {"UseCaseSpec": schema, **schema["$defs"]}.items():
        assert part["additionalProperties"] is False, name
        assert part["description"], name


@pytest.mark.parametrize(
    ("path", "value", "place", "says"),
    [
        ("datasets.visits.key", ["visit"], "datasets.visits.key", "no column 'visit'"),
        ("datasets.visits.event_time", None, "datasets.visits.event_time", "places a row"),
        ("datasets.visits.event_time", "at", "datasets.visits.event_time", "no column 'at'"),
        ("datasets.visits.event_time", "shop", "datasets.visits.event_time", "type timestamp"),
        ("datasets.shops.source", {"kind": "sql", "location": "sqlite://"},
         "datasets.shops.source.query", "needs a query"),
        ("datasets.shops.source", {"kind": "csv", "location": "a.csv", "query": "SELECT 1"},
         "datasets.shops.source.query", "only a sql source"),
        ("feature_views.visit.datasets", ["visit"], "feature_views.visit.datasets",
         "no dataset 'visit'; known: visits, shops"),
        ("feature_views.shop_returns.partitioned", False,
         "feature_views.shop_returns.partitioned", "one per day"),
        ("feature_views.visit.ttl_hours", None, "feature_views.visit.ttl_hours", "bounded"),
        ("feature_views.shop_sizes.features", {"minutes": "float"},
         "feature_views.shop_sizes.features.minutes", "also in view 'visit'"),
        ("feature_views.shop_sizes.features", {"shop": "category"},
         "feature_views.shop_sizes.features.shop", "entity column"),
        ("events.dataset", "nowhere", "events.dataset", "no dataset 'nowhere'"),
        ("events.dataset", "shops", "events.dataset", "has no days"),
        ("label.dataset", "nowhere", "label.dataset", "no dataset 'nowhere'"),
        ("label.dataset", "shops", "label.dataset", "has no days"),
        ("training_set.days", 10, "training_set.days", "leave none to train on"),
        ("training_set.days", 60, "training_set.days", "before the data does on 2024-03-01"),
        ("training_set.end", date(2024, 6, 1), "training_set.end", "after the data ends"),
        ("evaluation.slices", ["shop_name", "colour"], "evaluation.slices.1", "no feature"),
        ("gate.rules.0", {"metric": "ece"}, "gate.rules.0", "at_least, at_most, or both"),
        ("gate.rules.1", {"metric": "ece", "at_least": 0.2, "at_most": 0.1}, "gate.rules.1",
         "nothing is at least 0.2 and at most 0.1"),
    ],
)  # fmt: skip
def test_a_contradiction_is_one_problem_at_its_place(
    path: str, value: object, place: str, says: str
) -> None:
    """One mistake, one problem: at the field to change, with what is wrong."""
    result = found(changed(path, value))
    assert list(result) == [place]
    assert says in result[place]


@pytest.mark.parametrize("end", [date(2024, 2, 1), date(2024, 3, 1)])
def test_reversed_dates_are_refused_with_both(end: date) -> None:
    """The data would end before it begins, or on the day that it begins."""
    message = found(changed("end", end))["end"]
    assert "swap the dates" in message
    assert f"{end} is not after start 2024-03-01" in message


@pytest.mark.parametrize(
    "name", ["training_set", "model", "predictions", "training_sets", "visits__quarantine"]
)
def test_a_dataset_or_view_with_a_name_of_the_platforms_own_is_refused(name: str) -> None:
    """Its asset or table would stand in the place of another."""
    document = attributes()
    document["datasets"][name] = document["datasets"]["shops"]
    document["feature_views"][name] = document["feature_views"]["shop_sizes"]
    document["feature_views"][name]["features"] = {"size_of_shop": "float"}
    result = found(document)
    assert "platform's own" in result[f"datasets.{name}"]
    assert f"feature_views.{name}" in result


def test_a_dataset_called_window_is_refused() -> None:
    """Functions take their datasets by name beside the window."""
    document = attributes()
    document["datasets"]["window"] = document["datasets"]["shops"]
    assert "first argument" in found(document)["datasets.window"]


def test_a_view_with_the_name_of_a_dataset_is_refused() -> None:
    """Both would be one asset and one table."""
    document = attributes()
    document["feature_views"]["shops"] = document["feature_views"].pop("shop_sizes")
    assert "also a dataset" in found(document)["feature_views.shops"]


def test_no_feature_has_the_name_of_a_column_that_a_training_set_has_beside_it() -> None:
    """A feature called `day` would replace the day that the gate resamples by."""
    beside = {
        *("event_id", "event_time", "known_at", "label", "score"),
        *(training_set.DAY, training_set.PART, training_set.ASKED_AT),
    }
    document = attributes()
    document["feature_views"]["shop_sizes"]["features"] = dict.fromkeys(beside, "float")
    assert set(found(document)) == {f"feature_views.shop_sizes.features.{name}" for name in beside}


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("owner", "team:tests", "Extra inputs"),
        ("name", "Visits", "pattern"),
        ("owners", ["somebody"], "pattern"),
        ("owners", [], "at least 1"),
        ("timezone", "Berlin", "write one like 'Europe/Berlin'"),
        ("timezone", "../../etc/passwd", "no IANA time zone"),
        ("start", "2024-02-30", "date"),
        ("datasets", {}, "at least 1"),
        ("datasets.shops.columns", {"shop": "text"}, "'string', 'bool'"),
        ("datasets.shops.source", "shops", "pattern"),
        ("datasets.shops.quarantine_limit", 1.5, "less than or equal to 1"),
        ("datasets.shops.kinds", ["Delta Lake"], "pattern"),
        ("feature_views.visit.ttl_hours", 0, "greater than 0"),
        ("feature_views.visit.ttl_hours", 1e12, "less than or equal to 87600"),
        ("feature_views.visit.lookback_days", -1, "greater than or equal to 0"),
        ("feature_views.visit.features", {"Minutes": "float"}, "pattern"),
        ("training_set.days", 10**9, "less than or equal to 36600"),
        ("training_set.holdout_days", 0, "greater than or equal to 1"),
        ("model.parameters", {"eta": float("nan")}, "finite"),
        ("model.rounds", 0, "greater than or equal to 1"),
        ("gate.rules", [], "at least 1"),
        ("gate.rules.0.at_least", float("inf"), "finite"),
        ("gate.rules.0.metric", "accuracy", "'log_loss', 'brier'"),
        ("gate.confidence", 1, "less than 1"),
        ("endpoint.port", 0, "greater than or equal to 1"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_with_them(
    path: str, value: object, says: str
) -> None:
    """Nothing waits until a run to be found out, neither typos nor numbers that are none."""
    with pytest.raises(ValidationError, match=says):
        UseCaseSpec.model_validate(changed(path, value))


def test_a_description_does_not_change_once_it_is_read() -> None:
    """All stages of a run see the same one."""
    spec = UseCaseSpec.model_validate(attributes())
    with pytest.raises(ValidationError, match="frozen"):
        spec.timezone = "UTC"


def test_features_keep_the_order_in_which_the_views_list_them() -> None:
    """It is the order of the model's inputs, so part of the model's bytes."""
    spec = UseCaseSpec.model_validate(attributes())
    assert list(spec.feature_types) == ["minutes", "shop_name", "shop_return_share", "shop_size"]
    assert spec.entity_types["shop"] == "string"
