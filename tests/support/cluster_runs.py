"""Runs on the test cluster: launched as the UI launches them, waited for, looked at afterwards."""

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import boto3
from cluster import RUNS, Cluster, objects, script, until
from services import CREDENTIALS

_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message stack }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on InvalidSubsetError { message }
    ... on PipelineNotFoundError { message }
  }
}"""

_RUN = """
query($id: ID!) {
  runOrError(runId: $id) {
    ... on Run {
      status startTime endTime updateTime
      tags { key value }
      stepStats { stepKey status startTime endTime attempts { startTime endTime } }
    }
  }
}"""

_EVENTS = """
query($id: ID!, $after: String) {
  logsForRun(runId: $id, afterCursor: $after, limit: 1000) {
    ... on EventConnection {
      cursor hasMore
      events {
        __typename
        ... on MessageEvent { timestamp message stepKey eventType }
        ... on ExecutionStepFailureEvent { error { message cause { message } } }
        ... on RunFailureEvent { error { message } }
        ... on LogsCapturedEvent { fileKey stepKeys }
        ... on MaterializationEvent {
          assetKey { path }
          metadataEntries {
            label ... on TextMetadataEntry { text } ... on IntMetadataEntry { intValue }
          }
        }
        ... on EngineEvent {
          metadataEntries { label ... on JsonMetadataEntry { jsonString } }
        }
      }
    }
  }
}"""

_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass(frozen=True)
class Run:
    """A run of Dagster on the cluster."""

    cluster: Cluster
    id: str

    def state(self) -> dict[str, Any]:
        """Status, times, tags and steps."""
        return self.cluster.graphql(_RUN, id=self.id)["runOrError"]

    @property
    def status(self) -> str:
        """Its status."""
        return self.state()["status"]

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        return {tag["key"]: tag["value"] for tag in self.state()["tags"]}

    def wait(self, seconds: float) -> str:
        """Its status once it ended."""
        return until(
            lambda: self.status if self.status in _ENDED else "",
            seconds,
            f"the end of run {self.id}, which is {self.status}: {self.said()}",
            2,
        )

    def events(self) -> list[dict[str, Any]]:
        """All events until now."""
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = self.cluster.graphql(_EVENTS, id=self.id, after=after)["logsForRun"]
            found += page["events"]
            after = page["cursor"]
            if not page["hasMore"]:
                return found

    def sha256(self) -> str:
        """Of the model that it trained."""
        return str(self.course()["sha256"])

    def course(self) -> dict[str, str | int | None]:
        """What the model's materialization says about its training: texts and whole numbers."""
        for event in self.events():
            key = event["assetKey"]["path"] if "assetKey" in event else [""]
            if key[-1] == "model":
                return {
                    entry["label"]: entry.get("text", entry.get("intValue"))
                    for entry in event["metadataEntries"]
                }
        raise AssertionError(f"run {self.id} materialized no model: {self.said()}")

    def attempts(self) -> list[dict[str, Any]]:
        """What became of each attempt of the training, as the executor wrote it down."""
        found: dict[int, dict[str, Any]] = {}
        for event in self.events():
            if event["__typename"] != "EngineEvent" or "model" not in (event["stepKey"] or ""):
                continue
            for entry in event["metadataEntries"]:
                if entry["label"] == "mlops/attempt":
                    attempt = json.loads(entry["jsonString"])
                    found[attempt["number"]] = attempt
        return [found[number] for number in sorted(found)]

    def ends(self) -> list[tuple[str, str]]:
        """Capacity and end of each attempt of the training."""
        return [(attempt["capacity"], attempt["end"]) for attempt in self.attempts()]

    def said(self, last: int = 12) -> str:
        """Its last messages."""
        lines = [
            f"{event.get('stepKey') or ''} {event.get('message', '')} {event.get('error') or ''}"
            for event in self.events()
        ]
        return "\n".join(lines[-last:])

    def succeeded(self, seconds: float) -> "Run":
        """This run, which ended well within ``seconds``."""
        status = self.wait(seconds)
        assert status == "SUCCESS", f"run {self.id} ended as {status}:\n{self.said(30)}"
        return self

    def pods(self) -> list[dict[str, Any]]:
        """Its pods: the run worker's and its steps'."""
        return objects("pod", RUNS, f"dagster/run-id={self.id}")

    def jobs(self) -> list[dict[str, Any]]:
        """Its Jobs."""
        return objects("job", RUNS, f"dagster/run-id={self.id}")

    def dangling(self) -> list[str]:
        """What of it still runs, or waits to run."""
        jobs = [
            f"job {job['metadata']['name']}"
            for job in self.jobs()
            if not any(
                condition["type"] in ("Complete", "Failed") and condition["status"] == "True"
                for condition in job.get("status", {}).get("conditions", [])
            )
        ]
        pods = [
            f"pod {pod['metadata']['name']} {pod['status']['phase']}"
            for pod in self.pods()
            if pod["status"]["phase"] in ("Pending", "Running", "Unknown")
        ]
        return jobs + pods

    def leaves_nothing(self, seconds: float = 90) -> None:
        """Fail where something of it still runs a while after its end."""
        deadline = time.monotonic() + seconds
        while found := self.dangling():
            assert time.monotonic() < deadline, f"run {self.id} left {found}"
            time.sleep(2)


@dataclass(frozen=True)
class Line:
    """A run from the model to the endpoint, with its pods as they were at its end."""

    run: Run
    pods: list[dict[str, Any]]


def launch(
    cluster: Cluster,
    use_case: str,
    assets: Sequence[str],
    days: tuple[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    config: Mapping[str, object] | None = None,
) -> Run:
    """Launch a run that materializes ``assets``, for the days from first to last; ``config`` is by
    asset.
    """
    ops = {f"{use_case}__{name}": {"config": value} for name, value in (config or {}).items()}
    every = dict(tags or {})
    if days is not None:
        every["dagster/asset_partition_range_start"] = days[0]
        every["dagster/asset_partition_range_end"] = days[1]
    params = {
        "selector": {
            "repositoryLocationName": "mlops-assets",
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": [use_case, name]} for name in assets],
        },
        "runConfigData": {"ops": ops} if ops else {},
        "executionMetadata": {
            "tags": [{"key": key, "value": value} for key, value in every.items()]
        },
    }
    answer = cluster.graphql(_LAUNCH, params=params)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return Run(cluster, answer["run"]["runId"])


def rounds_saved(cluster: Cluster, use_case: str) -> int:
    """Rounds in the newest checkpoint of the use case's training; 0 without one."""
    store = boto3.client(
        "s3",
        endpoint_url=cluster.s3,
        region_name=CREDENTIALS["AWS_REGION"],
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
    listed = store.list_objects_v2(
        Bucket="mlops-artifacts", Prefix=f"models/checkpoints/{use_case}/"
    )
    rounds = [
        int(found[1])
        for item in listed.get("Contents", [])
        if (found := re.search(r"round-(\d+)\.checkpoint$", item["Key"]))
    ]
    return max(rounds, default=0)


def wait_for_rounds(run: Run, use_case: str, rounds: int, seconds: float = 300) -> float:
    """When a checkpoint of at least so many rounds was there."""

    def saved() -> bool:
        status = run.status
        assert status not in _ENDED, f"run {run.id} ended as {status} early:\n{run.said(30)}"
        return rounds_saved(run.cluster, use_case) >= rounds

    until(saved, seconds, f"{rounds} rounds of {use_case}; {run.said()}", 0.5)
    return time.time()


def interrupt(node: str, *how: str) -> None:
    """Interrupt ``node`` in one of the three ways, and give it back."""
    try:
        script("interrupt", node, *how)
    finally:
        script("restore", node)


@contextlib.contextmanager
def sensor(cluster: Cluster, name: str) -> Iterator[None]:
    """A sensor runs that the tests' environment does not turn on."""
    start = """mutation($sensor: SensorSelector!) {
      startSensor(sensorSelector: $sensor) { ... on Sensor { sensorState { id } } }
    }"""
    named = {"repositoryLocationName": "mlops-assets", "repositoryName": "__repository__"}
    answer = cluster.graphql(start, sensor={**named, "sensorName": name})
    state = answer["startSensor"]["sensorState"]["id"]
    try:
        yield
    finally:
        stop = """mutation($id: String!) { stopSensor(id: $id) { __typename } }"""
        cluster.graphql(stop, id=state)
