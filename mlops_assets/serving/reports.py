"""What a server process says about itself, in a file beside the release that it follows."""

import logging
import threading
from typing import TYPE_CHECKING

from mlops_assets import clock
from mlops_assets.core.errors import PlatformError
from mlops_assets.core.replica_reports import ReplicaReport
from mlops_assets.serving.objects import beside, write_object

if TYPE_CHECKING:
    from mlops_assets.serving.answers import Server

logger = logging.getLogger("mlops_assets.serving")

REPORT_S = 5.0
"""Seconds between reports."""

FOLDER = "replicas"
"""Beside the release."""


class Reporter:
    """Writes the report of ``server`` below the folder of its release."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._place = beside(server.follower.source, FOLDER, f"{server.replica}.json")
        self._error: str | None = None
        self._lock = threading.Lock()

    def write(self, *, ended: bool = False, error: str | None = None) -> None:
        """Report how things are now; what cannot be written is tried again the next time.

        ``error`` says why the server ends, where it does.
        """
        with self._lock:
            try:
                content = report_of(self._server, ended=ended, error=error).model_dump_json()
                write_object(self._place, content.encode())
            except PlatformError as failure:
                if str(failure) != self._error:
                    logger.error("the report waits to be written: %s", failure)
                self._error = str(failure)
            else:
                self._error = None


def report_of(server: "Server", *, ended: bool, error: str | None) -> ReplicaReport:
    """How ``server`` is now."""
    follower = server.follower
    # Once: it may change meanwhile.
    served = follower.served
    loaded = None if served is None else served.challenger
    return ReplicaReport(
        replica=server.replica,
        instance=server.instance,
        workers=server.workers,
        use_case="" if served is None else served.release.use_case,
        revision=0 if served is None else served.release.revision,
        refused=follower.refused,
        champion=None if served is None else served.champion.served.version,
        challenger=None if loaded is None else loaded.served.version,
        ready=served is not None and not ended and not server.draining,
        error=error or follower.error,
        at=clock.now(),
        ended=ended,
        lost_log_records=server.log.lost,
        totals=server.metrics.totals(),
    )
