"""The features of answers as two columns of text, so that one table holds the answers of any model.

A table with a column for each feature would change with the features, and days from before could
not stand beside days from after. Here an answer has two JSON objects by feature: ``categories``
(texts) and ``floats`` (32-bit numbers, written exactly). A null was sent as null; a feature that
is not named is one that the model did not have, or had as the other type.
"""

import json
from collections.abc import Mapping

import polars as pl

from mlops_assets.core.spec import FeatureType

CATEGORIES = "categories"
FLOATS = "floats"

_COLUMNS: tuple[tuple[str, FeatureType, type[pl.String] | type[pl.Float32]], ...] = (
    (CATEGORIES, "category", pl.String),
    (FLOATS, "float", pl.Float32),
)


def encoded(sent: pl.DataFrame, types: Mapping[str, FeatureType]) -> pl.DataFrame:
    """The features ``types`` of one model's answers as the columns ``categories`` and ``floats``.

    ``sent`` has a column for each of ``types``; the result has its rows, in order. A number that is
    not finite is kept as null.
    """
    columns: list[pl.Series] = []
    for column, kind, dtype in _COLUMNS:
        names = sorted(name for name, given in types.items() if given == kind)
        if names:
            fields = sent.select(pl.col(name).cast(dtype) for name in names)
            columns.append(fields.to_struct(column).struct.json_encode().alias(column))
        else:
            columns.append(pl.repeat("{}", sent.height, eager=True).alias(column))
    return pl.DataFrame(columns)


def decoded(answers: pl.DataFrame, types: Mapping[str, FeatureType]) -> pl.DataFrame:
    """A column for each of ``types``: text, or a 32-bit number; null where there is none.

    ``answers`` has the columns of :func:`encoded`.
    """
    columns: dict[str, pl.Series] = {}
    for column, kind, dtype in _COLUMNS:
        fields = {name: dtype for name, wanted in types.items() if wanted == kind}
        if fields:
            values = answers[column].str.json_decode(pl.Struct(fields)).struct.unnest()
            columns |= {name: values[name] for name in fields}
    return pl.DataFrame([columns[name] for name in types])


def types_of(answer: Mapping[str, object]) -> dict[str, FeatureType]:
    """The features that the model of ``answer``, one row, had."""
    return {name: kind for column, kind, _ in _COLUMNS for name in json.loads(str(answer[column]))}
