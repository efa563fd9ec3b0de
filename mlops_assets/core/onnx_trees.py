"""A model's trees in ONNX Runtime: the same probabilities, many times faster for few rows.

The file is an export of a registered model (adapters.onnx_export), which names the model that it
belongs to. It gives margins (log-odds); the logistic function is computed here, since ONNX
Runtime's own loses the digits of small probabilities.
"""

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import DigestMismatchError, PermanentError

if TYPE_CHECKING:
    from mlops_assets.core.inference import Matrix, Model

TOLERANCE = 1e-6
"""The largest difference to XGBoost's probabilities with which an export is used."""

MAX_ONNX_BYTES = 1024 * 1024 * 1024
"""A larger file is refused before it is parsed."""

MODEL_KEY = "model_sha256"
"""Property of the file: the digest of the model that it was exported from."""

INPUT, OUTPUT = "features", "margin"

_LEAST_MARGIN = -88.7
"""XGBoost's own bound: below, the exponential has no 32-bit float."""

_ERRORS_ONLY = 3


class _Session(Protocol):
    """What is used of ONNX Runtime's session."""

    def run(
        self, output_names: list[str], input_feed: "dict[str, Matrix]"
    ) -> list[npt.NDArray[np.float32]]:
        """The outputs that are named, in order."""
        ...


class OnnxTrees:
    """Trees that are loaded and ready. Any number of threads may predict at once."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def predict(self, matrix: "Matrix") -> npt.NDArray[np.float32]:
        """Probability of a positive label for each row, of shape (rows,)."""
        (margins,) = self._session.run([OUTPUT], {INPUT: matrix})
        return probabilities(margins[:, 0])


def probabilities(margins: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The logistic function, as XGBoost computes it, of log-odds of shape (rows,)."""
    exponents = np.exp(-np.maximum(margins, np.float32(_LEAST_MARGIN)))
    return np.reciprocal(exponents + np.float32(1))


def load_onnx(data: bytes, sha256: str, model: "Model") -> OnnxTrees:
    """The trees in ``data``, whose digest has to be ``sha256``, exported from ``model``.

    Raises DigestMismatchError before anything is parsed, or for another model's export, and
    PermanentError for a file that is too large, cannot be read, or has other inputs than ``model``.
    """
    if len(data) > MAX_ONNX_BYTES:
        raise PermanentError(
            f"the ONNX file has {len(data)} bytes, at most {MAX_ONNX_BYTES} are loaded"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DigestMismatchError(
            f"the ONNX file has sha256 {found}, {sha256} was registered: it is cut or not the "
            "registered one; restore it from the registry or train again"
        )
    try:
        session, origin, shape = _opened(data)
    # ONNX Runtime's errors have no base class of their own.
    except Exception as error:
        raise PermanentError(
            f"ONNX Runtime cannot read the ONNX file: {str(error).splitlines()[0]}"
        ) from error
    if origin != model.sha256:
        raise DigestMismatchError(
            f"the ONNX file was exported from the model {origin}, not from {model.sha256}"
        )
    inputs = len(model.signature.inputs)
    if shape != (INPUT, OUTPUT, inputs):
        raise PermanentError(
            f"the ONNX file has an input, an output and columns of {shape}, not of "
            f"{(INPUT, OUTPUT, inputs)}: train again"
        )
    return OnnxTrees(session)


def _opened(data: bytes) -> "tuple[_Session, str | None, tuple[str, str, int]]":
    """A session, the model that the file names, and its input, output and columns."""
    import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

    ort: Any = onnxruntime  # it has no types
    options = ort.SessionOptions()
    # A request is one thread's: threads of its own would wait for each other, and spin meanwhile.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    origin = session.get_modelmeta().custom_metadata_map.get(MODEL_KEY)
    (input_,), (output,) = session.get_inputs(), session.get_outputs()
    return session, origin, (input_.name, output.name, input_.shape[-1])
