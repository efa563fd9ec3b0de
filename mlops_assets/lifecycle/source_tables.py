"""Datasets and feature views straight from the sources, in memory, without a lake.

A replay asks about days that the lake does not have yet, and a backtest about a whole year: both
need the rows that the stages would compute one day, when everything is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.spec import EVENT_TIME, UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.assets import table_name, view_lookback_days
from mlops_assets.lifecycle.datasets import source_rows
from mlops_assets.lifecycle.feature_views import view_rows
from mlops_assets.lifecycle.tables import Tables

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.core.quality import Suite

_UNDATED = "all"


@dataclass(frozen=True)
class _InMemory:
    """Rows by table and partition."""

    tables: "dict[str, Mapping[str, pa.Table]]" = field(default_factory=dict)

    def read(self, table: str, partitions: Sequence[str] | None = None) -> "pa.Table":
        """The rows of ``partitions`` (default: all), in their order."""
        import pyarrow as pa

        found = self.tables.get(table, {})
        wanted = list(found) if partitions is None else sorted(partitions)
        missing = [partition for partition in wanted if partition not in found]
        if missing or not wanted:
            raise MissingPartitionsError(
                f"table {table} was not read from its source for {', '.join(missing[:1]) or 'any'} "
                "day: choose a window that covers it"
            )
        return pa.concat_tables(found[partition] for partition in wanted)


def tables_from_sources(spec: UseCaseSpec, functions: Functions, window: Window) -> Tables:
    """What the events of ``window`` need, computed as the stages do, from all that sources know.

    Rows that break a quarantine rule are left out, as in the lake; other expectations refuse
    nothing here, and a day for which a source has no rows is empty. Features hold, as in the lake,
    with the time at which they became known: joined point-in-time they are what could be known.

    O(rows), in memory: a view's function is called once, for all days.
    """
    from mlops_assets.core.schema import split_by_day

    memory = _InMemory()
    views = {
        name: _since(spec, window, view_lookback_days(view)) if view.partitioned else None
        for name, view in spec.feature_views.items()
    }
    for name, dataset in spec.datasets.items():
        days: Window | None = None
        if dataset.partitioned:
            readers = [
                (views[reader] or window).with_lookback(view.lookback_days).first
                for reader, view in spec.feature_views.items()
                if name in view.datasets
            ]
            first = min([window.first, *readers])
            days = _since(spec, window, (window.first - first) // timedelta(days=1))
        memory.tables[table_name(spec, name)] = _dataset(spec, functions, name, days)
    for name, days in views.items():
        table = table_name(spec, name)
        rows = view_rows(spec, functions, name, memory, days)
        memory.tables[table] = (
            {_UNDATED: rows} if days is None else split_by_day(rows, EVENT_TIME, days, table)
        )
    return memory


def _since(spec: UseCaseSpec, window: Window, lookback_days: int) -> Window:
    """``window`` and the days before it, from the use case's first day on."""
    first = max(spec.start, window.with_lookback(lookback_days).first)
    return Window(min(first, window.first), window.end, window.timezone)


def _dataset(
    spec: UseCaseSpec, functions: Functions, name: str, days: Window | None
) -> Mapping[str, "pa.Table"]:
    """The sound rows of a dataset by partition, in the lake's order."""
    from mlops_assets.adapters.validation.quarantine import is_quarantine, sift, without
    from mlops_assets.core.schema import split_by_day

    dataset = spec.datasets[name]
    rows = source_rows(spec, functions, name, days)
    key = [(column, "ascending") for column in dataset.key]
    if days is None or dataset.event_time is None:
        partitions = {_UNDATED: rows.sort_by(key)}
    else:
        partitions = split_by_day(rows, dataset.event_time, days, table_name(spec, name))
        partitions = {day: part.sort_by(key) for day, part in partitions.items()}
    if dataset.suite is None:
        return partitions
    suite = cast("Suite", functions.resolve(dataset.suite)())
    gone: dict[str, set[int]] = {}
    for _, finding in sift(partitions, [rule for rule in suite.rows if is_quarantine(rule)]):
        for partition, numbers in finding.rows.items():
            gone.setdefault(partition, set()).update(numbers)
    return {
        partition: without(part, gone[partition]) if partition in gone else part
        for partition, part in partitions.items()
    }
