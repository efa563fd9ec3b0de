"""The model server's routes: Open Inference Protocol V2, and ``/ping`` with ``/invocations``."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from mlops_assets.core.requests import RequestError, datatypes
from mlops_assets.serving.answers import Server, infer, invoke_csv, invoke_json
from mlops_assets.serving.models import Served
from mlops_assets.serving.protocol import (
    AsgiApp,
    DisconnectedError,
    Receive,
    Scope,
    Send,
    media_type,
    read_body,
    respond,
    respond_error,
)

logger = logging.getLogger("mlops_assets.serving")

INLINE_BYTES = 32 * 1024
"""A larger body is answered in a thread: its milliseconds of work would hold up small requests.
A smaller one costs less than the hand-over to a thread."""

SERVER_NAME = "mlops_assets"


@dataclass(frozen=True)
class Exchange:
    """One request and the way to answer it."""

    scope: Scope
    receive: Receive
    send: Send


Work = Callable[[Server, Served, bytes], bytes]


class MethodError(RequestError):
    """The path exists, and takes another method."""

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(405, f"method {method} is not allowed here, use {allow}")
        self.allow = allow


def build_app(server: Server) -> AsgiApp:
    """The ASGI application."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _route(server, Exchange(scope, receive, send))
        except MethodError as error:
            await respond_error(send, error, error.allow)
        except RequestError as error:
            await respond_error(send, error)
        except DisconnectedError:
            return
        except Exception:
            # A bug in one request is that request's alone; the log has the traceback.
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await respond(send, 500, {"error": "internal error; see the server's log"})

    return app


async def _route(server: Server, exchange: Exchange) -> None:
    scope, send = exchange.scope, exchange.send
    match scope["path"].strip("/").split("/"):
        case ["v2"]:
            _allow(scope, "GET")
            await respond(send, 200, _server_metadata(server))
        case ["v2", "health", "live"]:
            _allow(scope, "GET")
            await respond(send, 200, {"live": True})
        case ["v2", "health", "ready"] | ["ping"]:
            _allow(scope, "GET")
            await _ready(server, send, {})
        case ["v2", "models", name, "versions", version, *action]:
            await _model_route(server, exchange, (name, version), action)
        case ["v2", "models", name, *action]:
            await _model_route(server, exchange, (name, None), action)
        case ["invocations"]:
            _allow(scope, "POST")
            served = _served(server)
            kind = media_type(scope)
            work = {"application/json": invoke_json, "text/csv": invoke_csv}.get(kind or "")
            if work is None:
                raise RequestError(
                    415, f"content type {kind} is not taken: send application/json or text/csv"
                )
            await _answer(server, served, work, exchange)
        case _:
            raise RequestError(404, f"there is no path {scope['path'][:200]!r}; begin with /v2")


async def _model_route(
    server: Server, exchange: Exchange, model: tuple[str, str | None], action: list[str]
) -> None:
    scope, send = exchange.scope, exchange.send
    name, version = model
    if action not in ([], ["ready"], ["infer"]):
        raise RequestError(404, f"there is no path {scope['path'][:200]!r}")
    _allow(scope, "POST" if action == ["infer"] else "GET")
    served = server.follower.served
    if served is None and action == ["ready"]:
        await _ready(server, send, {"name": name})
        return
    served = _served(server)
    release = served.release
    if name != release.use_case:
        raise RequestError(404, f"there is no model {name[:80]!r}; the model is {release.use_case}")
    if version not in (None, str(release.version)):
        raise RequestError(
            404, f"version {version[:20]} of {name} is not served, version {release.version} is"
        )
    if action == []:
        await respond(send, 200, _model_metadata(server, served))
    elif action == ["ready"]:
        await _ready(server, send, {"name": name})
    else:
        kind = media_type(scope)
        if kind not in (None, "application/json"):
            raise RequestError(415, f"content type {kind} is not taken: send application/json")
        await _answer(server, served, infer, exchange)


def _allow(scope: Scope, method: str) -> None:
    given = scope["method"]
    if given != method and not (method == "GET" and given == "HEAD"):
        raise MethodError(given, method)


def _served(server: Server) -> Served:
    if server.follower.served is None:
        raise RequestError(503, "no model is loaded yet: try again in a moment")
    return server.follower.served


async def _ready(server: Server, send: Send, content: dict[str, object]) -> None:
    ready = server.follower.served is not None
    content = {**content, "ready": ready}
    if server.follower.error is not None:
        content["release_error"] = server.follower.error
    await respond(send, 200 if ready else 503, content)


def _server_metadata(server: Server) -> dict[str, object]:
    return {
        "name": SERVER_NAME,
        "version": server.version,
        "extensions": [],
        "instance": server.instance,
        "pid": os.getpid(),
        "max_body_bytes": server.limits.max_body_bytes,
        "max_rows": server.limits.max_rows,
    }


def _model_metadata(server: Server, served: Served) -> dict[str, object]:
    release, signature = served.release, served.model.signature
    refused = server.follower.refused
    return {
        "name": release.use_case,
        "versions": [str(release.version)],
        "platform": "xgboost_ubj",
        "inputs": [
            {"name": name, "datatype": datatype, "shape": [-1]}
            for name, datatype in datatypes(signature).items()
        ],
        "outputs": [{"name": signature.output, "datatype": "FP32", "shape": [-1]}],
        "parameters": {
            "sha256": release.sha256,
            "release_error": server.follower.error,
            "refused_sha256": refused and refused.sha256,
            "refused_version": refused and refused.version,
            "lost_log_records": server.log.lost,
            "log_error": server.log.error,
        },
    }


async def _answer(server: Server, served: Served, work: Work, exchange: Exchange) -> None:
    limits = server.limits
    body = await read_body(
        exchange.scope, exchange.receive, limits.max_body_bytes, limits.read_timeout_s
    )
    if len(body) <= INLINE_BYTES:
        content = work(server, served, body)
    else:
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(server.pool, work, server, served, body)
    await respond(exchange.send, 200, content)
