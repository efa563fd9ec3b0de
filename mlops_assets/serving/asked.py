"""A request's headers, and what every answer to it has."""

import time

from mlops_assets.core.requests import RequestError
from mlops_assets.serving.admission import RETRY_AFTER_S
from mlops_assets.serving.answers import Server
from mlops_assets.serving.protocol import JSON, Headers, Response, json_bytes, request_id_of

UNKNOWN_ROUTE = "unknown"

Fields = dict[bytes, bytes]


class Asked:
    """A request's headers, and when they came."""

    __slots__ = ("began", "complete", "fields", "refused", "request_id", "route", "server", "size")

    def __init__(self, server: Server, fields: Fields) -> None:
        self.server = server
        self.fields = fields
        self.request_id = request_id_of(fields)
        self.began = time.perf_counter()
        self.route = UNKNOWN_ROUTE
        self.size = 0
        self.complete = False
        self.refused = False

    def respond(
        self, status: int, body: bytes, headers: Headers, *, close: bool = False
    ) -> Response:
        """The answer, counted and logged."""
        server = self.server
        seconds = time.perf_counter() - self.began
        if status != 503 or self.refused:  # a probe that finds a server not ready is answered
            server.request_log.done(self.request_id, self.route, status, seconds, self.size)
        unread = not self.complete and self._has_large_body()
        close = close or unread or server.draining
        fields = [
            *headers,
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.request_id.encode()),
        ]
        if close:
            fields.append((b"connection", b"close"))
        return Response(status, body, fields, close, unread)

    def _has_large_body(self) -> bool:
        """Whether the body is too large to be dropped for the sake of the connection."""
        if b"transfer-encoding" in self.fields:
            return True
        length = self.fields.get(b"content-length", b"0")
        return len(length) > 5 and self.fields.get(b"expect") is None

    def refuse(self, error: RequestError, *more: tuple[bytes, bytes]) -> Response:
        """The protocol's error body."""
        self.refused = True
        self.server.metrics.refused(error.status)
        headers = [(b"content-type", JSON), *more]
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if error.status == 503:
            headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
        body = json_bytes({"error": str(error)})
        return self.respond(error.status, body, headers, close=error.status == 408)

    def named(self) -> dict[str, object]:
        """What the log says about the request."""
        return {"fields": {"request": self.request_id, "route": self.route}}

    def broken(self) -> Response:
        """What a bug is answered with: it is this request's alone, and the log says where it is."""
        error = RequestError(500, f"internal error; the server's log has it as {self.request_id}")
        return self.refuse(error)
