"""The requests of a replay: each event of a day, asked of the endpoint when it would be asked."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
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
    """Ask the endpoint at ``url`` about each of ``rows``, in order, one after the other, when the
    clock in ``clock_file`` says that it is asked (:func:`mlops_assets.clock.sleep_until`).

    Rows of before the clock's time are passed over: they have been asked. An endpoint that is away
    is asked again after each of PAUSES_S; once it has used them up, each further row gets one try,
    until one is answered. ``on_answer`` hears each row's ``asked_at``. Raises PermanentError for a
    request that the endpoint refuses, and without a clock.
    """
    import polars as pl

    from mlops_assets.adapters.endpoints.client import connect
    from mlops_assets.lifecycle.training_set import ASKED_AT

    shown = clock.shown(clock_file)
    names = [EVENT_ID, *spec.feature_types]
    seconds: list[float] = []
    unanswered, last_error = 0, None
    pauses = PAUSES_S
    with connect(url, TIMEOUT_S) as connection:
        ahead = rows.filter(pl.col(ASKED_AT) >= shown).select(ASKED_AT, *names)
        for row in ahead.iter_rows(named=True):
            asked_at = row.pop(ASKED_AT)
            clock.sleep_until(clock_file, asked_at)
            begun = time.perf_counter()
            connection.timeout = TIMEOUT_S if pauses else PROBE_TIMEOUT_S
            error = _ask(spec, url, row, connection, pauses)
            if error is None:
                seconds.append(time.perf_counter() - begun)
            else:
                unanswered, last_error = unanswered + 1, error
            pauses = PAUSES_S if error is None else ()
            on_answer(asked_at)
    return Sent(tuple(seconds), unanswered, last_error)


def _ask(
    spec: UseCaseSpec,
    url: str,
    row: dict[str, str | float | None],
    connection: "http.client.HTTPConnection",
    pauses: tuple[float, ...],
) -> str | None:
    """None when the endpoint has answered, else why it has not, after the last try."""
    from mlops_assets.adapters.endpoints.client import ask

    inputs = {name: [value] for name, value in row.items()}
    for pause in (*pauses, None):
        try:
            ask(url, spec.name, inputs, TIMEOUT_S, connection)
        except TransientError as error:
            if pause is None:
                return str(error)
            time.sleep(pause)
        else:
            return None
    return None
