"""Who answers where a server of this machine should, and whether it is what is wanted."""

from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from mlops_assets.adapters.endpoints.client import connect, request
from mlops_assets.core.errors import TransientError
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.core.spec import EndpointSpec

PROBE_TIMEOUT_S = 5.0
"""Seconds for a server on this machine to say who it is."""


@dataclass(frozen=True)
class Identity:
    """What a server says about itself."""

    pid: int
    version: str
    max_body_bytes: int
    max_rows: int


def identity_of(record: EndpointRecord | None) -> Identity | None:
    """Who answers at the record's address, if it is the server that the record names."""
    answer = None if record is None else _get(record.url, "/v2")
    if record is None or answer is None or answer.get("instance") != record.instance:
        return None
    return Identity(
        pid=int(str(answer["pid"])),
        version=str(answer["version"]),
        max_body_bytes=int(str(answer["max_body_bytes"])),
        max_rows=int(str(answer["max_rows"])),
    )


def fits(record: EndpointRecord, identity: Identity, spec: EndpointSpec) -> bool:
    """Whether the server is of this package, and as ``spec`` says."""
    host = f"[{spec.host}]" if ":" in spec.host else spec.host
    return (
        record.url == f"http://{host}:{spec.port}"
        and identity.version == version("mlops-assets")
        and identity.max_rows == spec.max_rows
        and identity.max_body_bytes == int(spec.max_body_mb * 1024 * 1024)
    )


def spec_of(record: EndpointRecord, identity: Identity) -> EndpointSpec:
    """What the server was started with."""
    address = urlsplit(record.url)
    return EndpointSpec(
        host=address.hostname or "127.0.0.1",
        port=address.port or 80,
        max_body_mb=identity.max_body_bytes / 1024 / 1024,
        max_rows=identity.max_rows,
    )


def _get(url: str, path: str) -> dict[str, object] | None:
    try:
        with connect(url, PROBE_TIMEOUT_S) as connection:
            status, content = request(connection, "GET", path)
    except TransientError:
        return None
    return content if status == 200 else None
