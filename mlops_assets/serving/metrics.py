"""What a server counts about itself: requests, errors, latencies, scores and features.

Everything is a number in a bin that was fixed before: no value of a request is kept, nothing that a
client writes becomes a label, and the number of series is bounded by the models and their features.
"""

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from mlops_assets.core.inference import Matrix
from mlops_assets.core.latency import LATENCY_EDGES_S, SCORE_EDGES, latency_bin, score_bin
from mlops_assets.core.records import Signature
from mlops_assets.core.replica_reports import ModelTotals
from mlops_assets.core.rollout_state import Role
from mlops_assets.serving.counters import CounterFile, counter_path, read_counters
from mlops_assets.serving.feature_bins import FeatureBins

OBSERVED_ROWS = 256
"""Rows whose features are counted at once: one at a time costs ten times as much."""

STATUSES = (400, 401, 404, 405, 406, 408, 413, 415, 417, 422, 431, 500, 503)
"""Statuses of refusals that are told apart."""

LATENCY_BINS = len(LATENCY_EDGES_S) + 1
SCORE_BINS = len(SCORE_EDGES) + 1


class ModelKey(msgspec.Struct, frozen=True, tag="model"):
    """Whose counters they are: a model in its role, in one rollout."""

    rollout_id: str
    version: int
    role: Role


class ProcessKey(msgspec.Struct, frozen=True, tag="process"):
    """The counters of the process itself."""


class FeatureKey(msgspec.Struct, frozen=True, tag="features"):
    """The counters of a signature's features: each name, with the categories that are counted."""

    features: tuple[tuple[str, tuple[str, ...] | None], ...]


Key = ModelKey | ProcessKey | FeatureKey

# Places of a model's counters.
REQUESTS, ROWS, RETURNED, ERRORS, SKIPPED, SECONDS, LATENCY = range(7)
SCORES = LATENCY + LATENCY_BINS
_MODEL_COUNTERS = SCORES + SCORE_BINS

# Places of the process's counters.
REVISION, READY, IN_FLIGHT, LOST, WHOLE_SECONDS, WHOLE = range(6)
REFUSED = WHOLE + LATENCY_BINS
_PROCESS_COUNTERS = REFUSED + len(STATUSES) + 1

_SCORE_EDGES = np.array(SCORE_EDGES)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Key] = msgspec.json.Decoder(Key)


class Metrics:
    """The numbers of one worker. Thread-safe.

    With a ``folder``, which all workers of a server share, the numbers are kept in a file there,
    a worker that takes a dead one's place goes on with its numbers, and :meth:`exposition` adds up
    all workers, whichever is asked.
    """

    def __init__(self, folder: Path | None = None, worker: int = 0) -> None:
        self._folder = folder
        self._worker = worker
        self._lock = threading.Lock()
        self._file = CounterFile(counter_path(folder, worker) if folder is not None else None)
        self._process = self._file.counters(_encoder.encode(ProcessKey()), _PROCESS_COUNTERS)
        for gauge in (REVISION, READY, IN_FLIGHT):
            self._process[gauge] = 0.0
        self._lost = 0
        self._models: dict[tuple[str, int, Role], memoryview[float]] = {}
        self._bins: tuple[Signature, FeatureBins, memoryview[float]] | None = None
        self._observed: list[Matrix] = []
        self._observed_rows = 0

    def answered(
        self,
        rollout_id: str,
        version: int,
        role: Role,
        seconds: float,
        rows: int,
        returned: bool = True,
        scores: Sequence[float] | None = None,
    ) -> None:
        """Count a request of ``rows`` rows that a model scored in ``seconds`` of its time."""
        bin_of_latency = LATENCY + latency_bin(seconds)
        with self._lock:
            counters = self._model(rollout_id, version, role)
            counters[REQUESTS] += 1
            counters[ROWS] += rows
            counters[RETURNED] += returned
            counters[SECONDS] += seconds
            counters[bin_of_latency] += 1
            if scores is None:
                return
            if len(scores) == 1:
                counters[SCORES + score_bin(scores[0])] += 1
            else:
                bins = np.bincount(np.searchsorted(_SCORE_EDGES, scores), minlength=SCORE_BINS)
                np.asarray(counters)[SCORES:] += bins

    def failed(self, rollout_id: str, version: int, role: Role, seconds: float) -> None:
        """Count a request that a model failed on, after ``seconds`` of its time."""
        with self._lock:
            counters = self._model(rollout_id, version, role)
            counters[ERRORS] += 1
            counters[SECONDS] += seconds

    def skipped(self, rollout_id: str, version: int, role: Role) -> None:
        """Count a request that a model was not asked about, since it was too far behind."""
        with self._lock:
            self._model(rollout_id, version, role)[SKIPPED] += 1

    def observe(
        self, signature: Signature, matrix: Matrix, unknown: Mapping[str, int] | None = None
    ) -> None:
        """Count the features of ``matrix``, of shape (rows, inputs), as the model saw them.

        ``unknown`` counts each input's categories that the model does not know. The matrix is
        counted later, and must not change.
        """
        with self._lock:
            if self._bins is None or self._bins[0] is not signature:
                self._count_observed()
                bins = FeatureBins(signature)
                key = _encoder.encode(FeatureKey(bins.listed))
                self._bins = signature, bins, self._file.counters(key, bins.size)
            if unknown:
                _, bins, counters = self._bins
                for name, number in unknown.items():
                    counters[bins.unknown(name)] += number
            self._observed.append(matrix)
            self._observed_rows += len(matrix)
            if self._observed_rows >= OBSERVED_ROWS:
                self._count_observed()

    def entered(self) -> None:
        """Count a request in flight."""
        with self._lock:
            self._process[IN_FLIGHT] += 1

    def left(self) -> None:
        """Count it no more."""
        with self._lock:
            self._process[IN_FLIGHT] -= 1

    def finished(self, seconds: float) -> None:
        """Count an answered request, which took ``seconds`` from its header to its answer."""
        place = WHOLE + latency_bin(seconds)
        with self._lock:
            self._process[WHOLE_SECONDS] += seconds
            self._process[place] += 1

    def refused(self, status: int) -> None:
        """Count a request that was answered with ``status``, 400 or more."""
        n = STATUSES.index(status) if status in STATUSES else len(STATUSES)
        with self._lock:
            self._process[REFUSED + n] += 1

    def update(self, *, revision: int, lost: int, ready: bool) -> None:
        """Say which release this process applied, how many log records it lost, and its state."""
        with self._lock:
            self._process[REVISION] = revision
            self._process[READY] = ready
            self._process[LOST] += lost - self._lost
            self._lost = lost
            self._count_observed()

    def totals(self) -> tuple[ModelTotals, ...]:
        """What each model did in this process, in the order in which they came."""
        with self._lock:
            items = list(self._file.items())
        found: list[ModelTotals] = []
        for raw, counters in items:
            key = _decoder.decode(raw)
            if isinstance(key, ModelKey):
                found.append(_totals(key, counters))
        return tuple(found)

    def counters(self) -> list[tuple[int, Key, tuple[float, ...]]]:
        """The counters of all workers, with the worker and what they belong to."""
        with self._lock:
            self._count_observed()
            own = list(self._file.items())
        others = read_counters(self._folder, but=self._worker) if self._folder is not None else {}
        return [
            (worker, _decoder.decode(raw), counters)
            for worker, items in sorted({**others, self._worker: own}.items())
            for raw, counters in items
        ]

    def close(self) -> None:
        """Bring everything to the file and let go of it. Nothing is counted after that."""
        with self._lock:
            self._count_observed()
            self._bins = None
            self._models.clear()
            self._process.release()
            self._file.close()

    def _model(self, rollout_id: str, version: int, role: Role) -> "memoryview[float]":
        counters = self._models.get((rollout_id, version, role))
        if counters is None:
            key = _encoder.encode(ModelKey(rollout_id, version, role))
            counters = self._file.counters(key, _MODEL_COUNTERS)
            self._models[rollout_id, version, role] = counters
        return counters

    def _count_observed(self) -> None:
        if self._bins is not None and self._observed:
            _, bins, counters = self._bins
            matrix = (
                np.concatenate(self._observed) if len(self._observed) > 1 else self._observed[0]
            )
            np.asarray(counters)[:] += bins.counts(matrix)
        self._observed.clear()
        self._observed_rows = 0


def _totals(key: ModelKey, counters: tuple[float, ...]) -> ModelTotals:
    requests, rows, returned, errors, skipped = (int(n) for n in counters[:SECONDS])
    return ModelTotals(
        rollout_id=key.rollout_id,
        version=key.version,
        role=key.role,
        requests=requests,
        rows=rows,
        returned=returned,
        errors=errors,
        skipped=skipped,
        seconds=counters[SECONDS],
        latency=tuple(int(n) for n in counters[LATENCY:SCORES]),
    )


@contextlib.contextmanager
def metrics_folder(log_dir: Path, instance: str) -> Iterator[Path]:
    """A fresh folder for the workers of one server, in memory where there is such a place.

    On a disk, writing a page back would hold up the requests that count in it.
    """
    memory = Path("/dev/shm")  # noqa: S108 - the folder gets a name that nobody can guess
    try:
        folder = Path(tempfile.mkdtemp(prefix="mlops-metrics-", dir=memory))
    except OSError:
        folder = log_dir / f"metrics-{instance}-{time.monotonic_ns()}"
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
