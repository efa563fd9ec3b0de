"""The columns' types of defs.yaml as Polars knows them; imports Polars."""

from collections.abc import Mapping

import polars as pl

from mlops_assets.core.spec_names import ColumnType

POLARS_TYPES: Mapping[ColumnType, pl.DataType] = {
    "string": pl.String(),
    "bool": pl.Boolean(),
    "int32": pl.Int32(),
    "int64": pl.Int64(),
    "float32": pl.Float32(),
    "float64": pl.Float64(),
    "timestamp": pl.Datetime("us", "UTC"),
}
