"""What answers requests of one model: tables of its trees, else ONNX Runtime, else XGBoost."""

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError, PlatformError
from mlops_assets.core.inference import MAX_MODEL_BYTES, load_model, predict
from mlops_assets.core.onnx_trees import MAX_ONNX_BYTES, TOLERANCE, load_onnx
from mlops_assets.core.tree_tables import tree_tables
from mlops_assets.serving.objects import read_object

if TYPE_CHECKING:
    from mlops_assets.core.inference import Matrix, Model
    from mlops_assets.core.onnx_trees import OnnxTrees
    from mlops_assets.core.tree_tables import TreeTables

logger = logging.getLogger("mlops_assets.serving")

LARGE_ROWS = 64
"""From here on XGBoost is faster than ONNX Runtime: it costs more for a request and less for a row.
Measured, see docs/serving.md."""

WARM_ROWS = 64
"""Rows that all predict before the first request: buffers are allocated, and what does not predict
as the model does is found."""


class Predictor:
    """A model that is loaded and warm. Any number of threads may predict at once."""

    def __init__(
        self,
        model: "Model",
        trees: "TreeTables | OnnxTrees | None" = None,
        engine: str = "xgboost",
        reason: str | None = None,
    ) -> None:
        self.model = model
        self.engine = engine
        """What answers: ``tables``, or ``onnx`` (small requests alone), or ``xgboost``."""
        self.reason = reason
        """Why it is not what would be faster; None where it was not looked for."""
        self._trees = trees
        self._most_rows = LARGE_ROWS if engine == "onnx" else float("inf")

    def predict(self, matrix: "Matrix") -> npt.NDArray[np.float32]:
        """Probability of a positive label for each row, of shape (rows,)."""
        if self._trees is not None and 0 < len(matrix) < self._most_rows:
            return self._trees.predict(matrix)
        return predict(self.model, matrix)


def load_predictor(
    artifact: str, sha256: str, onnx: str | None = None, onnx_sha256: str | None = None
) -> Predictor:
    """The model at ``artifact`` with its export at ``onnx``, each by its digest; warm.

    The export is read where the model has no tables. What is away, damaged, or off by more than
    the tolerance is left out, which ``reason`` says. Raises PermanentError for a model that is not
    the registered one, TransientError when its file cannot be read.
    """
    model = load_model(read_object(artifact, MAX_MODEL_BYTES), sha256)
    rows = _warming_rows(model)
    expected = predict(model, rows)
    try:
        tables = tree_tables(model)
        _compare(tables, rows, expected)
        probes = tables.probes()
        _compare(tables, probes, predict(model, probes))
    except PlatformError as error:
        reason = str(error)
    else:
        return Predictor(model, tables, "tables")
    if onnx is None:
        return Predictor(model, reason=reason)
    try:
        trees = load_onnx(read_object(onnx, MAX_ONNX_BYTES), onnx_sha256 or "", model)
        _compare(trees, rows, expected)
    except PlatformError as error:
        logger.error("XGBoost answers small requests too, slower: %s: %s", onnx, error)
        return Predictor(model, reason=f"{reason}; {error}")
    return Predictor(model, trees, "onnx", reason)


def _compare(
    trees: "TreeTables | OnnxTrees", rows: "Matrix", expected: npt.NDArray[np.float32]
) -> None:
    """Raises PermanentError where ``trees`` do not give ``expected``."""
    difference = float(np.abs(trees.predict(rows) - expected).max())
    if not difference <= TOLERANCE:
        raise PermanentError(
            f"its probabilities differ from XGBoost's by up to {difference:.2g}, "
            f"{TOLERANCE:g} is allowed"
        )
    trees.predict(rows[:1])


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
