"""The local endpoint target, with real server processes."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from serving_support import make_model, wait_for

from mlops_assets import clock
from mlops_assets.adapters.endpoints import local, release_store, targets
from mlops_assets.adapters.endpoints.process import alive
from mlops_assets.adapters.endpoints.state import locked, paths_of, write
from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.core.errors import (
    ConflictError,
    PermanentError,
    PlatformError,
    TransientError,
)
from mlops_assets.core.replica_reports import is_stale
from mlops_assets.core.rollout_state import (
    EndpointRecord,
    Release,
    ServedModel,
    abort,
    first_release,
    promote,
    set_share,
    start_rollout,
)
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

    def model(self, version: int = 1) -> ServedModel:
        """The tiny model; each version is another one."""
        return make_model(self.folder, version, seed=version)

    def deploy(self, model: ServedModel, spec: EndpointSpec | None = None) -> EndpointRecord:
        """Deploy with this test's port."""
        return local.deploy("flights", model, spec or self.spec, self.state, 60, "test")

    def stored(self) -> Release | None:
        """What the server is told to serve."""
        return targets.read_release("flights", self.state, "")

    def change(self, transition: Callable[[Release], Release]) -> Release:
        """Make a transition, and wait for the server."""
        return targets.change("flights", transition, self.state, "", 20)


@pytest.fixture
def place(tmp_path: Path, free_port: int) -> Iterator[Place]:
    """A fresh state directory and port; its server is stopped afterwards."""
    yield Place(tmp_path, EndpointSpec(port=free_port))
    local.stop("flights", str(tmp_path / "state"))


def test_an_endpoint_lives_through_releases_and_outlives_who_started_it(place: Place) -> None:
    """Started by another process that ends, found here, given a new model, asked, and stopped."""
    script = (
        "import sys; from mlops_assets.adapters.endpoints import local\n"
        "from mlops_assets.core.rollout_state import ServedModel\n"
        "from mlops_assets.core.spec import EndpointSpec\n"
        "model = ServedModel.model_validate_json(sys.argv[1])\n"
        "spec = EndpointSpec(port=int(sys.argv[2]))\n"
        "record = local.deploy('flights', model, spec, sys.argv[3], 60, 'test')\n"
        "print(record.model_dump_json())"
    )
    model = place.model()
    arguments = [model.model_dump_json(), str(place.spec.port), place.state]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    started = EndpointRecord.model_validate_json(done.stdout)
    assert (started.release.champion, started.release.revision) == (model, 1)
    assert local.find("flights", place.state) == started
    assert os.getsid(started.pid) == started.pid  # no signal to the starter's group reaches it

    assert place.deploy(model) == started
    second = place.deploy(place.model(version=2))
    assert (second.pid, second.instance) == (started.pid, started.instance)
    assert (second.release.champion.version, second.release.revision) == (2, 2)
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
    good = place.deploy(place.model())
    bad = place.model(version=2).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PermanentError, match=r"refuses.*model-2.ubj.*sha256"):
        place.deploy(bad)
    stored = place.stored()
    assert stored is not None
    assert (stored.champion, stored.revision) == (good.release.champion, 3)
    wait_for(lambda: (local.find("flights", place.state) or good).release == stored)
    found = local.find("flights", place.state)
    assert found == good.model_copy(update={"release": stored})
    assert local.ask(good.url, "flights", INPUTS, 10).model_version == "1"


def test_a_first_release_that_is_refused_leaves_nothing(place: Place) -> None:
    """The message carries the server's last words; nothing claims to be served."""
    model = place.model()
    Path(model.artifact).write_bytes(b"{L")
    with pytest.raises(PermanentError, match=r"exit code 3(.|\n)*it is cut"):
        place.deploy(model)
    assert local.find("flights", place.state) is None
    assert [path.name for path in paths_of("flights", place.state).folder.glob("*.json")] == []


def test_a_changed_spec_replaces_the_server_and_a_taken_port_brings_it_back(
    place: Place,
) -> None:
    """A move to a port in use names the port, and the server before serves again where it did."""
    model = place.model()
    first = place.deploy(model)
    changed = place.spec.model_copy(update={"max_rows": 1})
    second = place.deploy(model, changed)
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
            place.deploy(place.model(version=2), moved)
    found = local.find("flights", place.state)
    assert found is not None
    assert (found.url, found.release.champion) == (second.url, model)


def test_deployments_at_once_take_turns(place: Place) -> None:
    """Whoever comes last wins whole: file, record and server agree, and there is one server."""
    models = [place.model(version=version) for version in (1, 2, 3)]
    with ThreadPoolExecutor(3) as pool:
        records = list(pool.map(place.deploy, models))
    assert {record.release.champion.version for record in records} == {1, 2, 3}
    assert {record.release.revision for record in records} == {1, 2, 3}
    assert len({record.instance for record in records}) == 1
    found = local.find("flights", place.state)
    assert found in records


def test_a_lock_that_is_held_is_waited_for_in_vain_only_so_long(place: Place) -> None:
    """The message names the lock file."""
    with (
        locked(paths_of("flights", place.state), 1),
        pytest.raises(TransientError, match="flights/lock"),
    ):
        local.deploy("flights", place.model(), place.spec, place.state, 0.1, "test")


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
            release=first_release("flights", place.model(), clock.now(), "test"),
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
    first = place.deploy(place.model())
    local.ask(first.url, "flights", INPUTS, 10)
    os.kill(first.pid, 9)
    wait_for(lambda: not alive(first.pid))
    assert local.find("flights", place.state) is None
    second = place.deploy(place.model())
    assert second.pid != first.pid
    local.ask(second.url, "flights", INPUTS, 10)
    assert read_predictions(second.prediction_log).table.num_rows == 4


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Nothing is started without a place for its state."""
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(PlatformError, match="state"):
        local.deploy(
            "flights",
            make_model(tmp_path),
            EndpointSpec(port=1),
            str(tmp_path / "state"),
            timeout_s=1,
            reason="test",
        )


def test_a_rollout_is_told_to_the_server_and_reported_by_it(place: Place) -> None:
    """Without a new start; a champion that is deployed again leaves it alone."""
    first = place.deploy(place.model())
    second = place.model(version=2)
    shadow = place.change(lambda r: start_rollout(r, second, "r1", clock.now(), "better"))
    for _ in range(3):
        assert local.ask(first.url, "flights", INPUTS, 10).model_version == "1"
    assert place.deploy(place.model()).release == shadow
    canary = place.change(lambda r: set_share(r, 1.0, clock.now(), "no worse"))
    assert local.ask(first.url, "flights", INPUTS, 10).model_version == "2"
    done = place.change(lambda r: promote(r, clock.now(), "better"))
    assert [r.revision for r in (first.release, shadow, canary, done)] == [1, 2, 3, 4]
    found = local.find("flights", place.state)
    assert found == first.model_copy(update={"release": done})
    [report] = targets.read_reports("flights", place.state, "")
    assert (report.instance, report.revision, report.champion) == (first.instance, 4, 2)
    assert not is_stale(report, clock.now())
    with pytest.raises(PermanentError, match="no rollout of flights is under way"):
        place.change(lambda r: abort(r, clock.now(), "late"))
    local.stop("flights", place.state)
    [report] = targets.read_reports("flights", place.state, "")
    assert (report.ended, report.ready) == (True, False)
    counted = {(part.rollout_id, part.version, part.role): part.returned for part in report.totals}
    assert counted["r1", 1, "champion"] == 3
    assert counted["r1", 2, "challenger"] == 1


def test_a_challenger_that_does_not_load_is_taken_back(place: Place) -> None:
    """Its words reach who started the rollout; the champion went on all the time."""
    first = place.deploy(place.model())
    bad = place.model(version=2).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PermanentError, match=r"revision 2 of flights is refused.*model-2.ubj"):
        place.change(lambda r: start_rollout(r, bad, "r1", clock.now(), "better"))
    stored = place.stored()
    assert stored is not None
    assert (stored.mode, stored.champion, stored.revision) == ("champion", place.model(), 3)
    assert local.ask(first.url, "flights", INPUTS, 10).model_version == "1"


def test_a_deployment_that_was_killed_before_it_took_effect_goes_on(place: Place) -> None:
    """What was written is followed by the server; the next attempt finds it done."""
    first = place.deploy(place.model())
    second = place.model(version=2)
    script = (
        "import os, sys; from mlops_assets.adapters.endpoints import local\n"
        "from mlops_assets.core.rollout_state import ServedModel\n"
        "from mlops_assets.core.spec import EndpointSpec\n"
        "local._follow = lambda *_: os.kill(os.getpid(), 9)\n"
        "model = ServedModel.model_validate_json(sys.argv[1])\n"
        "spec = EndpointSpec(port=int(sys.argv[2]))\n"
        "local.deploy('flights', model, spec, sys.argv[3], 60, 'test')"
    )
    arguments = [second.model_dump_json(), str(place.spec.port), place.state]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], check=False)
    assert killed.returncode == -9
    wait_for(lambda: local.ask(first.url, "flights", INPUTS, 10).model_version == "2")
    again = place.deploy(second)
    assert (again.release.revision, again.pid) == (2, first.pid)


def test_of_two_writers_one_is_refused(tmp_path: Path) -> None:
    """Whoever read the older revision; the loser of a change reads again and decides again."""
    state = str(tmp_path)
    release = first_release("flights", make_model(tmp_path), clock.now(), "test")
    targets.write_release(release, state, "")
    challengers = [make_model(tmp_path, version) for version in (2, 3)]
    stored = release_store.load(targets.place_of("flights", state, ""))
    one, other = (
        start_rollout(release, challenger, "r", clock.now(), "") for challenger in challengers
    )
    release_store.write(targets.place_of("flights", state, ""), one, stored)
    with pytest.raises(ConflictError, match="changed by somebody else"):
        release_store.write(targets.place_of("flights", state, ""), other, stored)
    with pytest.raises(ConflictError, match=r"revision 2 .* does not follow revision 2"):
        targets.write_release(other, state, "")
    assert targets.read_release("flights", state, "") == one
    with ThreadPoolExecutor(4) as pool:
        shares = pool.map(
            lambda n: targets.change(
                "flights", lambda r: set_share(r, r.share + 0.1, clock.now(), str(n)), state, ""
            ),
            range(4),
        )
        assert sorted(found.revision for found in shares) == [3, 4, 5, 6]


def test_a_damaged_release_is_replaced_by_the_next_deployment(place: Place) -> None:
    """Under a revision that no replica knows; the server went on meanwhile."""
    first = place.deploy(place.model())
    place.deploy(place.model(version=2))
    paths_of("flights", place.state).release.write_text("{")
    with pytest.raises(PermanentError, match=r"release.json is no release"):
        place.stored()
    assert local.ask(first.url, "flights", INPUTS, 10).model_version == "2"
    third = place.deploy(place.model(version=3))
    assert (third.release.revision, third.pid) == (3, first.pid)


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
