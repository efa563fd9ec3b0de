"""Putting new generations of views into the online store: whole, or not at all."""

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from mlops_assets.adapters.online_store.store import OnlineStore, Reader
from mlops_assets.core.errors import TransientError
from mlops_assets.core.online import (
    Entity,
    Generation,
    Manifest,
    bucket_name,
    encode_manifest,
    made_of,
)

UNFINISHED = timedelta(hours=1)
"""A bucket that no manifest names and that is older was left by a writer that was killed."""

OTHER_LAYOUT = timedelta(days=7)
"""Servers that were not deployed again after their views changed read buckets of another layout."""

_RACES = 20


@dataclass(frozen=True)
class Fresh:
    """A view's new content."""

    entities: Iterable[Entity]
    inputs: Mapping[str, str]
    table_version: int
    newest: int | None


@dataclass(frozen=True)
class Published:
    """What is served now, and whether this call put it there or a later lake was there already."""

    manifest: Manifest
    superseded: bool
    dropped: tuple[str, ...]
    """Buckets that were removed."""


def publish(
    store: OnlineStore,
    use_case: str,
    space: str,
    as_of: int,
    fresh: Mapping[str, Fresh],
    unchanged: Collection[str],
) -> Published:
    """Serve ``fresh`` views, and ``unchanged`` ones as they are, from one instant to the next.

    ``as_of`` is the instant whose lake this is, in microseconds since 1970. Until the pointer is
    swapped, nobody sees anything of it; a kill in between leaves buckets that a later call removes.
    Of two writers the one with the later lake stays. Raises TransientError when an ``unchanged``
    view is not there any more, or other writers keep coming first.
    """
    token = secrets.token_hex(4)
    written = {
        view: _write(
            store, use_case, bucket_name(space, view, new.table_version, as_of, token), new
        )
        for view, new in fresh.items()
    }
    reader = Reader(store, space)
    for _ in range(_RACES):
        pointer = store.read(space, [])[0]
        now = None if pointer is None else reader.manifest()
        if now is not None and now.as_of > as_of:
            dropped = [generation.bucket for generation in written.values()]
            for bucket in dropped:
                store.drop(use_case, bucket)
            return Published(now, True, tuple(dropped))
        kept = {} if now is None else {v: g for v, g in now.views.items() if v in unchanged}
        if len(kept) < len(unchanged):
            gone = sorted(set(unchanged) - set(kept))
            raise TransientError(f"{space}: {', '.join(gone)} left the online store: try again")
        views = {**kept, **written}
        manifest = Manifest(
            revision=1 if now is None else now.revision + 1,
            as_of=as_of,
            views=views,
            previous=_replaced(now, {generation.bucket for generation in views.values()}),
        )
        if store.swap(space, pointer, encode_manifest(manifest)):
            return Published(manifest, False, tuple(_tidy(store, use_case, space, manifest)))
    raise TransientError(f"{space}: {_RACES} other writers came first: try again later")


def _write(store: OnlineStore, use_case: str, bucket: str, new: Fresh) -> Generation:
    store.begin(use_case, bucket)
    entities = rows = size = 0

    def items() -> Iterator[tuple[bytes, bytes]]:
        nonlocal entities, rows, size
        for entity in new.entities:
            entities += 1
            rows += entity.rows
            size += len(entity.key) + len(entity.value)
            yield entity.key, entity.value

    store.put(bucket, items())
    return Generation(bucket, entities, rows, size, dict(new.inputs), new.newest)


def _replaced(now: Manifest | None, kept: Collection[str]) -> tuple[str, ...]:
    """The buckets of ``now`` that are not ``kept``; when there are none, those it replaced."""
    if now is None:
        return ()
    gone = tuple(g.bucket for g in now.views.values() if g.bucket not in kept)
    return gone or now.previous


def _tidy(store: OnlineStore, use_case: str, space: str, manifest: Manifest) -> Iterator[str]:
    """Remove what is neither served nor written, and say what."""
    served = {generation.bucket for generation in manifest.views.values()} | {*manifest.previous}
    for bucket in store.buckets(use_case):
        age = manifest.as_of - made_of(bucket)[1]
        patience = UNFINISHED if bucket.startswith(f"{space}/") else OTHER_LAYOUT
        # A generation that was served and replaced twice is older than a writer takes, unless
        # materializations follow each other fast: then it goes a little later.
        if bucket not in served and age > patience / timedelta(microseconds=1):
            store.drop(use_case, bucket)
            yield bucket
