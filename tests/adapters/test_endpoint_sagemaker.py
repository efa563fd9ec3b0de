"""An endpoint on SageMaker (moto): model, configuration, endpoint, and how many containers.

moto runs no container: their reports are written here. It has no UpdateEndpoint: the few lines of
it that matter are in tests/support/moto_sagemaker.py.
"""

import shlex
from datetime import timedelta
from typing import Any

import boto3
import pytest
from moto.sagemaker.models import sagemaker_backends
from moto_sagemaker import with_update_endpoint

from mlops_assets import clock
from mlops_assets.adapters.endpoints import release_store, sagemaker, targets
from mlops_assets.adapters.endpoints.health import is_well
from mlops_assets.adapters.storage import join, write_bytes
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.replica_reports import ReplicaReport
from mlops_assets.core.rollout_state import EndpointRecord, ServedModel, serve_only
from mlops_assets.core.spec import EndpointSpec

ROLE = "arn:aws:iam::123456789012:role/mlops-endpoint"
URL = f"sagemaker://{ROLE}"
NAME = "flight-delays"
ACCOUNT, REGION = "123456789012", "us-east-1"


def model(version: int) -> ServedModel:
    """A registered model."""
    return ServedModel(
        version=version, sha256=f"{version:064x}", artifact=f"s3://models/{version}.ubj"
    )


class Account:
    """An AWS account, whose containers serve what they are told."""

    def __init__(self, documents: str) -> None:
        self.documents = documents
        self.client: Any = boto3.client("sagemaker", region_name=REGION)
        self.containers = ["c-1", "c-2"]

    @property
    def place(self) -> str:
        """Where the release is."""
        return targets.place_of("flight_delays", URL, self.documents)

    def deploy(self, version: int, containers: int = 2, **changes: Any) -> EndpointRecord:
        """Bring a model to the endpoint."""
        replicas = {"min": containers, "max": max(containers, 1)}
        spec = EndpointSpec.model_validate({"replicas": replicas, **changes})
        return targets.deploy("flight_delays", model(version), spec, URL, self.documents, "tried")

    def report(self, refused: int | None = None) -> None:
        """What the servers in the containers do."""
        release = release_store.read(self.place)
        assert release is not None
        for container in self.containers:
            report = ReplicaReport(
                replica=container,
                instance=container,
                workers=1,
                use_case=release.use_case,
                revision=0 if refused else release.revision,
                refused=refused,
                champion=release.champion.version,
                challenger=None,
                ready=refused is None,
                error="the digest is another one" if refused else None,
                at=clock.now(),
                ended=False,
                lost_log_records=0,
                totals=(),
            )
            where = join(self.place, release_store.REPLICAS, f"{container}.json")
            write_bytes(where, report.model_dump_json().encode())

    def endpoint(self) -> dict[str, Any]:
        """The endpoint as SageMaker has it."""
        found = self.client.describe_endpoint(EndpointName=NAME)
        return {key: value for key, value in found.items() if key != "ResponseMetadata"}

    def configurations(self) -> list[str]:
        """Names of all configurations; the models have the same."""
        found = self.client.list_endpoint_configs()["EndpointConfigs"]
        names = sorted(each["EndpointConfigName"] for each in found)
        models = sorted(each["ModelName"] for each in self.client.list_models()["Models"])
        assert names == models
        return names


@pytest.fixture
def account(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account without endpoints."""
    monkeypatch.setenv(sagemaker.IMAGE_VARIABLE, "123.dkr.ecr.us-east-1.amazonaws.com/server:1")
    monkeypatch.setattr(sagemaker, "POLL_S", 0.01)
    sagemaker_backends[ACCOUNT][REGION].reset()
    found = Account(s3_bucket)

    def waited(seconds: float) -> None:
        found.report()

    monkeypatch.setattr(sagemaker.time, "sleep", waited)
    monkeypatch.setattr(targets.time, "sleep", waited)
    with_update_endpoint(monkeypatch)
    return found


def test_an_endpoint_is_a_model_a_configuration_and_containers(account: Account) -> None:
    """The same image as on Kubernetes, which follows the same release."""
    record = account.deploy(1)
    endpoint = account.endpoint()
    assert record.instance == endpoint["EndpointArn"]
    assert record.url == f"https://runtime.sagemaker.{REGION}.amazonaws.com/endpoints/{NAME}"
    (variant,) = endpoint["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (2, 1.0)
    found = account.client.describe_model(ModelName=endpoint["EndpointConfigName"])
    assert found["ExecutionRoleArn"] == ROLE
    container = found["PrimaryContainer"]
    assert container["Image"].endswith("server:1")
    arguments = shlex.split(container["Environment"][sagemaker.ARGUMENTS_VARIABLE])
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--release"] == f"{account.place}/release.json"
    assert options["--port"] == "8080"


def test_all_that_is_made_has_the_use_cases_tag(account: Account) -> None:
    """The platform's rights are to what has it."""
    endpoint = account.deploy(1).instance
    (name,) = account.configurations()
    made = [
        endpoint,
        account.client.describe_endpoint_config(EndpointConfigName=name)["EndpointConfigArn"],
        account.client.describe_model(ModelName=name)["ModelArn"],
    ]
    for arn in made:
        tags = account.client.list_tags(ResourceArn=arn)["Tags"]
        assert tags == [{"Key": "mlops/use_case", "Value": "flight_delays"}], arn


def test_another_champion_changes_nothing_at_sagemaker(account: Account) -> None:
    """The containers follow the release; as they do through a rollout."""
    account.deploy(1)
    before = account.endpoint()
    assert account.deploy(2).release.revision == 2
    release = targets.change(
        "flight_delays",
        lambda found: serve_only(found, model(1), clock.now(), "back"),
        URL,
        account.documents,
    )
    assert release.champion == model(1)
    assert account.endpoint() == before


def test_another_number_of_containers_is_changed_in_place(account: Account) -> None:
    """No configuration is made for it; SageMaker keeps one at least."""
    account.deploy(1, 2)
    (name,) = account.configurations()
    for wanted, kept in ((3, 3), (0, 1)):
        account.containers = [f"c-{number}" for number in range(kept)]
        account.deploy(1, wanted)
        (variant,) = account.endpoint()["ProductionVariants"]
        assert variant["CurrentInstanceCount"] == kept
    assert account.configurations() == [name]


def test_other_options_are_another_configuration(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SageMaker moves the endpoint to it; what was before is removed."""
    account.deploy(1)
    (first,) = account.configurations()
    account.deploy(1, max_rows=10)
    (second,) = account.configurations()
    assert second != first
    assert account.endpoint()["EndpointConfigName"] == second
    monkeypatch.setenv(sagemaker.IMAGE_VARIABLE, "123.dkr.ecr.us-east-1.amazonaws.com/server:2")
    account.deploy(1, max_rows=10)
    assert account.configurations() != [second]
    assert len(account.configurations()) == 1


def test_a_container_that_refuses_the_model_fails_the_deployment(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its words; the release is what it was."""
    account.deploy(1)
    monkeypatch.setattr(sagemaker.time, "sleep", lambda seconds: account.report(refused=2))
    with pytest.raises(PermanentError, match="refuses the release: the digest is another one"):
        account.deploy(2)
    release = release_store.read(account.place)
    assert release is not None
    assert release.champion == model(1)


def test_a_container_that_does_not_report_is_waited_for(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And named by its number, since SageMaker gives it no name."""
    monkeypatch.setattr(targets, "SAGEMAKER_READY_S", 0.2)
    account.containers = ["c-1"]
    with pytest.raises(TransientError, match=r"not ready within 0\.2 s: container 2 of 2"):
        account.deploy(1)
    assert release_store.read(account.place) is None


@pytest.mark.parametrize(
    ("status", "reason"), [("Failed", "no capacity"), ("UpdateRollbackFailed", "no capacity")]
)
def test_what_sagemaker_gives_up_is_told(account: Account, status: str, reason: str) -> None:
    """With its reason."""
    account.deploy(1)
    endpoint = sagemaker_backends[ACCOUNT][REGION].endpoints[NAME]
    endpoint.endpoint_status, endpoint.failure_reason = status, reason
    with pytest.raises(PermanentError, match=f"is {status}: {reason}"):
        account.deploy(2)


def test_without_an_image_or_a_store_nothing_is_begun(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to set."""
    with pytest.raises(PermanentError, match="set MLOPS_DOCUMENTS_URL"):
        targets.deploy("flight_delays", model(1), EndpointSpec(), URL, "/documents", "tried")
    monkeypatch.delenv(sagemaker.IMAGE_VARIABLE)
    with pytest.raises(PermanentError, match="MLOPS_SERVER_IMAGE is not set"):
        account.deploy(1)
    assert account.configurations() == []


def test_what_only_its_cloud_reaches_is_well_when_a_server_says_so(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it goes on saying so."""
    url = account.deploy(1).url

    def well() -> bool:
        return is_well("flight_delays", EndpointSpec(), url, URL, account.documents)

    assert well()
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(minutes=5))
    assert not well()
