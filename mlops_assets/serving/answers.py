"""From a request's bytes to the answer's: parse, encode, predict, log."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mlops_assets import clock
from mlops_assets.core.errors import SchemaError
from mlops_assets.core.inference import count_unknown_categories, encode, predict
from mlops_assets.core.invocations import parse_csv, parse_invocation
from mlops_assets.core.prediction_log import PredictionRecord
from mlops_assets.core.requests import PredictionRequest, RequestError, parse_infer
from mlops_assets.serving.models import Follower, Served
from mlops_assets.serving.prediction_log import PredictionLog
from mlops_assets.serving.protocol import to_json


@dataclass(frozen=True)
class Limits:
    """What one request may cost."""

    max_body_bytes: int = 16 * 1024 * 1024
    max_rows: int = 10_000
    read_timeout_s: float = 10.0


@dataclass(frozen=True)
class Server:
    """What the routes need."""

    follower: Follower
    log: PredictionLog
    limits: Limits
    instance: str
    version: str
    pool: ThreadPoolExecutor


@dataclass(frozen=True)
class Answer:
    """Scores of one request, recorded in the prediction log already."""

    request_id: str
    scores: list[float]
    unknown_categories: dict[str, int]


def infer(server: Server, served: Served, body: bytes) -> bytes:
    """The answer to a V2 request, as JSON. Raises RequestError."""
    signature = served.model.signature
    request = parse_infer(body, signature, server.limits.max_rows)
    answer = _predict(server, served, request)
    # The protocol's parameters are flat: strings, numbers and booleans.
    unknown = {f"unknown_categories.{name}": n for name, n in answer.unknown_categories.items()}
    return to_json(
        {
            "model_name": served.release.use_case,
            "model_version": str(served.release.version),
            "id": answer.request_id,
            "parameters": {
                "sha256": served.release.sha256,
                "unknown_categories": sum(answer.unknown_categories.values()),
                **unknown,
            },
            "outputs": [
                {
                    "name": signature.output,
                    "datatype": "FP32",
                    "shape": [request.rows],
                    "data": answer.scores,
                }
            ],
        }
    )


def invoke_json(server: Server, served: Served, body: bytes) -> bytes:
    """The answer to an invocation in JSON, as JSON. Raises RequestError."""
    request = parse_invocation(body, served.model.signature, server.limits.max_rows)
    return _invocation(_predict(server, served, request))


def invoke_csv(server: Server, served: Served, body: bytes) -> bytes:
    """The answer to an invocation in CSV, as JSON. Raises RequestError."""
    request = parse_csv(body, served.model.signature, server.limits.max_rows)
    return _invocation(_predict(server, served, request))


def _invocation(answer: Answer) -> bytes:
    content: dict[str, object] = {"predictions": answer.scores}
    if answer.unknown_categories:
        content["unknown_categories"] = answer.unknown_categories
    return to_json(content)


def _predict(server: Server, served: Served, request: PredictionRequest) -> Answer:
    model, release, columns = served.model, served.release, request.columns
    try:
        matrix = encode(columns, model.signature)
    except SchemaError as error:
        raise RequestError(422, str(error)) from error
    scores = predict(model, matrix).tolist()
    request_id = request.request_id or uuid.uuid4().hex
    server.log.write(
        PredictionRecord(
            time=clock.now(),
            request=request_id,
            use_case=release.use_case,
            version=release.version,
            sha256=release.sha256,
            categories=request.categories,
            floats=request.floats,
            scores=scores,
            events=request.event_ids,
        )
    )
    return Answer(request_id, scores, count_unknown_categories(columns, model.signature))
