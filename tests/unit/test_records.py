"""What one stage tells the next survives the way through a file, unchanged."""

import json
import math
import types
from datetime import UTC, date, datetime
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.core import records
from mlops_assets.core.records import Metrics, Record
from mlops_assets.core.rollout_state import ServedModel

KINDS = sorted(
    (
        kind
        for kind in vars(records).values()
        if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record
    ),
    key=lambda kind: kind.__name__,
)

METRICS = Metrics(rows=10, log_loss=0.5, roc_auc=0.7, brier=0.2, ece=0.01, base_rate=0.3)

LEAVES: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(codec="utf-8"), max_size=8),
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    types.NoneType: st.none(),
}


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type that records are made of."""
    if kind in LEAVES:
        return LEAVES[kind]
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin is tuple:
            return st.lists(anything(arguments[0]), max_size=2).map(tuple)
        case origin if origin is dict:
            return st.dictionaries(*map(anything, arguments), max_size=2)
        case origin if origin is Literal:
            return st.sampled_from(arguments)
        case origin if origin in (Union, types.UnionType):
            return st.one_of(*map(anything, arguments))
    fields = {name: anything(field.annotation) for name, field in kind.model_fields.items()}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_record_is_read_as_it_was_written(kind: type[Record], data: st.DataObject) -> None:
    """Whatever numbers, texts and times it holds, and the numbers to the last bit."""
    record = data.draw(anything(kind))
    assert kind.model_validate_json(record.model_dump_json(indent=1)) == record


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_record_with_an_unknown_or_without_a_needed_field_is_refused(
    kind: type[Record], data: st.DataObject
) -> None:
    """A document of another stage, or of another version of the platform, is noticed."""
    document = json.loads(data.draw(anything(kind)).model_dump_json())
    with pytest.raises(ValidationError, match="newer_field"):
        kind.model_validate_json(json.dumps(document | {"newer_field": 1}))
    needed = [name for name, field in kind.model_fields.items() if field.is_required()]
    gone = data.draw(st.sampled_from(needed))
    del document[gone]
    with pytest.raises(ValidationError, match=gone):
        kind.model_validate_json(json.dumps(document))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused_when_it_is_made(value: float) -> None:
    """Written, it would be a null, which the next stage could not read."""
    with pytest.raises(ValidationError, match="finite"):
        Metrics(**{**METRICS.model_dump(), "roc_auc": value})


def test_a_document_that_is_cut_anywhere_is_refused() -> None:
    """No prefix of a record is a record."""
    text = ServedModel(version=1, sha256="0" * 64, artifact="m.ubj")
    whole = text.model_dump_json()
    for end in range(len(whole)):
        with pytest.raises(ValidationError):
            ServedModel.model_validate_json(whole[:end])


def test_a_record_does_not_change_once_it_is_made() -> None:
    """What was decided on is what is kept."""
    with pytest.raises(ValidationError, match="frozen"):
        METRICS.rows = 11
