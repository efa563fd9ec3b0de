"""What connections are made of: questions that are being read, and answers as bytes."""

from http import HTTPStatus
from urllib.parse import unquote

import httptools

from mlops_assets.serving.app import Exchange
from mlops_assets.serving.protocol import Headers, Response

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
"""Of the request line and all headers together."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
_CLOSE = b"connection: close\r\n"


class Question:
    """A request on its way in, or waiting for its turn to be answered."""

    __slots__ = (
        "chunks",
        "expects",
        "headed",
        "headers",
        "keep",
        "method",
        "opened",
        "size",
        "url",
    )

    def __init__(self) -> None:
        self.method = ""
        self.url = b""
        self.size = 0
        self.headers: Headers = []
        self.opened: Response | Exchange | None = None
        self.chunks: list[bytes] = []
        self.keep = True
        self.expects = False
        self.headed = False
        """Whether its headers are complete."""

    def is_too_large(self, head_bytes: int = 0) -> bool:
        """Whether it has too many headers, or too long ones. Of a header that is not complete the
        parser tells nothing, so that as long as one is missing ``head_bytes``, which came, count.
        """
        return max(head_bytes, self.size) > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS


def answer_bytes(response: Response, date: bytes, *, body: bool, close: bool) -> bytes:
    """``response`` as it goes out, ``date`` being a header; without its body for HEAD."""
    parts = [_STATUS_LINES[response.status], date]
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    if close and not response.close:
        parts.append(_CLOSE)
    parts.append(b"\r\n")
    if body:
        parts.append(response.body)
    return b"".join(parts)


def path_of(url: bytes) -> str:
    """The path that ``url`` names, without its query."""
    if not url.startswith(b"/"):
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            return ""
    path = url.partition(b"?")[0].decode("latin-1")
    return unquote(path) if "%" in path else path
