"""Great Expectations' own conditions on rows, evaluated without the plan that it makes of a suite.

A suite is resolved into a graph of metrics, which costs 4 ms an expectation before the first row
is read. Where an expectation is about rows, one metric of the graph says which rows break it.
Evaluated directly, it tells in a tenth of the time that all is well, which is so on almost every
day. Where it is not, or the condition alone does not say, the expectation is left to Great
Expectations as a whole, which finds the rows and words the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import Expectation

# Of these alone is it known that they judge by their condition; a subclass may judge otherwise.
_KNOWN_MODULES = "great_expectations.expectations.core."

# None where there is one batch, in memory, as here.
_OF_BATCHES = {"batch_id", "table"}


def met(frame: pd.DataFrame, expectations: Mapping[int, Expectation]) -> set[int]:
    """The numbers of those expectations of which the condition alone says that ``frame`` meets
    them. Of the others it is not known.
    """
    from great_expectations.execution_engine.pandas_batch_data import PandasBatchData
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine

    engine = PandasExecutionEngine()
    engine.load_batch_data("rows", PandasBatchData(engine, frame))
    columns = [str(column) for column in frame.columns]
    return {n for n, e in expectations.items() if _is_met(engine, columns, e)}


def _is_met(engine: PandasExecutionEngine, columns: list[str], expectation: Expectation) -> bool:
    import numpy as np
    from great_expectations.expectations.expectation import ColumnMapExpectation
    from great_expectations.expectations.registry import get_metric_provider

    metric = cast("str | None", getattr(expectation, "map_metric", None))
    if metric is None or not type(expectation).__module__.startswith(_KNOWN_MODULES):
        return False
    name = f"{metric}.condition"
    try:
        domain, values = _arguments(name, expectation)
        provider, function = get_metric_provider(name, engine)
        broken, *_ = function(
            cls=provider,
            execution_engine=engine,
            metric_domain_kwargs=domain,
            metric_value_kwargs=values,
            metrics={"table.columns": columns},
            runtime_configuration={},
        )
        count = int(np.count_nonzero(broken))
    except Exception:  # noqa: BLE001 - what cannot be evaluated is judged, and told of, as a whole
        return False
    if count == 0:
        return True
    # A row condition leaves out rows that an expectation's share is about.
    if not isinstance(expectation, ColumnMapExpectation) or expectation.row_condition is not None:
        return False
    # As Great Expectations has it, of the rows that have a value.
    return (len(broken) - count) / len(broken) >= float(getattr(expectation, "mostly", 1))


def _arguments(
    metric: str, expectation: Expectation
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """What the metric ``metric`` is told of the expectation: its rows and columns, and its limits.

    They are the expectation's fields of the same names, where it has them all. Asking it for its
    configuration takes longer than most conditions.
    """
    from great_expectations.expectations.registry import get_metric_kwargs

    keys = get_metric_kwargs(metric)
    fields = {*keys["metric_domain_keys"], *keys["metric_value_keys"]} - _OF_BATCHES
    if getattr(expectation, "row_condition", None) is not None or not all(
        hasattr(expectation, field) for field in fields
    ):
        of = get_metric_kwargs(metric, expectation.configuration)
        return of["metric_domain_kwargs"], of["metric_value_kwargs"]
    domain = {key: getattr(expectation, key, None) for key in keys["metric_domain_keys"]}
    return domain, {key: getattr(expectation, key) for key in keys["metric_value_keys"]}
