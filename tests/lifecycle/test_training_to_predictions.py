"""From features to predictions: real training, registry, report, server and scores."""

import hashlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from lifecycle_support import Project, make_project

from mlops_assets.adapters import ledger
from mlops_assets.adapters.endpoints import local
from mlops_assets.adapters.tracking import Tracking
from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.records import (
    EvaluationRecord,
    ModelRecord,
    PromotionRecord,
    TrainingSetRecord,
)
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.lifecycle.training_set import build, read_training_set, training_window

DATA = ("2024-03-01", "2024-04-11")
NEXT_DAY = "2024-04-10"
VIEWS = ["visit", "shop_returns", "shop_sizes"]
STAGES = ["training_set", "model", "evaluation", "promotion", "endpoint"]


@dataclass(frozen=True)
class Line:
    """The whole line, run once."""

    project: Project
    training_set: TrainingSetRecord
    model: ModelRecord
    evaluation: EvaluationRecord
    promotion: PromotionRecord
    endpoint: EndpointRecord

    @property
    def tracking(self) -> Tracking:
        """The project's registry."""
        return Tracking(self.project.places.tracking, self.project.places.artifacts)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Data, features, training, evaluation, promotion, endpoint and a day of predictions."""
    folder = tmp_path_factory.mktemp("line")
    with dg.DagsterInstance.ephemeral() as instance:
        project = make_project(folder, instance, 8931)
        try:
            assert project.run(["visits", "shops"], DATA).success
            assert project.run(VIEWS, DATA).success
            result = project.run(STAGES)
            assert result.success
            assert project.run(["predictions"], (NEXT_DAY, NEXT_DAY)).success
            yield Line(project, *(result.asset_value(project.key(name)) for name in STAGES))
        finally:
            local.stop("visits", project.places.endpoints)


def test_the_training_set_holds_every_labelled_event_of_the_window_in_order(line: Line) -> None:
    """No label row is lost; parts follow each other in time."""
    record = line.training_set
    frame = read_training_set(line.project.spec, line.project.lake, record)
    # The last two hours of the window are not settled when it ends.
    assert record.rows + record.unlabelled == 24 * 60
    assert 0 < record.unlabelled < 10
    assert frame.height == record.rows
    bounds = frame.group_by("part").agg(
        pl.col("day").min().alias("first"), pl.col("day").max().alias("last")
    )
    by_part = {row["part"]: row for row in bounds.to_dicts()}
    assert by_part["train"]["last"] < by_part["validation"]["first"]
    assert by_part["validation"]["last"] < by_part["holdout"]["first"]


def test_the_training_set_names_the_table_versions_it_came_from(line: Line) -> None:
    """An auditor can read the same rows again."""
    versions = line.training_set.table_versions
    assert set(versions) == {
        "visits/visits", "visits/shops", "visits/visit", "visits/shop_returns", "visits/shop_sizes"
    }  # fmt: skip
    for table, version in versions.items():
        assert line.project.lake.read(table, version=version).num_rows > 0


def test_building_the_same_training_set_again_gives_the_same_digest(line: Line) -> None:
    """Frozen means that nothing is written twice."""
    project = line.project
    before = project.lake.version("visits/training_sets")
    again = build(project.spec, project.functions, project.lake, training_window(project.spec))
    assert again.digest == line.training_set.digest
    assert project.lake.version("visits/training_sets") == before


def test_training_again_gives_the_same_bytes_and_no_new_version(line: Line) -> None:
    """Same training set, parameters and versions: same sha256."""
    result = line.project.run(["model"])
    again: ModelRecord = result.asset_value(line.project.key("model"))
    assert again.sha256 == line.model.sha256
    assert again.version == line.model.version
    assert again.unchanged


def test_the_artifact_is_the_registered_one(line: Line) -> None:
    """The sha256 in the registry is the file's."""
    data = Path(line.model.artifact).read_bytes()
    assert hashlib.sha256(data).hexdigest() == line.model.sha256


def test_the_model_beats_the_base_rate_and_is_promoted(line: Line) -> None:
    """The data has a signal; the gate sees it over resampled days."""
    evaluation = line.evaluation
    assert evaluation.verdict == "pass"
    assert evaluation.challenger.log_loss < evaluation.base_rate.log_loss - 0.01
    assert evaluation.challenger.roc_auc > 0.65
    assert Path(evaluation.report).stat().st_size < 10 * 2**20
    assert line.promotion.decision == "promoted"
    champion = line.tracking.champion("visits")
    assert champion is not None
    assert champion.sha256 == line.model.sha256


def test_the_decision_is_in_the_ledger_once_however_often_it_is_made(line: Line) -> None:
    """Materializing promotion again records nothing new."""
    before = ledger.decisions(line.project.ledgers, "visits")
    assert [d.decision for d in before] == ["promoted"]
    assert line.project.run(["promotion"]).success
    assert len(ledger.decisions(line.project.ledgers, "visits")) == 1
    # They are in a place of their own.
    assert line.project.lake.version(ledger.table("visits")) == -1


def test_a_promotion_killed_before_the_alias_moved_is_completed_by_the_next_run(
    line: Line,
) -> None:
    """The ledger is written first; the alias follows, at the latest on the next run."""
    import mlflow

    client = mlflow.MlflowClient(line.project.places.tracking)
    client.delete_registered_model_alias("visits", "champion")
    assert line.tracking.champion("visits") is None
    assert line.project.run(["promotion"]).success
    champion = line.tracking.champion("visits")
    assert champion is not None
    assert champion.version == line.model.version
    assert len(ledger.decisions(line.project.ledgers, "visits")) == 1


def test_what_servers_looked_up_goes_with_the_use_cases_online_features(line: Line) -> None:
    """Once `online:` is gone from defs.yaml, with the endpoint's next materialization."""
    document = Path(line.project.places.endpoints) / "visits" / "online.json"
    document.write_text("{}")
    assert line.project.run(["endpoint"]).success
    assert not document.exists()


def _infer(line: Line) -> tuple[list[str], list[float]]:
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.windows import window_of
    from mlops_assets.lifecycle.training_set import events_with_features

    project = line.project
    rows = events_with_features(
        project.spec,
        project.functions,
        Lake(project.places.lake),
        window_of([NEXT_DAY], project.spec.timezone),
    )
    inputs = []
    for name, kind in project.spec.feature_types.items():
        datatype = "BYTES" if kind == "category" else "FP32"
        inputs.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": [rows.height],
                "data": rows[name].to_list(),
            }
        )
    request = urllib.request.Request(  # noqa: S310 - the endpoint on loopback
        f"{line.endpoint.url}/v2/models/visits/infer",
        data=json.dumps({"inputs": inputs}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        answer = json.load(response)
    assert answer["model_version"] == str(line.model.version)
    return rows["event_id"].to_list(), answer["outputs"][0]["data"]


def test_server_batch_and_pyfunc_give_the_same_numbers(line: Line) -> None:
    """Three ways to ask the same model, one answer: of one runtime to the last bit."""
    import mlflow
    import pandas as pd

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.onnx_trees import TOLERANCE
    from mlops_assets.core.windows import window_of
    from mlops_assets.lifecycle.training_set import events_with_features

    project = line.project
    ids, served = _infer(line)
    table = project.table("predictions", [NEXT_DAY])
    batch = dict(table.select("event_id", "score").iter_rows())
    # Single rows are scored by tables of bits, batches and pyfunc by XGBoost.
    assert np.allclose(served, [batch[i] for i in ids], rtol=0, atol=TOLERANCE)
    rows = events_with_features(
        project.spec,
        project.functions,
        Lake(project.places.lake),
        window_of([NEXT_DAY], project.spec.timezone),
    )
    mlflow.set_tracking_uri(project.places.tracking)
    pyfunc = mlflow.pyfunc.load_model(f"models:/visits/{line.model.version}")
    frame = pd.DataFrame({name: rows[name].to_list() for name in project.spec.feature_types})
    assert np.array_equal(
        np.asarray(pyfunc.predict(frame), dtype=np.float32).ravel(),
        np.array([batch[event] for event in rows["event_id"]], dtype=np.float32),
    )


def test_predictions_name_the_model_that_made_them(line: Line) -> None:
    """Each score can be traced to bytes."""
    table = line.project.table("predictions", [NEXT_DAY])
    assert table["model_sha256"].unique().to_list() == [line.model.sha256]
    assert table["model_version"].unique().to_list() == [line.model.version]


def test_the_endpoint_outlives_the_run_and_is_found_again(line: Line) -> None:
    """Materializing the endpoint again keeps the same server process."""
    found = local.find("visits", line.project.places.endpoints)
    assert found is not None
    assert found.pid == line.endpoint.pid
    result = line.project.run(["endpoint"])
    assert result.asset_value(line.project.key("endpoint")).pid == line.endpoint.pid


def test_a_truncated_model_file_is_refused_and_the_last_good_model_keeps_answering(
    line: Line,
) -> None:
    """Neither the batch path nor the server trusts bytes that are not the registered ones."""
    artifact = Path(line.model.artifact)
    whole = artifact.read_bytes()
    try:
        artifact.write_bytes(whole[: len(whole) // 2])
        result = line.project.run(["predictions"], ("2024-04-11", "2024-04-11"))
        assert not result.success
        assert "sha256" in str(result.get_step_failure_events()[0].step_failure_data.error)
        assert len(_infer(line)[1]) == 60
    finally:
        artifact.write_bytes(whole)


def test_a_window_that_is_not_in_the_lake_is_refused_by_partition(line: Line) -> None:
    """The message names the table and the first missing day."""
    project = line.project
    result = project.run(
        ["training_set"],
        config={"ops": {"visits__training_set": {"config": {"end": "2024-04-28", "days": 24}}}},
    )
    assert not result.success
    error = str(result.get_step_failure_events()[0].step_failure_data.error)
    assert MissingPartitionsError.__name__ in error
    assert "2024-04-12" in error
