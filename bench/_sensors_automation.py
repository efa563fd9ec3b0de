"""One process of the sensors benchmark: the declarative conditions of ``COUNT`` use cases.

Every partition of the last days is there, in an instance in ``FOLDER``: its events are reported for
one use case and copied for the others inside the database, since reporting them takes a millisecond
each.
"""

import hashlib
import json
import logging
import sqlite3
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import dagster as dg

from bench._sensors_run import Seconds, instance_in, peak_mib
from bench._sensors_state import DAYS, FIRST, functions, spec_of
from mlops_assets.lifecycle.platform import Places, resources_at
from mlops_assets.lifecycle.use_case import use_case_definitions

HISTORY_DAYS = 30
"""Of each asset: a condition looks at subsets of days, whose number hardly matters."""

START = FIRST + timedelta(days=DAYS - HISTORY_DAYS)


def measure(count: int, folder: Path) -> dict[str, object]:
    """Seconds of an evaluation of all conditions that asks for nothing: the first, and the next."""
    end = {"end": START + timedelta(days=HISTORY_DAYS)}
    specs = [spec_of(number, START).model_copy(update=end) for number in range(count)]
    definitions = dg.Definitions.merge(
        *(use_case_definitions(spec, functions()) for spec in specs),
        dg.Definitions(resources=resources_at(Places.under(folder))),
    )
    instance = instance_in(folder / "dagster")
    _report(definitions, instance, specs[0].name)
    _copy(folder / "dagster" / "events" / "index.db", count)
    taken: list[Seconds] = []
    cursor = None
    for _ in range(2):
        begun = Seconds.now()
        found = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
        taken.append(Seconds.now() - begun)
        cursor = found.cursor
        if found.total_requested:
            raise RuntimeError(f"{found.total_requested} partitions were requested: not idle")
    instance.dispose()
    return {"first": taken[0], "idle": taken[1], "mib": peak_mib()}


def _report(definitions: dg.Definitions, instance: dg.DagsterInstance, use_case: str) -> None:
    graph = definitions.resolve_asset_graph()
    for key in sorted(graph.materializable_asset_keys, key=str):
        partitions = graph.get(key).partitions_def
        if key.path[0] != use_case:
            continue
        for day in partitions.get_partition_keys() if partitions is not None else [None]:
            version = hashlib.sha256(f"{key} {day}".encode()).hexdigest()
            tags = {"dagster/data_version": version}
            event = dg.AssetMaterialization(key, partition=day, tags=tags)
            instance.report_runless_asset_event(event)


def _copy(database: Path, count: int) -> None:
    """The rows of the first use case, as those of the others."""
    with sqlite3.connect(database) as connection:
        (offset,) = connection.execute("SELECT max(id) FROM event_logs").fetchone()
        keys = connection.execute("SELECT max(id) FROM asset_keys").fetchone()[0]
        for number in range(1, count):
            for table, shifted in (
                ("event_logs", {"id": offset}),
                ("asset_event_tags", {"id": None, "event_id": offset}),
                ("asset_keys", {"id": keys}),
            ):
                _copy_rows(connection, table, shifted, number)


def _copy_rows(
    connection: sqlite3.Connection, table: str, shifted: dict[str, int | None], number: int
) -> None:
    """``shifted`` are identities, which grow by so much with each copy; None for a new one."""
    texts = {"event", "asset_key", "last_materialization"}
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    columns = [column for column in columns if shifted.get(column, 0) is not None]
    name = f"case_{number}"

    def value(column: str) -> str:
        if column in shifted:
            return f"{column} + {shifted[column]} * {number}"
        return f"replace({column}, '\"case_0\"', '\"{name}\"')" if column in texts else column

    values = ", ".join(value(column) for column in columns)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table} "  # noqa: S608
        "WHERE asset_key LIKE '%\"case_0\"%'"
    )


def main() -> None:
    """Print the measurements as JSON."""
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    print(json.dumps(measure(count, folder)))


if __name__ == "__main__":
    main()
