"""Brings the prediction log to where it is kept, for a server whose disk goes with its pod.

Every ``SHIP_S`` seconds the segment that is being written is closed, so that a node that goes
without a word takes no more than that along. What is closed is moved to a name that nobody has
written before it is sent, and sent under that name: sending it twice changes nothing.
"""

import logging
import time
from pathlib import Path

from mlops_assets.core.errors import PlatformError
from mlops_assets.core.prediction_log import shipped_name
from mlops_assets.serving.objects import write_object
from mlops_assets.serving.prediction_log import PredictionLog

logger = logging.getLogger("mlops_assets.serving")

SHIP_S = 60.0
"""Seconds between shipments: the most that the loss of the pod can take, and 1,440 objects a day
for a server that never rests."""

LAST_SHIPMENT_S = 20.0
"""Seconds for what is left when the server ends."""

MOST_BYTES = 1024 * 1024 * 1024
"""What may wait while the store is away: beyond, the oldest go, before the pod is evicted."""


class Shipper:
    """Sends the closed segments of ``log`` below ``url``."""

    def __init__(self, log: PredictionLog, url: str, most_bytes: int = MOST_BYTES) -> None:
        self._log = log
        self._url = url.rstrip("/")
        self._most_bytes = most_bytes
        self._error: str | None = None

    def ship(self, deadline: float | None = None) -> int:
        """Send what was logged until now, oldest first; how many segments were sent.

        What cannot be sent stays for the next time. ``deadline`` (of ``time.monotonic``): when to
        begin no other one.
        """
        sent = 0
        for segment in self._waiting():
            if deadline is not None and time.monotonic() >= deadline:
                break
            try:
                write_object(f"{self._url}/{shipped_name(segment.name)}", segment.read_bytes())
            except (PlatformError, OSError) as error:
                if str(error) != self._error:
                    logger.error("the prediction log waits to be shipped: %s", error)
                self._error = str(error)
                break
            segment.unlink()
            self._error = None
            sent += 1
        return sent

    def _waiting(self) -> list[Path]:
        """The segments to send; without the oldest, where there is no room for all of them."""
        kept: list[Path] = []
        room = self._most_bytes
        for segment in reversed(self._log.cut()):
            room -= segment.stat().st_size
            if room >= 0:
                kept.append(segment)
            else:
                with segment.open("rb") as file:
                    records = sum(1 for _ in file)
                self._log.lose(records, f"no room for {segment.name}, and no store to send it to")
                segment.unlink()
        return kept[::-1]
