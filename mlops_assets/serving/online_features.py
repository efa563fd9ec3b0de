"""Features that a request leaves out: looked up by entity key, or computed from the event.

A request may carry the event only. What it leaves out comes from the online store, one batched
look-up for all its rows and views, by the rule of the point-in-time join as of now; views of the
event itself come from the functions that computed the training set (serving.online_computed).
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from mlops_assets import clock
from mlops_assets.adapters.online_store import OnlineStore, open_store
from mlops_assets.adapters.online_store.store import Reader
from mlops_assets.core.errors import PermanentError, PlatformError
from mlops_assets.core.online import (
    Lookups,
    OnlineConfig,
    decode_rows,
    inputs_of,
)
from mlops_assets.core.online_spec import sent_as
from mlops_assets.core.records import FeatureField
from mlops_assets.core.requests import PredictionRequest, RequestError, RequestSchema
from mlops_assets.core.spec import EVENT_TIME, ColumnType
from mlops_assets.serving.objects import read_object
from mlops_assets.serving.online_lookups import Values, look_up
from mlops_assets.serving.online_requests import (
    EPOCH,
    MICROSECOND,
    Plan,
    drop,
    event_times,
    plan,
    typed_values,
)

logger = logging.getLogger("mlops_assets.serving")

ENV = "MLOPS_ONLINE_URL"
"""Where the store is, for a server; it may hold a password, and so is in no document."""

CONFIG = "online.json"

AWAY_S = 1.0
"""Seconds for which a store that did not answer is not asked again: waiting for it in each request
would stop the server."""

_CONFIG_BYTES = 4 * 1024 * 1024
_CONFIG_S = 15.0
"""Seconds between looks at a document elsewhere: it changes when a use case's views do."""

_SCHEMAS = 8
_PLANS = 256
"""Kinds of requests that are remembered; clients send few."""


class Completed(NamedTuple):
    """A request with its features, and how it came by them."""

    request: PredictionRequest
    lookups: Lookups | None
    """None where the request carried everything."""


class OnlineFeatures:
    """Completes requests to one use case, from any thread."""

    def __init__(self, config: OnlineConfig, store: OnlineStore) -> None:
        self.blocking = store.blocking
        self._config = config
        self._reader = Reader(store, config.space)
        self._inputs = inputs_of(config)
        self._types: dict[str, ColumnType] = {EVENT_TIME: "timestamp"}
        for view in config.views:
            self._types |= view.keys
        self._compute = None
        if config.computed is not None:
            try:
                from mlops_assets.serving.online_computed import Computing
            except ImportError as error:
                raise PermanentError(
                    f"views that the server computes need an image with polars: {error}"
                ) from error

            self._compute = Computing(config.computed)
            self._types |= {name: config.computed.columns[name] for name in config.computed.given}
        self._schemas: dict[RequestSchema, RequestSchema] = {}
        self._plans: dict[object, Plan] = {}
        self._away_until = 0.0
        self._said = ""

    def schema(self, base: RequestSchema) -> RequestSchema:
        """What a request may carry: ``base`` and what stands for its features, none of which that
        can be looked up or computed is required.
        """
        found = self._schemas.get(base)
        if found is None:
            features = {field.name for field in base.inputs}
            more = tuple(
                FeatureField(name=name, type=sent_as(kind))
                for name, kind in self._types.items()
                if name not in features
            )
            required = base.required - self._inputs.by_feature.keys()
            found = replace(base, inputs=base.inputs + more, required=required)
            if len(self._schemas) >= _SCHEMAS:
                self._schemas.clear()
            self._schemas[base] = found
        return found

    def complete(self, request: PredictionRequest, base: RequestSchema) -> Completed:
        """``request``, parsed by :meth:`schema` of ``base``, with each feature of ``base``.

        It is completed in place; what was sent stays as it is. Raises RequestError: 422 for what
        can neither be looked up nor computed and for keys and times of the wrong form; 503 when the
        store does not answer, where the use case says so.
        """
        planned = self._plan(request, base)
        if planned.problem is not None:
            raise RequestError(422, planned.problem)
        if not planned.views and not planned.computed:
            drop(request, planned.dropped)
            return Completed(request, None)
        asked_at = (clock.now() - EPOCH) // MICROSECOND
        times = event_times(request, asked_at + self._config.lead)
        given = {name: typed_values(name, self._types[name], request) for name in planned.given}
        if self._compute is not None and planned.computes:
            features, keys = self._compute.run(given, times, asked_at, planned.computed)
            given = keys | given
            for name, column in features.items():
                if name in planned.categories:
                    request.categories[name] = cast("list[str | None]", column)
                elif name in planned.floats:
                    request.floats[name] = cast("list[float | None]", column)
        drop(request, planned.dropped)
        lookups = look_up(self._asked, planned.views, given, times, asked_at, request)
        looked_up_by = {key: given[key] for key in planned.keys}
        computed = [view.name for view in planned.computed]
        return Completed(request, Lookups(times, looked_up_by, lookups, computed))

    def _plan(self, request: PredictionRequest, base: RequestSchema) -> Plan:
        """What the request needs; the same for all that carry the same columns."""
        shape = (base, *request.categories, None, *request.floats)
        found = self._plans.get(shape)
        if found is None:
            sent = request.categories.keys() | request.floats.keys()
            found = plan(self._config, self._inputs, self._types, base, sent)
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[shape] = found
        return found

    def _asked(self, keys: Mapping[str, Sequence[bytes]]) -> Values | None:
        """By view its bucket and each key's rows; None when the store does not answer."""
        if time.monotonic() < self._away_until:
            return self._away(self._said)
        try:
            manifest, found = self._reader.look_up(keys)
            generations = manifest.views if manifest is not None else {}
            return {
                view: (
                    generations[view].bucket if view in generations else "",
                    [None if value is None else decode_rows(value) for value in values],
                )
                for view, values in found.items()
            }
        except (PlatformError, ValueError) as error:
            self._away_until = time.monotonic() + AWAY_S
            if str(error) != self._said:
                logger.error("features cannot be looked up: %s", error)
            self._said = str(error)
            return self._away(self._said)

    def _away(self, why: str) -> None:
        if self._config.on_timeout == "error":
            raise RequestError(503, f"features cannot be looked up now: {why}")


class OnlineFollower:
    """Follows ``online.json`` in ``place``, a folder or ``s3://`` URL: what the use case's requests
    may leave out. ``features`` changes as a whole; a document that cannot be used leaves the last
    good one, and ``error`` says why.
    """

    def __init__(self, place: str) -> None:
        self.features: OnlineFeatures | None = None
        self.error: str | None = None
        self._url = f"{place.rstrip('/')}/{CONFIG}"
        self._stamp: tuple[int, int] | None = None
        self._due = 0.0
        self._content = b""

    def poll(self) -> bool:
        """Follow the document; whether it has changed. Never raises."""
        try:
            content = self._changed()
            if content is None or content == self._content:
                return False
            self.features = load_features(content) if content else None
            self._content, self.error = content, None
        except Exception as error:  # noqa: BLE001
            # Whatever a document says, requests that carry their features are answered.
            if str(error) != self.error:
                logger.error("online features: %s: %s", self._url, error)
            self.error = str(error)
            return False
        logger.info("online features: %s", self._url if content else "there are none")
        return True

    def _changed(self) -> bytes | None:
        """The document's content, empty where there is none; None when it was not looked at."""
        if "://" not in self._url:
            path = Path(self._url)
            if not path.exists():
                self._stamp = None
                return b""
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp and self.error is None:
                return None
            self._stamp = stamp
            return path.read_bytes()
        if time.monotonic() < self._due:
            return None
        self._due = time.monotonic() + _CONFIG_S
        try:
            return read_object(self._url, _CONFIG_BYTES)
        except PermanentError:
            return b""


def load_features(content: bytes) -> OnlineFeatures:
    """What the document ``content`` describes. Raises PermanentError where it cannot be used."""
    try:
        config = msgspec.json.decode(content, type=OnlineConfig)
    except ValueError as error:
        raise PermanentError(
            f"it is no description of online features: {error}; materialize online_features again"
        ) from error
    return OnlineFeatures(config, open_store(os.environ.get(ENV) or config.url, config.timeout_s))
