"""An S3 server on loopback, for adapters that run on a folder and on a bucket."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_assets.adapters.lake import Lake

_BUCKET = "lake"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of a running S3 server with one empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket=_BUCKET)
    yield url
    server.stop()


@pytest.fixture
def s3_bucket(
    s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """A URL in a bucket where nothing is yet, with the environment that reaches it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return f"s3://{_BUCKET}/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]}"


@pytest.fixture(params=["folder", "s3"])
def location(request: pytest.FixtureRequest) -> str:
    """A place where nothing is yet: a local folder, then a bucket."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3_bucket"))
    return str(request.getfixturevalue("tmp_path") / "place")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake where nothing is yet."""
    return Lake(str(tmp_path / "lake"))
