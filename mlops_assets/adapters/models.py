"""Model files, read by digest, and kept with their export for the server."""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.rollout_state import ServedModel

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.xgboost_engine import TrainedModel
    from mlops_assets.core.inference import Model


def read_model(use_case: str, model: ServedModel) -> "Model":
    """The registered model; DigestMismatchError when its file is not the registered one."""
    from mlops_assets.adapters.storage import read_bytes
    from mlops_assets.core.inference import load_model

    data = read_bytes(model.artifact)
    if data is None:
        raise PermanentError(
            f"the file of {use_case} version {model.version} is gone "
            f"({model.artifact}): restore it or train again"
        )
    return load_model(data, model.sha256)


def keep_export(artifact: str, model: "TrainedModel", frame: "pl.DataFrame") -> dict[str, str]:
    """Write the model's export to ONNX beside its file ``artifact``, if the server asks for one
    (serving.predictor: not where the model has tables of bits), and if it predicts the same.

    Returns the fields of a ModelRecord that are about it. ``frame`` has the inputs' columns.
    """
    if _has_tables(model):
        return {"onnx_note": "not exported: the server answers from tables of bits"}

    from mlops_assets.adapters.onnx_export import export_onnx
    from mlops_assets.adapters.storage import write_bytes

    export = export_onnx(model, frame)
    if export.data is None or export.sha256 is None:
        return {"onnx_note": f"not exported: {export.refused}"}
    url = artifact.removesuffix(PurePosixPath(artifact).suffix) + ".onnx"
    write_bytes(url, export.data)
    note = f"exported: within {export.difference:.1g} of XGBoost on {export.rows} rows"
    return {"onnx": url, "onnx_sha256": export.sha256, "onnx_note": note}


def _has_tables(model: "TrainedModel") -> bool:
    from mlops_assets.core.inference import load_model
    from mlops_assets.core.tree_tables import tree_tables

    try:
        tree_tables(load_model(model.data, model.sha256))
    except PermanentError:
        return False
    return True
