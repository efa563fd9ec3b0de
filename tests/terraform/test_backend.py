"""The backends against S3's stand-in: Terraform takes them as they are, and locks by a file."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from terraform_support import ENVIRONMENTS, TERRAFORM, terraform

pytestmark = [pytest.mark.terraform, pytest.mark.moto, pytest.mark.usefixtures("terraform_program")]


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """Variables of the environment with which the backend reaches moto."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    yield {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_ENDPOINT_URL_IAM": url,
    }
    server.stop()


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def state(request, aws, tmp_path_factory) -> tuple[Path, str]:
    """A folder with an environment's backend alone, and the bucket that it names, made."""
    bucket = f"mlops-{request.param}-terraform"
    _s3(aws).create_bucket(Bucket=bucket)
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copy(TERRAFORM / "environments" / request.param / "backend.tf", folder)
    (folder / "main.tf").write_text('output "made" {\n  value = true\n}\n')
    return folder, bucket


def _s3(aws: dict[str, str]):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL_S3"],
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


INIT = ("init", "-input=false", "-no-color", "-backend-config=use_path_style=true")


def test_the_state_gets_to_its_bucket(state, aws):
    """With the committed block and nothing changed but how S3's stand-in is addressed."""
    folder, bucket = state
    terraform(*INIT, folder=folder, environment=aws)
    terraform("apply", "-auto-approve", "-input=false", folder=folder, environment=aws)
    s3 = _s3(aws)
    (kept,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert kept["Key"] == f"{bucket.removesuffix('-terraform')}/terraform.tfstate"
    head = s3.head_object(Bucket=bucket, Key=kept["Key"])
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"].endswith(f"alias/{bucket}")


def test_a_second_apply_waits_for_the_first(state, aws):
    """The lock is a file beside the state; who finds it there is told whose it is."""
    folder, bucket = state
    terraform(*INIT, folder=folder, environment=aws)
    s3 = _s3(aws)
    key = f"{bucket.removesuffix('-terraform')}/terraform.tfstate.tflock"
    lock = {"ID": "1", "Operation": "OperationTypeApply", "Who": "somebody@else", "Path": key}
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(lock).encode())
    try:
        done = terraform(
            *("apply", "-auto-approve", "-input=false", "-no-color", "-lock-timeout=0s"),
            folder=folder,
            environment=aws,
            check=False,
        )
    finally:
        s3.delete_object(Bucket=bucket, Key=key)
    assert done.code == 1
    assert "somebody@else" in done.errors


def test_a_mistyped_key_is_dropped_in_silence(state, aws, tmp_path):
    """With any -backend-config, as here, `init` says nothing, and the state is not locked.

    So test_environments.py reads the blocks. Where this fails, Terraform has learned to look.
    """
    folder, _ = state
    text = (folder / "backend.tf").read_text().replace("use_lockfile", "use_lock_file")
    (tmp_path / "backend.tf").write_text(text)
    terraform(*INIT, folder=tmp_path, environment=aws)
    settings = json.loads((tmp_path / ".terraform" / "terraform.tfstate").read_text())
    assert settings["backend"]["config"]["use_lockfile"] is None
