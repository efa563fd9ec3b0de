"""The server's paths, and what each tells about the server and its models."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from mlops_assets.core.requests import RequestError, datatype
from mlops_assets.serving.answers import Server
from mlops_assets.serving.models import Loaded, Served
from mlops_assets.serving.protocol import json_bytes

Kind = Literal[
    "server",
    "live",
    "ready",
    "model",
    "model_ready",
    "infer",
    "invocations",
    "metrics",
    "openapi",
    "version",
]

SERVER_NAME = "mlops_assets"
EXTENSIONS = ["binary_tensor_data"]

MAX_PATH = 1024
"""A longer path names nothing, and is not remembered."""

OPEN: frozenset[Kind] = frozenset({"live", "ready"})
"""What is answered without a token: load balancers and kubelets have none."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path that exists, with the names in it."""

    kind: Kind
    template: str
    """The path without names of the client's choosing."""
    model: str | None = None
    version: str | None = None

    @property
    def method(self) -> str:
        """The method that it takes; with GET goes HEAD."""
        return "POST" if self.kind in ("infer", "invocations") else "GET"


_FIXED: dict[str, Kind] = {
    "v2": "server",
    "v2/health/live": "live",
    "v2/health/ready": "ready",
    "ping": "ready",
    "health": "ready",
    "version": "version",
    "invocations": "invocations",
    "metrics": "metrics",
    "openapi.json": "openapi",
}
_ACTIONS: dict[str, Kind] = {"": "model", "ready": "model_ready", "infer": "infer"}

Content: TypeAlias = dict[str, object]


def route_of(path: str) -> Route:
    """The route of ``path``. Raises RequestError 404."""
    route = _route(path) if len(path) <= MAX_PATH else None
    if route is None:
        raise RequestError(404, f"there is no path {path[:200]!r}; begin with /v2")
    return route


@lru_cache(maxsize=256)
def _route(path: str) -> Route | None:
    plain = path.strip("/")
    if plain in _FIXED:
        return Route(_FIXED[plain], f"/{plain}")
    match plain.split("/"):
        case ["v2", "models", name, "versions", version, *action] if len(action) < 2:
            template = "/v2/models/{model}/versions/{version}"
        case ["v2", "models", name, *action] if len(action) < 2:
            version, template = None, "/v2/models/{model}"
        case _:
            return None
    kind = _ACTIONS.get(action[0] if action else "")
    if kind is None:
        return None
    return Route(kind, "/".join([template, *action]), name, version)


def loaded_of(served: Served, route: Route) -> Loaded:
    """The model that the path names; the champion where it names no version.

    Raises RequestError 404 for another model, and for a version whose answers nobody gets.
    """
    use_case = served.release.use_case
    if route.model != use_case:
        raise RequestError(
            404, f"there is no model {(route.model or '')[:80]!r}; the model is {use_case}"
        )
    if route.version is None:
        return served.champion
    for loaded in served.returnable:
        if route.version == str(loaded.served.version):
            return loaded
    versions = " and ".join(str(loaded.served.version) for loaded in served.returnable)
    raise RequestError(
        404, f"version {route.version[:20]!r} of {use_case} is not served, version {versions} is"
    )


def readiness(server: Server, content: Content) -> tuple[int, bytes]:
    """Whether it may be sent requests: 503 before a model is loaded, and once it drains."""
    ready = server.follower.served is not None and not server.draining
    content = {**content, "ready": ready}
    if server.follower.error is not None:
        content["release_error"] = server.follower.error
    return 200 if ready else 503, json_bytes(content)


def server_metadata(server: Server) -> bytes:
    """The protocol's server metadata, with what tells this process from another."""
    return json_bytes(
        {
            "name": SERVER_NAME,
            "version": server.version,
            "extensions": EXTENSIONS,
            "instance": server.instance,
            "pid": server.pid,
            "max_body_bytes": server.limits.max_body_bytes,
            "max_rows": server.limits.max_rows,
        }
    )


def model_metadata(server: Server, served: Served, loaded: Loaded) -> bytes:
    """The protocol's model metadata, of ``loaded``; its parameters tell of the release."""
    release, follower = served.release, server.follower
    challenger = served.challenger
    predictor = loaded.predictor
    return json_bytes(
        {
            "name": release.use_case,
            "versions": [str(each.served.version) for each in served.returnable],
            "platform": f"{predictor.engine}_trees",
            "inputs": [
                {"name": field.name, "datatype": datatype(field), "shape": [-1]}
                for field in loaded.signature.inputs
            ],
            "outputs": [{"name": loaded.signature.output, "datatype": "FP32", "shape": [-1]}],
            "parameters": {
                "sha256": loaded.served.sha256,
                "engine": predictor.engine,
                "engine_reason": predictor.reason,
                "revision": release.revision,
                "mode": release.mode,
                "challenger": challenger and str(challenger.served.version),
                "release_error": follower.error,
                "refused_revision": follower.refused,
                "lost_log_records": server.log.lost,
                "log_error": server.log.error,
            },
        }
    )
