"""The server's own log: one JSON object a line, with request ids and never a value of a request."""

import logging
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import Literal

import msgspec

LOGGER = "mlops_assets.serving"

Mode = Literal["errors", "all", "none"]
"""Which requests are logged."""

MOST_ERRORS_S = 20
"""Refused requests that are logged in one second: a flood of them does not fill the disk."""

_encoder = msgspec.json.Encoder(enc_hook=str)
_requests = logging.getLogger(f"{LOGGER}.requests")


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON.

    Of an exception it has the type and the places, without the text, in which there may be values
    of a request.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        content: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        fields: dict[str, object] = getattr(record, "fields", {})
        content |= fields
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            content["exception"] = type(error).__name__
            content["places"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)
            ]
        return _encoder.encode(content).decode()


def log_as_json() -> None:
    """Write what the server logs to stderr, as JSON; of libraries, what is a warning or worse."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(LOGGER).setLevel(logging.INFO)


class RequestLog:
    """Logs requests, as many as ``mode`` says. Thread-safe."""

    def __init__(self, mode: Mode = "errors", most_errors_s: int = MOST_ERRORS_S) -> None:
        self._mode = mode
        self._most = most_errors_s
        self._lock = threading.Lock()
        self._second = 0
        self._logged = 0
        self._left_out = 0

    def done(self, request_id: str, route: str, status: int, seconds: float, size: int) -> None:
        """Log a request to ``route``, a path without names of the client's choosing, that was
        answered with ``status`` after ``seconds``; its body had ``size`` bytes.
        """
        if self._mode != "all" and (status < 400 or self._mode == "none"):
            return
        fields: dict[str, object] = {
            "request": request_id,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 3),
            "bytes": size,
        }
        if status < 400:
            _requests.info("answered", extra={"fields": fields})
            return
        left_out = self._admit()
        if left_out is None:
            return
        if left_out:
            fields["left_out"] = left_out
        level = logging.ERROR if status == 500 else logging.WARNING
        _requests.log(level, "refused", extra={"fields": fields})

    def _admit(self) -> int | None:
        """How many lines were left out before this one; None where it is left out too."""
        second = int(time.monotonic())
        with self._lock:
            if second != self._second:
                self._second, self._logged = second, 0
            if self._logged >= self._most:
                self._left_out += 1
                return None
            self._logged += 1
            left_out, self._left_out = self._left_out, 0
            return left_out
