"""`mlops replay`: the clock and the requests, with a real endpoint."""

import hashlib
import io
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xgboost
from lifecycle_support import FOLDER, spec_of_visits
from rich.console import Console

from mlops_assets import clock
from mlops_assets.adapters import documents
from mlops_assets.adapters.endpoints import local
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.inference import dump_model, encode, feature_types
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.rollout_state import EndpointRecord, ServedModel
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window, day_start
from mlops_assets.lifecycle.platform import Places
from mlops_assets.replay import driver
from mlops_assets.replay.driver import replay, run_replay, span_of, speed_of
from mlops_assets.replay.traffic import requests_of

FUNCTIONS = Functions("visits", FOLDER)
FIRST = date(2024, 4, 10)  # the first day after the training window


@dataclass
class Place:
    """Where one test runs its replays."""

    folder: Path
    spec: UseCaseSpec
    clock_file: Path

    @property
    def places(self) -> Places:
        """What is kept where."""
        return Places.under(self.folder)

    def deploy(self) -> EndpointRecord:
        """An endpoint of an untrained model, as the stages leave it."""
        names = self.spec.feature_types
        signature = Signature(
            inputs=tuple(
                FeatureField(name=name, type=kind, categories=("east", "west"))
                if kind == "category"
                else FeatureField(name=name, type=kind)
                for name, kind in names.items()
            ),
            output="returned",
        )
        columns = {
            name: ["east", None] if kind == "category" else [1.0, None]
            for name, kind in names.items()
        }
        data = xgboost.DMatrix(
            encode(columns, signature),
            np.array([0, 1], np.float32),
            feature_types=feature_types(signature),
            enable_categorical=True,
        )
        model = dump_model(xgboost.train({"objective": "binary:logistic"}, data, 1), signature)
        artifact = self.folder / "model.ubj"
        artifact.write_bytes(model)
        digest = hashlib.sha256(model).hexdigest()
        champion = ServedModel(version=1, sha256=digest, artifact=str(artifact))
        places = self.places
        record = local.deploy("visits", champion, self.spec.endpoint, places.endpoints, 60, "test")
        documents.write(self.places.documents, "visits", "endpoint", record)
        return record

    def replay(self, first: date | None, until: date | None, speed: str = "max") -> tuple[int, str]:
        """Exit code, and what was told."""
        told = io.StringIO()
        console = Console(file=told, width=300)
        code = replay(
            console, self.spec, FUNCTIONS, self.places, self.clock_file, first, until, speed
        )
        return code, told.getvalue()

    def asked(self, first: date, end: date) -> dict[str, datetime]:
        """Each event of the days, and when it is asked."""
        rows = requests_of(self.spec, FUNCTIONS, Window(first, end, self.spec.timezone))
        return {e: t.astimezone(UTC) for e, t in rows.select("event_id", "asked_at").iter_rows()}

    def answered(self, record: EndpointRecord) -> dict[str, datetime]:
        """Each event of the prediction log, once, and when it was answered."""
        table = read_predictions(record.prediction_log).table
        events = table["event_id"].to_pylist()
        assert len(events) == len(set(events))
        return dict(zip(events, table["time"].to_pylist(), strict=True))


@pytest.fixture
def place(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder and a port; its server is stopped afterwards."""
    monkeypatch.delenv(clock.ENV, raising=False)
    yield Place(tmp_path, spec_of_visits(free_port), tmp_path / "replay" / "clock.json")
    local.stop("visits", Places.under(tmp_path).endpoints)


def test_days_are_asked_and_a_later_start_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event once and at its time, by a server that was on the machine's time before."""
    record = place.deploy()
    monkeypatch.setenv(clock.ENV, str(place.clock_file))
    monkeypatch.setattr(driver, "CHUNK_DAYS", 1)
    place.spec = place.spec.model_copy(update={"end": FIRST + timedelta(days=4)})
    expected = place.asked(FIRST, FIRST + timedelta(days=4))
    code, told = place.replay(None, FIRST + timedelta(days=2))
    assert code == 0
    assert "2024-04-10: 60 requests asked\n2024-04-11: 60 requests asked" in told
    arrival = day_start(FIRST + timedelta(days=2), "Europe/Berlin") + timedelta(hours=6)
    assert clock.now() == arrival
    by_then = {e: t for e, t in expected.items() if t < arrival}
    assert f"over: {len(by_then)} requests" in told
    assert place.answered(record) == by_then
    with pytest.raises(PermanentError, match=r"over: its clock .* shows 2024-04-12 06:00"):
        place.replay(None, FIRST + timedelta(days=2))
    assert place.replay(None, None)[0] == 0
    assert place.answered(record) == expected


def test_an_interrupted_replay_goes_on_where_it_stood(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C or by SIGTERM: the clock stands, nothing is lost and nothing is asked twice."""
    record = place.deploy()
    monkeypatch.setenv(clock.ENV, str(place.clock_file))
    expected = place.asked(FIRST, FIRST + timedelta(days=1))
    before = signal.getsignal(signal.SIGTERM)
    stop = threading.Event()
    for number, at in ((signal.SIGINT, 20), (signal.SIGTERM, 40)):
        instant = sorted(expected.values())[at]

        def end(number: int = number, instant: datetime = instant) -> None:
            while not place.clock_file.exists() or clock.now() < instant:
                stop.wait(0.001)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        code, told = place.replay(None, FIRST + timedelta(days=1), "1d/5s")
        thread.join()
        assert code == 130
        assert "The clock stands at 2024-04-10" in told
        assert "mlops replay visits --speed 1d/5s" in told
        shown = clock.now()
        assert instant <= shown < sorted(expected.values())[-1]
    assert signal.getsignal(signal.SIGTERM) is before
    assert place.replay(None, FIRST + timedelta(days=1))[0] == 0
    midnight = day_start(FIRST + timedelta(days=1), "Europe/Berlin")
    table = read_predictions(record.prediction_log, until=midnight).table
    times = zip(table["event_id"].to_pylist(), table["time"].to_pylist(), strict=True)
    # What was asked at the very instant of an interruption may have been asked again, then.
    assert dict(times) == expected
    assert table.num_rows <= len(expected) + 2


def test_from_sets_the_clock_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replay of the same days."""
    monkeypatch.setenv(clock.ENV, str(place.clock_file))
    clock.restart(place.clock_file, datetime(2024, 4, 20, tzinfo=UTC))
    span = span_of(place.spec, place.clock_file, date(2024, 4, 2), None)
    assert clock.now() == span.start == day_start(date(2024, 4, 2), "Europe/Berlin")
    assert span.end == day_start(date(2024, 5, 1), "Europe/Berlin") + timedelta(hours=6)
    clock.set_to(place.clock_file, span.start + timedelta(hours=7))
    assert span_of(place.spec, place.clock_file, None, None).start == clock.now()


@pytest.mark.parametrize(
    ("first", "until", "message"),
    [
        (date(2024, 2, 1), None, r"--from 2024-02-01 .*2024-03-01 to 2024-05-01"),
        (date(2024, 5, 1), None, r"--from 2024-05-01"),
        (date(2024, 4, 2), date(2024, 4, 2), r"--from 2024-04-02 is not before --until"),
        (None, date(2024, 6, 1), r"--until 2024-06-01 is outside"),
        (None, date(2024, 3, 1), r"--until 2024-03-01 is outside"),
    ],
)
def test_days_outside_the_data_are_refused(
    place: Place, first: date | None, until: date | None, message: str
) -> None:
    """With what to choose, and the clock stays as it was."""
    with pytest.raises(PermanentError, match=message):
        span_of(place.spec, place.clock_file, first, until)
    assert clock.read(place.clock_file) is None


def test_data_without_an_end_needs_one_to_be_given(place: Place) -> None:
    """A replay is of the past."""
    spec = place.spec.model_copy(update={"end": None})
    with pytest.raises(PermanentError, match="give --until"):
        span_of(spec, place.clock_file, None, None)


def test_without_an_endpoint_it_says_what_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was deployed yet."""
    monkeypatch.setenv(clock.ENV, str(place.clock_file))
    with pytest.raises(PermanentError, match=r"no endpoint to ask: run `make demo`, or material"):
        place.replay(None, None)


def test_one_replay_moves_a_clock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would ask everything twice."""
    monkeypatch.setenv(clock.ENV, str(place.clock_file))
    with (
        driver.alone(place.clock_file),
        pytest.raises(PermanentError, match="another replay moves"),
    ):
        place.replay(None, None)


@pytest.mark.parametrize(
    ("text", "speed"),
    [("1d/10s", 8640), ("1d/1h", 24), ("6h/1m", 360), ("1.5d/h", 36), ("1s/1s", 1), ("max", 0)],
)
def test_a_speed_is_replayed_time_over_real_time(text: str, speed: float) -> None:
    """As a person says it."""
    assert speed_of(text) == speed


@pytest.mark.parametrize("text", ["", "fast", "10", "1d", "0d/1s", "1d/0s", "-1d/1s", "1w/1s"])
def test_another_speed_is_refused(text: str) -> None:
    """With examples."""
    with pytest.raises(PermanentError, match="1d/10s"):
        speed_of(text)


def test_a_use_case_that_is_not_there_is_named() -> None:
    """Before anything is done."""
    with pytest.raises(PermanentError, match="no use case nothing"):
        run_replay("nothing")
