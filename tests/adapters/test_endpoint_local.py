"""The local endpoint target, with real server processes."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from serving_support import make_release, wait_for

from mlops_assets.adapters.endpoints import local
from mlops_assets.adapters.endpoints.process import alive
from mlops_assets.adapters.endpoints.state import locked, paths_of, read, write
from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError
from mlops_assets.core.records import EndpointRecord, Release
from mlops_assets.core.spec import EndpointSpec

INPUTS = {"carrier": ["UA", "ZZ"], "hour": [17, float("nan")], "delay": [None, None]}


@dataclass
class Place:
    """Where one test deploys."""

    folder: Path
    spec: EndpointSpec

    @property
    def state(self) -> str:
        """The state directory."""
        return str(self.folder / "state")

    def release(self, version: int = 1) -> Release:
        """A release of the tiny model; each version is another model."""
        return make_release(self.folder, version, seed=version)

    def deploy(self, release: Release, spec: EndpointSpec | None = None) -> EndpointRecord:
        """Deploy with this test's port."""
        return local.deploy(release, spec or self.spec, self.state, timeout_s=60)


@pytest.fixture
def place(tmp_path: Path, free_port: int) -> Iterator[Place]:
    """A fresh state directory and port; its server is stopped afterwards."""
    yield Place(tmp_path, EndpointSpec(port=free_port))
    local.stop("flights", str(tmp_path / "state"))


def test_an_endpoint_lives_through_releases_and_outlives_who_started_it(place: Place) -> None:
    """Started by another process that ends, found here, given a new model, asked, and stopped."""
    script = (
        "import sys; from mlops_assets.adapters.endpoints import local\n"
        "from mlops_assets.core.records import Release; from mlops_assets.core.spec import *\n"
        "release = Release.model_validate_json(sys.argv[1])\n"
        "record = local.deploy(release, EndpointSpec(port=int(sys.argv[2])), sys.argv[3], 60)\n"
        "print(record.model_dump_json())"
    )
    release = place.release()
    arguments = [release.model_dump_json(), str(place.spec.port), place.state]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    started = EndpointRecord.model_validate_json(done.stdout)
    assert started.release == release
    assert local.find("flights", place.state) == started
    assert os.getsid(started.pid) == started.pid  # no signal to the starter's group reaches it

    assert place.deploy(release) == started
    second = place.deploy(place.release(version=2))
    assert (second.pid, second.instance) == (started.pid, started.instance)
    assert second.release.version == 2
    assert local.find("flights", place.state) == second

    with local.connect(second.url, 10) as connection:
        first = local.ask(second.url, "flights", INPUTS, 10, connection)
        again = local.ask(second.url, "flights", INPUTS, 10, connection)
    assert first.scores == again.scores
    assert len(first.scores) == 2
    assert (first.model_version, first.parameters["unknown_categories"]) == ("2", 1)
    with pytest.raises(PermanentError, match=r"422.*'delay'"):
        local.ask(second.url, "flights", {"carrier": ["UA"], "hour": [1]}, 10)
    with pytest.raises(PermanentError, match="404"):
        local.ask(second.url, "trains", INPUTS, 10)

    assert local.stop("flights", place.state)
    assert not alive(second.pid)
    assert local.find("flights", place.state) is None
    assert not local.stop("flights", place.state)
    assert local.known(place.state) == ["flights"]
    assert read_predictions(second.prediction_log).table.num_rows == 4
    with pytest.raises(TransientError, match="no answer"):
        local.ask(second.url, "flights", INPUTS, 10)


def test_a_release_that_is_refused_leaves_the_one_before(place: Place) -> None:
    """The error is the server's own; the champion that served goes on, in file and in process."""
    good = place.deploy(place.release())
    bad = place.release(version=2).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PermanentError, match=r"refuses.*model-2.ubj.*sha256"):
        place.deploy(bad)
    assert local.find("flights", place.state) == good
    assert read(paths_of("flights", place.state).release, Release) == good.release
    assert local.ask(good.url, "flights", INPUTS, 10).model_version == "1"


def test_a_first_release_that_is_refused_leaves_nothing(place: Place) -> None:
    """The message carries the server's last words; nothing claims to be served."""
    release = place.release()
    Path(release.artifact).write_bytes(b"{L")
    with pytest.raises(PermanentError, match=r"exit code 3(.|\n)*it is cut"):
        place.deploy(release)
    assert local.find("flights", place.state) is None
    assert [path.name for path in paths_of("flights", place.state).folder.glob("*.json")] == []


def test_a_changed_spec_replaces_the_server_and_a_taken_port_brings_it_back(
    place: Place,
) -> None:
    """A move to a port in use names the port, and the server before serves again where it did."""
    release = place.release()
    first = place.deploy(release)
    changed = place.spec.model_copy(update={"max_rows": 1})
    second = place.deploy(release, changed)
    assert second.instance != first.instance
    assert not alive(first.pid)
    with pytest.raises(PermanentError, match="413"):
        local.ask(second.url, "flights", INPUTS, 10)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        moved = changed.model_copy(update={"port": port})
        with pytest.raises(PermanentError, match=f"port {port} .* in use.*endpoint.port"):
            place.deploy(place.release(version=2), moved)
    found = local.find("flights", place.state)
    assert found is not None
    assert (found.url, found.release) == (second.url, release)


def test_deployments_at_once_take_turns(place: Place) -> None:
    """Whoever comes last wins whole: file, record and server agree, and there is one server."""
    releases = [place.release(version=version) for version in (1, 2, 3)]
    with ThreadPoolExecutor(3) as pool:
        records = list(pool.map(place.deploy, releases))
    assert {record.release.version for record in records} == {1, 2, 3}
    assert len({record.instance for record in records}) == 1
    found = local.find("flights", place.state)
    assert found in records


def test_a_lock_that_is_held_is_waited_for_in_vain_only_so_long(place: Place) -> None:
    """The message names the lock file."""
    with (
        locked(paths_of("flights", place.state), 1),
        pytest.raises(TransientError, match="flights/lock"),
    ):
        local.deploy(place.release(), place.spec, place.state, timeout_s=0.1)


def test_a_process_that_is_not_ours_is_never_ended(place: Place) -> None:
    """A process id that was given to another process since is not enough to kill it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as foreign:
        paths = paths_of("flights", place.state)
        paths.folder.mkdir(parents=True)
        stale = EndpointRecord(
            use_case="flights",
            url=f"http://127.0.0.1:{place.spec.port}",
            pid=foreign.pid,
            instance="gone",
            release=place.release(),
            prediction_log=str(paths.predictions),
        )
        write(paths.endpoint, stale)
        assert local.find("flights", place.state) is None
        assert not local.stop("flights", place.state)
        assert foreign.poll() is None
        assert not paths.endpoint.exists()
        foreign.kill()


def test_a_server_that_was_killed_is_replaced(place: Place) -> None:
    """The next deployment starts one, with the log of both in one folder."""
    first = place.deploy(place.release())
    local.ask(first.url, "flights", INPUTS, 10)
    os.kill(first.pid, 9)
    wait_for(lambda: not alive(first.pid))
    assert local.find("flights", place.state) is None
    second = place.deploy(place.release())
    assert second.pid != first.pid
    local.ask(second.url, "flights", INPUTS, 10)
    assert read_predictions(second.prediction_log).table.num_rows == 4


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Nothing is started without a place for its state."""
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(PlatformError, match="state"):
        local.deploy(
            make_release(tmp_path), EndpointSpec(port=1), str(tmp_path / "state"), timeout_s=1
        )


def test_a_process_that_nobody_reaps_counts_as_ended() -> None:
    """The children of a killed process stay as zombies where no init asks for them."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time\npid = os.fork()\nif not pid: os._exit(0)\n"
            "print(pid, flush=True)\ntime.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for(lambda: not alive(child))
        os.kill(child, 0)  # it is still in the table of processes
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
