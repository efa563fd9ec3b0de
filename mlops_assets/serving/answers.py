"""From a request's columns to its answer: who answers, score, log; and the other model's scores."""

import os
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mlops_assets import clock
from mlops_assets.core.errors import SchemaError
from mlops_assets.core.inference import count_unknown_categories, encode
from mlops_assets.core.requests import PredictionRequest, RequestError
from mlops_assets.core.rollout_state import Mode, Role, side
from mlops_assets.serving.admission import Admission
from mlops_assets.serving.auth import Tokens
from mlops_assets.serving.background import Background
from mlops_assets.serving.metrics import Metrics
from mlops_assets.serving.models import Follower, Loaded, Served
from mlops_assets.serving.online_features import OnlineFeatures, OnlineFollower
from mlops_assets.serving.prediction_log import PredictionLog
from mlops_assets.serving.request_log import RequestLog
from mlops_assets.serving.scoring import Asked, Scored, compare_later, keep, score, stand_in

_STOOD_IN: frozenset[Mode] = frozenset({"canary", "watch"})
"""Modes in which callers may get either model's answer, so that one stands in for the other."""


@dataclass(frozen=True)
class Limits:
    """What one request may cost."""

    max_body_bytes: int = 16 * 1024 * 1024
    max_rows: int = 10_000
    read_timeout_s: float = 10.0
    max_in_flight: int = 256
    """Requests that are read or answered at a time; more are told to try again."""
    max_buffered_bytes: int = 128 * 1024 * 1024
    """Bytes of their bodies, together."""


@dataclass
class Server:
    """What the routes need."""

    follower: Follower
    log: PredictionLog
    limits: Limits
    instance: str
    version: str
    pool: ThreadPoolExecutor
    replica: str = ""
    """This process, where a server has several; the instance where it has one."""
    workers: int = 1
    drain: threading.Event = field(default_factory=threading.Event)
    """Set when it is told to end."""
    metrics: Metrics = field(default_factory=Metrics)
    background: Background = field(default_factory=Background)
    failing: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])
    """Versions and kinds of failures that the server's own log has told about."""
    online: OnlineFollower | None = None
    tokens: Tokens | None = None
    """Who may ask; everybody where it is None."""
    request_log: RequestLog = field(default_factory=RequestLog)
    pid: int = field(default_factory=os.getpid)
    """The process that a signal ends all of the server with."""
    admission: Admission = field(init=False)

    @property
    def draining(self) -> bool:
        """Whether it ends."""
        return self.drain.is_set()

    def __post_init__(self) -> None:
        self.replica = self.replica or self.instance
        self.admission = Admission(self.limits.max_in_flight, self.limits.max_buffered_bytes)


@dataclass(frozen=True)
class Answer:
    """Scores of one request, recorded in the prediction log already."""

    request_id: str
    scores: list[float]
    loaded: Loaded
    """The model that answered."""
    role: Role
    unknown_categories: dict[str, int]


@dataclass(slots=True)
class Prepared:
    """A request that is ready to be scored."""

    asked: Asked
    loaded: Loaded
    """The model that answers."""
    other: Loaded | None
    """The one that scores afterwards."""
    may_stand_in: bool
    """Whether the other one answers where the first one fails."""


def prepare(
    server: Server,
    served: Served,
    request: PredictionRequest,
    key: str | None = None,
    version: str | None = None,
    features: OnlineFeatures | None = None,
) -> Prepared:
    """``request``, with its features looked up, and the model of ``served`` that answers it.

    ``key`` is the caller's, for the split; without it the first row's event id is, or the request
    id. ``version`` is the one that was asked for, one of those that may be returned. In canary and
    watch, unless a version was asked for, a model that fails is stood in for by the other one.
    ``features`` look up what the request lacks; None: it is complete.

    Raises RequestError 422 for values that no model takes, and 503 where features cannot be looked
    up.
    """
    lookups = None
    if features is not None:
        request, lookups = features.complete(request, served.schema)
    request_id = request.request_id or uuid.uuid4().hex
    loaded, other = _sides(served, request, request_id, key, version)
    columns = request.columns
    # The clock first: both models' records are of one time, so that they lie in one day.
    now = clock.now()
    try:
        matrix = encode(columns, served.champion.signature) if served.same_inputs else None
    except SchemaError as error:
        raise RequestError(422, str(error)) from error
    asked = Asked(server, served, request, request_id, columns, matrix, now, lookups)
    return Prepared(asked, loaded, other, served.release.mode in _STOOD_IN and version is None)


def score_together(requests: Sequence[Prepared]) -> list[Scored | None]:
    """The scores of those of ``requests`` that one call can score, in their order; None for the
    others, and for all where it fails: alone, each has its own error.

    Where two models are compared none is: their latencies are of requests that are scored alone.
    """
    found: list[Scored | None] = [None] * len(requests)
    places = [n for n, each in enumerate(requests) if each.asked.served.challenger is None]
    if len(places) < 2:
        return found
    loaded = requests[places[0]].loaded
    parts = [
        (n, matrix)
        for n in places
        if requests[n].loaded is loaded and (matrix := requests[n].asked.matrix) is not None
    ]
    began = time.thread_time()
    try:
        scores: list[float] = loaded.predictor.predict(
            np.concatenate([matrix for _, matrix in parts])
        ).tolist()
    except Exception:  # noqa: BLE001 - it comes again where it is told
        return found
    seconds = (time.thread_time() - began) / max(1, len(scores))
    first = 0
    for n, matrix in parts:
        end = first + len(matrix)
        found[n] = Scored(loaded, matrix, scores[first:end], seconds * len(matrix))
        first = end
    return found


def answer(
    server: Server,
    served: Served,
    request: PredictionRequest,
    key: str | None = None,
    version: str | None = None,
    features: OnlineFeatures | None = None,
) -> Answer:
    """Answer ``request``, scored alone; see :func:`prepare` and :func:`conclude`."""
    return conclude(prepare(server, served, request, key, version, features))


def conclude(prepared: Prepared, scored: Scored | None = None) -> Answer:
    """The answer to a request, which is logged; it is scored here where it has not been. The other
    model, where there is one, scores it afterwards.

    Raises RequestError 422 for values that the model does not take.
    """
    asked, loaded, other = prepared.asked, prepared.loaded, prepared.other
    server, served, columns = asked.server, asked.served, asked.columns
    try:
        scored = scored or score(asked, loaded)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is recorded and told
        stands_in = other if prepared.may_stand_in else None
        scored, other = stand_in(asked, loaded, stands_in, error), None
    keep(asked, scored, returned=True)
    if other is not None:
        compare_later(asked, other)
    unknown = count_unknown_categories(columns, scored.loaded.signature)
    if scored.loaded is served.champion or served.same_inputs:
        server.metrics.observe(served.champion.signature, scored.matrix, unknown)
    return Answer(
        asked.request_id, scored.scores, scored.loaded, served.role(scored.loaded), unknown
    )


def _sides(
    served: Served,
    request: PredictionRequest,
    request_id: str,
    key: str | None,
    version: str | None,
) -> tuple[Loaded, Loaded | None]:
    """Who answers, and who else scores."""
    champion, challenger = served.champion, served.challenger
    if version is not None and version != str(champion.served.version):
        if challenger is None or served.release.mode != "canary":
            raise RequestError(404, f"version {version[:20]} is not served")
        return challenger, champion
    if challenger is None or version is not None:
        return champion, challenger
    event = request.event_ids[0] if request.event_ids else None
    if side(served.release, key or event or request_id) == "challenger":
        return challenger, champion
    return champion, challenger
