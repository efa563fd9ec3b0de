"""Rows that break a quarantine rule: which ones move, and the side table that they move to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlops_assets.adapters.validation.engine import UNIQUENESS, Finding, judge, map_metric, strict
from mlops_assets.adapters.validation.frames import frame_of
from mlops_assets.adapters.validation.report import columns_of, name_of, values_of
from mlops_assets.core.errors import PermanentError, SchemaError

if TYPE_CHECKING:
    import pyarrow as pa
    from great_expectations.expectations.expectation import Expectation

    from mlops_assets.core.quality import Suite

_PARTITION, _REASON = "_partition", "reason"


def is_quarantine(expectation: Expectation) -> bool:
    """Whether rows that break it move aside instead of failing their partition."""
    return bool((expectation.meta or {}).get("quarantine"))


def check_marks(suite: Suite) -> None:
    """Refuses QUARANTINE where no row could be moved: such a rule would silently never block."""
    for expectation in suite.rows:
        if is_quarantine(expectation) and map_metric(expectation) is None:
            raise PermanentError(
                f"expectation `{name_of(expectation)}` is about a whole column or table and cannot "
                "name rows to quarantine: remove meta=QUARANTINE from it"
            )
    for expectation in suite.partitions:
        if is_quarantine(expectation):
            raise PermanentError(
                f"expectation `{name_of(expectation)}` is about partitions and has no rows to "
                "quarantine: remove meta=QUARANTINE from it, or move it to the suite's rows"
            )


def check_columns(partitions: Mapping[str, pa.Table]) -> None:
    """Refuses columns that the side table adds itself."""
    for name, table in partitions.items():
        taken = sorted({_PARTITION, _REASON} & set(table.column_names))
        if taken:
            raise SchemaError(
                f"partition {name} has a column `{taken[0]}`, which the quarantine table needs for "
                "itself: rename it in the source"
            )


def sift(
    partitions: Mapping[str, pa.Table], expectations: Sequence[Expectation]
) -> list[tuple[Expectation, Finding]]:
    """Quarantine rules and what they find; uniqueness names just the rows that have to go."""
    findings = judge(partitions, [strict(expectation) for expectation in expectations])
    rules = list(zip(expectations, findings, strict=True))
    gone: dict[str, set[int]] = {}
    for expectation, finding in rules:
        if map_metric(expectation) not in UNIQUENESS:
            for name, rows in finding.rows.items():
                gone.setdefault(name, set()).update(rows)
    # Uniqueness comes last: a row that goes for another reason leaves its twin alone.
    for expectation, finding in rules:
        if map_metric(expectation) in UNIQUENESS:
            for name, rows in list(finding.rows.items()):
                left = [row for row in rows if row not in gone.get(name, ())]
                surplus = _surplus(partitions[name], left, columns_of(expectation))
                gone.setdefault(name, set()).update(surplus)
                if surplus:
                    finding.rows[name] = surplus
                else:
                    del finding.rows[name]
    return rules


def _surplus(table: pa.Table, rows: list[int], columns: Sequence[str]) -> list[int]:
    """Of ``rows``, which share values of ``columns``: copies but one, and all that contradict."""
    import numpy as np
    import pyarrow as pa

    frame = frame_of([table.take(pa.array(rows, pa.int64()))])
    copies = frame.duplicated().to_numpy(dtype=bool)
    once = frame.loc[~copies]
    contradicting = once.duplicated(subset=list(columns), keep=False).to_numpy(dtype=bool)
    numbers = np.array(rows, dtype="int64")
    return sorted([*numbers[copies].tolist(), *numbers[~copies][contradicting].tolist()])


def without(table: pa.Table, rows: set[int]) -> pa.Table:
    """The table less some of its row numbers."""
    import numpy as np

    stay = np.ones(table.num_rows, dtype=bool)
    stay[list(rows)] = False
    return table.filter(stay)


def side_table(
    partitions: Mapping[str, pa.Table],
    moved: Mapping[str, set[int]],
    sifted: Sequence[tuple[Expectation, Finding]],
    refused: Mapping[str, tuple[str, ...]],
) -> pa.Table:
    """Rows that moved out of partitions that go on, by partition and row, each with its reasons."""
    import pyarrow as pa

    extra = [pa.field(_PARTITION, pa.string()), pa.field(_REASON, pa.string())]
    # Without any row it still has the columns, so that a caller can append it unconditionally.
    parts = [
        pa.schema([*table.schema, *extra]).empty_table() for table in list(partitions.values())[:1]
    ]
    for name in sorted(moved.keys() - refused.keys()):
        table, rows = partitions[name], sorted(moved[name])
        reasons: dict[int, list[str]] = {row: [] for row in rows}
        for expectation, finding in sifted:
            broken = finding.rows.get(name, [])
            rule = name_of(expectation)
            values = values_of(table, broken, columns_of(expectation))
            for row, value in zip(broken, values, strict=True):
                reasons[row].append(f"{rule} ({value})" if value else rule)
        added = [[name] * len(rows), ["; ".join(reasons[row]) for row in rows]]
        part = table.take(pa.array(rows, pa.int64()))
        for column, values in zip(extra, added, strict=True):
            part = part.append_column(column, pa.array(values, column.type))
        parts.append(part)
    if not parts:
        return pa.schema(extra).empty_table()
    try:
        # Partitions may differ in their columns when no rule asks for more.
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise SchemaError(
            f"partitions {', '.join(partitions)} give one column different types: {error}; "
            "cast the columns to their declared types before validation"
        ) from error
