"""The code asks an AWS on loopback, under each role, and the role may do all that was asked."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from iam_policies import may, parsed
from moto_sagemaker import with_update_endpoint
from recorded_aws import Asked, Recorder, recorded_aws

from mlops_assets import clock
from mlops_assets.adapters import chain, documents, inputs, ledger, ledger_tables, storage
from mlops_assets.adapters.alerts import log as alerts_log
from mlops_assets.adapters.backtest_cache import Cache
from mlops_assets.adapters.checkpoints import Keeper, Place, discard
from mlops_assets.adapters.endpoints import release_store, sagemaker, targets
from mlops_assets.adapters.lake import Lake
from mlops_assets.adapters.online_store.dynamodb_store import DynamoStore
from mlops_assets.adapters.online_store.publishing import Fresh, publish
from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.online import Entity
from mlops_assets.core.prediction_log import PredictionRecord
from mlops_assets.core.records import Record
from mlops_assets.core.replica_reports import ReplicaReport
from mlops_assets.core.rollout_state import Release, ServedModel, deployed
from mlops_assets.core.spec import EndpointSpec
from mlops_assets.serving import objects
from mlops_assets.serving.prediction_log import PredictionLog
from mlops_assets.serving.shipping import Shipper

ROLES = parsed((Path(__file__).parents[1] / "golden" / "terraform" / "iam.txt").read_text())
NAME = "mlops-production"
BUCKETS = ("lake", "ledger", "artifacts", "logs")
KEYS = {"s3": "lake", "dynamodb": "online"}

LENIENT = {("dagster", Asked("s3:ListBucket", f"arn:aws:s3:::{NAME}-logs"))}
"""Dagster takes any refusal of a log for a log that is not there."""

LAKE = f"s3://{NAME}-lake"
LEDGER = f"s3://{NAME}-ledger"
MODELS = f"s3://{NAME}-artifacts/models"
REPORTS = f"s3://{NAME}-artifacts/reports"
DOCUMENTS = f"s3://{NAME}-artifacts/documents"
CLUSTER = "kubernetes://mlops-endpoints"
PLACE = targets.place_of("visits", CLUSTER, DOCUMENTS)
PREDICTIONS = targets.prediction_log_of("visits", CLUSTER, DOCUMENTS)
MODEL = f"{MODELS}/visits/{'a' * 64}.ubj"

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SERVED = ServedModel(version=1, sha256="a" * 64, artifact=MODEL)


class Note(Record):
    """A document like any other."""

    text: str


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """An AWS with the platform's buckets and its table, and what it was asked since."""
    import boto3

    with recorded_aws() as (url, recorder):
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "MLFLOW_S3_ENDPOINT_URL": url,
        }.items():
            monkeypatch.setenv(name, value)
        objects._s3.cache_clear()
        s3 = boto3.client("s3")
        for what in BUCKETS:
            s3.create_bucket(Bucket=f"{NAME}-{what}")
        dynamodb = boto3.client("dynamodb")
        dynamodb.create_table(
            TableName=f"{NAME}-online",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "B"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        yield recorder
        # Moto's stores are the process's: other tests have theirs.
        stores: Any = boto3.resource("s3")
        for what in BUCKETS:
            bucket = stores.Bucket(f"{NAME}-{what}")
            bucket.objects.all().delete()
            bucket.delete()
        dynamodb.delete_table(TableName=f"{NAME}-online")
        objects._s3.cache_clear()


Under = Callable[[str], None]


@pytest.fixture
def under(aws: Recorder) -> Iterator[Under]:
    """Says under which role the calls from here on are made. At the end, each was allowed."""
    at: list[tuple[int, str]] = []

    def begin(role: str) -> None:
        at.append((len(aws.asked), role))

    yield begin
    ends = [begin for begin, _ in at[1:]] + [len(aws.asked)]
    refused: set[str] = set()
    for (first, role), end in zip(at, ends, strict=True):
        asked = aws.asked[first:end]
        assert role == "nobody" or asked, f"{role} asked for nothing"
        if role != "nobody":
            refused |= {f"{role}: {each}" for each in asked if not _allowed(role, each)}
    assert refused == set()


def _allowed(role: str, asked: Asked) -> bool:
    if (role, asked) in LENIENT:
        return True
    resource = asked.resource
    if resource in KEYS:
        resource = f"arn:aws:kms:us-east-1:123456789012:key/{KEYS[resource]}"
    return may(ROLES, f"{NAME}-{role}", asked.action, resource, dict(asked.context))


def rows(first: int) -> pa.Table:
    """Some rows of a table."""
    return pa.table({"id": [first, first + 1], "value": [0.5, 1.5]})


def decide(times: int) -> None:
    """Append to the ledger of promotions, until its files are joined too."""
    ledgers = chain.Ledgers(LEDGER)
    for _ in range(times):
        known = chain.read(ledgers, ledger.LEDGER, "visits")
        kept, _ = chain.append(
            ledgers, ledger.LEDGER, known, "gate", NOON, "{}", version=1, decision="refused"
        )
        assert kept


def report(replica: str, at: datetime) -> ReplicaReport:
    """What a replica says that serves the first release."""
    return ReplicaReport(
        replica=replica,
        instance=replica,
        workers=1,
        use_case="visits",
        revision=1,
        refused=None,
        champion=1,
        challenger=None,
        ready=True,
        error=None,
        at=at,
        ended=False,
        lost_log_records=0,
        totals=(),
    )


def to_release(found: Release | None) -> Release:
    """The model serves."""
    return deployed(found, "visits", SERVED, NOON, "a test")


def test_a_run_writes_tables_documents_and_decisions(under: Under) -> None:
    """What is not there yet is looked for first: a table, a ledger, a document."""
    under("run")
    lake = Lake(LAKE)
    assert lake.version("visits/events") == -1
    lake.write("visits/events", {f"2026-11-{day + 1:02d}": rows(day) for day in range(3)}, ["id"])
    lake.write("visits/events", {"2026-11-01": rows(7)}, ["id"])
    lake.remove("visits/events", ["2026-11-02"])
    assert lake.read("visits/events", ["2026-11-01"]).num_rows == 2
    assert lake.states("visits/events")
    decide(2)
    assert documents.read(DOCUMENTS, "visits", "training_set", Note) is None
    documents.write(DOCUMENTS, "visits", "training_set", Note(text="made"))
    inputs.record(
        DOCUMENTS, "visits", "events", {"2026-11-01": PartitionInputs(inputs="a", digest="b")}
    )
    storage.write_bytes(f"{REPORTS}/visits/version-1/evaluation.html", b"<html>" * 100)
    # A large object goes up in parts.
    storage.write_bytes(f"{MODELS}/visits/{'d' * 64}.ubj", bytes(12 * 1024 * 1024))


def test_a_run_deploys_and_takes_a_refused_release_back(under: Under) -> None:
    """The release is swapped, reports of servers that are gone for a day are removed."""
    under("run")
    assert release_store.load(PLACE).release is None
    former, release = release_store.change(PLACE, to_release)
    release_store.restore(PLACE, release, former, NOON)
    assert release_store.read(PLACE) is None
    release_store.change(PLACE, to_release)
    under("endpoint")
    for name, age in (("old", timedelta(days=3)), ("new", timedelta())):
        place = objects.beside(f"{PLACE}/{release_store.RELEASE}", "replicas", f"{name}.json")
        objects.write_object(place, report(name, NOON - age).model_dump_json().encode())
    under("run")
    release_store.prune(PLACE, NOON)
    assert [each.replica for each in release_store.read_reports(PLACE)] == ["new"]
    storage.write_bytes(f"{PLACE}/online.json", b"{}")


def test_a_run_publishes_online_features_which_servers_look_up(under: Under) -> None:
    """Generation after generation, the oldest of which go."""
    store = DynamoStore(f"dynamodb://{NAME}-online", 5.0)
    under("run")
    for number in range(4):
        as_of = number * 10**12
        entity = Entity(key=b"visitor", value=b"%d" % number, rows=1)
        fresh = Fresh(
            entities=[entity], inputs={"day": "digest"}, table_version=number, newest=None
        )
        publish(store, "visits", "visits/0", as_of, {"profile": fresh}, [])
    bucket = store.buckets("visits")[-1]
    assert store.count(bucket) == 1
    under("endpoint")
    pointer, found = store.read("visits/0", [(bucket, [b"visitor"])])
    assert pointer is not None
    assert found == [[b"3"]]


def test_a_step_keeps_checkpoints_and_leaves_a_model(under: Under) -> None:
    """It looks for earlier ones first, and removes all when the model is registered."""
    under("run")
    Lake(LAKE).write("visits/training_sets", {"digest": rows(0)}, ["id"])
    documents.write(DOCUMENTS, "visits", "training_set", Note(text="made"))
    under("step")
    said: list[str] = []
    assert Lake(LAKE).read("visits/training_sets", ["digest"]).num_rows == 2
    assert documents.read(DOCUMENTS, "visits", "training_set", Note) is not None
    keeper = Keeper(Place(MODELS, "visits", "digest"), "b" * 64, said.append)
    assert list(keeper.found()) == []
    for rounds in (20, 40, 60):
        losses = {part: [0.5] * rounds for part in ("train", "validation")}
        assert keeper.save(rounds, losses, b"model")
    assert next(keeper.found()).rounds == 60
    storage.write_bytes(MODEL, b"model")
    documents.write(DOCUMENTS, "visits", "model", Note(text="made"))
    discard(keeper.url, said.append)
    assert said == []
    cache = Cache(f"{MODELS}/backtest/visits")
    assert cache.get("model-1") is None
    cache.put("model-1", b"content")


def test_steps_and_runs_give_mlflow_artifacts_which_its_server_shows(
    under: Under, tmp_path: Path
) -> None:
    """Straight into the bucket, as MLflow's clients do where the server serves none."""
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "environment.json").write_text("{}")
    place = f"{MODELS}/mlflow/visits/0a1b/artifacts"
    for role in ("step", "run"):
        under(role)
        S3ArtifactRepository(place).log_artifacts(str(tmp_path / "out"), role)
    under("mlflow")
    repository = S3ArtifactRepository(place)
    assert [each.path for each in repository.list_artifacts()] == ["run", "step"]
    assert [each.path for each in repository.list_artifacts("run")] == ["run/environment.json"]
    repository.download_artifacts("run/environment.json", str(tmp_path))


def test_sensors_decide_and_move_the_release(under: Under) -> None:
    """They read what tables hold, and write decisions, alerts and what follows from them."""
    under("run")
    Lake(LAKE).write("visits/events", {"2026-11-01": rows(0)}, ["id"])
    release_store.change(PLACE, to_release)
    under("dagster")
    lake = Lake(LAKE)
    assert lake.states("visits/events")
    assert lake.version("visits/rollout_evidence") == -1
    decide(11)
    for table in (alerts_log.TABLE, alerts_log.DELIVERIES):
        for number in range(2):
            ledger_tables.append(lake, f"visits/{table}", rows(number))
        ledger_tables.compact(lake, f"visits/{table}")
    assert documents.read(DOCUMENTS, "visits", "alerting", Note) is None
    for name in ("alerting", "promotion", "endpoint"):
        documents.write(DOCUMENTS, "visits", name, Note(text="decided"))
    assert inputs.content(DOCUMENTS, "visits", "events") == b""
    other = SERVED.model_copy(update={"version": 2, "sha256": "e" * 64})
    release_store.change(PLACE, lambda found: deployed(found, "visits", other, NOON, "a test"))
    assert release_store.read_reports(PLACE) == ()
    assert read_predictions(PREDICTIONS).table.num_rows == 0


def test_a_server_follows_its_release_and_ships_its_log(under: Under, tmp_path: Path) -> None:
    """It reads the model that the release names; runs read what it shipped."""
    under("run")
    release_store.change(PLACE, to_release)
    storage.write_bytes(MODEL, b"model")
    under("endpoint")
    url = f"{PLACE}/{release_store.RELEASE}"
    first = objects.read_changed(url, "", 1024 * 1024)
    assert first is not None
    assert objects.read_changed(url, first[1], 1024 * 1024) is None
    assert objects.read_object(MODEL, 1024) == b"model"
    answered = PredictionRecord(
        time=NOON,
        request="r",
        use_case="visits",
        version=1,
        sha256="a" * 64,
        categories={},
        floats={"age": [1.0]},
        scores=[0.5],
    )
    log = PredictionLog(tmp_path / "log", "visits-7d9f")
    log.write(answered)
    assert Shipper(log, PREDICTIONS).ship() == 1
    log.close()
    under("run")
    assert read_predictions(PREDICTIONS).table.num_rows == 1


def test_a_run_brings_an_endpoint_to_sagemaker_whose_containers_follow(
    under: Under, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made, gets another container and another configuration; the sensors look at it."""
    import boto3

    url = f"sagemaker://arn:aws:iam::123456789012:role/mlops/{NAME}-sagemaker"
    place = targets.place_of("visits", url, DOCUMENTS)
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    monkeypatch.setenv(sagemaker.IMAGE_VARIABLE, f"{registry}/mlops-server:1")
    monkeypatch.delenv(sagemaker.INSTANCE_VARIABLE, raising=False)
    with_update_endpoint(monkeypatch)
    running = ["c-1"]

    def containers(_: float) -> None:
        """Moto runs none: each reads the release and its model, and reports."""
        under("sagemaker")
        release = f"{place}/{release_store.RELEASE}"
        for name in running:
            assert objects.read_changed(release, "", 1024 * 1024) is not None
            assert objects.read_object(MODEL, 1024) == b"model"
            said = report(name, clock.now()).model_dump_json().encode()
            objects.write_object(objects.beside(release, "replicas", f"{name}.json"), said)
        under("run")

    monkeypatch.setattr(sagemaker.time, "sleep", containers)

    def deploy(count: int, **options: int) -> str:
        spec = EndpointSpec.model_validate({"replicas": {"min": count, "max": 2}, **options})
        return targets.deploy("visits", SERVED, spec, url, DOCUMENTS, "a test").instance

    under("run")
    storage.write_bytes(MODEL, b"model")
    made = deploy(1)
    running.append("c-2")
    assert deploy(2) == made
    assert deploy(2, max_rows=10) == made
    under("dagster")
    assert targets.expected_instances("visits", url, DOCUMENTS) == ("c-1", "c-2")
    under("nobody")
    client = boto3.client("sagemaker")
    configuration = client.describe_endpoint(EndpointName="visits")["EndpointConfigName"]
    client.delete_endpoint(EndpointName="visits")
    client.delete_endpoint_config(EndpointConfigName=configuration)
    client.delete_model(ModelName=configuration)


def test_all_ship_what_they_print_and_the_ui_shows_it(under: Under, tmp_path: Path) -> None:
    """Dagster's own S3ComputeLogManager, as deployments/dagster/values.yaml sets it up."""
    from dagster._core.storage.compute_log_manager import ComputeIOType
    from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

    def manager(folder: str) -> S3ComputeLogManager:
        return S3ComputeLogManager(
            bucket=f"{NAME}-logs", prefix="compute-logs", local_dir=str(tmp_path / folder)
        )

    for role in ("run", "step", "dagster"):
        under(role)
        with manager(role).capture_logs(["a-run", "compute_logs", role]):
            print("worked")
    under("dagster")
    shown = manager("ui").get_log_data(["a-run", "compute_logs", "step"])
    assert shown.stdout is not None
    assert manager("ui").cloud_storage_has_logs(["a-run", "none"], ComputeIOType.STDOUT) is False
    assert manager("ui").get_log_keys_for_log_key_prefix(
        ["a-run", "compute_logs"], ComputeIOType.STDOUT
    )


def test_a_call_that_is_not_allowed_is_noticed(aws: Recorder) -> None:
    """A step that writes a release: what these tests would say of it."""
    begun = len(aws.asked)
    release_store.change(PLACE, to_release)
    refused = {str(each) for each in aws.asked[begun:] if not _allowed("step", each)}
    assert refused == {f"s3:PutObject on {PLACE.replace('s3://', 'arn:aws:s3:::')}/release.json"}
