"""What answers requests of one model: ONNX Runtime the small ones, XGBoost the large ones."""

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError, PlatformError
from mlops_assets.core.inference import MAX_MODEL_BYTES, load_model, predict
from mlops_assets.core.onnx_trees import MAX_ONNX_BYTES, TOLERANCE, load_onnx
from mlops_assets.serving.objects import read_object

if TYPE_CHECKING:
    from mlops_assets.core.inference import Matrix, Model
    from mlops_assets.core.onnx_trees import OnnxTrees

logger = logging.getLogger("mlops_assets.serving")

LARGE_ROWS = 64
"""From here on XGBoost is faster: it costs more for a request and less for a row. Measured, see
docs/serving.md."""

WARM_ROWS = 64
"""Rows that both predict before the first request: buffers are allocated, and a file that does not
fit its model is found."""


class Predictor:
    """A model that is loaded and warm. Any number of threads may predict at once."""

    def __init__(
        self, model: "Model", trees: "OnnxTrees | None" = None, reason: str | None = None
    ) -> None:
        self.model = model
        self.reason = reason
        """Why the ONNX file that was named is not used."""
        self._trees = trees

    @property
    def engine(self) -> str:
        """What answers small requests: ``onnx`` or ``xgboost``."""
        return "xgboost" if self._trees is None else "onnx"

    def predict(self, matrix: "Matrix") -> npt.NDArray[np.float32]:
        """Probability of a positive label for each row, of shape (rows,)."""
        if self._trees is not None and 0 < len(matrix) < LARGE_ROWS:
            return self._trees.predict(matrix)
        return predict(self.model, matrix)


def load_predictor(
    artifact: str, sha256: str, onnx: str | None = None, onnx_sha256: str | None = None
) -> Predictor:
    """The model at ``artifact`` with its export at ``onnx``, each by its digest; warm.

    An ONNX file that is away, damaged, or off by more than the tolerance is left out, which
    ``reason`` says. Raises PermanentError for a model that is not the registered one,
    TransientError when its file cannot be read.
    """
    model = load_model(read_object(artifact, MAX_MODEL_BYTES), sha256)
    rows = _warming_rows(model)
    expected = predict(model, rows)
    if onnx is None:
        return Predictor(model)
    try:
        trees = load_onnx(read_object(onnx, MAX_ONNX_BYTES), onnx_sha256 or "", model)
        difference = float(np.abs(trees.predict(rows) - expected).max())
        if not difference <= TOLERANCE:
            raise PermanentError(
                f"its probabilities differ from XGBoost's by up to {difference:.2g}, "
                f"{TOLERANCE:g} is allowed"
            )
        trees.predict(rows[:1])
    except PlatformError as error:
        logger.error("XGBoost answers small requests too, slower: %s: %s", onnx, error)
        return Predictor(model, reason=str(error))
    return Predictor(model, trees)


def _warming_rows(model: "Model") -> "Matrix":
    """Rows with each input missing, each known category, and numbers of many sizes."""
    random = np.random.default_rng(0)
    columns: list[npt.NDArray[np.float64]] = []
    for field in model.signature.inputs:
        if field.type == "category":
            values = random.integers(0, max(1, len(field.categories)), WARM_ROWS).astype(float)
            if not field.categories:
                values[:] = np.nan
        else:
            values = random.normal(size=WARM_ROWS) * 10.0 ** random.integers(-2, 4, WARM_ROWS)
        values[random.uniform(size=WARM_ROWS) < 0.1] = np.nan
        columns.append(values)
    rows = np.column_stack(columns).astype(np.float32)
    rows[0] = np.nan
    return rows
