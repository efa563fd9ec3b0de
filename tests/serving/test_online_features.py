"""Requests that carry the event only: what is looked up, computed, refused."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets import clock
from mlops_assets.adapters.online_store import open_store
from mlops_assets.adapters.online_store.publishing import Fresh, publish
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.online import ComputedViews, OnlineConfig, OnlineView, layout_of
from mlops_assets.core.online_rows import entities, still_needed
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.requests import PredictionRequest, RequestError, request_schema
from mlops_assets.serving.online_features import OnlineFeatures, OnlineFollower, load_features

NOW = datetime(2024, 3, 5, 12, tzinfo=UTC)
_HOUR_US = 3_600_000_000
_UTC = pl.Datetime("us", "UTC")

SHOPS = OnlineView("shops", {"shop": "string"}, ("share",), ("kind",), 24 * _HOUR_US)
SLOTS = OnlineView("slots", {"shop": "string", "slot": "int64"}, ("busy",), (), None)
VISIT = OnlineView("visit", {"event_id": "string"}, ("minutes",), ("shop_name",), 24 * _HOUR_US)
BASE = request_schema(
    Signature(
        inputs=(
            FeatureField(name="minutes", type="float"),
            FeatureField(name="shop_name", type="category"),
            FeatureField(name="share", type="float"),
            FeatureField(name="kind", type="category"),
            FeatureField(name="busy", type="float"),
        ),
        output="returned",
    )
)
COMPUTED = ComputedViews(
    views=(VISIT,),
    functions={"visit": "visits.features:visit"},
    events="visits.features:events",
    dataset="visits",
    key="visit_id",
    event_time="visited_at",
    columns={
        "visit_id": "string",
        "visited_at": "timestamp",
        "settled_at": "timestamp",
        "visitor": "string",
        "shop": "string",
        "minutes": "float64",
        "returned": "int32",
    },
    given=("shop", "minutes"),
    timezone="Europe/Berlin",
)


def config(url: str, **fields: object) -> OnlineConfig:
    """What the server is told."""
    views = (SHOPS, SLOTS)
    plain = OnlineConfig("visits", layout_of(views), url, views, None, 0, "default", 0.2)
    return msgspec.structs.replace(plain, **fields)


@pytest.fixture(autouse=True)
def noon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clock that stands at noon."""
    file = tmp_path / "clock.json"
    clock.restart(file, NOW)
    monkeypatch.setenv(clock.ENV, str(file))
    monkeypatch.delenv("MLOPS_ONLINE_URL", raising=False)
    return file


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with two shops: rows of this morning and of the afternoon to come."""
    place = str(tmp_path / "store")
    morning, later = NOW - timedelta(hours=4), NOW + timedelta(hours=3)
    shops = pl.DataFrame(
        [
            ("north", morning, morning, 0.1, "small"),
            ("north", later, morning, 0.2, "large"),
            ("south", morning, morning, None, None),
            ("west", NOW - timedelta(hours=30), morning, 0.3, "old"),
        ],
        schema={
            "shop": pl.String, "event_time": _UTC, "known_at": _UTC,
            "share": pl.Float32, "kind": pl.String,
        },
        orient="row",
    )  # fmt: skip
    slots = pl.DataFrame(
        [("north", 7, morning, morning, 5.0)],
        schema={
            "shop": pl.String, "slot": pl.Int64, "event_time": _UTC, "known_at": _UTC,
            "busy": pl.Float32,
        },
        orient="row",
    )  # fmt: skip
    fresh = {
        view.name: Fresh(
            entities(still_needed(frame, view, NOW, timedelta(hours=1)), view), {}, 1, None
        )
        for view, frame in ((SHOPS, shops), (SLOTS, slots))
    }
    publish(open_store(place, 1.0), "visits", config(place).space, 0, fresh, ())
    return place


def features_of(told: OnlineConfig) -> OnlineFeatures:
    """The server's part."""
    return load_features(msgspec.json.encode(told))


Columns = dict[str, Sequence[str | float | None]]


def event(rows: int = 1, /, **columns: Sequence[str | float | None]) -> PredictionRequest:
    """A parsed request: what it carries, by name."""
    texts = {
        name: list(column)
        for name, column in columns.items()
        if name in ("shop", "event_time", "shop_name", "kind")
    }
    numbers = {name: list(column) for name, column in columns.items() if name not in texts}
    return PredictionRequest(rows, texts, numbers, None, None)  # pyright: ignore[reportArgumentType]


VISITED: Columns = {"minutes": [3.0], "shop_name": ["n"]}


def test_what_is_not_sent_is_looked_up(url: str) -> None:
    """By the entity's columns, which are no features; all views at once."""
    request, lookups = features_of(config(url)).complete(
        event(**VISITED, shop=["north"], slot=[7.0]), BASE
    )
    assert request.columns == {
        "minutes": [3.0], "shop_name": ["n"], "kind": ["small"], "busy": [5.0],
        "share": [pytest.approx(0.1)],
    }  # fmt: skip
    assert lookups is not None
    assert lookups.keys == {"shop": ["north"], "slot": [7]}
    assert {name: view.states for name, view in lookups.views.items()} == {
        "shops": "f",
        "slots": "f",
    }


def test_rows_are_looked_up_each_for_itself(url: str) -> None:
    """Known and unknown shops, twice and null; a null that the lake has is null."""
    shops = ["north", "south", "nobody", None, "north"]
    columns = {"minutes": [1.0] * 5, "shop_name": ["n"] * 5, "busy": [0.0] * 5}
    request, lookups = features_of(config(url)).complete(event(5, **columns, shop=shops), BASE)
    assert request.categories["kind"] == ["small", None, None, None, "small"]
    assert lookups is not None
    assert lookups.views["shops"].states == "ffmmf"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    visits=st.lists(
        st.tuples(
            st.sampled_from(["north", "south", "west", "nobody", None]),
            st.sampled_from([7.0, 8.0, None]),
            st.integers(min_value=-40, max_value=30),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_a_row_is_looked_up_alone_as_it_is_among_others(
    url: str, visits: list[tuple[str | None, float | None, int]]
) -> None:
    """A single row has code of its own."""
    features = features_of(config(url))

    def complete(of: list[tuple[str | None, float | None, int]]) -> list[dict[str, object]]:
        at = [(NOW + timedelta(hours=hours)).isoformat() for *_, hours in of]
        shops, slots = [shop for shop, *_ in of], [slot for _, slot, _ in of]
        known: Columns = {"minutes": [3.0] * len(of), "shop_name": ["n"] * len(of)}
        asked = event(len(of), **known, shop=shops, slot=slots, event_time=at)
        request, lookups = features.complete(asked, BASE)
        assert lookups is not None
        return [
            {
                **{name: column[n] for name, column in request.columns.items()},
                **{
                    f"{name} lookup": (
                        view.states[n], view.event_times[n], view.known_ats[n], view.bucket
                    )
                    for name, view in lookups.views.items()
                },
            }
            for n in range(len(of))
        ]  # fmt: skip

    assert complete(visits) == [row for visit in visits for row in complete([visit])]


def test_what_is_sent_is_kept(url: str) -> None:
    """A caller who knows better is believed; with every feature nothing is looked up."""
    features = features_of(config(url))
    some, _ = features.complete(event(**VISITED, share=[9.0], shop=["north"], slot=[7.0]), BASE)
    assert (some.floats["share"], some.categories["kind"]) == ([9.0], ["small"])
    columns = {"share": [9.0], "kind": ["x"], "busy": [1.0]}
    whole, lookups = features.complete(event(**VISITED, **columns, shop=["north"]), BASE)
    assert whole.columns == {**VISITED, **columns}
    assert lookups is None


def test_the_time_of_the_event_decides_which_row(url: str, noon: Path) -> None:
    """As sent; else now and the agreed time ahead; a row past its TTL is missing."""
    known = {**VISITED, "busy": [1.0]}

    def kind(features: OnlineFeatures, shop: str, at: str | None = None) -> tuple[str | None, str]:
        columns = {"event_time": [at]} if at else {}
        request, lookups = features.complete(event(**known, **columns, shop=[shop]), BASE)
        assert lookups is not None
        return request.categories["kind"][0], lookups.views["shops"].states

    features = features_of(config(url))
    assert kind(features, "north") == ("small", "f")
    assert kind(features, "north", "2024-03-05T16:00:00+01:00") == ("large", "f")
    assert kind(features, "north", "2024-03-05T15:59:59+01:00") == ("small", "f")
    assert kind(features_of(config(url, lead=3 * _HOUR_US)), "north") == ("large", "f")
    assert kind(features, "west") == (None, "e")
    clock.restart(noon, NOW + timedelta(hours=27, seconds=1))
    assert kind(features, "north") == (None, "e")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"shop": ["north"]}, "'busy' is missing (1 are: busy)"),
        ({"slot": [7.0]}, "'share' is missing (3 are: share, kind, busy)"),
        ({"shop": ["north"], "slot": [7.5]}, "'slot': 7.5 in row 0 is no whole number"),
        (
            {"shop": ["north"], "slot": [7.0], "event_time": ["soon"]},
            "'soon' in row 0 is no instant",
        ),
        (
            {"shop": ["north"], "slot": [7.0], "event_time": ["2024-03-05T12:00:00"]},
            "no instant with a time zone",
        ),
    ],
)
def test_what_cannot_be_looked_up_is_refused(url: str, columns: Columns, words: str) -> None:
    """Before anything is asked, with the name and the row."""
    with pytest.raises(RequestError) as caught:
        features_of(config(url)).complete(event(**VISITED, **columns), BASE)
    assert caught.value.status == 422
    assert words in str(caught.value)


def test_a_request_may_carry_what_stands_for_features(url: str) -> None:
    """The schema takes keys and the event's time, and requires nothing that can be looked up."""
    features = features_of(config(url))
    schema = features.schema(BASE)
    types = {field.name: field.type for field in schema.inputs}
    assert types | {"event_time": "category", "shop": "category", "slot": "float"} == types
    assert schema.required == {"minutes", "shop_name"}
    assert features.schema(BASE) is schema
    computing = features_of(config(url, computed=COMPUTED))
    assert computing.schema(BASE).required == frozenset()


def test_views_of_the_event_are_computed_by_the_functions_of_training(url: str) -> None:
    """From the event's own columns, and the entity columns with them."""
    features = features_of(config(url, computed=COMPUTED))
    columns = {"shop": ["north", "south"], "minutes": [12.5, None], "busy": [1.0, 1.0]}
    request, lookups = features.complete(event(2, **columns), BASE)
    assert request.columns == {
        "minutes": [12.5, None], "shop_name": ["north", "south"],
        "kind": ["small", None], "share": [pytest.approx(0.1), None], "busy": [1.0, 1.0],
    }  # fmt: skip
    assert lookups is not None
    assert lookups.computed == ["visit"]
    assert lookups.keys == {"shop": ["north", "south"]}


def test_a_function_that_is_not_there_is_said(url: str) -> None:
    """When the server starts to follow the document, not in a request."""
    computed = msgspec.structs.replace(COMPUTED, functions={"visit": "visits.features:nothing"})
    with pytest.raises(PermanentError, match=r"cannot load 'visits\.features:nothing'"):
        features_of(config(url, computed=computed))


@pytest.fixture
def deaf() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes connections and never says anything, and those connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in taken:
            one.close()


EVENT = {**VISITED, "shop": ["north"], "slot": [7.0]}


def test_a_store_that_times_out_is_missing_values_or_an_error(
    deaf: tuple[str, list[socket.socket]],
) -> None:
    """As the use case says, and it is written down."""
    features = features_of(config(deaf[0], timeout_s=0.1))
    assert features.blocking
    request, lookups = features.complete(event(**EVENT), BASE)
    assert (request.floats["share"], request.categories["kind"]) == ([None], [None])
    assert lookups is not None
    assert {view.states for view in lookups.views.values()} == {"t"}
    strict = features_of(config(deaf[0], timeout_s=0.1, on_timeout="error"))
    with pytest.raises(RequestError) as caught:
        strict.complete(event(**EVENT), BASE)
    assert caught.value.status == 503


def test_a_store_that_is_away_is_not_waited_for_in_every_request(
    deaf: tuple[str, list[socket.socket]],
) -> None:
    """After one time-out the next requests are answered at once."""
    url, taken = deaf
    features = features_of(config(url, timeout_s=0.1))
    for _ in range(20):
        features.complete(event(**EVENT), BASE)
    assert len(taken) == 1


def test_before_the_first_materialization_features_are_missing(tmp_path: Path) -> None:
    """An empty store is no failure."""
    request, lookups = features_of(config(str(tmp_path / "new"))).complete(event(**EVENT), BASE)
    assert request.floats["busy"] == [None]
    assert lookups is not None
    assert lookups.views["slots"].states == "m"


def test_the_document_is_followed(tmp_path: Path, url: str) -> None:
    """It comes, changes, breaks (the last good one stays), and goes."""
    follower = OnlineFollower(str(tmp_path))
    file = tmp_path / "online.json"

    def write(content: bytes) -> None:
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").replace(file)

    assert not follower.poll()
    assert follower.features is None
    write(msgspec.json.encode(config(url)))
    assert follower.poll()
    first = follower.features
    assert first is not None
    assert not follower.poll()
    write(json.dumps({"use_case": "visits"}).encode())
    assert not follower.poll()
    assert follower.features is first
    assert follower.error is not None
    assert "materialize online_features again" in follower.error
    write(msgspec.json.encode(config(url, on_timeout="error")))
    assert follower.poll()
    assert follower.error is None
    assert follower.features is not first
    file.unlink()
    assert follower.poll()
    assert follower.features is None


def test_the_environment_says_where_the_store_is(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the document does: a password is in no document."""
    monkeypatch.setenv("MLOPS_ONLINE_URL", url)
    features = features_of(config(str(tmp_path / "elsewhere")))
    assert features.complete(event(**EVENT), BASE).request.floats["busy"] == [5.0]
    monkeypatch.delenv("MLOPS_ONLINE_URL")
    with pytest.raises(PermanentError, match="MLOPS_ONLINE_URL"):
        features_of(config(""))
