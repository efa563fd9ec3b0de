"""Ledgers in a bucket of their own that keeps each version of each object."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from mlops_assets.adapters import decisions, ledger
from mlops_assets.adapters.chain import Ledgers
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import PromotionRecord
from mlops_assets.core.retraining_records import Training

BUCKET = "kept"
NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)


@dataclass
class Requests:
    """What was asked of the server, before it was answered."""

    app: Callable[..., Iterable[bytes]]
    asked: list[tuple[str, str, bool]] = field(default_factory=list)
    """Method, path, and whether it came with a checksum."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """As WSGI asks."""
        checked = "HTTP_X_AMZ_CHECKSUM_SHA256" in environ
        self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], checked))
        if checked:
            # S3 takes the checksum itself for an answer; moto asks for the name of its algorithm.
            environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = "SHA256"
        return self.app(environ, start_response)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Requests]]:
    """An S3 server whose bucket has versions, Object Lock and a default retention."""
    requests = Requests(DomainDispatcherApplication(create_backend_app))
    running = make_server(
        "127.0.0.1", 0, requests, threaded=True, request_handler=MotoRequestHandler
    )
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", requests
    running.shutdown()
    thread.join(10)


@pytest.fixture
def bucket(server: tuple[str, Requests], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the bucket, which is locked; with the environment that reaches it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server[0],
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1")
    if BUCKET not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        client.put_object_lock_configuration(
            Bucket=BUCKET,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 365}},
            },
        )
    server[1].asked.clear()
    return client


@pytest.fixture
def ledgers(bucket: Any, request: pytest.FixtureRequest) -> Ledgers:
    """A place in the bucket where nothing is yet."""
    return Ledgers(f"s3://{BUCKET}/{request.node.name}")


def _decision(version: int) -> PromotionRecord:
    return PromotionRecord(
        use_case="visits",
        version=version,
        sha256="0" * 64,
        decision="promoted",
        reasons=("the gate's verdict is pass",),
        previous_version=version - 1 or None,
        champion=None,
        evaluation_digest=f"digest {version}",
        decided_at=NOON + timedelta(days=version),
        dagster_run_id=f"run {version}",
    )


def test_decisions_are_kept_in_order_and_of_two_at_once_one_counts(ledgers: Ledgers) -> None:
    """As in the lake: the bucket's conditional writes decide races, versions or not."""
    assert ledger.record(ledgers, _decision(1))
    assert not ledger.record(ledgers, _decision(1))
    read = ledger.book(ledgers, "visits")
    assert ledger.append(ledgers, read, _decision(2))[0]
    counts, after = ledger.append(ledgers, read, _decision(3))
    assert not counts
    assert ledger.append(ledgers, after, _decision(3))[0]
    again = ledger.decisions(ledgers, "visits")
    assert [entry.version for entry in again] == [1, 2, 3]


def test_each_object_comes_with_a_checksum(ledgers: Ledgers, server: tuple[str, Requests]) -> None:
    """Without one, a bucket that locks its objects takes none."""
    ledger.record(ledgers, _decision(1))
    put = [checked for method, _, checked in server[1].asked if method == "PUT"]
    assert put
    assert all(put)


def test_nothing_is_deleted_when_a_ledger_grows_and_is_compacted(
    ledgers: Ledgers, server: tuple[str, Requests], bucket: Any
) -> None:
    """No version goes and no delete marker comes; what is written twice is the hint at the last
    checkpoint alone. So nobody needs the right to delete.
    """
    started = Training(
        use_case="visits",
        signal_id="s",
        signal_day=NOON.date(),
        attempt=1,
        champion_version=1,
        started=NOON,
    )
    for version in range(1, 24):
        assert ledger.record(ledgers, _decision(version))
    assert decisions.record_training(ledgers, started)
    prefix = ledgers.root.removeprefix(f"s3://{BUCKET}/")
    found = bucket.list_object_versions(Bucket=BUCKET, Prefix=prefix)
    keys = [version["Key"] for version in found["Versions"]]
    assert sum(key.endswith(".checkpoint.parquet") for key in keys) >= 2
    assert not found.get("DeleteMarkers")
    twice = {key.rpartition("/")[2] for key in keys if keys.count(key) > 1}
    assert twice == {"_last_checkpoint"}
    assert {method for method, _, _ in server[1].asked} <= {"GET", "HEAD", "PUT"}
    assert len(ledger.decisions(ledgers, "visits")) == 23


def test_a_ledger_is_not_vacuumed(ledgers: Ledgers, server: tuple[str, Requests]) -> None:
    """Not even by whoever takes it for a table of the lake."""
    ledger.record(ledgers, _decision(1))
    for place in (ledgers, Lake(ledgers.root)):
        with pytest.raises(PermanentError, match="visits/promotions is a ledger"):
            place.vacuum(ledger.table("visits"), [], 0)
    assert {method for method, _, _ in server[1].asked} <= {"GET", "HEAD", "PUT"}
