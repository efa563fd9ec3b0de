"""Scores with the model that did not answer, after the caller has been answered.

One thread, so that it takes no more than one core's part from those who wait for answers. What it
cannot keep up with is left out and counted: callers never wait for it.
"""

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger("mlops_assets.serving")

MOST_ROWS = 20_000
"""Rows that may wait: two requests of the largest size, or some seconds of small ones."""

MOST_JOBS = 2_000
"""Requests that may wait, each of which keeps its columns."""

PATIENCE_S = 2.0
"""Seconds for what waits when the server ends."""

Job = Callable[[], None]


class Background:
    """Runs jobs in the order in which they came, in a daemon thread that starts with the first."""

    def __init__(self, most_rows: int = MOST_ROWS, most_jobs: int = MOST_JOBS) -> None:
        self._most_rows = most_rows
        self._most_jobs = most_jobs
        self._jobs: queue.SimpleQueue[tuple[Job, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._rows = 0
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, job: Job, rows: int) -> bool:
        """Run ``job``, which is about ``rows`` rows, soon; False where too much waits already."""
        with self._lock:
            full = self._waiting >= self._most_jobs or self._rows + rows > self._most_rows
            # A large request is taken when nothing else waits.
            if self._closed or (full and self._waiting > 0):
                return False
            self._waiting += 1
            self._rows += rows
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="background", daemon=True)
                self._thread.start()
        self._jobs.put((job, rows))
        return True

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Take no more jobs, and give those that wait ``patience_s`` seconds."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._jobs.put(None)
            thread.join(patience_s)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, rows = item
            try:
                job()
            except Exception:
                logger.exception("scoring in the background failed")
            with self._lock:
                self._waiting -= 1
                self._rows -= rows
