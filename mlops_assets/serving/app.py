"""From a request to its answer: routes, tokens, limits and counts, whatever carries the bytes.

A transport asks :func:`open_exchange` as soon as it has a request's headers. What needs no body is
answered there. Otherwise there is an exchange, which says how much of a body it takes, and answers.
"""

import logging
import time

from mlops_assets.core.requests import RequestError, RequestSchema
from mlops_assets.serving.answers import Prepared, Server, conclude, prepare
from mlops_assets.serving.asked import Asked
from mlops_assets.serving.exposition import CONTENT_TYPE as METRICS_TYPE
from mlops_assets.serving.exposition import exposition
from mlops_assets.serving.formats import Form, infer_form, invocation_form
from mlops_assets.serving.models import Served
from mlops_assets.serving.online_features import OnlineFeatures
from mlops_assets.serving.openapi import openapi_json
from mlops_assets.serving.protocol import (
    JSON,
    Headers,
    Response,
    announced_length,
    json_bytes,
    key_of,
)
from mlops_assets.serving.routes import (
    OPEN,
    Route,
    loaded_of,
    model_metadata,
    readiness,
    route_of,
    server_metadata,
)
from mlops_assets.serving.scoring import Scored

logger = logging.getLogger("mlops_assets.serving")

INLINE_BYTES = 32 * 1024
"""A larger body is answered in a thread: its milliseconds of work would hold up small requests.
A smaller one costs less than the hand-over to a thread."""


class Exchange:
    """A question that was let in, and waits for its body. It is closed whatever happens."""

    __slots__ = (
        "_asked",
        "_features",
        "_form",
        "_held",
        "_key",
        "_served",
        "_version",
        "max_body",
        "prepared",
    )

    def __init__(
        self, asked: Asked, served: Served, form: Form, key: str | None, version: str | None
    ) -> None:
        self._asked = asked
        self._served = served
        # Once: what is parsed by one configuration is completed by the same.
        self._features = _features(asked.server)
        self._form = form
        self._key = key
        self._version = version
        self._held = 0
        self.prepared: Prepared | None = None
        """What was read of the request."""
        self.max_body = asked.server.limits.max_body_bytes
        asked.server.admission.enter()
        asked.server.metrics.entered()

    def hold(self, size: int) -> None:
        """Take ``size`` more bytes of the body. Raises RequestError 413 and 503."""
        asked = self._asked
        asked.size += size
        if asked.size > self.max_body:
            raise RequestError(
                413, f"the body is larger than {self.max_body} bytes: send fewer rows"
            )
        asked.server.admission.hold(size)
        self._held += size

    def inline(self) -> bool:
        """Whether the answer may be computed on the event loop: it takes no time to speak of."""
        features = self._features
        return self._asked.size <= INLINE_BYTES and (features is None or not features.blocking)

    def answer(self, body: bytes) -> Response:
        """The answer to ``body``. In any thread, once."""
        return self.read(body) or self.conclude(None)

    def read(self, body: bytes) -> Response | None:
        """Read ``body``. Returns an answer only where it is refused."""
        asked = self._asked
        server, served = asked.server, self._served
        asked.complete = True
        try:
            request = self._form[0](body, _schema(self._features, served), server.limits.max_rows)
            if request.request_id is None:
                request.request_id = asked.request_id
            key = request.key or self._key
            self.prepared = prepare(server, served, request, key, self._version, self._features)
        except Exception as error:  # noqa: BLE001 - it is this request's alone
            return self._failed(error)
        return None

    def conclude(self, scored: Scored | None) -> Response:
        """The answer to what was read; it is scored here where it has not been."""
        asked, prepared = self._asked, self.prepared
        try:
            if prepared is None:
                raise RuntimeError("a request is answered that was not read")
            found = conclude(prepared, scored)
            content, headers = self._form[1](found, prepared.asked.request)
        except Exception as error:  # noqa: BLE001 - it is this request's alone
            return self._failed(error)
        asked.server.metrics.finished(time.perf_counter() - asked.began)
        return asked.respond(200, content, headers)

    def _failed(self, error: Exception) -> Response:
        asked = self._asked
        if isinstance(error, RequestError):
            return asked.refuse(error)
        logger.error("a request failed", extra=asked.named(), exc_info=error)
        return asked.broken()

    def refuse(self, error: RequestError) -> Response:
        """The answer where the body did not come as it should."""
        return self._asked.refuse(error)

    def close(self) -> None:
        """Let the next one in. On the thread of the event loop."""
        self._asked.server.admission.leave(self._held)
        self._asked.server.metrics.left()


def open_exchange(server: Server, method: str, path: str, headers: Headers) -> Response | Exchange:
    """What becomes of a request with these headers: an answer, or an exchange that awaits a body.

    Where there is an answer, the transport drops the body, if one comes.
    """
    asked = Asked(server, dict(headers))
    try:
        route = route_of(path)
        asked.route = route.template
        if method != route.method and not (method == "HEAD" and route.method == "GET"):
            return _other_method(asked, route, method)
        if (
            server.tokens is not None
            and route.kind not in OPEN
            and not server.tokens.allows(asked.fields.get(b"authorization"))
        ):
            raise RequestError(401, "no valid token: send Authorization: Bearer and your token")
        if route.method == "GET":
            return _tell(asked, route)
        return _let_in(asked, route)
    except RequestError as error:
        return asked.refuse(error)
    except Exception:
        logger.exception("a request failed", extra=asked.named())
        return asked.broken()


def _other_method(asked: Asked, route: Route, method: str) -> Response:
    allow = b"POST, OPTIONS" if route.method == "POST" else b"GET, HEAD, OPTIONS"
    if method == "OPTIONS":
        return asked.respond(200, b"", [(b"allow", allow)])
    error = RequestError(405, f"method {method[:20]} is not allowed here, use {route.method}")
    return asked.refuse(error, (b"allow", allow))


def _tell(asked: Asked, route: Route) -> Response:
    """What a GET asks for."""
    server = asked.server
    kind, status = JSON, 200
    if route.kind == "live":
        body = json_bytes({"live": True})
    elif route.kind == "ready":
        status, body = readiness(server, {})
    elif route.kind == "server":
        body = server_metadata(server)
    elif route.kind == "version":
        kind, body = b"text/plain; charset=utf-8", server.version.encode()
    elif route.kind == "metrics":
        kind, body = METRICS_TYPE, _metrics(server)
    elif route.kind == "openapi":
        served = _served(server)
        body = openapi_json(server, served, _schema(_features(server), served))
    elif route.kind == "model_ready" and server.follower.served is None:
        status, body = readiness(server, {"name": route.model})
    else:
        served = _served(server)
        loaded = loaded_of(served, route)
        if route.kind == "model_ready":
            status, body = readiness(server, {"name": route.model})
        else:
            body = model_metadata(server, served, loaded)
    return asked.respond(status, body, [(b"content-type", kind)])


def _let_in(asked: Asked, route: Route) -> Exchange:
    served = _served(asked.server)
    if route.kind == "infer":
        loaded_of(served, route)
        form = infer_form(served.release.use_case, asked.fields)
    else:
        form = invocation_form(asked.fields)
    length = announced_length(asked.fields)
    limit = asked.server.limits.max_body_bytes
    if length is not None and length > limit:
        raise RequestError(413, f"the body is larger than {limit} bytes: send fewer rows")
    return Exchange(asked, served, form, key_of(asked.fields), route.version)


def _served(server: Server) -> Served:
    if server.follower.served is None:
        raise RequestError(503, "no model is loaded yet: try again in a moment")
    return server.follower.served


def _features(server: Server) -> OnlineFeatures | None:
    return None if server.online is None else server.online.features


def _schema(features: OnlineFeatures | None, served: Served) -> RequestSchema:
    return served.schema if features is None else features.schema(served.schema)


def _metrics(server: Server) -> bytes:
    served = server.follower.served
    server.metrics.update(
        revision=0 if served is None else served.release.revision,
        lost=server.log.lost,
        ready=served is not None and not server.draining,
    )
    return exposition(server.metrics)
