"""The lifecycle with everything where staging keeps it: S3, PostgreSQL and MLflow's server."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from lifecycle_support import Project, spec_of_visits
from services import CREDENTIALS, mlflow, postgres, postgres_uri, s3
from serving_support import running_server, write_release

from mlops_assets.adapters.endpoints import local
from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.lifecycle.platform import Places

DATA = ("2024-03-01", "2024-04-11")
NEXT_DAY = "2024-04-10"
INPUTS = {
    "minutes": [5.0, 60.0],
    "shop_name": ["north", "south"],
    "shop_return_share": [0.4, None],
    "shop_size": [3.0, 3.0],
}
BODY = {
    "inputs": [
        {
            "name": name,
            "shape": [2],
            "datatype": "BYTES" if name == "shop_name" else "FP64",
            "data": values,
        }
        for name, values in INPUTS.items()
    ]
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, int]]:
    """Places like staging's, and PostgreSQL's port; endpoints are processes of this machine."""
    folder = tmp_path_factory.mktemp("services")
    with (
        pytest.MonkeyPatch.context() as patch,
        postgres(["dagster", "mlflow"]) as port,
        s3(["lake", "artifacts"], folder) as url,
        mlflow(postgres_uri(port, "mlflow"), "s3://artifacts/mlflow", url, folder) as tracking,
    ):
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        yield (
            Places(
                lake="s3://lake/tables",
                tracking=tracking,
                artifacts="s3://artifacts/models",
                reports="s3://artifacts/reports",
                documents="s3://artifacts/documents",
                endpoints=str(folder / "endpoints"),
            ),
            port,
        )


@pytest.fixture(scope="module")
def instance(
    places: tuple[Places, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on PostgreSQL."""
    folder = tmp_path_factory.mktemp("instance")
    url = {"postgres_url": postgres_uri(places[1], "dagster")}
    storages = {
        "run_storage": ("dagster_postgres.run_storage", "PostgresRunStorage"),
        "event_log_storage": ("dagster_postgres.event_log", "PostgresEventLogStorage"),
        "schedule_storage": ("dagster_postgres.schedule_storage", "PostgresScheduleStorage"),
    }
    overrides = {
        name: {"module": module, "class": kind, "config": url}
        for name, (module, kind) in storages.items()
    }
    with dg.DagsterInstance.local_temp(
        str(folder), overrides={**overrides, "telemetry": {"enabled": False}}
    ) as made:
        yield made


def test_raw_data_becomes_an_endpoint_that_answers(
    places: tuple[Places, int], instance: dg.DagsterInstance, tmp_path: Path, free_port: int
) -> None:
    """Every stage, with nothing on this machine's disk but the server's process; the server reads
    its model from S3, and what another one answered is shipped to S3 when it ends.
    """
    project = Project(spec_of_visits(free_port), places[0], instance, tmp_path / "faults.json")
    try:
        for assets, days in (
            (["visits", "shops"], DATA),
            (["visit", "shop_returns", "shop_sizes"], DATA),
            (["training_set", "model", "evaluation", "promotion", "endpoint"], None),
            (["predictions"], (NEXT_DAY, NEXT_DAY)),
        ):
            result = project.run(assets, days)
            failures = result.get_step_failure_events()
            assert result.success, [event.step_failure_data.error for event in failures]
        served = local.find("visits", places[0].endpoints)
        assert served is not None
        assert served.release.champion.artifact.startswith("s3://artifacts/models/visits/")
        answer = local.ask(served.url, "visits", INPUTS, 30)
    finally:
        local.stop("visits", places[0].endpoints)
    scores = project.table("predictions", [NEXT_DAY])
    assert scores.height > 0
    assert set(scores["model_sha256"]) == {served.release.champion.sha256}

    log = "s3://artifacts/documents/prediction-log/visits"
    write_release(tmp_path / "release.json", served.release)
    with running_server(tmp_path, free_port, "--ship-to", log) as server:
        status, again = server.call("POST", "/v2/models/visits/infer", BODY)
        assert status == 200
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert again["outputs"][0]["data"] == list(answer.scores)
    assert read_predictions(log).table["score"].to_pylist() == pytest.approx(answer.scores)
    assert not list(tmp_path.glob("log/**/*.jsonl"))
