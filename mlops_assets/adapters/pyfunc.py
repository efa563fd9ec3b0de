"""How MLflow loads a model of this platform: the same path as everywhere else, no pickle.

MLflow names this module in the stored model (``loader_module``) and calls ``_load_pyfunc``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from mlops_assets.core.inference import Model

MODEL_FILE = "model.ubj"
DIGEST_FILE = "model.sha256"


class ProbabilityModel:
    """A model behind MLflow's ``predict``."""

    def __init__(self, model: "Model") -> None:
        self._model = model

    def predict(
        self, frame: "pd.DataFrame", params: dict[str, object] | None = None
    ) -> "npt.NDArray[np.float32]":
        """Probability of a positive label for each row of raw features, of shape (rows,).

        Categories are strings; None, NaN and categories that the model does not know are missing.
        ``params`` is a part of MLflow's interface; the model has none.
        """
        import numpy as np

        from mlops_assets.core.inference import encode, predict

        signature = self._model.signature
        columns: dict[str, Sequence[object]] = {
            field.name: frame[field.name].to_numpy(dtype=np.float64, na_value=np.nan).tolist()
            if field.type == "float"
            else frame[field.name].to_list()
            for field in signature.inputs
            if field.name in frame
        }
        return predict(self._model, encode(columns, signature))


def write_data(folder: Path, data: bytes, sha256: str) -> None:
    """The files that :func:`_load_pyfunc` reads, in ``folder``."""
    (folder / MODEL_FILE).write_bytes(data)
    (folder / DIGEST_FILE).write_text(sha256 + "\n")


def _load_pyfunc(path: str) -> ProbabilityModel:
    from mlops_assets.core.inference import load_model

    folder = Path(path)
    sha256 = (folder / DIGEST_FILE).read_text().strip()
    return ProbabilityModel(load_model((folder / MODEL_FILE).read_bytes(), sha256))
