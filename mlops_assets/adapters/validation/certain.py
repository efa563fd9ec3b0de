"""Expectations that a glance at a column proves met, without asking Great Expectations.

It takes some 4 ms to judge one, nearly all of it before the first value is read; on a day's table
that is a hundred times what comparing the extremes costs. Most expectations hold. What is not
proven here, and so everything that fails, is judged by Great Expectations alone.
"""

# pyright: reportPrivateImportUsage=false
# (great_expectations documents its expectations under this name, without marking them exported.)

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

    Proof = Callable[[pd.DataFrame, Expectation], bool]


def certainly_met(frame: pd.DataFrame, expectation: Expectation) -> bool:
    """Whether every row of ``frame`` meets ``expectation`` beyond doubt.

    False says nothing: also for other kinds, for some rows only, for columns that are missing or
    of types that Great Expectations compares in ways of its own.
    """
    proof = _proofs().get(type(expectation))
    if proof is None or getattr(expectation, "row_condition", None) is not None:
        return False
    try:
        return proof(frame, expectation)
    except TypeError:  # values that do not compare, or lists, which have no hash
        return False


@cache
def _proofs() -> dict[type[Expectation], Proof]:
    import great_expectations.expectations as gxe

    # By exact type: a class derived from one of them may mean something else.
    return {
        gxe.ExpectColumnValuesToNotBeNull: _complete,
        gxe.ExpectColumnValuesToBeBetween: _between,
        gxe.ExpectColumnValuesToBeInSet: _in_set,
        gxe.ExpectColumnValuesToBeUnique: _unique,
        gxe.ExpectCompoundColumnsToBeUnique: _unique,
        gxe.ExpectColumnPairValuesAToBeGreaterThanB: _in_order,
    }


def _present(frame: pd.DataFrame, *names: object) -> bool:
    return all(isinstance(name, str) and name in frame.columns for name in names)


def _complete(frame: pd.DataFrame, expectation: Expectation) -> bool:
    name = getattr(expectation, "column", None)
    return _present(frame, name) and bool(frame[name].notna().all())


def _between(frame: pd.DataFrame, expectation: Expectation) -> bool:
    import pandas as pd

    name, low, high, *strict = (
        getattr(expectation, of, None)
        for of in ("column", "min_value", "max_value", "strict_min", "strict_max")
    )
    if not _present(frame, name) or any(strict) or not _bounds(low, high):
        return False
    column = frame[name]
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return False
    if bool(column.isna().all()):
        return True
    return bool((low is None or column.min() >= low) and (high is None or column.max() <= high))


def _bounds(low: object, high: object) -> bool:
    """Whether they are a range of numbers: Great Expectations refuses any other."""
    if not (_bound(low) and _bound(high)):
        return False
    return low is not high if low is None or high is None else low <= high


def _bound(value: object) -> TypeGuard[float | None]:
    if isinstance(value, float):
        return not math.isnan(value)
    return value is None or type(value) is int


def _in_set(frame: pd.DataFrame, expectation: Expectation) -> bool:
    name, allowed = (getattr(expectation, of, None) for of in ("column", "value_set"))
    if not _present(frame, name) or not _texts(allowed):
        return False
    found = list(frame[name].dropna().unique())
    return _texts(found) and set(found) <= set(allowed)


def _texts(values: object) -> TypeGuard[Sequence[str]]:
    return isinstance(values, list | tuple) and all(type(value) is str for value in values)


def _unique(frame: pd.DataFrame, expectation: Expectation) -> bool:
    names = getattr(expectation, "column_list", None) or [getattr(expectation, "column", None)]
    if not _present(frame, *names):
        return False
    # Rows that Great Expectations leaves out, as those without a value, count too: it is stricter.
    return not frame.duplicated(subset=list(names)).any()


def _in_order(frame: pd.DataFrame, expectation: Expectation) -> bool:
    import pandas as pd

    names = [getattr(expectation, name, None) for name in ("column_A", "column_B")]
    if not _present(frame, *names):
        return False
    if getattr(expectation, "ignore_row_if", None) != "either_value_is_missing":
        return False
    later, earlier = (frame[name] for name in names)
    instants = all(pd.api.types.is_datetime64_any_dtype(of.dtype) for of in (later, earlier))
    if not instants or later.dtype != earlier.dtype:
        return False
    either = later.isna() | earlier.isna()
    holds = later >= earlier if getattr(expectation, "or_equal", None) is True else later > earlier
    return bool((holds | either).all())
