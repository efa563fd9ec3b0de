"""What every online store can do, and how the server reads from one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.online import Manifest, decode_manifest

Wanted = Sequence[tuple[str, Sequence[bytes]]]
"""Buckets, each with the keys that are looked up in it."""

Found = list[list[bytes | None]]
"""For each bucket the value of each key, None where there is none."""

_TRIES = 5
"""Manifests that may be replaced during one look-up; more follow only from a broken writer."""


class OnlineStore(Protocol):
    """Buckets of keys and values, and a pointer for each space.

    Every method raises TransientError when the store does not answer in time and PermanentError
    where it refuses.
    """

    @property
    def blocking(self) -> bool:
        """Whether a call waits for the network."""
        ...

    def read(self, space: str, wanted: Wanted) -> tuple[bytes | None, Found]:
        """The space's pointer and the values, in one exchange."""
        ...

    def swap(self, space: str, expected: bytes | None, pointer: bytes) -> bool:
        """Make ``pointer`` the space's, atomically, if it is ``expected`` now (None: there is
        none); whether it was.
        """
        ...

    def begin(self, use_case: str, bucket: str) -> None:
        """Remember that ``bucket`` exists, before anything is put into it."""
        ...

    def put(self, bucket: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Add keys with their values to ``bucket``."""
        ...

    def count(self, bucket: str) -> int:
        """How many keys ``bucket`` has."""
        ...

    def buckets(self, use_case: str) -> list[str]:
        """The buckets that were begun and not dropped."""
        ...

    def drop(self, use_case: str, bucket: str) -> None:
        """Remove ``bucket`` with all its keys."""
        ...


class Reader:
    """Looks entities up in what is served; one for each space, from any thread."""

    def __init__(self, store: OnlineStore, space: str) -> None:
        self.store = store
        self.space = space
        # Together, so that a thread never sees one without the other.
        self._known: tuple[bytes, Manifest] | None = None

    def look_up(
        self, keys: Mapping[str, Sequence[bytes]]
    ) -> tuple[Manifest | None, dict[str, list[bytes | None]]]:
        """For each view the value of each key, all of one manifest, and that manifest.

        A view that was never materialized has no values; nor has any without a manifest. Raises
        TransientError and PermanentError as the store does.
        """
        for _ in range(_TRIES):
            known = self._known
            buckets = {} if known is None else _buckets(known[1], keys)
            wanted = [(bucket, keys[view]) for view, bucket in buckets.items()]
            pointer, found = self.store.read(self.space, wanted)
            if pointer is None:
                self._known = None
                return None, {view: [None] * len(of) for view, of in keys.items()}
            if known is not None and pointer == known[0]:
                values = dict(zip(buckets, found, strict=True))
                return known[1], {
                    view: values.get(view) or [None] * len(of) for view, of in keys.items()
                }
            self._known = (pointer, self._decoded(pointer))
        raise TransientError(
            f"{self.space}: the online store's pointer changed {_TRIES} times during one look-up"
        )

    def manifest(self) -> Manifest | None:
        """What is served now."""
        return self.look_up({})[0]

    def _decoded(self, pointer: bytes) -> Manifest:
        try:
            return decode_manifest(pointer)
        except ValueError as error:
            raise PermanentError(
                f"{self.space}: the online store's pointer is no manifest ({error}): something "
                "else wrote it; delete it and materialize online_features again"
            ) from error


def _buckets(manifest: Manifest, keys: Mapping[str, Sequence[bytes]]) -> dict[str, str]:
    views = manifest.views
    return {view: views[view].bucket for view, of in keys.items() if of and view in views}


def batches(
    items: Iterable[tuple[bytes, bytes]],
    size: int,
    write: Callable[[list[tuple[bytes, bytes]]], None],
) -> None:
    """Hand ``items`` to ``write``, ``size`` at a time."""
    batch: list[tuple[bytes, bytes]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            write(batch)
            batch = []
    if batch:
        write(batch)
