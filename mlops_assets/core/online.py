"""Online features: what the online store holds, and which row of it a request gets.

The store holds, for each entity of a view, the few rows that a request from now on may need: the
newest known one, and those that hold or become known later. A request gets one of them by the rule
of the point-in-time join (core.pit), so that a model sees at noon what its training set would have
had for noon.
"""

import hashlib
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgspec

from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, ColumnType

KeyValue = str | int | bool
"""A value of an entity column; an instant is in microseconds since 1970."""

MAX_KEY_BYTES = 256
"""A longer entity key is replaced by its SHA-256: LMDB takes 511 bytes, with the bucket's name."""

_HASHED = b"\xc1"
"""Begins a hashed key: the one byte that msgpack never uses."""

State = Literal["f", "m", "e", "t"]
"""What became of a look-up: found, missing (no row of the entity qualifies), expired (the row is
older than the TTL), timed out."""

FOUND: State = "f"
MISSING: State = "m"
EXPIRED: State = "e"
TIMED_OUT: State = "t"


class OnlineView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A view as the server reads it. Times are in microseconds."""

    name: str
    keys: dict[str, ColumnType]
    """Entity columns, in the view's order."""
    floats: tuple[str, ...]
    categories: tuple[str, ...]
    ttl: int | None


class ComputedViews(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Views that are computed from the event's own columns, by the functions of training."""

    views: tuple[OnlineView, ...]
    functions: dict[str, str]
    """``package.module:function`` by view."""
    events: str
    """The function that gives events their entity columns."""
    dataset: str
    key: str
    event_time: str
    columns: dict[str, ColumnType]
    """All columns of the dataset."""
    given: tuple[str, ...]
    """Those that a request carries."""
    timezone: str


class OnlineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a server has to know about a use case's online features."""

    use_case: str
    layout: str
    """Digest of the looked-up views: servers and tables of another layout do not meet."""
    url: str
    """The store; empty where only the environment may say, since it holds a password."""
    views: tuple[OnlineView, ...]
    computed: ComputedViews | None
    lead: int
    """Microseconds before the event at which a prediction is asked."""
    on_timeout: Literal["default", "error"]
    timeout_s: float

    @property
    def space(self) -> str:
        """The name under which the store keeps this use case's tables of this layout."""
        return space_of(self.use_case, self.layout)


def space_of(use_case: str, layout: str) -> str:
    """The name of a use case's tables of one layout."""
    return f"{use_case}/{layout}"


def layout_of(views: Sequence[OnlineView]) -> str:
    """A short digest of what ``views`` are."""
    return hashlib.sha256(msgspec.json.encode(list(views))).hexdigest()[:8]


class Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One materialization of one view."""

    bucket: str
    """Where its entities are, see :func:`bucket_name`."""
    entities: int
    rows: int
    bytes: int
    inputs: dict[str, str]
    """Content digest of each partition that it was made of."""
    newest: int | None
    """The latest ``known_at`` of its rows, in microseconds since 1970; none without rows."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pointer to what is served: one document, replaced as a whole."""

    revision: int
    as_of: int
    """The instant whose lake it shows, in microseconds since 1970."""
    views: dict[str, Generation]
    previous: tuple[str, ...] = ()
    """Buckets that it replaced: a reader that began before still reads them."""


def bucket_name(space: str, view: str, table_version: int, as_of: int, token: str) -> str:
    """A name that says what a generation was made of; ``token`` keeps two writers apart."""
    return f"{space}/{view}/{table_version}-{as_of}-{token}"


def made_of(bucket: str) -> tuple[int, int]:
    """The lake's table version and the instant that ``bucket`` was made of."""
    version, as_of, _ = bucket.rsplit("/", 1)[1].split("-", 2)
    return int(version), int(as_of)


_manifests = msgspec.msgpack.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """``manifest`` as bytes."""
    return msgspec.msgpack.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in ``data``. Raises ValueError where there is none."""
    return _manifests.decode(data)


_encode = msgspec.msgpack.Encoder().encode


def entity_key(values: Sequence[KeyValue]) -> bytes:
    """The key of the entity that ``values``, one for each entity column, name."""
    key = _encode(values)
    if len(key) > MAX_KEY_BYTES:
        return _HASHED + hashlib.sha256(key).digest()
    return key


StoredRow = tuple[int, int, bytes, list[str | None]]
"""Event time, known-at time, floats (32 bits, little-endian, NaN for null) and categories."""

_rows = msgspec.msgpack.Decoder(list[StoredRow])


def encode_rows(rows: Sequence[StoredRow]) -> bytes:
    """An entity's rows, ascending in (event time, known-at time), as bytes."""
    return _encode(rows)


def decode_rows(data: bytes) -> list[StoredRow]:
    """The rows in ``data``. Raises ValueError for bytes that are none."""
    return _rows.decode(data)


@dataclass(frozen=True)
class Entity:
    """One entity's rows, as the store keeps them."""

    key: bytes
    value: bytes
    rows: int


def floats_format(view: OnlineView) -> struct.Struct:
    """How the floats of a row of ``view`` are packed."""
    return struct.Struct(f"<{len(view.floats)}f")


def row_used(
    rows: Sequence[StoredRow], event_time: int, asked_at: int, ttl: int | None
) -> tuple[State, StoredRow | None]:
    """The row that an event of ``event_time``, asked about at ``asked_at``, gets of its entity's.

    ``rows`` ascend in (event time, known-at time). The rule is core.pit's: the greatest of those
    that hold by the event and were known when it was asked, and nothing if that one has expired.
    """
    for row in reversed(rows):
        if row[0] <= event_time and row[1] <= asked_at:
            if ttl is not None and event_time - row[0] > ttl:
                return EXPIRED, row
            return FOUND, row
    return MISSING, None


class ViewLookup(msgspec.Struct, omit_defaults=True, frozen=True):
    """What one view's look-ups found, one item for each row of a request."""

    states: str
    """One :data:`State` for each row."""
    event_times: list[int | None]
    """Of the row that was found or had expired, in microseconds since 1970."""
    known_ats: list[int | None]
    bucket: str = ""
    """The generation that was read; empty where the store did not answer."""


class Lookups(msgspec.Struct, omit_defaults=True, frozen=True):
    """What a request was completed with: written to the prediction log, for the parity asset."""

    event_times: list[int]
    """When each row's event was taken to be, in microseconds since 1970."""
    keys: dict[str, list[KeyValue | None]]
    """The entity columns that were looked up."""
    views: dict[str, ViewLookup]
    computed: list[str] = []
    """Views that were computed from the event's own columns."""


class RowLookup(msgspec.Struct, frozen=True):
    """What one row of a request was completed with: the lake's ``looked_up``, as JSON."""

    event_time: int
    keys: dict[str, KeyValue | None]
    views: dict[str, tuple[State, int | None, int | None, str]]
    """By view its state, the row's event time and known-at time, and the bucket."""
    computed: list[str]


def row_lookups(lookups: Lookups) -> list[str]:
    """``lookups`` as one JSON text for each row."""
    return [
        msgspec.json.encode(
            RowLookup(
                event_time,
                {key: values[n] for key, values in lookups.keys.items()},
                {
                    name: (cast("State", v.states[n]), v.event_times[n], v.known_ats[n], v.bucket)
                    for name, v in lookups.views.items()
                },
                lookups.computed,
            )
        ).decode()
        for n, event_time in enumerate(lookups.event_times)
    ]


_row_lookup = msgspec.json.Decoder(RowLookup)


def decode_row_lookup(text: str) -> RowLookup:
    """The row's look-ups in ``text``. Raises ValueError for a text that has none."""
    return _row_lookup.decode(text)


@dataclass(frozen=True)
class OnlineInputs:
    """What a request may carry instead of features."""

    keys: frozenset[str]
    """Names of further inputs: entity columns, the event's time and its own columns."""
    by_feature: Mapping[str, tuple[frozenset[str], ...]]
    """For each feature that need not be sent, the sets of inputs of which one replaces it."""

    def missing(self, names: Collection[str], features: Sequence[str]) -> list[str]:
        """Those of ``features`` that a request which carries ``names`` lacks."""
        given = frozenset(names)
        return [
            feature
            for feature in features
            if feature not in given
            and not any(enough <= given for enough in self.by_feature.get(feature, ()))
        ]


def inputs_of(config: OnlineConfig) -> OnlineInputs:
    """What a request to the server of ``config`` may carry."""
    keys = {EVENT_ID, EVENT_TIME} | {key for view in config.views for key in view.keys}
    raw: tuple[frozenset[str], ...] = ()
    by_feature: dict[str, tuple[frozenset[str], ...]] = {}
    if config.computed is not None:
        keys |= set(config.computed.given)
        raw = (frozenset(config.computed.given),)
        for view in config.computed.views:
            by_feature |= dict.fromkeys((*view.floats, *view.categories), raw)
    for view in config.views:
        enough = (frozenset(view.keys), *raw)
        by_feature |= dict.fromkeys((*view.floats, *view.categories), enough)
    return OnlineInputs(frozenset(keys - {EVENT_ID}), by_feature)
