"""The local endpoint target: a server process on this machine that outlives whoever started it.

State of one use case lies in ``state_dir/<use_case>/``: ``release.json`` (what the server is told
to serve), ``replicas/`` (what it says that it serves), ``endpoint.json`` (which server is ours),
``server.log``, ``predictions/`` and ``lock``. A server is ours when it answers with the instance id
that ``endpoint.json`` names.
"""

import contextlib
import secrets
import subprocess
import sys
import time
from pathlib import Path

from mlops_assets import clock
from mlops_assets.adapters.endpoints import release_store
from mlops_assets.adapters.endpoints.client import Answer, ask, connect
from mlops_assets.adapters.endpoints.identity import fits, identity_of, spec_of
from mlops_assets.adapters.endpoints.process import (
    STOP_TIMEOUT_S,
    command_line_names,
    end,
    tail,
)
from mlops_assets.adapters.endpoints.state import POLL_S, Paths, locked, paths_of, read, write
from mlops_assets.adapters.storage import local_path
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError
from mlops_assets.core.replica_reports import not_applied, refusals
from mlops_assets.core.rollout_state import EndpointRecord, Release, ServedModel, deployed
from mlops_assets.core.spec import EndpointSpec

__all__ = ["Answer", "ask", "connect", "deploy", "find", "known", "stop"]

EXIT_PORT_IN_USE = 98


def deploy(
    use_case: str,
    champion: ServedModel,
    spec: EndpointSpec,
    state_dir: str,
    timeout_s: float,
    reason: str,
) -> EndpointRecord:
    """Bring ``champion`` to the use case's endpoint and return once it answers with it.

    A live server takes it over without failing a request; it is replaced when the package or
    ``spec`` changed. A champion that serves already changes nothing, and the rollout against it
    goes on; another one ends the rollout. On failure the release before is served again.
    ``timeout_s`` is for each of: another deployment, the server.

    Raises PermanentError when trying again cannot help (port in use, wrong digest), TransientError
    when the server or another deployment is too slow; both with the server's own words.
    """
    paths = paths_of(use_case, state_dir)
    place = str(paths.folder)
    champion = absolute(champion)
    with locked(paths, timeout_s):
        # Written before it takes effect: whoever is killed in between has told the server already.
        former, release = release_store.change(
            place, lambda found: deployed(found, use_case, champion, clock.now(), reason)
        )
        record = read(paths.endpoint)
        identity = identity_of(record)
        try:
            if record is None or identity is None or not fits(record, identity, spec):
                _stop(paths)
                record = _start(paths, release, spec, timeout_s)
            else:
                record = _follow(paths, record, release, timeout_s)
        except PlatformError:
            before = None if record is None or identity is None else spec_of(record, identity)
            _restore(paths, former, release, before, timeout_s)
            raise
        release_store.prune(place, clock.now())
        return record


def find(use_case: str, state_dir: str) -> EndpointRecord | None:
    """The use case's endpoint if its server is alive, with the release that it serves now."""
    paths = paths_of(use_case, state_dir)
    record = read(paths.endpoint)
    identity = identity_of(record)
    if record is None or identity is None:
        return None
    place = str(paths.folder)
    release = release_store.load(place).release
    reports = release_store.read_reports(place)
    if release is None or not_applied(reports, [record.instance], release.revision):
        release = record.release
    return record.model_copy(update={"pid": identity.pid, "release": release})


def instances(use_case: str, state_dir: str) -> tuple[str, ...]:
    """The use case's server, if it is alive."""
    record = read(paths_of(use_case, state_dir).endpoint)
    return () if record is None or identity_of(record) is None else (record.instance,)


def known(state_dir: str) -> list[str]:
    """The use cases that have had an endpoint under ``state_dir``, by name."""
    return sorted(path.parent.name for path in Path(state_dir).glob("*/lock"))


def stop(use_case: str, state_dir: str) -> bool:
    """Stop the use case's server, requests in flight answered. Returns whether there was one.

    Raises TransientError when it does not end. A process that is not ours is left alone.
    """
    paths = paths_of(use_case, state_dir)
    with locked(paths, STOP_TIMEOUT_S):
        return _stop(paths)


def _follow(
    paths: Paths, record: EndpointRecord, release: Release, timeout_s: float
) -> EndpointRecord:
    deadline = time.monotonic() + timeout_s
    while _waited_for(paths, record, release):
        if time.monotonic() > deadline:
            raise TransientError(
                f"the endpoint of {release.use_case} at {record.url} did not take revision "
                f"{release.revision} over within {timeout_s:g} s:\n{tail(paths.server_log, 0)}"
            )
        time.sleep(POLL_S)
    return _remember(paths, record.model_copy(update={"release": release}))


def _waited_for(paths: Paths, record: EndpointRecord, release: Release) -> bool:
    """Whether the server has not said yet that it serves ``release``. Raises PermanentError when
    it refuses its champion.
    """
    reports = release_store.read_reports(str(paths.folder))
    if not not_applied(reports, [record.instance], release.revision):
        return False
    if said := refusals(reports, [record.instance], release.revision):
        raise PermanentError(
            f"the endpoint of {release.use_case} refuses the release: {'; '.join(said)}"
        )
    return True


def _start(paths: Paths, release: Release, spec: EndpointSpec, timeout_s: float) -> EndpointRecord:
    host = f"[{spec.host}]" if ":" in spec.host else spec.host
    record = EndpointRecord(
        use_case=release.use_case,
        url=f"http://{host}:{spec.port}",
        pid=0,
        instance=secrets.token_hex(8),
        release=release,
        prediction_log=str(paths.predictions),
    )
    # Remembered before it runs: if this process is killed meanwhile, the server is still found.
    _remember(paths, record)
    log_start = paths.server_log.stat().st_size if paths.server_log.exists() else 0
    process = _spawn(paths, record, spec)
    record = _remember(paths, record.model_copy(update={"pid": process.pid}))
    deadline = time.monotonic() + timeout_s
    while True:
        code = process.poll()
        if code is not None:
            paths.endpoint.unlink(missing_ok=True)
            raise _start_failure(code, spec, tail(paths.server_log, log_start))
        if identity_of(record) is not None and not _waited_for(paths, record, release):
            return record
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            paths.endpoint.unlink(missing_ok=True)
            raise TransientError(
                f"the endpoint of {release.use_case} was not ready within {timeout_s:g} s:\n"
                f"{tail(paths.server_log, log_start)}"
            )
        time.sleep(POLL_S)


def _spawn(paths: Paths, record: EndpointRecord, spec: EndpointSpec) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mlops_assets.serving"]
    command += ["--release", str(paths.release), "--log-dir", record.prediction_log]
    command += ["--host", spec.host, "--port", str(spec.port), "--instance", record.instance]
    command += ["--max-body-mb", str(spec.max_body_mb), "--max-rows", str(spec.max_rows)]
    with paths.server_log.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A session of its own: signals to the run that starts it do not reach it.
            start_new_session=True,
            # The folder that holds the package, for a checkout that is not installed.
            cwd=Path(__file__).parents[3],
        )


def _start_failure(code: int, spec: EndpointSpec, said: str) -> PlatformError:
    if code == EXIT_PORT_IN_USE:
        return PermanentError(
            f"port {spec.port} on {spec.host} is in use by another process: stop it or set "
            f"endpoint.port to a free one. The server said:\n{said}"
        )
    if code < 0:  # killed, by the memory limit or by a person
        return TransientError(f"the endpoint's server was killed by signal {-code}:\n{said}")
    return PermanentError(f"the endpoint's server ended with exit code {code}. It said:\n{said}")


def _restore(
    paths: Paths,
    former: Release | None,
    refused: Release,
    before: EndpointSpec | None,
    timeout_s: float,
) -> None:
    """Serve ``former`` again, as ``before`` if a server was alive and is not any more.

    The failure that led here is what the caller has to hear about.
    """
    with contextlib.suppress(PlatformError):
        place = str(paths.folder)
        release_store.restore(place, refused, former, clock.now())
        stored = release_store.load(place).release
        if before is not None and stored is not None and identity_of(read(paths.endpoint)) is None:
            _start(paths, stored, before, timeout_s)


def _stop(paths: Paths) -> bool:
    record = read(paths.endpoint)
    if record is None:
        return False
    identity = identity_of(record)
    pid = identity.pid if identity is not None else record.pid
    # A server that hangs does not answer; its command line still carries the instance.
    ours = pid is not None and (identity is not None or command_line_names(pid, record.instance))
    if pid is not None and ours:
        end(pid)
    paths.endpoint.unlink(missing_ok=True)
    return ours


def _remember(paths: Paths, record: EndpointRecord) -> EndpointRecord:
    write(paths.endpoint, record)
    return record


def absolute(model: ServedModel) -> ServedModel:
    """With paths where the server finds them too, whose working directory is another."""
    paths = {
        name: local_path(url) for name in ("artifact", "onnx") if (url := getattr(model, name))
    }
    return model.model_copy(
        update={name: str(path.absolute()) for name, path in paths.items() if path is not None}
    )
