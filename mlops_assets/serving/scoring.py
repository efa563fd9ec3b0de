"""One request, scored by one model or the other: what is logged and counted of it."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from mlops_assets.core.errors import SchemaError
from mlops_assets.core.inference import Matrix, count_unknown_categories, encode
from mlops_assets.core.online import Lookups
from mlops_assets.core.prediction_log import PredictionRecord
from mlops_assets.core.requests import PredictionRequest, RequestError
from mlops_assets.core.rollout_state import Role
from mlops_assets.serving.models import Loaded, Served

if TYPE_CHECKING:
    from mlops_assets.serving.answers import Server

logger = logging.getLogger("mlops_assets.serving")

T = TypeVar("T")

MAX_ERROR_CHARACTERS = 500


@dataclass(slots=True)
class Asked:
    """One request under one state of the server."""

    server: "Server"
    served: Served
    request: PredictionRequest
    request_id: str
    columns: Mapping[str, Sequence[object]]
    matrix: Matrix | None
    """The input of both models; None where each has its own."""
    time: datetime
    lookups: Lookups | None


@dataclass(slots=True)
class Scored:
    """What one model makes of it; ``seconds`` of processor time."""

    loaded: Loaded
    matrix: Matrix
    scores: list[float]
    seconds: float


def score(asked: Asked, loaded: Loaded) -> Scored:
    """The model's scores, and the processor time that they took: what else the machine does, and
    whether anybody waits, is no difference between two models.
    """
    began = time.thread_time()
    matrix = asked.matrix
    if matrix is None:
        matrix = encode(asked.columns, loaded.signature)
    scores: list[float] = loaded.predictor.predict(matrix).tolist()
    return Scored(loaded, matrix, scores, time.thread_time() - began)


def stand_in(asked: Asked, failed: Loaded, other: Loaded | None, error: Exception) -> Scored:
    """What ``other`` scores where ``failed`` has nothing. Raises RequestError 422 for a request
    that is at fault itself, and ``error`` where nobody stands in.
    """
    if other is None:
        if isinstance(error, SchemaError):
            raise RequestError(422, str(error)) from error
        _keep_failure(asked, failed, error)
        raise error
    try:
        scored = score(asked, other)
    except SchemaError as second:
        raise RequestError(422, str(second)) from second
    except Exception as second:
        _keep_failure(asked, failed, error)
        _keep_failure(asked, other, second)
        raise
    _keep_failure(asked, failed, error)
    return scored


def compare_later(asked: Asked, loaded: Loaded) -> None:
    """Have the model that did not answer score, when nobody waits for it."""
    if not asked.server.background.submit(lambda: _compare(asked, loaded), asked.request.rows):
        served = asked.served
        asked.server.metrics.skipped(
            served.release.rollout_id, loaded.served.version, served.role(loaded)
        )


def _compare(asked: Asked, loaded: Loaded) -> None:
    try:
        scored = score(asked, loaded)
    except Exception as error:  # noqa: BLE001 - it is the model's, and is recorded
        _keep_failure(asked, loaded, error)
        return
    keep(asked, scored, returned=False)
    if loaded is asked.served.champion and not asked.served.same_inputs:
        unknown = count_unknown_categories(asked.columns, loaded.signature)
        asked.server.metrics.observe(loaded.signature, scored.matrix, unknown)


def keep(asked: Asked, scored: Scored, *, returned: bool) -> None:
    """Log and count what a model scored."""
    role = asked.served.role(scored.loaded)
    record = _record(asked, scored.loaded, role, scored.scores, returned=returned)
    asked.server.log.write(record, asked.request.written)
    asked.server.metrics.answered(
        record.rollout,
        record.version,
        role,
        scored.seconds,
        asked.request.rows,
        returned,
        scored.scores,
    )


def _record(
    asked: Asked,
    loaded: Loaded,
    role: Role,
    scores: list[float],
    *,
    returned: bool,
    error: str | None = None,
) -> PredictionRecord:
    """What the log keeps of the request and the model."""
    request, served, release = asked.request, loaded.served, asked.served.release
    return PredictionRecord(
        time=asked.time,
        request=asked.request_id,
        use_case=release.use_case,
        version=served.version,
        sha256=served.sha256,
        # The features stand in the record of what was returned.
        categories=_own(request.categories, loaded) if returned else {},
        floats=_own(request.floats, loaded) if returned else {},
        scores=scores,
        events=request.event_ids,
        role=role,
        online=asked.lookups if returned else None,
        returned=returned,
        rollout=release.rollout_id,
        error=error,
        failed_rows=0 if error is None else request.rows,
    )


def _own(columns: dict[str, T], loaded: Loaded) -> dict[str, T]:
    """Those of ``columns`` that the model has."""
    inputs = loaded.inputs
    if columns.keys() <= inputs:
        return columns
    return {name: column for name, column in columns.items() if name in inputs}


def _keep_failure(asked: Asked, loaded: Loaded, error: Exception) -> None:
    server, version, role = asked.server, loaded.served.version, asked.served.role(loaded)
    kind = (version, type(error).__name__)
    if kind not in server.failing:  # a model that fails each time would fill the disk
        server.failing.add(kind)
        logger.error("version %d fails, and maybe goes on to", version, exc_info=error)
    said = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
    record = _record(asked, loaded, role, [], returned=False, error=said)
    server.log.write(record)
    server.metrics.failed(record.rollout, version, role, 0.0)
