"""A server process that is asked about events answers as it answers full requests."""

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from serving_support import make_release, running_server, wait_for, write_release

from mlops_assets.adapters.online_store import open_store
from mlops_assets.adapters.online_store.publishing import Fresh, publish
from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.core.online import OnlineConfig, OnlineView, decode_row_lookup, layout_of
from mlops_assets.core.online_rows import entities, still_needed

_UTC = pl.Datetime("us", "UTC")
AIRPORTS = OnlineView("airports", {"airport": "string"}, ("hour", "delay"), (), 24 * 3_600_000_000)
CONFIG = OnlineConfig("flights", layout_of([AIRPORTS]), "", (AIRPORTS,), None, 0, "default", 0.2)


def materialize(place: str, hour: float, delay: float, as_of: int = 0) -> None:
    """Make ``hour`` and ``delay`` JFK's features."""
    now = datetime.now(UTC)
    at = now - timedelta(hours=1)
    rows = pl.DataFrame(
        [("JFK", at, at, hour, delay)],
        schema={
            "airport": pl.String, "event_time": _UTC, "known_at": _UTC,
            "hour": pl.Float32, "delay": pl.Float32,
        },
        orient="row",
    )  # fmt: skip
    kept = still_needed(rows, AIRPORTS, now, timedelta(0))
    fresh = {"airports": Fresh(entities(kept, AIRPORTS), {}, 1, None)}
    publish(open_store(place, 1.0), "flights", CONFIG.space, as_of, fresh, ())


def body(**columns: object) -> dict[str, object]:
    """A V2 request of one row."""
    return {
        "inputs": [
            {
                "name": name,
                "shape": [1],
                "datatype": "FP64" if isinstance(value, float) else "BYTES",
                "data": [value],
            }
            for name, value in columns.items()
        ]
    }


def score(answer: tuple[int, dict[str, object]]) -> float:
    """The score of a V2 answer."""
    status, content = answer
    assert status == 200, content
    return content["outputs"][0]["data"][0]  # pyright: ignore[reportIndexIssue]


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder with a release, a store and the document that names it."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    store = str(tmp_path / "store")
    materialize(store, 17.0, 0.5)
    config = msgspec.structs.replace(CONFIG, url=store)
    (tmp_path / "online.json").write_bytes(msgspec.json.encode(config))
    return tmp_path


def test_an_event_gets_the_score_of_its_full_request(served: Path, free_port: int) -> None:
    """Over both protocols; the log says what was looked up; what is new is used at once."""
    with running_server(served, free_port) as server:
        infer = "/v2/models/flights/infer"
        full = score(server.call("POST", infer, body(carrier="UA", hour=17.0, delay=0.5)))
        other = score(server.call("POST", infer, body(carrier="UA", hour=3.0, delay=-2.0)))
        assert full != other
        event = body(carrier="UA", airport="JFK")
        assert score(server.call("POST", infer, event)) == full
        status, content = server.call(
            "POST", "/invocations", {"dataframe_records": [{"carrier": "UA", "airport": "JFK"}]}
        )
        assert (status, content["predictions"]) == (200, [full])
        materialize(str(served / "store"), 3.0, -2.0, as_of=1)
        assert score(server.call("POST", infer, event)) == other
        status, content = server.call("POST", infer, body(carrier="UA"))
        assert status == 422
        assert "'hour' is missing" in str(content["error"])
    log = read_predictions(server.log_dir).table.to_pylist()
    assert [row["looked_up"] is None for row in log] == [True, True, False, False, False]
    assert log[2]["features.hour"] == 17.0
    looked_up = decode_row_lookup(log[2]["looked_up"])
    assert looked_up.keys == {"airport": "JFK"}
    assert looked_up.views["airports"][0] == "f"


def test_a_server_begins_to_look_up_when_it_is_told(served: Path, free_port: int) -> None:
    """Without a restart; and full requests are answered before and after."""
    (served / "online.json").rename(served / "later.json")
    with running_server(served, free_port) as server:
        infer, event = "/v2/models/flights/infer", body(carrier="UA", airport="JFK")
        assert server.call("POST", infer, event)[0] == 422
        (served / "later.json").rename(served / "online.json")
        wait_for(lambda: server.call("POST", infer, event)[0] == 200)
        full = body(carrier="UA", hour=17.0, delay=0.5)
        assert score(server.call("POST", infer, full)) == score(server.call("POST", infer, event))


def test_a_store_that_hangs_costs_its_features_and_no_more(
    served: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are answered with missing values, full requests as always, and the server is ready."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("MLOPS_ONLINE_URL", f"redis://127.0.0.1:{deaf.getsockname()[1]}/0")
        with running_server(served, free_port) as server:
            infer = "/v2/models/flights/infer"
            missing = {
                "inputs": [
                    *body(carrier="UA")["inputs"],  # pyright: ignore[reportGeneralTypeIssues]
                    {"name": "hour", "shape": [1], "datatype": "FP64", "data": [None]},
                    {"name": "delay", "shape": [1], "datatype": "FP64", "data": [None]},
                ]
            }
            event = body(carrier="UA", airport="JFK")
            for _ in range(3):
                assert score(server.call("POST", infer, event)) == score(
                    server.call("POST", infer, missing)
                )
            assert server.get("/ping")[0] == 200
    log = read_predictions(server.log_dir).table.to_pylist()
    states = [decode_row_lookup(r["looked_up"]).views["airports"][0] for r in log if r["looked_up"]]
    assert states == ["t", "t", "t"]
