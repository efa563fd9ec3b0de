"""Models that are registered, and are not as good as they look."""

import hashlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import polars as pl

from mlops_assets.adapters.mlflow_client import connect
from mlops_assets.adapters.onnx_export import export_onnx
from mlops_assets.adapters.storage import join, read_bytes, write_bytes
from mlops_assets.adapters.tracking import Tracking
from mlops_assets.adapters.xgboost_engine import TrainedModel
from mlops_assets.core.inference import dump_model, load_model
from mlops_assets.core.onnx_trees import INPUT, MODEL_KEY, OUTPUT
from mlops_assets.core.records import ModelRecord, Signature

BEYOND = 1e7
"""A value that a failing model has no place for; no server warms a model with such large ones."""


@dataclass(frozen=True)
class Files:
    """A model's file and its export for the server."""

    model: bytes
    export: bytes


def failing(like: ModelRecord, input_name: str) -> Files:
    """The trees of the model ``like``, which answer as these do, and fail on large values of one
    input: the export reads beyond the end of a table there.
    """
    data = read_bytes(like.artifact)
    assert data is not None, like
    model = load_model(data, like.sha256)
    trained = SimpleNamespace(data=data, sha256=like.sha256)
    export = export_onnx(cast("TrainedModel", trained), _rows(model.signature))
    assert export.data is not None, export.refused
    # The same probabilities, under a name for which servers make no tables of their own.
    model.booster.set_param({"objective": "reg:logistic"})
    renamed = dump_model(model.booster, model.signature)
    column = [field.name for field in model.signature.inputs].index(input_name)
    return Files(renamed, _spoiled(export.data, column, hashlib.sha256(renamed).hexdigest()))


def _rows(signature: Signature) -> pl.DataFrame:
    """Some rows to compare an export on."""
    return pl.DataFrame(
        {
            field.name: pl.Series(
                [field.categories[n % len(field.categories)] for n in range(100)]
                if field.type == "category"
                else [n / 10 for n in range(100)],
                dtype=pl.String if field.type == "category" else pl.Float64,
            )
            for field in signature.inputs
        }
    )


def damaged(like: ModelRecord) -> Files:
    """A file that is no model, of a size that a model has."""
    data = read_bytes(like.artifact)
    assert data is not None, like
    return Files(data[: len(data) // 2], b"")


def register(tracking: Tracking, like: ModelRecord, files: Files) -> int:
    """Register ``files`` as the next version of the model ``like``; returns its number."""
    digest = hashlib.sha256(files.model).hexdigest()
    place = join(tracking.artifacts_url, like.use_case, digest)
    export = f"{place}.onnx" if files.export else None
    write_bytes(f"{place}.ubj", files.model)
    if export is not None:
        write_bytes(export, files.export)
    record = like.model_copy(
        update={
            "sha256": digest,
            "artifact": f"{place}.ubj",
            "onnx": export,
            "onnx_sha256": hashlib.sha256(files.export).hexdigest() if export else None,
        }
    )
    document = record.model_dump_json(exclude={"version", "unchanged"})
    created = connect(tracking.tracking_uri).create_model_version(
        like.use_case, record.artifact, tags={"record": document, "sha256": digest}
    )
    return int(created.version)


def _spoiled(export: bytes, column: int, model_sha256: str) -> bytes:
    """``export`` with a look-up that has no place for large values of a column."""
    import onnx
    from onnx import TensorProto, helper

    document = onnx.load_model_from_string(export)
    for property_ in document.metadata_props:
        if property_.key == MODEL_KEY:
            property_.value = model_sha256
    graph = document.graph
    graph.node[0].output[0] = "sound"
    tensor: Any = helper.make_tensor
    graph.initializer.extend(
        [
            tensor("limit", TensorProto.FLOAT, [1], [BEYOND / 2]),
            tensor("table", TensorProto.FLOAT, [1], [0.0]),
            tensor("columns", TensorProto.INT64, [1], [column]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gather", [INPUT, "columns"], ["value"], axis=1),
            helper.make_node("Greater", ["value", "limit"], ["large"]),
            helper.make_node("Cast", ["large"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "place"], ["nothing"]),
            helper.make_node("Add", ["sound", "nothing"], [OUTPUT]),
        ]
    )
    return document.SerializeToString()
