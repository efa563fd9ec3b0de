"""Tuning of the tests' use case: trials within limits, cut anywhere, and what is found."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import optuna
import polars as pl
import pytest
import yaml
from lifecycle_support import FOLDER, spec_of_visits
from training_support import training_frame, training_set_record, use_case_spec

from mlops_assets.adapters import documents
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.lake import Lake
from mlops_assets.adapters.tuning import open_study, storage_url
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import TrainingSetRecord
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, LABEL, ModelSpec, UseCaseSpec
from mlops_assets.core.tuning import AS_CONFIGURED, TrialRecord, TuningRecord, finished, study_name
from mlops_assets.core.tuning_spec import TuningSpec
from mlops_assets.lifecycle.platform import Places, Platform, platform_at, resources_at
from mlops_assets.lifecycle.training_set import TRAINING_SETS
from mlops_assets.lifecycle.tuning import tune, tuning_asset
from mlops_assets.lifecycle.use_case import use_case_definitions

TUNING = {
    "trials": 8,
    "startup_trials": 3,
    "patience": 5,
    "space": {
        "max_depth": {"low": 1, "high": 6},
        "learning_rate": {"low": 0.01, "high": 0.5, "log": True},
        "subsample": {"low": 0.5, "high": 1.0, "step": 0.1},
    },
}


def with_tuning(spec: UseCaseSpec, **changes: object) -> UseCaseSpec:
    """The use case, with the tests' search."""
    return spec.model_copy(update={"tuning": TuningSpec.model_validate({**TUNING, **changes})})


def base_spec() -> UseCaseSpec:
    """A use case that does not tune."""
    model = {
        "rounds": 60,
        "early_stopping_rounds": 10,
        "parameters": {"max_depth": 3, "learning_rate": 0.2, "subsample": 0.8, "gamma": 0.1},
    }
    return use_case_spec(ModelSpec.model_validate(model))


def freeze(lake: Lake, record: TrainingSetRecord, frame: pl.DataFrame) -> None:
    """Keep ``frame`` as a training set that was frozen."""
    day = datetime(2013, 1, 1, tzinfo=UTC)
    ids = [f"{n:06}" for n in range(frame.height)]
    rows = frame.with_columns(
        pl.Series(EVENT_ID, ids),
        pl.lit(day).cast(pl.Datetime("us", "UTC")).alias(EVENT_TIME),
        pl.col(LABEL).cast(pl.Int32),
    )
    table = f"{record.use_case}/{TRAINING_SETS}"
    lake.write(table, {record.digest: rows.to_arrow()}, [EVENT_TIME, EVENT_ID])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A lake with a training set, a registry, and no more."""
    places = Places.under(tmp_path_factory.mktemp("frozen"))
    freeze(Lake(places.lake), training_set_record(), training_frame(1500))
    return places


def places_with(lake: Places, folder: Path) -> Places:
    """The lake and the registry, with studies of their own."""
    own = Places.under(folder)
    studies = f"sqlite:///{folder}/studies/tuning.db"
    return replace(own, lake=lake.lake, tracking=lake.tracking, tuning=studies)


def tuned(places: Places, spec: UseCaseSpec | None = None, **named: object) -> TuningRecord:
    """What ``tune`` finds."""
    spec = spec or with_tuning(base_spec())
    return tune(spec, training_set_record(), Platform.at(places), **named)  # pyright: ignore[reportArgumentType]


def _outcomes(trials: Sequence[TrialRecord]) -> list[tuple[object, ...]]:
    """What does not hang on the clock or on how often a process ended."""
    return [(one.state, one.parameters, one.log_loss, one.rounds) for one in finished(trials)]


@pytest.fixture(scope="module")
def whole(lake: Places, tmp_path_factory: pytest.TempPathFactory) -> TuningRecord:
    """A study that nothing has cut."""
    return tuned(places_with(lake, tmp_path_factory.mktemp("whole")))


def test_a_study_has_its_trials_the_first_of_them_as_configured(
    whole: TuningRecord,
) -> None:
    """Each within the space; the best one is no worse than what defs.yaml has."""
    assert whole.stopped == "8 trials of 8 have ended"
    first = whole.trials[0]
    configured = base_spec().model.parameters
    assert first.reason == AS_CONFIGURED
    assert first.parameters == {name: configured[name] for name in first.parameters}
    assert whole.now == first
    assert whole.best is not None
    assert whole.best.log_loss is not None
    assert first.log_loss is not None
    assert whole.best.log_loss <= first.log_loss
    for one in whole.trials:
        assert one.parameters.keys() == TUNING["space"].keys()  # pyright: ignore[reportAttributeAccessIssue]
        assert 0.01 <= float(one.parameters["learning_rate"]) <= 0.5
    assert whole.cost == pytest.approx(
        sum(one.seconds for one in whole.trials) / 3600 * whole.price_per_hour
    )


def test_the_same_seed_gives_the_same_trials(
    lake: Places, whole: TuningRecord, tmp_path: Path
) -> None:
    """Also where a study is ended and gone on with: more trials are those that would have come."""
    places = places_with(lake, tmp_path)
    few = tuned(places, trials=3)
    assert few.stopped == "3 trials of 3 have ended"
    again = tuned(places)
    assert again.trials[:3] == few.trials
    assert again.mlflow_run_id == few.mlflow_run_id
    assert _outcomes(again.trials) == _outcomes(whole.trials)


def test_some_trials_are_pruned(whole: TuningRecord) -> None:
    """Not before the patience is over, and never one of the first ones."""
    pruned = [one for one in whole.trials if one.state == "pruned"]
    assert pruned
    assert all(one.number >= 3 and one.rounds >= 5 for one in pruned)
    assert "worse than the median" in pruned[0].reason


_KILLED = """
import json, os, signal, sys
from test_tuning_study import base_spec, with_tuning
from training_support import training_set_record
from mlops_assets.lifecycle.platform import Places, Platform
from mlops_assets.lifecycle.tuning import tune

places = Places(**json.loads(sys.argv[1]))
left = int(sys.argv[2])

def die(number, *_):
    global left
    left -= number == 7
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

tune(with_tuning(base_spec()), training_set_record(), Platform.at(places), on_round=die)
"""


def _killed(places: Places, trial: int) -> None:
    """A process that tunes, and kills itself in the seventh round of its n-th trial."""
    folders = [Path(__file__).parents[1] / "support", Path(__file__).parent]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, json.dumps(vars(places)), str(trial)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_study_whose_process_is_killed_goes_on_as_if_it_had_not_been(
    lake: Places, whole: TuningRecord, tmp_path: Path
) -> None:
    """In its first trial and in a later one: both failed, tried again, and none counted twice."""
    from mlflow import MlflowClient

    places = places_with(lake, tmp_path)
    _killed(places, 1)
    _killed(places, 3)
    told: list[str] = []
    spec = with_tuning(base_spec())
    record = tune(spec, training_set_record(), Platform.at(places), tell=told.append)
    assert _outcomes(record.trials) == _outcomes(whole.trials)
    failed = [one for one in record.trials if one.state == "failed"]
    assert len(failed) == 2
    assert [one.number for one in failed] == [0, 3]
    assert all(one.reason == "its process ended before it did" for one in failed)
    # What they took until their last report is paid.
    assert failed[0].seconds > 0
    assert record.cost > sum(one.seconds for one in finished(record.trials)) / 3600 * (
        record.price_per_hour
    )
    assert any("is tried again" in said for said in told)
    client = MlflowClient(places.tracking)
    assert {client.get_run(one.mlflow_run_id).info.status for one in failed} == {"KILLED"}
    parents = {
        client.get_run(one.mlflow_run_id).data.tags["mlflow.parentRunId"] for one in record.trials
    }
    assert parents == {record.mlflow_run_id}


def test_what_another_process_has_taken_over_is_left_to_it(lake: Places, tmp_path: Path) -> None:
    """The first one stops with a reason; its trial is counted once."""
    places = places_with(lake, tmp_path)
    spec = with_tuning(base_spec(), trials=2)
    assert spec.tuning is not None
    training_set = training_set_record()
    name = study_name(spec, spec.tuning, training_set.digest)
    taken = False

    def take_over(number: int, _training: float, _validation: float) -> None:
        nonlocal taken
        if number == 3 and not taken:
            taken = True
            other = open_study(places.tuning, name, spec.tuning)  # pyright: ignore[reportArgumentType]
            assert [one.number for one in other.fail_unfinished()] == [0]

    with pytest.raises(PermanentError, match="ended by another process"):
        tune(spec, training_set, Platform.at(places), on_round=take_over)
    record = tune(spec, training_set, Platform.at(places))
    assert [one.state for one in record.trials] == ["failed", "complete", "complete"]


def test_the_holdout_changes_nothing(lake: Places, whole: TuningRecord, tmp_path: Path) -> None:
    """The same trials where every label of the holdout is turned round."""
    places = replace(places_with(lake, tmp_path), lake=str(tmp_path / "lake"))
    held = pl.col("part") == "holdout"
    frame = training_frame(1500)
    turned = frame.with_columns(
        pl.when(held).then(1 - pl.col(LABEL)).otherwise(pl.col(LABEL)).alias(LABEL)
    )
    assert not turned.equals(frame)
    freeze(Lake(places.lake), training_set_record(), turned)
    assert _outcomes(tuned(places, trials=4).trials) == _outcomes(whole.trials)[:4]


def test_a_budget_ends_the_study_with_its_reason(lake: Places, tmp_path: Path) -> None:
    """Before the trial that would pass it; a larger one goes on."""
    places = places_with(lake, tmp_path)
    spec = with_tuning(base_spec())
    training_set = training_set_record()
    # The first trial is begun whatever it may cost.
    record = tune(spec, training_set, Platform.at(places), budget=1e-9)
    assert [one.state for one in record.trials] == ["complete"]
    assert "of the budget of 1e-09 are spent after 1 of 8 trials" in record.stopped
    assert record.budget == 1e-9
    more = tune(spec, training_set, Platform.at(places), budget=100.0, trials=2)
    assert len(more.trials) == 2
    assert more.stopped == "2 trials of 2 have ended"


def test_a_parameter_that_the_engine_does_not_know_stops_the_study(
    lake: Places, tmp_path: Path
) -> None:
    """It is the description that has to change: the trial counts as failed."""
    places = places_with(lake, tmp_path)
    spec = with_tuning(base_spec(), space={"max_dept": {"low": 1, "high": 6}})
    with pytest.raises(PermanentError, match="max_dept"):
        tune(spec, training_set_record(), Platform.at(places))
    assert spec.tuning is not None
    name = study_name(spec, spec.tuning, training_set_record().digest)
    study = open_study(places.tuning, name, spec.tuning)
    assert [one.state for one in study.trials()] == ["failed"]


@pytest.mark.parametrize("limits", [{"trials": 0}, {"budget": 0.0}, {"budget": float("nan")}])
def test_limits_that_are_none_are_refused(
    lake: Places, tmp_path: Path, limits: dict[str, float]
) -> None:
    """Before anything is begun."""
    places = places_with(lake, tmp_path)
    with pytest.raises(PermanentError, match=next(iter(limits))):
        tune(with_tuning(base_spec()), training_set_record(), Platform.at(places), **limits)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "studies").exists()


def test_the_asset_says_what_was_found_and_changes_no_model(
    lake: Places, whole: TuningRecord, tmp_path: Path
) -> None:
    """Numbers to chart, table, plot and YAML to paste; trials are runs below the study's."""
    from mlflow import MlflowClient

    places = places_with(lake, tmp_path)
    spec = with_tuning(base_spec())
    documents.write(places.documents, spec.name, "training_set", training_set_record())
    key = dg.AssetKey([spec.name, "tuning"])
    upstream = dg.AssetSpec(dg.AssetKey([spec.name, "training_set"]))
    definitions = dg.Definitions(
        assets=[tuning_asset(spec), upstream], resources=resources_at(places)
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[key],
            run_config={"ops": {"late_flights__tuning": {"config": {"trials": 4}}}},
        )
    (made,) = result.get_asset_materialization_events()
    metadata = {name: value.value for name, value in made.materialization.metadata.items()}
    record = documents.read(places.documents, spec.name, "tuning", TuningRecord)
    assert record is not None
    assert record.best is not None
    assert _outcomes(record.trials) == _outcomes(whole.trials)[:4]
    assert metadata["complete"] == sum(one.state == "complete" for one in record.trials)
    assert metadata["validation_log_loss"] == record.best.log_loss
    assert metadata["cost"] == record.cost
    assert "| trial | log-loss |" in str(metadata["trials_table"])
    assert "data:image/png;base64," in str(metadata["best_so_far"])
    folder = Path(places.reports) / spec.name / "tuning"
    pasted = yaml.safe_load((folder / "parameters.yaml").read_text())
    assert pasted["model"]["parameters"] == {
        **base_spec().model.parameters,
        **record.best.parameters,
    }
    assert (folder / "trials.png").read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(places.tracking)
    run = client.get_run(record.best.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == record.mlflow_run_id
    assert run.data.tags["tuning.study"] == record.study
    assert run.data.tags["tuning.trial"] == str(record.best.number)
    assert run.data.tags["tuning.dagster_run_id"] == result.run_id
    assert "dagster_run_id" not in run.data.tags
    assert run.data.metrics["validation_log_loss_best"] == record.best.log_loss
    rounds = client.get_metric_history(run.info.run_id, "validation_log_loss")
    assert len(rounds) >= record.best.rounds
    assert not client.search_registered_models()


def test_only_a_use_case_that_tunes_has_the_asset(tmp_path: Path) -> None:
    """And no condition ever asks for it."""
    functions = Functions("visits", FOLDER)
    spec = spec_of_visits()
    key = dg.AssetKey(["visits", "tuning"])
    resources = dg.Definitions(resources=resources_at(Places.under(tmp_path)))
    plain = dg.Definitions.merge(use_case_definitions(spec, functions), resources)
    assert key not in plain.resolve_asset_graph().get_all_asset_keys()
    found = dg.Definitions.merge(use_case_definitions(with_tuning(spec), functions), resources)
    node = found.resolve_asset_graph().get(key)
    assert node.automation_condition is None
    assert node.parent_keys == {dg.AssetKey(["visits", "training_set"])}
    with pytest.raises(PermanentError, match="has no `tuning:`"):
        tuned(Places.under(tmp_path), base_spec())


def test_studies_are_kept_beside_mlflows_own_tables(tmp_path: Path) -> None:
    """Or where they are told to; a server keeps none."""
    assert storage_url(f"sqlite:///{tmp_path}/mlflow.db") == f"sqlite:///{tmp_path}/tuning.db"
    postgres = "postgresql://user:secret@host/mlflow"
    assert storage_url(postgres) == postgres
    assert storage_url("http://mlflow:5000", postgres) == postgres
    with pytest.raises(PermanentError, match="MLOPS_TUNING_URL"):
        storage_url("http://mlflow:5000")


def test_the_variable_of_the_studies_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only use cases that tune need it, and only where MLflow is a server."""
    monkeypatch.delenv("MLOPS_TUNING_URL", raising=False)
    unset = Places(**{**vars(Places.under(tmp_path)), "tuning": dg.EnvVar("MLOPS_TUNING_URL")})
    assert platform_at(unset).tuning_url == ""


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    """It may come back: the study goes on then."""
    from mlops_assets.core.errors import TransientError

    tuning = TuningSpec.model_validate(TUNING)
    with pytest.raises(TransientError) as caught:
        open_study("postgresql+psycopg2://user:secret@127.0.0.1:1/none", "s", tuning)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
