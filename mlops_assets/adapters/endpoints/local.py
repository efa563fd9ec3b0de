"""The local endpoint target: a server process on this machine that outlives whoever started it.

State of one use case lies in ``state_dir/endpoints/<use_case>/``: ``release.json`` (what the server
is told to serve), ``endpoint.json`` (which server is ours), ``server.log``, ``predictions/`` and
``lock``. A server is ours when it answers with the instance id that ``endpoint.json`` names.
"""

import contextlib
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from mlops_assets.adapters.endpoints.client import Answer, ask, connect, request
from mlops_assets.adapters.endpoints.process import (
    STOP_TIMEOUT_S,
    command_line_names,
    end,
    tail,
)
from mlops_assets.adapters.endpoints.state import POLL_S, Paths, locked, paths_of, read, write
from mlops_assets.adapters.storage import local_path
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError
from mlops_assets.core.records import EndpointRecord, Release
from mlops_assets.core.spec import EndpointSpec

__all__ = ["Answer", "ask", "connect", "deploy", "find", "known", "stop"]

PROBE_TIMEOUT_S = 5.0
"""Seconds for a server on this machine to say who it is."""

EXIT_PORT_IN_USE = 98


@dataclass(frozen=True)
class _Identity:
    pid: int
    version: str
    max_body_bytes: int
    max_rows: int


def deploy(
    release: Release, spec: EndpointSpec, state_dir: str, timeout_s: float
) -> EndpointRecord:
    """Bring ``release`` to the use case's endpoint and return once it answers with it.

    A live server takes the release over without failing a request; it is replaced when the package
    or ``spec`` changed. On failure the release before is served again. Deploying what is served
    already changes nothing. ``timeout_s`` is for each of: another deployment, the server.

    Raises PermanentError when trying again cannot help (port in use, wrong digest), TransientError
    when the server or another deployment is too slow; both with the server's own words.
    """
    paths = paths_of(release.use_case, state_dir)
    release = release.model_copy(update={"artifact": _absolute(release.artifact)})
    with locked(paths, timeout_s):
        previous = read(paths.release, Release)
        record = read(paths.endpoint, EndpointRecord)
        identity = _identity(record)
        write(paths.release, release)
        try:
            if record is None or identity is None or not _fits(record, identity, spec):
                _stop(paths)
                return _start(paths, release, spec, timeout_s)
            return _follow(paths, record, release, timeout_s)
        except PlatformError:
            before = None if record is None or identity is None else _spec_of(record, identity)
            _restore(paths, previous, before, timeout_s)
            raise


def find(use_case: str, state_dir: str) -> EndpointRecord | None:
    """The use case's endpoint if its server is alive, with the release that it serves now."""
    paths = paths_of(use_case, state_dir)
    record = read(paths.endpoint, EndpointRecord)
    identity = _identity(record)
    if record is None or identity is None:
        return None
    release = read(paths.release, Release) or record.release
    if not _serves(record.url, release):
        release = record.release
    return record.model_copy(update={"pid": identity.pid, "release": release})


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
    while not _serves(record.url, release):
        error = _release_error(record.url, release)
        if error is not None:
            raise PermanentError(f"the endpoint of {release.use_case} refuses the release: {error}")
        if time.monotonic() > deadline:
            raise TransientError(
                f"the endpoint of {release.use_case} at {record.url} did not take version "
                f"{release.version} over within {timeout_s:g} s:\n{tail(paths.server_log, 0)}"
            )
        time.sleep(POLL_S)
    return _remember(paths, record.model_copy(update={"release": release}))


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
        identity = _identity(record)
        if identity is not None and _serves(record.url, release):
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
    paths: Paths, previous: Release | None, before: EndpointSpec | None, timeout_s: float
) -> None:
    """Serve ``previous`` again, as ``before`` if a server was alive and is not any more.

    The failure that led here is what the caller has to hear about.
    """
    if previous is None:
        paths.release.unlink(missing_ok=True)
        return
    write(paths.release, previous)
    if before is not None and _identity(read(paths.endpoint, EndpointRecord)) is None:
        with contextlib.suppress(PlatformError):
            _start(paths, previous, before, timeout_s)


def _spec_of(record: EndpointRecord, identity: _Identity) -> EndpointSpec:
    address = urlsplit(record.url)
    return EndpointSpec(
        host=address.hostname or "127.0.0.1",
        port=address.port or 80,
        max_body_mb=identity.max_body_bytes / 1024 / 1024,
        max_rows=identity.max_rows,
    )


def _stop(paths: Paths) -> bool:
    record = read(paths.endpoint, EndpointRecord)
    if record is None:
        return False
    identity = _identity(record)
    pid = identity.pid if identity is not None else record.pid
    # A server that hangs does not answer; its command line still carries the instance.
    ours = pid is not None and (identity is not None or command_line_names(pid, record.instance))
    if pid is not None and ours:
        end(pid)
    paths.endpoint.unlink(missing_ok=True)
    return ours


def _fits(record: EndpointRecord, identity: _Identity, spec: EndpointSpec) -> bool:
    host = f"[{spec.host}]" if ":" in spec.host else spec.host
    return (
        record.url == f"http://{host}:{spec.port}"
        and identity.version == version("mlops-assets")
        and identity.max_rows == spec.max_rows
        and identity.max_body_bytes == int(spec.max_body_mb * 1024 * 1024)
    )


def _get(url: str, path: str) -> dict[str, object] | None:
    try:
        with connect(url, PROBE_TIMEOUT_S) as connection:
            status, content = request(connection, "GET", path)
    except TransientError:
        return None
    return content if status == 200 else None


def _identity(record: EndpointRecord | None) -> _Identity | None:
    """Who answers at the record's address, if it is the server that the record names."""
    answer = None if record is None else _get(record.url, "/v2")
    if record is None or answer is None or answer.get("instance") != record.instance:
        return None
    return _Identity(
        pid=int(str(answer["pid"])),
        version=str(answer["version"]),
        max_body_bytes=int(str(answer["max_body_bytes"])),
        max_rows=int(str(answer["max_rows"])),
    )


def _model(url: str, release: Release) -> tuple[dict[str, object], dict[str, object]]:
    """The model's metadata and its parameters, empty while there is none."""
    content = _get(url, f"/v2/models/{release.use_case}") or {}
    parameters = content.get("parameters")
    return content, parameters if isinstance(parameters, dict) else {}


def _serves(url: str, release: Release) -> bool:
    content, parameters = _model(url, release)
    return (
        content.get("versions") == [str(release.version)]
        and parameters.get("sha256") == release.sha256
    )


def _release_error(url: str, release: Release) -> str | None:
    _, parameters = _model(url, release)
    refused = (parameters.get("refused_version"), parameters.get("refused_sha256"))
    if refused != (release.version, release.sha256):
        return None
    return str(parameters.get("release_error"))


def _remember(paths: Paths, record: EndpointRecord) -> EndpointRecord:
    write(paths.endpoint, record)
    return record


def _absolute(artifact: str) -> str:
    """Where the server finds it too, whose working directory is another."""
    path = local_path(artifact)
    return artifact if path is None else str(path.absolute())
