"""What a replay asks: from the sources what the lake would give, over HTTP in its own time."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest
from lifecycle_support import FOLDER, spec_of_visits

import mlops_assets
from mlops_assets import clock
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import MissingPartitionsError, PermanentError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle import datasets, feature_views
from mlops_assets.lifecycle.source_tables import tables_from_sources
from mlops_assets.lifecycle.training_set import events_with_features, labelled_events
from mlops_assets.replay import traffic
from mlops_assets.replay.traffic import requests_of, send
from mlops_assets.testing import load_spec

FLIGHTS_FOLDER = Path(mlops_assets.__file__).parent / "defs" / "flight_delays"
FLIGHTS = load_spec(FLIGHTS_FOLDER / "defs.yaml")
VISITS = spec_of_visits()
BERLIN = Window(date(2024, 4, 2), date(2024, 4, 4), VISITS.timezone)


def functions_of(spec: UseCaseSpec) -> Functions:
    """The use case's own functions."""
    if spec is VISITS:
        return Functions("visits", FOLDER)
    return Functions("mlops_assets.defs.flight_delays", FLIGHTS_FOLDER)


def lake_of(spec: UseCaseSpec, folder: Path, window: Window, lookback_days: int) -> Lake:
    """The use case's tables as its stages make them."""
    lake, functions = Lake(str(folder)), functions_of(spec)
    first = max(spec.start, window.with_lookback(lookback_days).first)
    every = Window(first, window.end, window.timezone).partitions
    for name, dataset in spec.datasets.items():
        datasets.ingest(spec, functions, name, lake, every if dataset.partitioned else None)
    for name, view in spec.feature_views.items():
        days = Window(max(first, window.with_lookback(2).first), window.end, window.timezone)
        partitions = days.partitions if view.partitioned else None
        feature_views.compute(spec, functions, name, lake, partitions)
    return lake


@pytest.mark.parametrize(
    ("spec", "window", "lookback_days"),
    [
        # The first days of all, and a day that lost a row to quarantine: a wind of 1,048 mph.
        (FLIGHTS, Window(date(2013, 1, 1), date(2013, 1, 3), FLIGHTS.timezone), 0),
        (FLIGHTS, Window(date(2013, 2, 12), date(2013, 2, 13), FLIGHTS.timezone), 11),
        (VISITS, BERLIN, 5),
    ],
    ids=["first flights", "flights", "visits"],
)
def test_features_from_the_sources_are_those_of_the_lake(
    spec: UseCaseSpec,
    window: Window,
    lookback_days: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last bit, labels too."""
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({"2024-04-01": "some_negative"}))
    monkeypatch.setenv("VISITS_FAULTS", str(faults))
    functions = functions_of(spec)
    lake = lake_of(spec, tmp_path / "lake", window, lookback_days)
    tables = tables_from_sources(spec, functions, window)
    for rows in (events_with_features, labelled_events):
        expected = rows(spec, functions, lake, window)
        assert rows(spec, functions, tables, window).equals(expected)
        assert expected.height > 50


def test_requests_come_in_the_order_in_which_they_are_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the clock shows: what is asked tomorrow is known to the source, not to the lake."""
    monkeypatch.setenv(clock.ENV, str(tmp_path / "clock.json"))
    clock.restart(tmp_path / "clock.json", BERLIN.start_time - timedelta(days=300))
    rows = requests_of(VISITS, functions_of(VISITS), BERLIN)
    assert rows.height == 120
    assert rows["asked_at"].is_sorted()
    assert set(VISITS.feature_types) <= set(rows.columns)
    assert rows["shop_return_share"].null_count() == 0


def test_days_that_were_not_read_are_missing() -> None:
    """As in the lake; not empty."""
    tables = tables_from_sources(VISITS, functions_of(VISITS), BERLIN)
    for partitions, table in ((["2024-04-09"], "visits/visits"), (None, "visits/nothing")):
        with pytest.raises(MissingPartitionsError, match="was not read from its source"):
            tables.read(table, partitions)


@dataclass
class Answering:
    """A server that answers, and is away for the requests whose numbers are in ``away``."""

    clock_file: Path
    url: str = ""
    away: set[int] = field(default_factory=set[int])
    refuses: bool = False
    asked: list[tuple[str, datetime]] = field(default_factory=list[tuple[str, datetime]])
    tries: int = 0


@contextmanager
def answering(clock_file: Path) -> Iterator[Answering]:
    """A server on loopback that notes which event is asked, and what the clock shows then."""
    state = Answering(clock_file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            (event,) = next(i["data"] for i in body["inputs"] if i["name"] == "event_id")
            state.tries += 1
            if state.refuses:
                self._answer(422, {"error": "no such feature"})
            elif state.tries in state.away:
                self._answer(503, {"error": "busy"})
            else:
                state.asked.append((event, clock.shown(state.clock_file)))
                output = {"name": "p", "datatype": "FP32", "shape": [1], "data": [0.5]}
                self._answer(200, {"model_version": "1", "id": "r", "outputs": [output]})

        def _answer(self, status: int, content: object) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """A server, with a clock that stands at the start; nobody waits long for another try."""
    monkeypatch.setattr(traffic, "PAUSES_S", (0.0, 0.0, 0.0))
    clock.restart(tmp_path / "clock.json", BERLIN.start_time)
    with answering(tmp_path / "clock.json") as state:
        yield state


def rows(count: int = 10, at_a_time: int = 1) -> pl.DataFrame:
    """Requests, an hour apart, so many at a time."""
    start = BERLIN.start_time
    return pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(count)],
            "asked_at": [start + timedelta(hours=n // at_a_time) for n in range(count)],
            **{
                name: ["x" if kind == "category" else 1.0] * count
                for name, kind in VISITS.feature_types.items()
            },
        },
        schema_overrides={"asked_at": pl.Datetime("us", "UTC")},
    )


def expected(frame: pl.DataFrame) -> list[tuple[str, datetime]]:
    """Each event at its time."""
    return [(e, t.astimezone(UTC)) for e, t in frame.select("event_id", "asked_at").iter_rows()]


@pytest.mark.parametrize("speed", [0.0, 3_600_000.0], ids=["full speed", "an hour a millisecond"])
def test_each_event_is_asked_when_the_clock_says_so(server: Answering, speed: float) -> None:
    """In order, once, and the answer's time is exactly when it was asked."""
    clock.set_speed(server.clock_file, speed)
    heard: list[datetime] = []
    sent = send(VISITS, server.url, rows(), server.clock_file, heard.append)
    assert server.asked == expected(rows())
    assert heard == [at for _, at in server.asked]
    assert (sent.requests, sent.unanswered, sent.error) == (10, 0, None)
    assert len(sent.seconds) == 10
    assert min(sent.seconds) > 0


@pytest.mark.parametrize("at_a_time", [2, 3, 7])
def test_what_is_asked_at_one_instant_is_asked_together(server: Answering, at_a_time: int) -> None:
    """Each once and at its time, in whichever order; the clock waits for all of them."""
    heard: list[datetime] = []
    frame = rows(14, at_a_time)
    sent = send(VISITS, server.url, frame, server.clock_file, heard.append)
    assert sorted(server.asked, key=lambda item: int(item[0][1:])) == expected(frame)
    assert [at for _, at in server.asked] == heard == [at for _, at in expected(frame)]
    assert (sent.requests, sent.unanswered) == (14, 0)


def test_a_server_that_is_away_loses_no_question_of_an_instant(server: Answering) -> None:
    """Those that were asked together are asked again, each by itself."""
    server.away = {2, 3, 4}
    frame = rows(6, at_a_time=6)
    sent = send(VISITS, server.url, frame, server.clock_file)
    assert sorted(server.asked) == expected(frame)
    assert (sent.requests, server.tries) == (6, 9)


def test_what_was_asked_before_is_passed_over(server: Answering) -> None:
    """A replay goes on where its clock stands."""
    clock.set_to(server.clock_file, BERLIN.start_time + timedelta(hours=3))
    sent = send(VISITS, server.url, rows(), server.clock_file)
    assert server.asked == expected(rows())[3:]
    assert sent.requests == 7


def test_a_server_that_is_away_for_a_moment_is_asked_again(server: Answering) -> None:
    """Nothing is lost, and the clock waits."""
    server.away = {1, 2, 3, 9}
    sent = send(VISITS, server.url, rows(), server.clock_file)
    assert server.asked == expected(rows())
    assert (sent.requests, sent.unanswered) == (10, 0)
    assert server.tries == 14


def test_a_server_that_is_away_for_long_gets_one_try_a_row_until_it_answers(
    server: Answering,
) -> None:
    """The day goes on, and the replay says how many answers are missing and why."""
    server.away = set(range(1, 8))  # four tries of the first row, one of each of three more
    sent = send(VISITS, server.url, rows(), server.clock_file)
    assert server.asked == expected(rows())[4:]
    assert (sent.requests, sent.unanswered) == (6, 4)
    assert "503" in str(sent.error)


def test_a_server_that_is_gone_ends_no_replay(server: Answering, free_port: int) -> None:
    """Nobody listens there."""
    sent = send(VISITS, f"http://127.0.0.1:{free_port}", rows(), server.clock_file)
    assert (sent.requests, sent.unanswered) == (0, 10)
    assert f"127.0.0.1:{free_port}" in str(sent.error)
    assert clock.shown(server.clock_file) == rows()["asked_at"][-1]


def test_a_request_that_is_refused_ends_the_replay(server: Answering) -> None:
    """Asking again would not help: the model is another use case's."""
    server.refuses = True
    with pytest.raises(PermanentError, match=r"422.*no such feature"):
        send(VISITS, server.url, rows(), server.clock_file)
    assert server.tries == 1


def test_without_a_clock_nothing_is_asked(server: Answering) -> None:
    """The log would have the machine's time."""
    server.clock_file.unlink()
    with pytest.raises(PermanentError, match="no replay's clock"):
        send(VISITS, server.url, rows(), server.clock_file)
    assert server.tries == 0
