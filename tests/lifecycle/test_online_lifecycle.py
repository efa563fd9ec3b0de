"""Online features of the tests' use case: materialized, looked up, and compared with the lake."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import cast

import dagster as dg
import polars as pl
import pytest
import yaml
from lifecycle_support import FOLDER, Project

from mlops_assets import clock
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.online_store import open_store
from mlops_assets.adapters.online_store.store import Reader
from mlops_assets.core.online import Manifest
from mlops_assets.core.prediction_log import PredictionRecord
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.requests import PredictionRequest, request_schema
from mlops_assets.core.spec import UseCaseSpec, problems
from mlops_assets.core.windows import Window, day_start
from mlops_assets.lifecycle.automation import automation_sensor
from mlops_assets.lifecycle.online import ONLINE_FEATURES
from mlops_assets.lifecycle.online_config import config_of
from mlops_assets.lifecycle.platform import Places
from mlops_assets.lifecycle.training_set import events_with_features
from mlops_assets.serving.online_features import OnlineFeatures, OnlineFollower
from mlops_assets.serving.prediction_log import PredictionLog

FIRST, LAST = "2024-03-01", "2024-03-06"
VIEWS = ["visit", "shop_returns", "shop_sizes"]
SHA256 = "a" * 64


def spec_of(**online: object) -> UseCaseSpec:
    """The tests' use case with online features."""
    attributes = yaml.safe_load((FOLDER / "defs.yaml").read_text())["attributes"]
    attributes["online"] = online
    spec = UseCaseSpec.model_validate(attributes)
    assert not list(problems(spec))
    return spec


@pytest.fixture
def noon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clock that stands at the start of the last day."""
    file = tmp_path / "clock.json"
    clock.restart(file, day_start(date.fromisoformat(LAST), "Europe/Berlin"))
    monkeypatch.setenv(clock.ENV, str(file))
    monkeypatch.delenv("MLOPS_ONLINE_URL", raising=False)
    return file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noon: Path) -> "Project":
    """The use case's tables until the last day, and nothing in the store."""
    monkeypatch.setenv("VISITS_FAULTS", str(tmp_path / "faults.json"))
    project = Project(
        spec_of(computed=["visit"], event_columns=["shop", "minutes"]),
        Places.under(tmp_path),
        dg.DagsterInstance.ephemeral(),
        tmp_path / "faults.json",
        Functions("visits", FOLDER),
    )
    assert project.run(["shops"]).success
    assert project.run(["visits"], (FIRST, LAST)).success
    assert project.run(["shop_sizes"]).success
    assert project.run(["visit", "shop_returns"], (FIRST, LAST)).success
    return project


def materialize(project: Project) -> Mapping[str, object]:
    """Materialize the store; the asset's metadata."""
    result = project.run([ONLINE_FEATURES])
    assert result.success
    (found,) = result.asset_materializations_for_node(f"{project.spec.name}__{ONLINE_FEATURES}")
    return {name: value.value for name, value in found.metadata.items()}


def manifest(project: Project) -> Manifest:
    """What is served."""
    config = config_of(project.spec, project.functions, project.places.online)
    found = Reader(open_store(project.places.online, 1.0), config.space).manifest()
    assert found is not None
    return found


def server(project: Project) -> OnlineFeatures:
    """What the model server makes of the document."""
    follower = OnlineFollower(f"{project.places.endpoints}/{project.spec.name}")
    follower.poll()
    assert follower.features is not None, follower.error
    return follower.features


BASE = request_schema(
    Signature(
        inputs=(
            FeatureField(name="minutes", type="float"),
            FeatureField(name="shop_name", type="category"),
            FeatureField(name="shop_return_share", type="float"),
            FeatureField(name="shop_size", type="float"),
        ),
        output="returned",
    )
)


def ask(
    project: Project,
    noon: Path,
    events: Sequence[Mapping[str, object]],
    minutes: Mapping[str, float],
    shift: timedelta | None = None,
) -> list[dict[str, object]]:
    """Ask about each event with its own columns only, when the clock shows its time; what was
    answered with, which is in the prediction log. ``shift`` is how wrong the time is that it sends.
    """
    features = server(project)
    folder = Path(project.places.endpoints) / project.spec.name / "predictions"
    log = PredictionLog(folder, "tests")
    answered: list[dict[str, object]] = []
    for event in events:
        name = cast("str", event["event_id"])
        at = cast("datetime", event["event_time"])
        clock.restart(noon, at)
        texts: dict[str, list[str | None]] = {"shop": [cast("str", event["shop"])]}
        if shift is not None:
            texts["event_time"] = [(at + shift).isoformat()]
        sent = PredictionRequest(1, texts, {"minutes": [minutes[name]]}, [name], name)
        request, lookups = features.complete(sent, BASE)
        log.write(
            PredictionRecord(
                time=clock.now(), request=name, use_case="visits", version=1, sha256=SHA256,
                categories=request.categories, floats=request.floats, scores=[0.5],
                events=[name], online=lookups,
            )
        )  # fmt: skip
        answered.append({k: v[0] for k, v in request.columns.items()})
    log.close()
    return answered


def day_events(
    project: Project, day: str
) -> tuple[list[dict[str, object]], dict[str, float], pl.DataFrame]:
    """A day's events, what each carries, and its features as in training."""
    first = date.fromisoformat(day)
    window = Window(first, first + timedelta(days=1), project.spec.timezone)
    rows = events_with_features(project.spec, project.functions, project.lake, window)
    visits = project.table("visits", [day])
    minutes = dict(visits.select("visit_id", "minutes").iter_rows())
    return rows.select("event_id", "event_time", "shop").to_dicts(), minutes, rows


def parity(project: Project, day: str) -> dict[str, object]:
    """Collect the answers and compare them; the asset's metadata of the day."""
    assert project.run(["prediction_log"], (day, day)).success
    result = project.run(["parity"], (day, day))
    assert result.success
    (found,) = result.asset_materializations_for_node("visits__parity")
    (check,) = result.get_asset_check_evaluations()
    metadata = {name: value.value for name, value in found.metadata.items()}
    return {**metadata, "passed": check.passed}


def test_event_only_requests_get_the_features_of_training(project: Project, noon: Path) -> None:
    """For a whole day, and the parity asset agrees."""
    metadata = materialize(project)
    assert (metadata["entities"], metadata["views_written"]) == (8, 2)
    assert cast("int", metadata["bytes"]) > 0
    assert metadata["staleness_hours"] == pytest.approx(5 * 24)
    events, minutes, rows = day_events(project, LAST)
    answered = ask(project, noon, events, minutes)
    features = list(project.spec.feature_types)
    expected = rows.select(features).to_dicts()
    assert [{n: one[n] for n in features} for one in answered] == [
        {n: pytest.approx(v) if isinstance(v, float) else v for n, v in one.items()}
        for one in expected
    ]
    found = parity(project, LAST)
    assert (found["answers"], found["looked_up"], found["differing_answers"]) == (60, 60, 0)
    assert found["passed"]


def test_nothing_new_is_written_twice(project: Project, noon: Path) -> None:
    """A view without changes keeps its generation; a lost one is written again."""
    materialize(project)
    before = manifest(project)
    again = materialize(project)
    assert (again["views_written"], again["views_unchanged"]) == (0, 2)
    after = manifest(project)
    assert after.views == before.views
    assert after.revision == before.revision + 1
    store = open_store(project.places.online, 1.0)
    store.drop("visits", after.views["shop_sizes"].bucket)
    assert materialize(project)["views_written"] == 1
    clock.restart(noon, clock.now() + timedelta(days=1))
    assert project.run(["visits"], ("2024-03-07", "2024-03-07")).success
    assert project.run(["shop_returns"], ("2024-03-07", "2024-03-07")).success
    assert materialize(project)["views_written"] == 1
    clock.restart(noon, clock.now() + timedelta(days=1))
    assert project.run(["shop_returns"], ("2024-03-08", "2024-03-08")).success is False
    assert materialize(project)["views_written"] == 0


def test_late_corrections_reach_the_store_and_are_named(project: Project, noon: Path) -> None:
    """What was answered before is a late correction, what is answered after is right."""
    materialize(project)
    events, minutes, _ = day_events(project, LAST)
    ask(project, noon, events[:20], minutes)
    project.faults({"2024-03-05": "flipped"})
    assert project.run(["visits"], ("2024-03-05", "2024-03-05")).success
    assert project.run(["shop_returns"], (LAST, LAST)).success
    assert materialize(project)["views_written"] == 1
    ask(project, noon, events[20:], minutes)
    found = parity(project, LAST)
    assert (found["answers"], found["differing_answers"]) == (60, 20)
    assert found["cause_late_correction"] == 20
    assert not found["passed"]
    table = project.table("parity", [LAST])
    assert set(table["view"]) == {"shop_returns"}
    assert set(table["event_id"]) == {event["event_id"] for event in events[:20]}


def test_a_store_that_is_behind_is_named(project: Project, noon: Path) -> None:
    """The day's rows came into the lake, and nobody materialized them."""
    materialize(project)
    day = "2024-03-07"
    assert project.run(["visits"], (day, day)).success
    assert project.run(["visit", "shop_returns"], (day, day)).success
    events, minutes, _ = day_events(project, day)
    ask(project, noon, events[:10], minutes)
    found = parity(project, day)
    assert found["cause_stale_store"] == found["differing_answers"] == 10


def test_a_time_in_another_zone_is_named_as_the_clock(project: Project, noon: Path) -> None:
    """The client's times are an hour off: it takes its own clock for UTC. In the day's first hour
    that is the day before.
    """
    materialize(project)
    events, minutes, _ = day_events(project, LAST)
    hour = timedelta(hours=1)
    first = [e for e in events if cast("datetime", e["event_time"]) < clock.now() + hour]
    assert first
    ask(project, noon, events, minutes, shift=-hour)
    found = parity(project, LAST)
    assert found["cause_clock"] == found["differing_answers"] == len(first)


def test_a_store_follows_its_views(project: Project) -> None:
    """One request after a view has changed, and no other before it changes again."""
    sensor = automation_sensor()
    definitions = dg.Definitions.merge(project.definitions, dg.Definitions(sensors=[sensor]))
    key = project.key(ONLINE_FEATURES)
    cursor = None
    requested: list[bool] = []

    def tick() -> None:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(
            defs=definitions,
            instance=project.instance,
            asset_selection=dg.AssetSelection.assets(key),
            cursor=cursor,
        )
        cursor = result.cursor
        requested.append(result.total_requested > 0)

    tick()
    materialize(project)
    tick()
    tick()
    assert project.run(["visits"], ("2024-03-07", "2024-03-07")).success
    tick()
    assert project.run(["shop_returns"], ("2024-03-07", "2024-03-07")).success
    tick()
    materialize(project)
    tick()
    assert requested[1:] == [False, False, False, True, False]


def test_what_contradicts_itself_is_said(project: Project) -> None:
    """With its place in defs.yaml."""
    attributes = yaml.safe_load((FOLDER / "defs.yaml").read_text())["attributes"]

    def said(**online: object) -> str:
        attributes["online"] = online
        return " ".join(str(one) for one in problems(UseCaseSpec.model_validate(attributes)))

    assert "online.computed.0: there is no feature view 'nothing'" in said(computed=["nothing"])
    assert "'shop_returns' is about shop" in said(computed=["shop_returns"], event_columns=["shop"])
    assert "computed views need the columns" in said(computed=["visit"])
    assert "no column 'colour'" in said(computed=["visit"], event_columns=["colour"])
    assert "leave it out" in said(computed=["visit"], event_columns=["visit_id"])
    assert said() == ""
