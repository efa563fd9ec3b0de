"""From raw feature values to probabilities: the one path that training, the server, batch
predictions and MLflow's pyfunc share.

A model is one UBJSON file. Its signature (inputs in order, categories in code order) is an
attribute of the booster, so that one sha256 covers the trees and the encoding.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import DigestMismatchError, PermanentError
from mlops_assets.core.records import FeatureField, Signature

if TYPE_CHECKING:
    import xgboost

Matrix = npt.NDArray[np.float32]
"""Shape (rows, inputs): floats, category codes, NaN for missing."""

_SIGNATURE_ATTRIBUTE = "mlops_signature"


@dataclass(frozen=True)
class Model:
    """A booster that is ready to predict, with the identity of its bytes."""

    booster: "xgboost.Booster"
    signature: Signature
    sha256: str


def encode(columns: Mapping[str, Sequence[object]], signature: Signature) -> Matrix:
    """Feature columns as the model's input matrix, of shape (rows, inputs).

    Null is missing. A category that the model was not trained on is missing too.
    ``columns`` has every input of ``signature``, each of the same length.
    """
    rows = len(columns[signature.inputs[0].name])
    matrix = np.empty((rows, len(signature.inputs)), dtype=np.float32)
    for n, field in enumerate(signature.inputs):
        matrix[:, n] = _encode_column(columns[field.name], field)
    return matrix


def _encode_column(values: Sequence[object], field: FeatureField) -> npt.NDArray[np.float32]:
    if field.type == "float":
        if isinstance(values, np.ndarray):
            return values.astype(np.float32)
        floats = cast("Sequence[float | None]", values)
        return np.array([np.nan if v is None else v for v in floats], dtype=np.float32)
    codes = {category: code for code, category in enumerate(field.categories)}
    return np.array(
        [codes.get(value, np.nan) if isinstance(value, str) else np.nan for value in values],
        dtype=np.float32,
    )


def count_unknown_categories(
    columns: Mapping[str, Sequence[object]], signature: Signature
) -> dict[str, int]:
    """How many values of each categorical input the model was not trained on, where any."""
    counts: dict[str, int] = {}
    for field in signature.inputs:
        if field.type == "category":
            known = {None, *field.categories}
            unknown = sum(value not in known for value in columns[field.name])
            if unknown:
                counts[field.name] = unknown
    return counts


def feature_types(signature: Signature) -> list[str]:
    """XGBoost's type of each input: ``c`` for category codes, ``q`` for quantities."""
    return ["c" if field.type == "category" else "q" for field in signature.inputs]


def dump_model(booster: "xgboost.Booster", signature: Signature) -> bytes:
    """The model file: the booster with its signature inside, as UBJSON."""
    booster.set_attr(**{_SIGNATURE_ATTRIBUTE: signature.model_dump_json()})
    return bytes(booster.save_raw("ubj"))


def load_model(data: bytes, sha256: str) -> Model:
    """The model in ``data``, whose digest has to be ``sha256`` (hexadecimal).

    Raises DigestMismatchError before anything is parsed, and PermanentError for a file without a
    signature.
    """
    import xgboost

    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DigestMismatchError(
            f"the model file has sha256 {found}, {sha256} was registered: it is cut or not the "
            "registered one; restore it from the registry or train again"
        )
    booster = xgboost.Booster(params={"nthread": 1})
    booster.load_model(bytearray(data))
    signature = booster.attr(_SIGNATURE_ATTRIBUTE)
    if signature is None:
        raise PermanentError(
            "the model file carries no signature: it was not written by this platform"
        )
    return Model(booster, Signature.model_validate_json(signature), sha256)


def predict(model: Model, matrix: Matrix) -> npt.NDArray[np.float32]:
    """Probability of a positive label for each row, of shape (rows,)."""
    if len(matrix) == 0:
        return np.empty(0, dtype=np.float32)
    return np.asarray(
        model.booster.inplace_predict(matrix, validate_features=False), dtype=np.float32
    )
