"""Judges partitions with Great Expectations, each by itself, in as few passes as that takes.

A batch costs Great Expectations some 8 ms and an expectation 4 ms before the first row is read. So
what a condition alone says is met is not judged again (:mod:`.conditions`), and partitions are
judged together wherever one pass over all of them says the same as a pass over each:
an expectation about single rows, or one that can only get easier to meet with fewer rows. What
does not hold together, and what describes a population (a mean, a row count), is judged for each
partition alone. A partition's verdict therefore never depends on what it is validated with.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from mlops_assets.adapters.validation.conditions import met
from mlops_assets.adapters.validation.frames import comparable, frame_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.expectations.expectation import Expectation

# Row-level by form, but a row's verdict depends on all others: fewer rows may break them.
_OF_POPULATION = {"column_values.z_score.under_threshold", "column_values.not_outliers"}
# A row's verdict depends on some others: rows of another partition may break them, never mend them.
_OF_NEIGHBOURS = {"column_values.increasing", "column_values.decreasing"}
UNIQUENESS = {"column_values.unique", "compound_columns.unique"}


@dataclass(frozen=True)
class Finding:
    """Where one expectation does not hold. Empty when it holds everywhere."""

    rows: dict[str, list[int]] = field(default_factory=dict)
    """Partition → positions of its rows that break it, ascending."""
    failed: dict[str, str] = field(default_factory=dict)
    """Partition → what was observed, where it is not about single rows."""
    raised: dict[str, str] = field(default_factory=dict)
    """Partition → why it could not be judged."""

    @property
    def partitions(self) -> list[str]:
        """Every partition concerned, in key order."""
        return sorted({*self.rows, *self.failed, *self.raised})


@dataclass(frozen=True)
class _Outcome:
    """What Great Expectations says of one expectation on one frame; ``rows`` are index labels."""

    success: bool
    rows: list[int] | None
    observed: str
    message: str


def map_metric(expectation: Expectation) -> str | None:
    """The metric of an expectation about rows, None for one about a table or a whole column."""
    return getattr(expectation, "map_metric", None)


def strict(expectation: Expectation) -> Expectation:
    """The same expectation, met only when every row meets it (``mostly`` 1)."""
    return expectation.copy(update={"mostly": 1.0} if map_metric(expectation) else {})


def judge(
    tables: Mapping[str, pa.Table], expectations: Sequence[Expectation]
) -> tuple[Finding, ...]:
    """Each expectation's finding on each partition, judged as if that partition were alone.

    A partition of 0 rows meets every expectation about values; those about the table are judged.
    A float's NaN counts as missing, as null does. Findings are in the order of ``expectations``.
    """
    findings = tuple(Finding() for _ in expectations)
    if expectations and tables:
        batches = _batches()
        for alike in _alike(tables):
            _judge_alike(alike, expectations, findings, batches)
    return findings


def _alike(tables: Mapping[str, pa.Table]) -> Iterable[dict[str, pa.Table]]:
    """Partitions grouped by their columns and types, in key order."""
    groups: list[dict[str, pa.Table]] = []
    for key in sorted(tables):
        for group in groups:
            if next(iter(group.values())).schema.equals(tables[key].schema):
                group[key] = tables[key]
                break
        else:
            groups.append({key: tables[key]})
    return groups


def _judge_alike(
    tables: dict[str, pa.Table],
    expectations: Sequence[Expectation],
    findings: Sequence[Finding],
    batches: BatchDefinition,
) -> None:
    """Adds to ``findings`` what ``tables``, which have one schema, break."""
    import numpy as np

    frame = frame_of(list(tables.values()))
    stops = np.cumsum([table.num_rows for table in tables.values()])
    starts = dict(zip(tables, (0, *stops[:-1].tolist()), strict=True))
    together = {n: strict(e) for n, e in enumerate(expectations) if _worth_a_pass(e, len(tables))}
    alone = {
        key: {
            n
            for n, expectation in enumerate(expectations)
            if n not in together
            and (table.num_rows or expectation.expectation_type.startswith("expect_table_"))
        }
        for key, table in tables.items()
    }

    for n, outcome in _evaluate(frame, together, batches).items():
        expectation = expectations[n]
        if outcome.success:
            continue
        if _about_columns(expectation):
            for key in tables:
                _record(findings[n], key, outcome, 0)
        elif outcome.rows is None:
            for key in tables:
                alone[key].add(n)
        else:
            owners = np.searchsorted(stops, outcome.rows, side="right").tolist()
            keys = list(tables)
            for row, owner in zip(outcome.rows, owners, strict=True):
                key = keys[owner]
                if _about_one_row(expectation):
                    findings[n].rows.setdefault(key, []).append(row - starts[key])
                else:
                    alone[key].add(n)

    for key, table in tables.items():
        part = frame.iloc[starts[key] : starts[key] + table.num_rows]
        left = {n: expectations[n] for n in sorted(alone[key])}
        for n, outcome in _evaluate(part, left, batches).items():
            _record(findings[n], key, outcome, starts[key])


def _worth_a_pass(expectation: Expectation, partitions: int) -> bool:
    """Whether to judge all partitions at once first: one says by itself what all of them would."""
    return _judged_together(expectation) and (partitions > 1 or _about_one_row(expectation))


def _judged_together(expectation: Expectation) -> bool:
    """Whether an expectation that every row meets over all partitions is met in each of them."""
    metric = map_metric(expectation)
    return (metric is not None and metric not in _OF_POPULATION) or _about_columns(expectation)


def _about_columns(expectation: Expectation) -> bool:
    """Whether it judges only which columns there are, the same for all partitions of a schema."""
    kind = expectation.expectation_type
    return kind.startswith("expect_table_column") or kind == "expect_column_to_exist"


def _about_one_row(expectation: Expectation) -> bool:
    """Whether each row is judged by itself and each one counts."""
    several = map_metric(expectation) in _OF_NEIGHBOURS | UNIQUENESS
    return not several and getattr(expectation, "mostly", 1) == 1


def _record(finding: Finding, key: str, outcome: _Outcome, start: int) -> None:
    if outcome.success:
        return
    if outcome.message:
        finding.raised[key] = outcome.message
    elif outcome.rows:
        finding.rows[key] = [row - start for row in outcome.rows]
    else:
        finding.failed[key] = outcome.observed


@cache
def _batches() -> BatchDefinition:
    """Where frames are handed to Great Expectations: in memory, silent, talking to nobody.

    Made once: a context costs as much as validating a day does.
    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    # Failures come back as results; its own log would repeat each one with a traceback.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
    )
    asset = context.data_sources.add_pandas("partitions").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("all")


def _evaluate(
    frame: pd.DataFrame, expectations: Mapping[int, Expectation], batches: BatchDefinition
) -> dict[int, _Outcome]:
    """Runs numbered expectations on a frame, in the order of their numbers."""
    across = {n: e for n, e in expectations.items() if map_metric(e) and not hasattr(e, "column")}
    within = {n: e for n, e in expectations.items() if n not in across}
    plain = comparable(frame) if across else frame
    parts = [(frame, expectations)] if plain is frame else [(frame, within), (plain, across)]
    outcomes: dict[int, _Outcome] = {}
    for rows, some in parts:
        sound = met(rows, some)
        outcomes |= dict.fromkeys(sound, _Outcome(True, None, "", ""))
        outcomes |= _pass(rows, {n: e for n, e in some.items() if n not in sound}, batches)
    return dict(sorted(outcomes.items()))


def _pass(
    frame: pd.DataFrame, expectations: Mapping[int, Expectation], batches: BatchDefinition
) -> dict[int, _Outcome]:
    if not expectations:
        return {}
    import great_expectations as gx

    # Results come back in an order of their own: each carries its number.
    suite = gx.ExpectationSuite(
        name="partitions",
        expectations=[
            expectation.copy(update={"id": None, "meta": {"number": n}})
            for n, expectation in expectations.items()
        ],
    )
    fields = {
        "result_format": "COMPLETE",
        "exclude_unexpected_values": True,
        "return_unexpected_index_query": False,
    }
    try:
        results = batches.get_batch({"dataframe": frame}).validate(suite, result_format=fields)
    except Exception as error:  # noqa: BLE001 - a suite that cannot run is a finding, not a crash
        message = f"{type(error).__name__}: {error}"
        return {n: _Outcome(False, None, "", message) for n in expectations}
    outcomes = {n: _Outcome(False, None, "", "no result came back") for n in expectations}
    for result in results.results:
        configuration = result.expectation_config
        if configuration is not None and configuration.meta is not None:
            outcomes[configuration.meta["number"]] = _outcome(result)
    return outcomes


def _outcome(result: ExpectationValidationResult) -> _Outcome:
    message = _exception(result.exception_info or {})
    details = result.result or {}
    rows = details.get("unexpected_index_list")
    observed = details.get("observed_value")
    if observed is None:
        observed = details.get("details", "no value")
    return _Outcome(
        success=bool(result.success) and not message,
        rows=None if rows is None else sorted(int(row) for row in rows),
        observed=f"observed {observed}",
        message=message,
    )


def _exception(info: Mapping[str, object]) -> str:
    """The message of what was raised, "" for nothing: one record, or one for each metric."""
    if info.get("raised_exception"):
        return str(info.get("exception_message") or "it raised without a message")
    nested = (_exception(part) for part in info.values() if isinstance(part, dict))
    return "; ".join(sorted({message for message in nested if message}))
