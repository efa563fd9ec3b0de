"""What answers: tables of the trees; ONNX Runtime where there are none and its file is the
registered one, XGBoost where it is not.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from serving_support import (
    SIGNATURE,
    infer_body,
    running_server,
    tiny_model,
    write_release,
)

from mlops_assets.adapters.onnx_export import export_onnx
from mlops_assets.adapters.xgboost_engine import TrainedModel
from mlops_assets.clock import now
from mlops_assets.core import tree_tables
from mlops_assets.core.errors import DigestMismatchError
from mlops_assets.core.inference import Matrix, encode, predict
from mlops_assets.core.rollout_state import ServedModel, first_release
from mlops_assets.serving import predictor as predictor_module
from mlops_assets.serving.predictor import LARGE_ROWS, Predictor, load_predictor


def kept(folder: Path, seed: int = 0) -> ServedModel:
    """The tiny model and its export in ``folder``, which one that has no tables is kept with."""
    import polars as pl

    data = tiny_model(seed)
    sha256 = hashlib.sha256(data).hexdigest()
    artifact = folder / f"{sha256}.ubj"
    artifact.write_bytes(data)
    rows = pl.DataFrame({"carrier": ["AA", None], "hour": [1.0, 9.0], "delay": [None, -1.0]})
    export = export_onnx(TrainedModel(data, sha256, SIGNATURE, 5, {}, {}), rows)
    assert export.data is not None
    onnx = artifact.with_suffix(".onnx")
    onnx.write_bytes(export.data)
    return ServedModel(
        version=1,
        sha256=sha256,
        artifact=str(artifact),
        onnx=str(onnx),
        onnx_sha256=export.sha256,
    )


def rows_of(number: int) -> Matrix:
    """Rows of all kinds."""
    random = np.random.default_rng(3)
    columns: dict[str, list[object]] = {
        "carrier": [("AA", "DL", "UA", "ZZ", None)[n] for n in random.integers(0, 5, number)],
        "hour": random.uniform(0, 24, number).tolist(),
        "delay": random.normal(size=number).tolist(),
    }
    return encode(columns, SIGNATURE)


@pytest.fixture
def no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a model whose tables would be too large."""
    monkeypatch.setattr(tree_tables, "MAX_TABLE_BYTES", 0)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedModel]:
    """A model with its export."""
    yield kept(tmp_path)


SIZES = [0, 1, 2, LARGE_ROWS - 1, LARGE_ROWS, 3 * LARGE_ROWS]


def assert_answers(loaded: Predictor, engine: str) -> None:
    """``engine`` answers, with XGBoost's probabilities for requests of any size."""
    assert loaded.engine == engine
    for rows in SIZES:
        found = loaded.predict(rows_of(rows))
        assert (found.shape, found.dtype) == ((rows,), np.float32)
        np.testing.assert_allclose(found, predict(loaded.model, rows_of(rows)), atol=2e-7)


def test_a_model_is_served_by_its_tables(served: ServedModel) -> None:
    """With an export or without: the model's own file is all that they need."""
    for onnx in ((served.onnx, served.onnx_sha256), (None, None)):
        loaded = load_predictor(served.artifact, served.sha256, *onnx)
        assert loaded.reason is None
        assert_answers(loaded, "tables")


@pytest.mark.usefixtures("no_tables")
def test_a_model_without_tables_is_served_by_its_export(served: ServedModel) -> None:
    """Small requests; the reason is said."""
    loaded = load_predictor(served.artifact, served.sha256, served.onnx, served.onnx_sha256)
    assert "would take" in str(loaded.reason)
    assert_answers(loaded, "onnx")


@pytest.mark.usefixtures("no_tables")
def test_a_model_without_tables_and_export_is_served_by_xgboost(served: ServedModel) -> None:
    """As one whose export was refused when it was registered."""
    loaded = load_predictor(served.artifact, served.sha256)
    assert "would take" in str(loaded.reason)
    assert_answers(loaded, "xgboost")


def test_tables_that_predict_otherwise_are_left_out(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At one threshold alone: each is tried when a model is loaded."""
    right = tree_tables.TreeTables.predict

    def wrong(self: tree_tables.TreeTables, matrix: Matrix) -> npt.NDArray[np.float32]:
        found = right(self, matrix)
        found[matrix[:, 1] == self.probes()[1, 1]] += 1e-4
        return found

    monkeypatch.setattr(tree_tables.TreeTables, "predict", wrong)
    loaded = load_predictor(served.artifact, served.sha256)
    assert "differ" in str(loaded.reason)
    assert_answers(loaded, "xgboost")


@pytest.mark.usefixtures("no_tables")
def test_an_export_that_is_not_the_registered_one_is_left_out(
    served: ServedModel, tmp_path: Path
) -> None:
    """Gone, cut, changed, another model's: answers go on, slower, and the reason is said."""
    assert served.onnx is not None
    path = Path(served.onnx)
    good = path.read_bytes()
    (tmp_path / "other").mkdir()
    other = kept(tmp_path / "other", seed=1)
    assert other.onnx is not None
    damages: dict[str, tuple[bytes | None, str | None]] = {
        "cannot be read": (None, served.onnx_sha256),
        "was registered": (good[:-20], served.onnx_sha256),
        "was exported from the model": (Path(other.onnx).read_bytes(), other.onnx_sha256),
        "ONNX Runtime cannot read": (b"no ONNX", hashlib.sha256(b"no ONNX").hexdigest()),
    }
    for reason, (content, digest) in damages.items():
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        loaded = load_predictor(served.artifact, served.sha256, served.onnx, digest)
        assert loaded.engine == "xgboost"
        assert reason in str(loaded.reason)
        np.testing.assert_array_equal(loaded.predict(rows_of(5)), predict(loaded.model, rows_of(5)))


@pytest.mark.usefixtures("no_tables")
def test_an_export_that_predicts_otherwise_here_is_left_out(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another processor or another ONNX Runtime is no reason for a wrong answer."""
    monkeypatch.setattr(predictor_module, "TOLERANCE", -1.0)
    loaded = load_predictor(served.artifact, served.sha256, served.onnx, served.onnx_sha256)
    assert loaded.engine == "xgboost"
    assert "differ" in str(loaded.reason)


def test_a_damaged_model_is_refused_whatever_its_export_is(served: ServedModel) -> None:
    """The model's own file is what answers are from."""
    Path(served.artifact).write_bytes(tiny_model(1))
    with pytest.raises(DigestMismatchError):
        load_predictor(served.artifact, served.sha256, served.onnx, served.onnx_sha256)


def test_threads_may_predict_at_once(served: ServedModel) -> None:
    """The event loop, the pool's threads and the one for the other model share a predictor."""
    loaded = load_predictor(served.artifact, served.sha256, served.onnx, served.onnx_sha256)
    sizes = [1, 3, LARGE_ROWS] * 40
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda rows: loaded.predict(rows_of(rows)), sizes))
    for rows, scores in zip(sizes, found, strict=True):
        np.testing.assert_allclose(scores, predict(loaded.model, rows_of(rows)), atol=2e-7)


def test_the_server_says_what_answers_and_imports_nothing_for_training(
    tmp_path: Path, free_port: int
) -> None:
    """scikit-learn and pandas would take four times as long to start and 130 MB."""
    served = kept(tmp_path)
    write_release(tmp_path / "release.json", first_release("flights", served, now(), "test"))
    with running_server(tmp_path, free_port) as server:
        assert server.call("POST", "/v2/models/flights/infer", infer_body())[0] == 200
        parameters = server.get("/v2/models/flights")[1]["parameters"]
        assert isinstance(parameters, dict)
        assert parameters["engine"] == "tables"
        loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libxgboost" in loaded
    assert "onnxruntime" not in loaded
    assert "sklearn" not in loaded
    assert "pandas" not in loaded
