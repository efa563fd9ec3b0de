"""Tables of what monitoring found, one small partition a day."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, cast

from mlops_assets.core.spec import ColumnType, UseCaseSpec
from mlops_assets.lifecycle.assets import table_name

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake, WriteResult


def days_until(day: date, count: int) -> list[str]:
    """The partitions of the ``count`` days that end with ``day``."""
    return [(day - timedelta(days=n)).isoformat() for n in reversed(range(count))]


def read_present(
    spec: UseCaseSpec,
    lake: "Lake",
    name: str,
    columns: Mapping[str, ColumnType],
    partitions: Collection[str],
) -> "pl.DataFrame":
    """The rows of those of the days ``partitions`` that the table ``name`` has, in order."""
    import polars as pl

    from mlops_assets.core.schema import arrow_schema

    rows = lake.read_present(table_name(spec, name), partitions, list(columns))
    return cast(
        "pl.DataFrame",
        pl.from_arrow(arrow_schema(columns).empty_table() if rows is None else rows),
    )


def write_days(
    spec: UseCaseSpec,
    lake: "Lake",
    name: str,
    columns: Mapping[str, ColumnType],
    rows: Mapping[str, Sequence[Mapping[str, object]]],
    key: Sequence[str],
) -> "WriteResult | None":
    """Replace the days ``rows`` of the table ``name``, in one commit.

    A day without rows leaves the table. None when no day has rows.
    """
    import polars as pl

    from mlops_assets.core.schema import conform

    table = table_name(spec, name)
    gone = [day for day, found in rows.items() if not found]
    if gone:
        lake.remove(table, gone)
    tables = {
        day: conform(
            pl.DataFrame(list(found), schema=list(columns), infer_schema_length=None),
            columns,
            f"table {table}",
        )
        for day, found in rows.items()
        if found
    }
    return lake.write(table, tables, key) if tables else None


def last_champion(answers: "pl.DataFrame") -> int | None:
    """The version that answered last as champion; None when none did.

    ``answers`` has ``asked_at``, ``role`` and ``model_version``.
    """
    import polars as pl

    as_champion = answers.filter(pl.col("role") == "champion").sort("asked_at", "model_version")
    return None if as_champion.is_empty() else int(as_champion["model_version"][-1])
