"""The forms of a question and of its answer: tensors, MLflow's and SageMaker's invocations, CSV."""

from collections.abc import Callable
from functools import lru_cache

import msgspec

from mlops_assets.core.binary_tensors import write_floats
from mlops_assets.core.fast_infer import parse_fast
from mlops_assets.core.invocations import parse_csv, parse_invocation
from mlops_assets.core.requests import PredictionRequest, RequestError, RequestSchema
from mlops_assets.core.tensors import parse_infer
from mlops_assets.serving.answers import Answer
from mlops_assets.serving.protocol import (
    BINARY,
    CSV,
    JSON,
    Headers,
    accepted,
    header_length,
    json_bytes,
    media_type,
)

Parse = Callable[[bytes, RequestSchema, int], PredictionRequest]
Write = Callable[[Answer, PredictionRequest], tuple[bytes, Headers]]
Form = tuple[Parse, Write]


class _Output(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: list[int]
    data: list[float] | None = None
    parameters: dict[str, int] | None = None


class _InferAnswer(msgspec.Struct):
    model_name: str
    model_version: str
    id: str
    parameters: dict[str, str | int]
    outputs: list[_Output]


def infer_form(use_case: str, fields: dict[bytes, bytes]) -> Form:
    """How a V2 request with these headers is read, and its answer written.

    Raises RequestError 415 for another content type, 400 for a header that is no length.
    """
    kind = media_type(fields).kind
    length = header_length(fields)
    if kind not in (b"", JSON) and (kind != BINARY or length is None):
        raise RequestError(
            415,
            f"content type {kind[:80].decode('latin-1')!r} is not taken: send application/json, or "
            "binary data with Inference-Header-Content-Length",
        )

    plain = _infer_form(use_case)
    if length is None:
        return plain

    def parse(body: bytes, schema: RequestSchema, max_rows: int) -> PredictionRequest:
        return parse_infer(body, schema, max_rows, length)

    return parse, plain[1]


@lru_cache(maxsize=16)
def _infer_form(use_case: str) -> Form:
    """JSON in; out as the request says."""

    def write(answer: Answer, request: PredictionRequest) -> tuple[bytes, Headers]:
        loaded, unknown = answer.loaded, answer.unknown_categories
        # The protocol's parameters are flat: strings, numbers and booleans.
        parameters: dict[str, str | int] = {
            "sha256": loaded.served.sha256,
            "role": answer.role,
            "unknown_categories": sum(unknown.values()),
        }
        for name, number in unknown.items():
            parameters[f"unknown_categories.{name}"] = number
        output = _Output(loaded.signature.output, "FP32", [request.rows])
        content = _InferAnswer(
            use_case, str(loaded.served.version), answer.request_id, parameters, [output]
        )
        if not request.binary_output:
            output.data = answer.scores
            return json_bytes(content), [(b"content-type", JSON)]
        scores = write_floats(answer.scores)
        output.parameters = {"binary_data_size": len(scores)}
        head = json_bytes(content)
        return head + scores, [
            (b"content-type", BINARY),
            (b"inference-header-content-length", b"%d" % len(head)),
        ]

    return _parse_infer, write


def _parse_infer(body: bytes, schema: RequestSchema, max_rows: int) -> PredictionRequest:
    return parse_fast(body, schema, max_rows) or parse_infer(body, schema, max_rows)


def invocation_form(fields: dict[bytes, bytes]) -> Form:
    """How an invocation with these headers is read, and its answer written.

    Raises RequestError 415 for another content type, 406 for another accepted one.
    """
    media = media_type(fields)
    write = _write_json if accepted(fields, (JSON, CSV)) == JSON else _write_csv
    if media.kind == JSON:
        return parse_invocation, write
    if media.kind == CSV:
        return _parse_csv if media.header else _parse_bare_csv, write
    raise RequestError(
        415,
        f"content type {media.kind[:80].decode('latin-1')!r} is not taken: send application/json "
        "or text/csv",
    )


def _parse_csv(body: bytes, schema: RequestSchema, max_rows: int) -> PredictionRequest:
    return parse_csv(body, schema, max_rows)


def _parse_bare_csv(body: bytes, schema: RequestSchema, max_rows: int) -> PredictionRequest:
    return parse_csv(body, schema, max_rows, header=False)


def _write_json(answer: Answer, request: PredictionRequest) -> tuple[bytes, Headers]:
    content: dict[str, object] = {"predictions": answer.scores}
    if answer.unknown_categories:
        content["unknown_categories"] = answer.unknown_categories
    return json_bytes(content), [(b"content-type", JSON), _version(answer)]


def _write_csv(answer: Answer, request: PredictionRequest) -> tuple[bytes, Headers]:
    """One score a line, without a header: what SageMaker's own containers write."""
    body = "".join(f"{score!r}\n" for score in answer.scores).encode()
    return body, [(b"content-type", b"text/csv; charset=utf-8"), _version(answer)]


def _version(answer: Answer) -> tuple[bytes, bytes]:
    return b"x-model-version", str(answer.loaded.served.version).encode()
