"""Write-audit-publish: partitions are validated before they are published.

Great Expectations judges; this module decides what each verdict means for a partition. Rows that
break a quarantine rule move aside first, and everything else is judged on what would be published.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from mlops_assets.adapters.validation.engine import Finding, judge
from mlops_assets.adapters.validation.quarantine import (
    check_columns,
    check_marks,
    is_quarantine,
    side_table,
    sift,
    without,
)
from mlops_assets.adapters.validation.report import (
    EXAMPLES,
    ExpectationResult,
    columns_of,
    examples_of,
    name_of,
    shorten,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from great_expectations.expectations.expectation import Expectation

    from mlops_assets.core.quality import Suite

_BEFORE = 28  # partitions that make up the usual row count: four weeks of days
_BEFORE_LEAST = 3  # a median of fewer says more about chance than about the table


@dataclass(frozen=True)
class ValidationResult:
    """What may be published and what may not. Every partition is accepted or refused."""

    accepted: dict[str, pa.Table]
    """Partition → its rows that go on, in their order."""
    quarantined: pa.Table
    """Rows of accepted partitions that were moved aside, with ``_partition`` and ``reason``."""
    refused: dict[str, tuple[str, ...]]
    """Partition → why nothing of it may be published."""
    expectations: tuple[ExpectationResult, ...]
    """In the order of the suite, rows before partitions."""


def validate(
    partitions: Mapping[str, pa.Table],
    suite: Suite,
    history: Mapping[str, int],
    quarantine_limit: float,
    key: Sequence[str],
) -> ValidationResult:
    """Validates partitions against a suite; each verdict is the one the partition gets alone.

    ``suite.rows`` are judged on rows. ``suite.partitions`` are judged on one row per partition:
    ``partition``, ``rows``, ``rows_before`` (median rows of up to 28 partitions before it in key
    order, null when fewer than 3 are known) and ``rows_ratio`` = rows / rows_before (null when that
    is unknown or 0). ``history`` has the published partitions' row counts; a partition that is
    validated now counts with its new rows. ``key`` names the columns that identify a row in
    examples.

    Rows that break an expectation with ``meta=QUARANTINE`` move aside, whatever its ``mostly`` and
    severity; more than ``quarantine_limit`` (share, 0 to 1) of a partition's rows refuses it. Of
    exact copies that break a uniqueness rule one stays. Rows that agree on the unique columns but
    differ elsewhere all move, because nothing says which is right. Other expectations are judged on
    the rows that stay. A failure of severity critical refuses the partitions concerned, warning
    and info do not; an expectation that raises refuses them whatever its severity.

    Raises PermanentError for a quarantine mark on an expectation that cannot name rows, SchemaError
    for a column that the quarantine table needs for itself.
    """
    check_marks(suite)
    partitions = {name: partitions[name] for name in sorted(partitions)}
    refusals: dict[str, list[str]] = {name: [] for name in partitions}

    sifting = [n for n, e in enumerate(suite.rows) if is_quarantine(e)]
    if sifting:
        check_columns(partitions)
    sifted = sift(partitions, [suite.rows[n] for n in sifting])
    moved: dict[str, set[int]] = {}
    for _, finding in sifted:
        for name, rows in finding.rows.items():
            moved.setdefault(name, set()).update(rows)
    kept = {
        name: without(table, moved[name]) if name in moved else table
        for name, table in partitions.items()
    }
    for name, numbers in moved.items():
        rows, total = len(numbers), partitions[name].num_rows
        if rows > quarantine_limit * total:
            rules = [f"{name_of(e)}: {len(f.rows[name])} rows" for e, f in sifted if name in f.rows]
            refusals[name].append(
                f"{rows} of {total} rows ({rows / total:.2%}) break quarantine rules, more than "
                f"the limit of {quarantine_limit:.2%}: {'; '.join(rules)}"
            )

    judged = [n for n in range(len(suite.rows)) if n not in sifting]
    found = dict(zip(judged, judge(kept, [suite.rows[n] for n in judged]), strict=True))
    found |= {n: finding for n, (_, finding) in zip(sifting, sifted, strict=True)}
    results: list[ExpectationResult] = []
    for n, expectation in enumerate(suite.rows):
        tables = partitions if n in sifting else kept
        results.append(_result(expectation, found[n], tables, key))
        _refuse(expectation, found[n], tables, key, refusals)

    profile = _profile({name: table.num_rows for name, table in kept.items()}, history)
    sizes = ("rows", "rows_before", "rows_ratio")
    for expectation, finding in zip(
        suite.partitions, judge(profile, suite.partitions), strict=True
    ):
        results.append(_result(expectation, finding, profile, sizes))
        _refuse(expectation, finding, profile, sizes, refusals)

    refused = {name: tuple(reasons) for name, reasons in refusals.items() if reasons}
    return ValidationResult(
        accepted={name: table for name, table in kept.items() if name not in refused},
        quarantined=side_table(partitions, moved, sifted, refused),
        refused=refused,
        expectations=tuple(results),
    )


def _profile(rows: Mapping[str, int], history: Mapping[str, int]) -> dict[str, pa.Table]:
    """One row per partition: its size beside the usual size before it."""
    import pyarrow as pa

    schema = pa.schema(
        [
            ("partition", pa.string()),
            ("rows", pa.int64()),
            ("rows_before", pa.float64()),
            ("rows_ratio", pa.float64()),
        ]
    )
    known = {**history, **rows}
    order = sorted(known)
    profile: dict[str, pa.Table] = {}
    for name, count in rows.items():
        at = bisect_left(order, name)
        sizes = [known[other] for other in order[max(0, at - _BEFORE) : at]]
        before = float(median(sizes)) if len(sizes) >= _BEFORE_LEAST else None
        ratio = count / before if before else None
        row = {"partition": name, "rows": count, "rows_before": before, "rows_ratio": ratio}
        profile[name] = pa.Table.from_pylist([row], schema=schema)
    return profile


def _result(
    expectation: Expectation, finding: Finding, tables: Mapping[str, pa.Table], key: Sequence[str]
) -> ExpectationResult:
    concerned = finding.partitions
    return ExpectationResult(
        name=name_of(expectation),
        type=expectation.expectation_type,
        columns=columns_of(expectation),
        severity="critical" if finding.raised else expectation.severity.value,
        quarantine=is_quarantine(expectation),
        success=not concerned,
        checked=sum(table.num_rows for table in tables.values()),
        unexpected=sum(map(len, finding.rows.values())) + len(finding.failed),
        examples=tuple(_examples(expectation, finding, tables, key)),
        partitions=tuple(concerned[:EXAMPLES]),
        concerned=len(concerned),
        message=finding.raised[min(finding.raised)] if finding.raised else "",
    )


def _examples(
    expectation: Expectation, finding: Finding, tables: Mapping[str, pa.Table], key: Sequence[str]
) -> list[str]:
    """The first rows or observations that break it, over partitions in key order."""
    examples: list[str] = []
    for name in finding.partitions:
        if name in finding.rows:
            rows = finding.rows[name]
            shown = examples_of(tables[name], rows, columns_of(expectation), key)
            examples += [f"{name}: {example}" for example in shown]
        elif name in finding.failed:
            examples.append(f"{name}: {shorten(finding.failed[name])}")
        if len(examples) >= EXAMPLES:
            break
    return examples[:EXAMPLES]


def _refuse(
    expectation: Expectation,
    finding: Finding,
    tables: Mapping[str, pa.Table],
    key: Sequence[str],
    refusals: Mapping[str, list[str]],
) -> None:
    """Adds the reasons that one expectation gives to refuse partitions."""
    rule = name_of(expectation)
    for name, message in finding.raised.items():
        refusals[name].append(f"{rule}: could not be judged: {message}")
    aside = is_quarantine(expectation)
    if not aside and expectation.severity.value != "critical":
        return
    for name, observed in finding.failed.items():
        refusals[name].append(f"{rule}: {shorten(observed, 300)}")
    for name, rows in () if aside else finding.rows.items():
        example = examples_of(tables[name], rows[:1], columns_of(expectation), key)[0]
        total = tables[name].num_rows
        # The profile of a partition is one row: its example says it all.
        share = f"{len(rows)} of {total} rows, e.g. " if total > 1 else ""
        refusals[name].append(f"{rule}: {share}{example}")
