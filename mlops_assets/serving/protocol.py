"""HTTP without a transport: what a request says in its headers, and what an answer is made of."""

import itertools
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from mlops_assets.core.requests import MAX_ID_CHARACTERS, RequestError

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, and values."""

JSON = b"application/json"
CSV = b"text/csv"
BINARY = b"application/octet-stream"

MAX_CONTENT_TYPE = 200

_encoder = msgspec.json.Encoder()
_id = re.compile(rb"[\x21-\x7e]{1,256}")
_numbers = itertools.count()
_process = secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. Its body goes out as it is, and not at all where the method was HEAD."""

    status: int
    body: bytes
    headers: Headers
    close: bool = False
    """Whether the connection ends with it."""
    unread: bool = False
    """Whether a body may still be on its way: a client that is sending when its connection closes
    would see a reset instead of the answer."""


def json_bytes(content: object) -> bytes:
    """``content`` as JSON."""
    return _encoder.encode(content)


def request_id_of(fields: dict[bytes, bytes]) -> str:
    """The request's id: the caller's or the load balancer's, where it is a name, or a new one."""
    given = fields.get(b"x-request-id") or fields.get(b"x-amzn-sagemaker-inference-id")
    if given is not None and _id.fullmatch(given):
        return given.decode("ascii")
    return f"{_process}-{next(_numbers):x}"


def key_of(fields: dict[bytes, bytes]) -> str | None:
    """What the caller says to be known by: ``x-request-key``, or through SageMaker, which passes
    on no other header, ``key=…`` among the custom attributes.

    Raises RequestError 422 for one that is too long.
    """
    given = fields.get(b"x-request-key")
    if given is None:
        for attribute in fields.get(b"x-amzn-sagemaker-custom-attributes", b"").split(b","):
            name, _, value = attribute.strip().partition(b"=")
            if name == b"key":
                given = value
    if given is None:
        return None
    if len(given) > MAX_ID_CHARACTERS:
        raise RequestError(422, f"the request's key is longer than {MAX_ID_CHARACTERS} characters")
    return given.decode("latin-1")


def announced_length(fields: dict[bytes, bytes]) -> int | None:
    """The body's length by its header, if it has one. Raises RequestError 400 for nonsense."""
    value = fields.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise RequestError(400, "Content-Length is no count of bytes")
    return int(value)


def header_length(fields: dict[bytes, bytes]) -> int | None:
    """The length of the JSON before binary data. Raises RequestError 400 for nonsense."""
    value = fields.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise RequestError(400, "Inference-Header-Content-Length is no count of bytes")
    return int(value)


@dataclass(frozen=True, slots=True)
class MediaType:
    """What a body is, by its header; ``kind`` is empty where the client does not say."""

    kind: bytes
    header: bool = True
    """Whether a CSV begins with the names of its columns."""


def media_type(fields: dict[bytes, bytes]) -> MediaType:
    """The body's media type.

    Raises RequestError 415 for a compressed body, for text that is not UTF-8, and for a parameter
    ``header`` that is neither ``present`` nor ``absent``.
    """
    if fields.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        raise RequestError(415, "compressed bodies are not taken: send it as it is")
    value = fields.get(b"content-type", b"")
    if len(value) > MAX_CONTENT_TYPE:
        raise RequestError(415, f"the content type is longer than {MAX_CONTENT_TYPE} bytes")
    return _media_type(value)


@lru_cache(maxsize=256)
def _media_type(value: bytes) -> MediaType:
    kind, *parameters = (part.strip().lower() for part in value.split(b";"))
    header = b"present"
    for parameter in parameters:
        name, _, content = parameter.partition(b"=")
        content = content.strip(b'"')
        if name == b"charset" and content not in (b"utf-8", b"utf8", b"us-ascii"):
            raise RequestError(415, f"charset {_shown(content)} is not taken: send UTF-8")
        if name == b"header":
            header = content
    if header not in (b"present", b"absent"):
        raise RequestError(415, f"header={_shown(header)} is neither present nor absent")
    return MediaType(kind, header == b"present")


def accepted(fields: dict[bytes, bytes], kinds: tuple[bytes, ...]) -> bytes:
    """The first of ``kinds`` that the client accepts, in the order of its ``Accept`` header.

    Raises RequestError 406 where it accepts none of them.
    """
    value = fields.get(b"accept")
    if not value:
        return kinds[0]
    return _accepted(value[:MAX_CONTENT_TYPE], kinds)


@lru_cache(maxsize=256)
def _accepted(value: bytes, kinds: tuple[bytes, ...]) -> bytes:
    wanted: list[tuple[float, bytes]] = []
    for part in value.split(b","):
        name, *parameters = (piece.strip().lower() for piece in part.split(b";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith(b"q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if weight > 0:
            wanted.append((weight, name))
    for _, name in sorted(wanted, key=lambda pair: -pair[0]):
        for kind in kinds:
            if name in (kind, b"*/*", kind.split(b"/")[0] + b"/*"):
                return kind
    raise RequestError(406, f"no answer is {_shown(value)}; there is {b', '.join(kinds).decode()}")


def _shown(value: bytes) -> str:
    return repr(value[:40].decode("latin-1"))
