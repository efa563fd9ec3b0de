"""HTTP over ASGI: bodies read within limits, JSON answers."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from mlops_assets.core.requests import RequestError

# ASGI's own types: a scope and its messages are open dictionaries.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAIN_S = 1.0
"""Seconds for which the rest of a refused body is read and dropped: a client that is still sending
when the connection closes would see a reset instead of the reason."""

_encoder = msgspec.json.Encoder()


class DisconnectedError(Exception):
    """The client went away before its request was complete: nobody waits for an answer."""


async def read_body(scope: Scope, receive: Receive, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body, counted while it comes, so that a chunked one is limited too.

    Raises RequestError 413 beyond ``max_bytes`` and 408 after ``timeout_s`` seconds, and
    DisconnectedError.
    """
    headers = scope["headers"]
    length = header(headers, b"content-length")
    too_large = RequestError(413, f"the body is larger than {max_bytes} bytes: send fewer rows")
    announced = length is not None and length.isdigit() and int(length) > max_bytes
    if announced and header(headers, b"expect") is not None:
        raise too_large  # the client waits for leave to send, so nothing is on its way
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while not announced:
                chunk, more = await _next(receive)
                size += len(chunk)
                if size > max_bytes:
                    break
                chunks.append(chunk)
                if not more:
                    return b"".join(chunks)
    except TimeoutError:
        raise RequestError(
            408, f"the body did not arrive within {timeout_s:g} s ({size} bytes did)"
        ) from None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while (await _next(receive))[1]:
                pass
    raise too_large


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    return message.get("body", b""), message.get("more_body", False)


def header(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The first value of the header ``name`` (lower case), stripped."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1").strip()
    return None


def media_type(scope: Scope) -> str | None:
    """The body's media type in lower case, or none if the client does not say.

    Raises RequestError 415 for a compressed body and for text that is not UTF-8.
    """
    if header(scope["headers"], b"content-encoding") not in (None, "", "identity"):
        raise RequestError(415, "compressed bodies are not taken: send it as it is")
    value = header(scope["headers"], b"content-type")
    if not value:
        return None
    kind, *parameters = (part.strip().lower() for part in value.split(";"))
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name == "charset" and charset.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise RequestError(415, f"charset {charset[:40]!r} is not taken: send UTF-8")
    return kind


async def respond(
    send: Send, status: int, content: object, headers: Mapping[bytes, bytes] | None = None
) -> None:
    """Answer with ``content`` as JSON; bytes are JSON already."""
    body = content if isinstance(content, bytes) else _encoder.encode(content)
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *(headers or {}).items(),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: RequestError, allow: str | None = None) -> None:
    """The protocol's error body. A connection whose body was not read to its end is closed."""
    headers = {b"connection": b"close"} if error.status in (408, 413) else {}
    if allow is not None:
        headers[b"allow"] = allow.encode()
    await respond(send, error.status, {"error": str(error)}, headers)


def to_json(content: object) -> bytes:
    """``content`` as JSON."""
    return _encoder.encode(content)
