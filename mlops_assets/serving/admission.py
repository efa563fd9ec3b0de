"""How much a server takes on at once: more is refused at once, instead of answered too late."""

from mlops_assets.core.requests import RequestError

RETRY_AFTER_S = 1
"""What a refused client is told to wait: by then the requests in flight are answered."""


class Admission:
    """Counts the requests in flight and the bytes of their bodies. For one thread: the loop's."""

    def __init__(
        self, max_in_flight: int = 256, max_buffered_bytes: int = 128 * 1024 * 1024
    ) -> None:
        self.in_flight = 0
        self.buffered = 0
        self._max_in_flight = max_in_flight
        self._max_buffered_bytes = max_buffered_bytes

    def enter(self) -> None:
        """Take one more request. Raises RequestError 503."""
        if self.in_flight >= self._max_in_flight:
            raise RequestError(
                503, f"{self.in_flight} requests are in flight, no more are taken: try again"
            )
        self.in_flight += 1

    def hold(self, size: int) -> None:
        """Take ``size`` more bytes of a body. Raises RequestError 503."""
        if self.buffered + size > self._max_buffered_bytes:
            raise RequestError(
                503, f"{self.buffered} bytes of requests are in flight already: try again"
            )
        self.buffered += size

    def leave(self, held: int) -> None:
        """Let go of a request and of the ``held`` bytes of its body."""
        self.in_flight -= 1
        self.buffered -= held
