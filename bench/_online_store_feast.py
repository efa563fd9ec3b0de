"""Feast's online look-ups, in its own process and environment.

``PYTHON bench/_online_store_feast.py FOLDER sqlite|redis://…`` reads what the benchmark wrote to
FOLDER (``problem.json``: views with entity and features; one Parquet file for each; ``rows.json``:
the entities of each look-up), fills the store and says ``ready``. Then each line on stdin is the
place of the first look-up and how many: it answers with a JSON list of seconds. ``values`` answers
with what the first look-ups found.
"""

# Feast is installed in an environment of its own.
# pyright: reportMissingImports=false

import json
import os
import sys
import time
import warnings
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"
warnings.filterwarnings("ignore")


def main(folder: Path, store: str) -> None:
    """Serve look-ups until stdin ends."""
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, types
    from feast.value_type import ValueType

    problem = json.loads((folder / "problem.json").read_text())
    rows = json.loads((folder / "rows.json").read_text())
    online = {"type": "sqlite", "path": str(folder / "feast.db")}
    if store != "sqlite":
        online = {"type": "redis", "connection_string": store.removeprefix("redis://")}
    features = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / f"feast-{online['type']}.registry"),
            online_store=online,
            entity_key_serialization_version=3,
        )
    )
    kinds = {"float": types.Float32, "category": types.String}
    entities = {
        view["entity"]: Entity(
            name=view["entity"], join_keys=[view["entity"]], value_type=ValueType.STRING
        )
        for view in problem
    }
    views = [
        FeatureView(
            name=view["name"],
            entities=[entities[view["entity"]]],
            ttl=None,
            schema=[
                *(Field(name=name, dtype=kinds[kind]) for name, kind in view["features"].items()),
                Field(name=view["entity"], dtype=types.String),
            ],
            source=FileSource(
                path=str(folder / f"{view['name']}.parquet"), timestamp_field="event_time"
            ),
        )
        for view in problem
    ]
    features.apply([*entities.values(), *views])
    for view in problem:
        frame = pd.read_parquet(folder / f"{view['name']}.parquet")
        features.write_to_online_store(view["name"], df=frame.drop(columns=["known_at"]))
    names = [f"{view['name']}:{name}" for view in problem for name in view["features"]]
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "values":
            found = features.get_online_features(names, rows[:50]).to_dict()
            print(json.dumps(found), flush=True)
            continue
        first, count = (int(part) for part in line.split())
        taken: list[float] = []
        for row in rows[first : first + count]:
            start = time.perf_counter()
            features.get_online_features(features=names, entity_rows=[row]).to_dict()
            taken.append(time.perf_counter() - start)
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
