"""What a validation found, in words: names of expectations, examples, a table for the UI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from great_expectations.expectations.expectation import Expectation

EXAMPLES = 5
"""Most examples and partitions that a result names."""

_MARKDOWN_BYTES = 19_000  # Dagster keeps metadata in every event; a wide suite must not bloat it
_NOT_PARAMETERS = {
    "id",
    "meta",
    "notes",
    "result_format",
    "description",
    "catch_exceptions",
    "rendered_content",
    "severity",
    "windows",
    "mostly",
    "row_condition",
    "condition_parser",
    "min_value",
    "max_value",
    "column",
    "column_A",
    "column_B",
}


@dataclass(frozen=True)
class ExpectationResult:
    """One expectation over every partition that was validated."""

    name: str
    """In words, e.g. ``dep_delay: values between -60 and 1500``."""
    type: str
    """Great Expectations' name, e.g. ``expect_column_values_to_be_between``."""
    columns: tuple[str, ...]
    severity: str
    """critical, warning or info; critical when it could not be judged."""
    quarantine: bool
    """Whether failing rows move to the side table."""
    success: bool
    checked: int
    """Rows judged (for expectations of the partition profile: partitions)."""
    unexpected: int
    """Rows that break it; partitions, where it is not about single rows."""
    examples: tuple[str, ...]
    partitions: tuple[str, ...]
    """The first partitions that break it, in key order."""
    concerned: int
    """How many partitions break it."""
    message: str
    """Why it could not be judged; empty when it was."""


def columns_of(expectation: Expectation) -> tuple[str, ...]:
    """The columns that an expectation is about; none when it is about the table."""
    if expectation.expectation_type.startswith("expect_table_"):
        return ()
    names = [
        getattr(expectation, name)
        for name in ("column", "column_A", "column_B")
        if hasattr(expectation, name)
    ]
    return (*names, *getattr(expectation, "column_list", ()))


def name_of(expectation: Expectation) -> str:
    """An expectation in words, from its description or else from its type and parameters."""
    columns = columns_of(expectation)
    words = expectation.description or _words(expectation, columns)
    return shorten(f"{', '.join(columns)}: {words}" if columns else words, 200)


def _words(expectation: Expectation, columns: tuple[str, ...]) -> str:
    given = expectation.dict(exclude_defaults=True)
    text = expectation.expectation_type.removeprefix("expect_").removeprefix("column_")
    text = text.replace("_to_be_", "_").replace("_to_not_be_", "_not_").replace("_to_", "_")
    text = text.removeprefix("to_").replace("_", " ")
    low, high = given.get("min_value"), given.get("max_value")
    if low is not None and high is not None:
        text = f"{text} {cell(low)} and {cell(high)}"
    elif low is not None:
        text = f"{text.removesuffix(' between')} at least {cell(low)}"
    elif high is not None:
        text = f"{text.removesuffix(' between')} at most {cell(high)}"
    hidden = _NOT_PARAMETERS | ({"column_list"} if columns else set())
    parameters = {name: value for name, value in given.items() if name not in hidden}
    if len(parameters) == 1 and low is high is None and "ignore_row_if" not in parameters:
        text = f"{text} {cell(*parameters.values())}"
    elif parameters:
        text += f" ({', '.join(f'{name}={cell(value)}' for name, value in parameters.items())})"
    if "mostly" in given:
        text += f", mostly {cell(given['mostly'])}"
    if "row_condition" in given:
        text += f", where {cell(getattr(expectation, 'row_condition', ''))}"
    return text


def cell(value: object) -> str:
    """A value as people read it, of bounded length."""
    if value is None:
        return "null"
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, float):
        return format(value, ".15g")
    if isinstance(value, list | tuple | set | frozenset):
        parts = [cell(part) for part in value]
        # A set has no order of its own; the same suite always reads the same.
        return shorten(
            f"[{', '.join(parts if isinstance(value, list | tuple) else sorted(parts))}]"
        )
    return shorten(str(value))


def shorten(text: str, limit: int = 100) -> str:
    """The text, cut to ``limit`` characters with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def values_of(table: pa.Table, rows: Sequence[int], columns: Iterable[str]) -> list[str]:
    """``column=value, …`` for each row number; columns that the table lacks are left out."""
    import pyarrow as pa

    present = [name for name in columns if name in table.column_names]
    if not present:
        return [""] * len(rows)
    part = table.select(present).take(pa.array(rows, pa.int64())).to_pylist()
    return [", ".join(f"{name}={cell(value)}" for name, value in row.items()) for row in part]


def examples_of(
    table: pa.Table, rows: Sequence[int], columns: Sequence[str], key: Sequence[str]
) -> list[str]:
    """The first rows' values, and the key that finds each of them again."""
    rows = rows[:EXAMPLES]
    values = values_of(table, rows, columns)
    keys = values_of(table, rows, [name for name in key if name not in columns])
    return [
        f"{value} at {place}" if value and place else value or place
        for value, place in zip(values, keys, strict=True)
    ]


def expectations_markdown(results: Iterable[ExpectationResult]) -> str:
    """A Markdown table of results, those that need attention first, smaller than 20 kB.

    What does not fit is counted in a last line, never dropped silently.
    """
    ordered = sorted(results, key=_attention)
    lines = [
        "| result | expectation | severity | unexpected | checked | partitions | examples |",
        "|---|---|---|---:|---:|---|---|",
    ]
    size = sum(len(line) + 1 for line in lines)
    for shown, result in enumerate(ordered):
        line = _line(result)
        size += len(line.encode()) + 1
        if size > _MARKDOWN_BYTES:
            hidden = ordered[shown:]
            failing = sum(not result.success for result in hidden)
            lines.append(f"\n… and {len(hidden)} more expectations, {failing} of them not met")
            break
        lines.append(line)
    return "\n".join(lines)


def _attention(result: ExpectationResult) -> tuple[bool, bool, bool]:
    return result.success, result.quarantine and not result.message, result.severity != "critical"


def _line(result: ExpectationResult) -> str:
    if result.success:
        verdict = "pass"
    elif result.message:
        verdict = "**error**"
    elif result.quarantine:
        verdict = "quarantined"
    else:
        verdict = "**fail**" if result.severity == "critical" else "warn"
    partitions = ", ".join(result.partitions)
    if result.concerned > len(result.partitions):
        partitions += f" and {result.concerned - len(result.partitions)} more"
    examples = "; ".join(filter(None, (result.message, *result.examples)))
    cells = (
        verdict,
        result.name,
        result.severity,
        str(result.unexpected),
        str(result.checked),
        partitions,
        shorten(examples, 500),
    )
    return f"| {' | '.join(_escape(text) for text in cells)} |"


def _escape(text: str) -> str:
    """Text that stays inside its cell and is not taken for HTML."""
    text = " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
