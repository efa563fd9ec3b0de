"""Feast's historical retrieval with its local stores, on the point-in-time problem."""

# Feast is installed with the bench extra only.
# pyright: reportMissingImports=false

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import polars as pl

from mlops_assets.core.pit import View
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, KNOWN_AT

# Feast reads these when it is imported.
os.environ["FEAST_USAGE"] = "False"


@contextmanager
def feast_join(
    events: pl.DataFrame, views: Sequence[View], store: str
) -> Iterator[Callable[[], object]]:
    """A function that joins ``events`` with ``views`` and returns pandas.

    ``store`` is ``dask`` or ``duckdb``. Registry and Parquet files live in a temporary folder and
    are written before the function is given.
    """
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast import types as feast_types
    from feast.value_type import ValueType

    value_types = {pl.String: ValueType.STRING, pl.Int64: ValueType.INT64}
    field_types = {pl.String: feast_types.String, pl.Float32: feast_types.Float32}
    with tempfile.TemporaryDirectory() as folder:
        config = RepoConfig(
            project="bench",
            provider="local",
            registry=str(Path(folder) / "registry.db"),
            online_store={"type": "sqlite", "path": str(Path(folder) / "online.db")},
            offline_store={"type": store},
            entity_key_serialization_version=3,
        )
        columns = {column for view in views for column in view.entity}
        entities = {
            column: Entity(
                name=column,
                join_keys=[column],
                value_type=value_types[events.schema[column].base_type()],
            )
            for column in sorted(columns)
        }
        feast_views = []
        for view in views:
            path = Path(folder) / f"{view.name}.parquet"
            view.frame.write_parquet(path)
            schema = view.frame.schema
            feast_views.append(
                FeatureView(
                    name=view.name,
                    entities=[entities[column] for column in view.entity],
                    # Zero is no limit.
                    ttl=view.ttl or timedelta(0),
                    schema=[
                        Field(name=feature, dtype=field_types[schema[feature].base_type()])
                        for feature in view.features
                    ],
                    source=FileSource(
                        path=str(path),
                        timestamp_field=EVENT_TIME,
                        created_timestamp_column=KNOWN_AT,
                    ),
                )
            )
        feature_store = FeatureStore(config=config)
        feature_store.apply([*entities.values(), *feast_views])
        wanted = [f"{view.name}:{feature}" for view in views for feature in view.features]
        entity_frame = (
            events.select(EVENT_ID, pl.col(EVENT_TIME).alias("event_timestamp"), *sorted(columns))
        ).to_pandas()

        def join() -> object:
            return feature_store.get_historical_features(
                entity_df=entity_frame, features=wanted
            ).to_df()

        yield join
