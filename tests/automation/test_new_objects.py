"""New objects in S3 are heard of: sources there are looked at at once, and no message is lost."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import polars as pl
import pyarrow.parquet as pq
import pytest
from lifecycle_support import Project, make_project
from moto.server import ThreadedMotoServer
from ticking import made, set_clock, until_quiet

from mlops_assets import clock
from mlops_assets.adapters import object_events
from mlops_assets.adapters.storage import filesystem
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.arrivals.inputs import view_stage
from mlops_assets.lifecycle.arrivals.objects import hear, new_objects_sensor
from mlops_assets.lifecycle.arrivals.sensor import INTERVAL_SECONDS, new_data_sensor
from mlops_assets.lifecycle.platform import Platform, resources_at
from mlops_assets.replay.ticks import Daemon

SENSOR = "visits_new_data"
MORNING = datetime(2024, 3, 5, 2, tzinfo=UTC)
"""The days from 1 to 4 March are over."""

SECONDS = timedelta(seconds=INTERVAL_SECONDS)
PLACE = "landing/visits"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """S3 and SQS on loopback."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def queue(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[Any, str, str]:
    """A client of SQS, an empty queue, and its dead-letter queue; a message may be tried twice."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
        "VISITS_FAULTS": str(tmp_path / "faults.json"),
        clock.ENV: str(tmp_path / "clock.json"),
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("sqs", region_name="us-east-1")
    name = request.node.name[:60]
    dead = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    asked = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
    redrive = {"deadLetterTargetArn": asked["Attributes"]["QueueArn"], "maxReceiveCount": "2"}
    attributes = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "0"}
    url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return client, url, dead


@pytest.fixture
def project(tmp_path: Path, queue: tuple[Any, str, str]) -> Iterator[Project]:
    """A use case whose visits are files in S3, of which the queue tells."""
    with dg.DagsterInstance.ephemeral() as instance:
        made_of = make_project(tmp_path, instance, 8931)
        spec = made_of.spec.model_dump()
        spec["datasets"]["visits"] |= {
            "suite": None,
            "source": {"kind": "parquet", "location": f"s3://{PLACE}"},
        }
        yield replace(
            made_of,
            spec=UseCaseSpec.model_validate(spec),
            places=replace(made_of.places, events=queue[1]),
        )


def _event(key: str, number: int = 1) -> str:
    """As EventBridge hands it on."""
    detail = {"bucket": {"name": "landing"}, "object": {"key": key, "size": 1}}
    event = {"id": f"event {number}", "source": "aws.s3", "detail-type": "Object Created"}
    return json.dumps({**event, "detail": detail})


def _left(client: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages"]
    asked = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return int(asked["Attributes"][names[0]])


def _upload(project: Project) -> None:
    """Put what the source has now where the use case reads it."""
    rows = project.functions.resolve("sources:visits")(
        Window(date(2024, 3, 1), date(2024, 3, 5), project.spec.timezone)
    )
    assert isinstance(rows, pl.DataFrame)
    files, path = filesystem(f"s3://{PLACE}/rows.parquet")
    pq.write_table(rows.to_arrow(), path, filesystem=files)


def test_a_correction_is_found_when_its_object_is_announced(
    project: Project, queue: tuple[Any, str, str]
) -> None:
    """With the next tick, though the source would rest for minutes; the same message again asks
    for nothing.
    """
    client, url, _ = queue
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="landing")
    now = project.faults_file.with_name("clock.json")
    set_clock(now, MORNING)
    _upload(project)
    views = [view_stage(project.spec, name) for name in project.spec.feature_views]
    definitions = dg.Definitions(
        assets=project.definitions.assets,
        sensors=[new_data_sensor(project.spec, project.functions, views)],
        resources=resources_at(project.places),
    )
    daemon = Daemon(definitions, project.instance)
    until_quiet(daemon, SENSOR)
    project.faults({"2024-03-03": "corrected"})
    _upload(project)
    set_clock(now, MORNING + SECONDS)
    assert daemon.tick(SENSOR) == []
    platform = Platform.at(project.places)
    client.send_message(QueueUrl=url, MessageBody=_event("visits/rows.parquet"))
    assert hear(platform, pytest.fail) == "1 new objects"
    assert _left(client, url) == 0
    set_clock(now, MORNING + 2 * SECONDS)
    assert made(daemon.tick(SENSOR)) == {"visits": ["2024-03-03"]}
    until_quiet(daemon, SENSOR)
    client.send_message(QueueUrl=url, MessageBody=_event("visits/rows.parquet"))
    hear(platform, pytest.fail)
    set_clock(now, MORNING + 3 * SECONDS)
    assert daemon.tick(SENSOR) == []


def test_a_message_stays_until_it_is_written_down_what_it_says(
    project: Project, queue: tuple[Any, str, str], tmp_path: Path
) -> None:
    """Who cannot write, or dies before, hears of it again."""
    client, url, _ = queue
    client.send_message(QueueUrl=url, MessageBody=_event("visits/a.parquet"))
    (tmp_path / "file").write_text("")
    unwritable = Platform.at(replace(project.places, documents=str(tmp_path / "file")))
    with pytest.raises(PermanentError, match="cannot create the folder"):
        hear(unwritable, pytest.fail)
    assert _left(client, url) == 1
    assert hear(Platform.at(project.places), pytest.fail) == "1 new objects"
    assert _left(client, url) == 0


def test_what_is_no_event_goes_to_the_dead_letter_queue(
    project: Project, queue: tuple[Any, str, str]
) -> None:
    """It is told, left alone, and holds up no other."""
    client, url, dead = queue
    for body in ("no JSON", "[]", '{"id": "1", "detail": {"bucket": {}}}'):
        client.send_message(QueueUrl=url, MessageBody=body)
    client.send_message(QueueUrl=url, MessageBody=_event("visits/a.parquet"))
    platform = Platform.at(project.places)
    told: list[str] = []
    assert hear(platform, told.append) == "1 new objects"
    assert len(told) == 3
    for _ in range(3):
        assert hear(platform, told.append) == "no object is new"
    assert (_left(client, url), _left(client, dead)) == (0, 3)


def test_objects_are_told_to_those_who_read_above_them(tmp_path: Path) -> None:
    """A folder at any depth, or the object itself; nobody else."""
    documents = str(tmp_path)
    keys = ("a/b/c/d/one.parquet", "lone.csv", "a b/ü.csv")
    found = [object_events.NewObject("landing", key, key, "receipt") for key in keys]
    object_events.announce(documents, found)
    for location in ("a", "a/b/", "a/b/c", "a/b/c/d", "lone.csv", "a b", "a b/ü.csv"):
        assert object_events.announced(documents, f"s3://landing/{location}"), location
    for location in ("s3://landing/b", "s3://other/a", "s3://landing", "/landing/a", "https://a/b"):
        assert not object_events.announced(documents, location), location
    before = object_events.announced(documents, "s3://landing/a")
    object_events.announce(documents, found)
    assert object_events.announced(documents, "s3://landing/a") == before
    object_events.announce(documents, [replace(found[0], event="another")])
    assert object_events.announced(documents, "s3://landing/a") != before


def test_many_messages_are_heard_in_one_tick_up_to_a_bound(queue: tuple[Any, str, str]) -> None:
    """The others wait; nothing is taken out of the queue before it is deleted."""
    client, url, _ = queue
    client.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "60"})
    for n in range(25):
        client.send_message(QueueUrl=url, MessageBody=_event(f"visits/{n}.parquet", n))
    found, wrong = object_events.received(url, most=20)
    assert (len(found), wrong) == (20, [])
    object_events.delete(url, found)
    assert len(object_events.received(url)[0]) == 5


def test_without_a_queue_nothing_is_heard_and_one_that_is_away_is_told(
    project: Project, queue: tuple[Any, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the tick; sources are asked in turn, as without it."""
    platform = Platform.at(replace(project.places, events=""))
    context = dg.build_sensor_context(resources={"platform": platform})
    said = new_objects_sensor()(context)
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == "no queue is named: MLOPS_EVENTS_QUEUE"
    with pytest.raises(PermanentError, match="does-not-exist"):
        object_events.received(queue[1] + "-does-not-exist")
    with pytest.raises(PermanentError, match="no queue's URL"):
        object_events.received("queue")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(TransientError, match="queue http"):
            object_events.received(queue[1])
