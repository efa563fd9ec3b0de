"""The requests of a replay: each event of a day, asked of the endpoint when it would be asked."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets import clock
from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import TransientError
from mlops_assets.core.spec import EVENT_ID, UseCaseSpec
from mlops_assets.core.windows import Window

if TYPE_CHECKING:
    import http.client

    import polars as pl

TIMEOUT_S = 10.0
"""Seconds for an answer; a busy machine's server takes one."""

PROBE_TIMEOUT_S = 1.0
"""Seconds for an answer of a server that has just used up all tries."""

CONNECTIONS = 2
"""Questions of one instant that are asked at a time: the server answers one while another is
written and read."""

PAUSES_S = (0.1, 0.4, 1.0, 2.0, 4.0)
"""Seconds before each further try: a server that is replaced is back by then."""


@dataclass(frozen=True)
class Sent:
    """What became of the requests."""

    seconds: tuple[float, ...] = ()
    """How long each that was answered took, tries included."""
    unanswered: int = 0
    """Those that were given up: the prediction log lacks them."""
    error: str | None = None
    """Why the last of them was."""

    @property
    def requests(self) -> int:
        """How many were answered."""
        return len(self.seconds)


def requests_of(spec: UseCaseSpec, functions: Functions, window: Window) -> "pl.DataFrame":
    """The window's events with their features as known when they are asked, in that order.

    Columns: event_id, event_time, asked_at, entity columns, features. They come from the sources,
    which know the days to come; the lake does not have them yet.
    """
    from mlops_assets.lifecycle.source_tables import tables_from_sources
    from mlops_assets.lifecycle.training_set import ASKED_AT, events_with_features

    tables = tables_from_sources(spec, functions, window)
    rows = events_with_features(spec, functions, tables, window)
    return rows.sort(ASKED_AT, EVENT_ID)


def send(
    spec: UseCaseSpec,
    url: str,
    rows: "pl.DataFrame",
    clock_file: Path,
    on_answer: Callable[[datetime], None] = lambda _: None,
) -> Sent:
    """Ask the endpoint at ``url`` about each of ``rows``, in order, when the clock in
    ``clock_file`` says that it is asked (:func:`mlops_assets.clock.sleep_until`). What is asked at
    one instant is asked over CONNECTIONS connections; the clock moves on when all is answered.

    Rows of before the clock's time are passed over: they have been asked. An endpoint that is away
    is asked again after each of PAUSES_S; once it has used them up, each further row gets one try,
    until one is answered. ``on_answer`` hears each row's ``asked_at``. Raises PermanentError for a
    request that the endpoint refuses, and without a clock.
    """
    import polars as pl

    from mlops_assets.lifecycle.training_set import ASKED_AT

    shown = clock.shown(clock_file)
    names = [EVENT_ID, *spec.feature_types]
    seconds: list[float] = []
    unanswered, last_error = 0, None
    ahead = rows.filter(pl.col(ASKED_AT) >= shown).select(ASKED_AT, *names)
    with _asking(spec, url) as asking:
        for asked_at, group in groupby(ahead.iter_rows(named=True), lambda row: row[ASKED_AT]):
            clock.sleep_until(clock_file, asked_at)
            questions = [{name: row[name] for name in names} for row in group]
            for took, error in asking.ask(questions):
                if error is None:
                    seconds.append(took)
                else:
                    unanswered, last_error = unanswered + 1, error
                on_answer(asked_at)
    return Sent(tuple(seconds), unanswered, last_error)


Row = dict[str, str | float | None]


@dataclass
class _Asking:
    """Connections to an endpoint, and what is known of it."""

    spec: UseCaseSpec
    url: str
    pool: ThreadPoolExecutor
    idle: "queue.SimpleQueue[http.client.HTTPConnection]"
    away: bool = False
    """Whether it has used up all tries."""
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self, rows: Sequence[Row]) -> list[tuple[float, str | None]]:
        """For each of ``rows`` the seconds until its answer, and why there is none, if so."""
        if len(rows) == 1 or self.away:
            return [self._ask(row) for row in rows]
        return list(self.pool.map(self._ask, rows))

    def _ask(self, row: Row) -> tuple[float, str | None]:
        connection = self.idle.get()
        try:
            begun = time.perf_counter()
            connection.timeout = PROBE_TIMEOUT_S if self.away else TIMEOUT_S
            error = self._tried(row, connection, () if self.away else PAUSES_S)
            self.away = error is not None
            return time.perf_counter() - begun, error
        finally:
            self.idle.put(connection)

    def _tried(
        self, row: Row, connection: "http.client.HTTPConnection", pauses: tuple[float, ...]
    ) -> str | None:
        """None when the endpoint has answered, else why it has not, after the last try."""
        from mlops_assets.adapters.endpoints.client import ask

        inputs = {name: [value] for name, value in row.items()}
        for pause in (*pauses, None):
            try:
                ask(self.url, self.spec.name, inputs, TIMEOUT_S, connection)
            except TransientError as error:
                if pause is None or self.stopped.wait(pause):
                    return str(error)
            else:
                return None
        return None


@contextmanager
def _asking(spec: UseCaseSpec, url: str) -> Iterator[_Asking]:
    """What asks the endpoint at ``url``. Whoever leaves early waits for no further tries."""
    from mlops_assets.adapters.endpoints.client import connect

    with ExitStack() as stack:
        idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        for _ in range(CONNECTIONS):
            idle.put(stack.enter_context(connect(url, TIMEOUT_S)))
        pool = ThreadPoolExecutor(CONNECTIONS, "asking")
        asking = _Asking(spec, url, pool, idle)
        try:
            yield asking
        finally:
            asking.stopped.set()
            pool.shutdown(cancel_futures=True)
