"""A small client of the Open Inference Protocol V2, on the standard library."""

import contextlib
import http.client
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from mlops_assets.core.errors import PermanentError, TransientError

Value = str | float | None


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered: one score per row."""

    scores: tuple[float, ...]
    model_version: str
    request_id: str
    parameters: dict[str, object]


@contextlib.contextmanager
def connect(url: str, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
    """A connection for several questions to the server at ``url`` (``http://host:port``)."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise PermanentError(f"{url!r} is no address of a server: give http://host:port")
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    url: str,
    name: str,
    inputs: Mapping[str, Sequence[Value]],
    timeout_s: float,
    connection: http.client.HTTPConnection | None = None,
) -> Answer:
    """Predictions of the model ``name`` for ``inputs``: columns of equal length; null is missing.

    A column ``event_id`` is recorded beside the predictions. ``connection`` (of :func:`connect`)
    is used again and again; without it, one is made for this question.

    Raises PermanentError for a refused request and TransientError for a server that is away, busy
    or later than ``timeout_s`` seconds.
    """
    rows = len(next(iter(inputs.values()), ()))
    tensors = [
        {"name": field, "shape": [rows], "datatype": _datatype(values), "data": _plain(values)}
        for field, values in inputs.items()
    ]
    body = json.dumps({"inputs": tensors}, allow_nan=False).encode()
    path = f"/v2/models/{name}/infer"
    if connection is None:
        with connect(url, timeout_s) as fresh:
            status, content = request(fresh, "POST", path, body)
    else:
        status, content = request(connection, "POST", path, body)
    if status != 200:
        kind = TransientError if status >= 500 or status == 408 else PermanentError
        raise kind(f"{url} answered {status} for {name}: {content.get('error', content)}")
    output = cast("list[dict[str, list[float]]]", content["outputs"])[0]
    return Answer(
        scores=tuple(output["data"]),
        model_version=str(content["model_version"]),
        request_id=str(content["id"]),
        parameters=cast("dict[str, object]", content.get("parameters", {})),
    )


def request(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, dict[str, object]]:
    """Status and JSON object of one exchange. Raises TransientError for no or no such answer."""
    where = f"http://{connection.host}:{connection.port}{path}"
    reused = connection.sock is not None
    try:
        try:
            return _exchange(connection, method, path, body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()
            if not reused:
                raise
            # The server closed an idle connection, or went away: a fresh one tells which.
            return _exchange(connection, method, path, body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        reason = str(error) or type(error).__name__
        raise TransientError(f"no answer from {where}: {reason}") from error


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
) -> tuple[int, dict[str, object]]:
    headers = {"content-type": "application/json"} if body is not None else {}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = json.loads(response.read())
    if not isinstance(content, dict):
        raise ValueError("the answer is no JSON object")
    return response.status, content


def _datatype(values: Sequence[Value]) -> str:
    return "BYTES" if any(isinstance(value, str) for value in values) else "FP64"


def _plain(values: Sequence[Value]) -> list[Value]:
    """``values`` for JSON, which has no NaN: missing is null."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]
