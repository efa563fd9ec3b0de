"""Whatever goes wrong, nothing is lost or half-written, and somebody is told what to do."""

import dataclasses
import json
import math
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from lifecycle_support import FOLDER, Project, make_project
from run_process import Order, Runs, instance_of, run_processes
from serving_support import (
    infer_body,
    make_model,
    make_release,
    running_server,
    write_release,
)
from training_support import train_on, training_frame, training_set_record

from mlops_assets.adapters import ledger
from mlops_assets.adapters.endpoints import local
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.storage import write_bytes
from mlops_assets.adapters.tracking import Tracking
from mlops_assets.adapters.xgboost_engine import train
from mlops_assets.core.errors import SchemaError
from mlops_assets.core.records import ModelRecord, PromotionRecord
from mlops_assets.core.spec import LABEL, ModelSpec
from mlops_assets.lifecycle.model import train_and_register
from mlops_assets.lifecycle.platform import Places
from mlops_assets.lifecycle.training_set import PART, build, read_training_set, training_window

DAYS = ("2024-03-01", "2024-03-03")
DAILY = ("visits", "visit", "shop_returns")
TABLES = [f"visits/{name}" for name in (*DAILY, "visits__quarantine")]
EVERYTHING = (*DAILY, "shops", "shop_sizes")
WINDOW = ("2024-03-01", "2024-04-10")
LAKE = "mlops_assets.adapters.lake:Lake"
PUBLISH = "mlops_assets.lifecycle.publish"


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """Forks runs that can be killed."""
    with run_processes() as forks:
        yield forks


@pytest.fixture(scope="module")
def empty_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an instance without runs: copying them is faster than making them."""
    folder = tmp_path_factory.mktemp("empty")
    with instance_of(folder):
        return folder / "instance"


@pytest.fixture
def folder(tmp_path: Path, empty_instance: Path) -> Path:
    """The folder of a use case whose source gives rows to set aside, and one corrected day."""
    shutil.copytree(empty_instance, tmp_path / "instance")
    return _planted(tmp_path)


def _failure(result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(str(e.step_failure_data.error) for e in result.get_step_failure_events())


def _planted(folder: Path) -> Path:
    faults = {"2024-03-02": "some_negative", "2024-03-03": "corrected"}
    (folder / "faults.json").write_text(json.dumps(faults))
    return folder


def _digests(project: Project) -> dict[str, dict[str, str]]:
    """The digest of each partition of each table."""
    return {
        table: {name: state.digest for name, state in project.lake.states(table).items()}
        for table in TABLES
    }


@pytest.fixture(scope="module")
def undisturbed(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What the tables hold after a run that nothing happened to."""
    folder = _planted(tmp_path_factory.mktemp("undisturbed"))
    assert runs(Order(str(folder), DAILY, DAYS)) == [0]
    with instance_of(folder) as instance:
        digests = _digests(make_project(folder, instance, 8931))
    assert all(digests.values())
    return digests


@pytest.mark.parametrize(
    "die",
    [
        pytest.param(f"{LAKE}.write:before:1", id="before the first table"),
        pytest.param(f"{PUBLISH}:_keep_quarantined:after:1", id="between side table and table"),
        pytest.param(f"{LAKE}.create:after:1", id="after a table was made"),
        pytest.param(f"{LAKE}.write:after:2", id="before Dagster knows of a table"),
        pytest.param("mlops_assets.lifecycle.feature_views:compute:before:1", id="between stages"),
        pytest.param("mlops_assets.lifecycle.feature_views:view_rows:after:2", id="amid a stage"),
    ],
)
def test_a_run_that_was_killed_leaves_whole_partitions_and_the_next_completes(
    runs: Runs,
    folder: Path,
    undisturbed: dict[str, dict[str, str]],
    die: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between stages or amid one: what is there is as it should be, the rest follows."""
    assert runs(Order(str(folder), DAILY, DAYS, die)) == [-9]
    monkeypatch.setenv("VISITS_FAULTS", str(folder / "faults.json"))
    with instance_of(folder) as instance:
        project = make_project(folder, instance, 8931)
        for table, digests in _digests(project).items():
            assert digests.items() <= undisturbed[table].items()
            if digests:
                states = project.lake.states(table).values()
                assert project.lake.read(table).num_rows == sum(state.rows for state in states)
        assert project.run(DAILY, DAYS).success
        assert _digests(project) == undisturbed
        assert project.table("visits")["visit_id"].is_unique().all()
        for name in DAILY:
            assert len(project.materialized(name)) == 3


def test_a_run_that_was_killed_while_it_replaced_a_partition_leaves_the_old_or_the_new(
    runs: Runs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction is there wholly or not at all; Dagster hears of it from the next run."""
    day = ("2024-03-02", "2024-03-02")
    monkeypatch.setenv("VISITS_FAULTS", str(folder / "faults.json"))
    with instance_of(folder) as instance:
        project = make_project(folder, instance, 8931)
        assert project.run(["visits"], DAYS).success
        before = project.lake.states("visits/visits")
        project.faults({"2024-03-02": "corrected", "2024-03-03": "corrected"})
        assert runs(Order(str(folder), ("visits",), day, f"{LAKE}._write_once:before:1")) == [-9]
        assert project.lake.states("visits/visits") == before
        assert runs(Order(str(folder), ("visits",), day, f"{LAKE}.write:after:1")) == [-9]
        after = project.lake.states("visits/visits")
        assert {p for p in after if after[p] != before[p]} == {"2024-03-02"}
        assert project.run(["visits"], day).success
        assert project.lake.states("visits/visits") == after
        record = instance.get_latest_data_version_record(
            project.key("visits"), partition_key="2024-03-02"
        )
        assert record is not None
        assert record.asset_materialization is not None
        tags = record.asset_materialization.tags or {}
        assert tags["dagster/data_version"] == after["2024-03-02"].digest


def test_two_runs_of_the_same_partitions_at_once_both_succeed_and_write_once(
    runs: Runs, folder: Path, undisturbed: dict[str, dict[str, str]]
) -> None:
    """Two processes, one instance, one lake: the rows are there once."""
    order = Order(str(folder), DAILY, DAYS)
    assert runs(order, order) == [0, 0], (folder / "run.log").read_text()
    with instance_of(folder) as instance:
        project = make_project(folder, instance, 8931)
        assert _digests(project) == undisturbed
        assert project.lake.version("visits/visits") == 0
        assert project.table("visits").height == 3 * 60 - 3


@pytest.mark.slow  # It trains, judges, promotes and serves, in five processes.
def test_stages_that_were_killed_one_after_the_other_end_in_one_version_and_one_decision(
    runs: Runs, tmp_path: Path, free_port: int
) -> None:
    """Killed after the model's file, its registration, the ledger's entry and the server's start:
    there is one version, of the bytes of an undisturbed training, one decision and one server.
    """
    folder = str(tmp_path)

    def run(*assets: str, die: str | None = None, days: tuple[str, str] | None = None) -> int:
        [code] = runs(Order(folder, assets, days, die, free_port))
        return code

    adapters = "mlops_assets.adapters"
    assert run(*EVERYTHING, days=WINDOW) == 0
    assert run("training_set", "model", die=f"{adapters}.tracking:_keep_file:after:1") == -9
    assert run("model", die=f"{adapters}.tracking:_register:after:1") == -9
    decided = f"{adapters}.ledger:record:after:1"
    assert run("model", "evaluation", "promotion", die=decided) == -9
    places = Places.under(tmp_path)
    registry = Tracking(places.tracking, places.artifacts)
    assert registry.champion("visits") is None
    try:
        started = f"{adapters}.endpoints.local:_spawn:after:1"
        assert run("promotion", "endpoint", die=started) == -9
        assert registry.champion("visits") is not None
        day = ("2024-04-10", "2024-04-10")
        last = run("promotion", "endpoint", "predictions", days=day)
        assert last == 0, (tmp_path / "run.log").read_text()[-3000:]
        served = local.find("visits", places.endpoints)
    finally:
        local.stop("visits", places.endpoints)
    [version] = registry.versions("visits")
    with instance_of(tmp_path) as instance:
        project = make_project(tmp_path, instance, free_port)
        assert [d.decision for d in ledger.decisions(project.ledgers, "visits")] == ["promoted"]
        assert list(project.lake.states("visits/predictions")) == ["2024-04-10"]
        assert len(project.lake.states("visits/training_sets")) == 1
        frame = read_training_set(project.spec, project.lake, version.training_set)
    undisturbed = train(
        frame,
        project.spec.feature_types,
        label=LABEL,
        part=PART,
        spec=project.spec.model,
        output=project.spec.label.name,
    )
    assert version.sha256 == undisturbed.sha256
    assert served is not None
    assert (served.release.champion.version, served.release.champion.sha256) == (1, version.sha256)


@pytest.mark.parametrize(
    "days",
    [("2025-01-01", "2025-01-01"), ("2024-04-29", "2024-05-02"), ("2024-03-05", "2024-03-03")],
)
def test_days_that_are_none_of_the_use_case_are_refused(
    project: Project, days: tuple[str, str]
) -> None:
    """After the data's end, over it, or reversed: nothing is written, not even the days inside."""
    result = project.run(["visits"], days)
    assert not result.success
    assert any(day in _failure(result) for day in days) or "at least one day" in _failure(result)
    assert project.lake.states("visits/visits") == {}
    assert project.materialized("visits") == set()


@pytest.mark.skipif(
    not Path("/proc").is_dir(),
    reason="NOT TESTED without /proc, a folder that refuses even root: run it on Linux",
)
def test_a_lake_that_cannot_be_written_is_named_and_nothing_counts_as_done(
    project: Project,
) -> None:
    """Dagster does not believe that the asset is there."""
    places = dataclasses.replace(project.places, lake="/proc/lake")
    broken = Project(project.spec, places, project.instance, project.faults_file)
    result = broken.run(["shops"])
    assert not result.success
    assert "/proc/lake" in _failure(result)
    assert "choose another place" in _failure(result)
    assert project.instance.get_latest_materialization_event(project.key("shops")) is None


def _promoted(project: Project, folder: Path) -> None:
    """A promotion of a tiny model, as the stage before the endpoint leaves it."""
    model = make_model(folder)
    training_set = training_set_record()
    champion = ModelRecord(
        **model.model_dump(),
        use_case="visits",
        mlflow_run_id="none",
        training_set=training_set,
        rounds=5,
        unchanged=False,
    )
    promotion = PromotionRecord(
        use_case="visits",
        version=1,
        sha256=model.sha256,
        decision="promoted",
        reasons=(),
        previous_version=None,
        champion=champion,
        evaluation_digest="0" * 64,
        decided_at=datetime(2024, 4, 10, tzinfo=UTC),
        dagster_run_id="none",
    )
    write_bytes(
        f"{project.places.documents}/visits/promotion.json", promotion.model_dump_json().encode()
    )


def test_a_port_in_use_fails_the_endpoint_by_its_number_until_it_is_free(
    project: Project, tmp_path: Path, free_port: int
) -> None:
    """The message names the port and the field to change; nothing claims to be served."""
    _promoted(project, tmp_path)
    with socket.create_server(("127.0.0.1", free_port)):
        result = project.run(["endpoint"])
    assert not result.success
    assert f"port {free_port} on 127.0.0.1 is in use" in _failure(result)
    assert "endpoint.port" in _failure(result)
    assert project.instance.get_latest_materialization_event(project.key("endpoint")) is None
    assert local.find("visits", project.places.endpoints) is None
    assert project.run(["endpoint"]).success
    assert local.find("visits", project.places.endpoints) is not None


def test_a_truncated_model_file_fails_the_endpoint_and_serves_nothing(
    project: Project, tmp_path: Path
) -> None:
    """The server compares the digest before it answers anyone."""
    _promoted(project, tmp_path)
    artifact = tmp_path / "model-1.ubj"
    artifact.write_bytes(artifact.read_bytes()[:-100])
    result = project.run(["endpoint"])
    assert not result.success
    assert "model-1.ubj" in _failure(result)
    assert "sha256" in _failure(result)
    assert local.find("visits", project.places.endpoints) is None


def test_a_document_that_is_cut_names_the_stage_to_materialize_again(project: Project) -> None:
    """No stage guesses what a broken document said."""
    document = f"{project.places.documents}/visits/promotion.json"
    write_bytes(document, b'{"use_case": "vis')
    result = project.run(["endpoint"])
    assert not result.success
    assert "materialize visits/promotion again" in _failure(result)


def _with_minutes(tmp_path: Path, project: Project, expression: str) -> Project:
    """The same use case whose feature `minutes` is ``expression``."""
    folder = tmp_path / "edited" / "visits_edited"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    features = folder / "features.py"
    text = features.read_text()
    minutes = 'pl.col("minutes").cast(pl.Float32)'
    assert text.count(minutes) == 1
    features.write_text(text.replace(minutes, f"({expression}).cast(pl.Float32).alias('minutes')"))
    return Project(
        project.spec,
        project.places,
        project.instance,
        project.faults_file,
        Functions("visits_edited", folder),
    )


def test_an_infinite_feature_stops_training_by_its_name(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A division by zero in a feature is no number to learn from; no version comes of it."""
    edited = _with_minutes(tmp_path, project, "pl.col('minutes') / (pl.col('minutes') > 5)")
    monkeypatch.syspath_prepend(str(tmp_path / "edited"))
    assert edited.run(EVERYTHING, WINDOW).success
    record = build(edited.spec, edited.functions, edited.lake, training_window(edited.spec))
    registry = Tracking(project.places.tracking, project.places.artifacts)
    with pytest.raises(SchemaError, match=r"'minutes'.*infinite"):
        train_and_register(edited.spec, record, edited.lake, registry, "none")
    assert not Path(project.places.artifacts).exists()


def test_nan_is_a_missing_value_to_training() -> None:
    """The model has the same bytes as from nulls in the same places."""
    frame = training_frame(1000)
    few = ModelSpec(rounds=5)
    nulls = train_on(frame, few)
    nans = train_on(frame.with_columns(pl.col("delay").fill_null(math.nan)), few)
    assert frame["delay"].null_count() > 0
    assert nans.sha256 == nulls.sha256


def test_100_000_rows_are_answered_where_the_limits_allow_them(
    tmp_path: Path, free_port: int
) -> None:
    """With a score for each; the default limits refuse such a request (413)."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    limits = ("--max-rows", "100000", "--max-body-mb", "64")
    with running_server(tmp_path, free_port, *limits) as server:
        status, content = server.call("POST", "/v2/models/flights/infer", infer_body(100_000))
        assert status == 200
        [output] = content["outputs"]
        assert output["shape"] == [100_000]
        assert len(set(output["data"])) == 1
        status, _ = server.call("POST", "/v2/models/flights/infer", infer_body(100_001))
        assert status == 413
