"""`dagster dev` from a folder with the repository's files, asked as its own UI asks it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename } } } } }"""
_NODES = """{ assetNodes { assetKey { path } groupName description owners { __typename }
  kinds isPartitioned } }"""
_LAUNCH = """mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILL = """query Backfill($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status } } }"""


@pytest.fixture
def ui(instance_folder: Path, environment: dict[str, str], free_port: int) -> Iterator[str]:
    """The URL of a running `dagster dev`; it and its children end with the test."""
    log = instance_folder.parent / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "dagster"),
                *("dev", "-h", "127.0.0.1", "-p", str(free_port)),
            ],
            cwd=instance_folder,
            env={**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{free_port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        # Asked politely, its children end many seconds later, and on a busy machine it does.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ask(url: str, query: str, variables: Mapping[str, object] | None = None) -> dict[str, object]:
    request = urllib.request.Request(  # noqa: S310 - the server on loopback
        f"{url}/graphql",
        data=json.dumps({"query": query, "variables": dict(variables or {})}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.load(response)["data"]


def _wait(seconds: float, done: object) -> None:
    assert callable(done)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if done():
                return
        time.sleep(0.5)
    raise AssertionError("it did not happen in time")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_dagster_dev_shows_the_graph_and_materializes_from_its_ui(
    ui: str, instance_folder: Path
) -> None:
    """The location loads, all assets are dressed, and a backfill of the UI's kind completes."""

    def loaded() -> bool:
        [entry] = _ask(ui, _LOCATIONS)["workspaceOrError"]["locationEntries"]
        return entry["name"] == "mlops_assets" and entry["loadStatus"] == "LOADED"

    _wait(120, loaded)
    [entry] = _ask(ui, _LOCATIONS)["workspaceOrError"]["locationEntries"]
    assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
    nodes = _ask(ui, _NODES)["assetNodes"]
    assert len(nodes) == 27
    for node in nodes:
        assert node["groupName"] == "flight_delays"
        assert node["description"]
        assert node["owners"]
        assert node["kinds"]
    chosen = ["weather", "planes", "weather_hourly", "aircraft"]
    launched = _ask(
        ui,
        _LAUNCH,
        {
            "params": {
                "assetSelection": [{"path": ["flight_delays", name]} for name in chosen],
                "partitionNames": ["2013-01-01", "2013-01-02"],
            }
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def completed() -> bool:
        status = _ask(ui, _BACKFILL, {"id": launched["backfillId"]})["partitionBackfillOrError"]
        assert status["status"] in {"REQUESTED", "COMPLETED_SUCCESS"}
        return status["status"] == "COMPLETED_SUCCESS"

    _wait(150, completed)
    assert (instance_folder / ".mlops" / "dagster").is_dir()
    kept = {path.name for path in instance_folder.iterdir()}
    assert {name for name in kept if not name.startswith(".tmp_dagster_home_")} == {
        "dagster.yaml",
        "workspace.yaml",
        ".mlops",
    }
