"""From raw feature values to probabilities: the one path that training, the server, batch
predictions and MLflow's pyfunc share.

A model is one UBJSON file. Its signature (inputs in order, categories in code order) is an
attribute of the booster, so that one sha256 covers the trees and the encoding.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from mlops_assets.core.errors import DigestMismatchError, PermanentError, SchemaError
from mlops_assets.core.records import FeatureField, Signature

if TYPE_CHECKING:
    import polars as pl
    import xgboost

Matrix = npt.NDArray[np.float32]
"""Shape (rows, inputs): floats, category codes, NaN for missing."""

MAX_MODEL_BYTES = 512 * 1024 * 1024
"""A larger file is refused before it is parsed: 100 trees of depth 6 take 0.4 MB."""

_TABLE = 2  # dimensions

_FEW_ROWS = 8
"""Below, NumPy reads all columns at once; from here on ``struct`` reads each, in half the time."""

_SIGNATURE_ATTRIBUTE = "mlops_signature"
# A UBJSON object begins with "{" and the type of its first key's length; JSON text never has "L".
_UBJSON_START = b"{L"


@dataclass(frozen=True)
class Model:
    """A booster that is ready to predict, with the identity of its bytes."""

    booster: "xgboost.Booster"
    signature: Signature
    sha256: str


def encode(columns: Mapping[str, Sequence[object]], signature: Signature) -> Matrix:
    """Feature columns as the model's input matrix, of shape (rows, inputs).

    Null and NaN are missing. A category that the model was not trained on is missing too.
    ``columns`` has every input of ``signature``, each of the same length, as lists or arrays.

    Raises SchemaError for a missing column, and for a value that is no number or not within the
    range of 32-bit floats, with its row.
    """

    try:
        values = [
            columns[name] if codes is None else _coded(columns[name], codes)
            for name, codes in signature.codes
        ]
    except KeyError:
        _refuse_missing([field.name for field in signature.inputs if field.name not in columns])
        raise
    try:
        transposed = _numbers(values)
    except (TypeError, ValueError, OverflowError):
        transposed = None
    if transposed is not None and transposed.ndim == _TABLE:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite: refused below
            return _finite(np.ascontiguousarray(transposed.T, dtype=np.float32), signature)

    # Which column it was, and what is wrong with it.
    codes_of = dict(signature.codes)

    def column(field: FeatureField) -> npt.NDArray[np.float32]:
        codes = codes_of[field.name]
        if codes is not None:
            return np.array(_coded(columns[field.name], codes), dtype=np.float32)
        return np.asarray(columns[field.name], dtype=np.float64).astype(np.float32)

    rows = len(columns[signature.inputs[0].name]) if signature.inputs else 0
    return _assemble(signature, rows, column)


def _numbers(columns: Sequence[Sequence[object]]) -> npt.NDArray[np.float64]:
    """``columns`` as an array of shape (columns, rows). Raises as NumPy does."""
    rows = len(columns[0]) if columns else 0
    if rows < _FEW_ROWS:
        # All at once: for one row, a call for each would take longer than the prediction.
        return np.array(columns, dtype=np.float64)
    pack = struct.Struct(f"{rows}d").pack
    packed: list[bytes] = []
    for column in columns:
        try:
            packed.append(pack(*column))
        except struct.error:  # a null among them, or what is no number
            packed.append(np.array(column, dtype=np.float64).reshape(rows).tobytes())
    return np.frombuffer(b"".join(packed)).reshape(len(columns), rows)


def _coded(values: Sequence[object], codes: Mapping[str, int]) -> list[float]:
    # What is not hashable or no string is no category either; NaN marks nulls in pandas.
    return [codes.get(value, math.nan) if isinstance(value, str) else math.nan for value in values]


def encode_frame(frame: "pl.DataFrame", signature: Signature) -> Matrix:
    """The same matrix as :func:`encode`, from a polars frame, without a Python loop over rows.

    Raises SchemaError for a missing column, for one whose type is not its feature's (a number for
    ``float``, a string for ``category``), and for an infinite value.
    """
    import polars as pl

    def column(field: FeatureField) -> npt.NDArray[np.float32]:
        series = frame.get_column(field.name)
        kind = series.dtype
        if field.type == "float":
            if not (kind.is_numeric() or isinstance(kind, pl.Boolean | pl.Null)):
                raise SchemaError(f"feature {field.name!r} has type {kind}, a number is needed")
            return series.cast(pl.Float64).cast(pl.Float32).to_numpy()
        if not isinstance(kind, pl.String | pl.Categorical | pl.Enum | pl.Null):
            raise SchemaError(f"feature {field.name!r} has type {kind}, a string is needed")
        codes = series.cast(pl.String).cast(pl.Enum(field.categories), strict=False).to_physical()
        return codes.cast(pl.Float32).to_numpy()

    _refuse_missing([field.name for field in signature.inputs if field.name not in frame.columns])
    return _assemble(signature, frame.height, column)


def _refuse_missing(names: list[str]) -> None:
    if names:
        raise SchemaError(f"the table lacks the model's inputs {', '.join(names)}: add them")


def _assemble(
    signature: Signature, rows: int, column: Callable[[FeatureField], npt.NDArray[np.float32]]
) -> Matrix:
    matrix = np.empty((rows, len(signature.inputs)), dtype=np.float32)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite: refused below
        for n, field in enumerate(signature.inputs):
            try:
                matrix[:, n] = column(field)
            except (TypeError, ValueError, OverflowError) as error:
                raise SchemaError(f"feature {field.name!r}: {error}") from error
    return _finite(matrix, signature)


def _finite(matrix: Matrix, signature: Signature) -> Matrix:
    infinite = np.isinf(matrix)
    if np.count_nonzero(infinite):
        row, n = (int(index) for index in np.argwhere(infinite)[0])
        raise SchemaError(
            f"feature {signature.inputs[n].name!r} is infinite or beyond 32-bit floats in row "
            f"{row}: give a finite value, or null for missing"
        )
    return matrix


def count_unknown_categories(
    columns: Mapping[str, Sequence[object]], signature: Signature
) -> dict[str, int]:
    """How many values of each categorical input the model was not trained on, where any."""
    counts: dict[str, int] = {}
    for name, known in signature.codes:
        if known is not None:
            unknown = [value for value in columns[name] if value is not None and value not in known]
            if unknown:
                counts[name] = len(unknown)
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

    Raises DigestMismatchError before anything is parsed, and PermanentError for a file that is too
    large, is no UBJSON model, or whose signature is missing or does not fit its trees.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise PermanentError(
            f"the model file has {len(data)} bytes, at most {MAX_MODEL_BYTES} are loaded: "
            "train with fewer rounds or a smaller depth"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DigestMismatchError(
            f"the model file has sha256 {found}, {sha256} was registered: it is cut or not the "
            "registered one; restore it from the registry or train again"
        )
    if not data.startswith(_UBJSON_START):
        raise PermanentError("the model file is not UBJSON: save it with dump_model")
    import xgboost

    booster = xgboost.Booster(params={"nthread": 1})
    try:
        # XGBoost leaves the path's type parameter open.
        booster.load_model(bytearray(data))  # pyright: ignore[reportUnknownMemberType]
    except xgboost.core.XGBoostError as error:
        raise PermanentError(
            f"XGBoost cannot read the model file: {str(error).splitlines()[0]}; train again"
        ) from error
    attribute = booster.attr(_SIGNATURE_ATTRIBUTE)
    if attribute is None:
        raise PermanentError(
            "the model file carries no signature: it was not written by this platform"
        )
    try:
        signature = Signature.model_validate_json(attribute)
    except ValidationError as error:
        raise PermanentError(
            f"the model file's signature is not of this version: {error.errors()[0]['msg']}"
        ) from error
    if not signature.inputs or booster.num_features() != len(signature.inputs):
        raise PermanentError(
            f"the model has {booster.num_features()} features and its signature "
            f"{len(signature.inputs)} inputs: train again"
        )
    return Model(booster, signature, sha256)


def predict(model: Model, matrix: Matrix) -> npt.NDArray[np.float32]:
    """Probability of a positive label for each row, of shape (rows,)."""
    if len(matrix) == 0:
        return np.empty(0, dtype=np.float32)
    return np.asarray(
        model.booster.inplace_predict(matrix, validate_features=False), dtype=np.float32
    )
