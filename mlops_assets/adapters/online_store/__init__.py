"""The online store: each entity's rows by key, for the model server.

One interface (:class:`store.OnlineStore`) over LMDB in a folder of this machine, Redis, and
DynamoDB; the place's URL chooses. A view's entities lie in a bucket of their own for each
generation; one document, the manifest, says which buckets are served and is replaced as a whole.

The model server imports this package: nothing heavy at the top of its modules.
"""

from functools import lru_cache
from urllib.parse import urlsplit

from mlops_assets.adapters.online_store.store import OnlineStore
from mlops_assets.core.errors import PermanentError

__all__ = ["OnlineStore", "open_store", "shown"]


@lru_cache(maxsize=16)
def open_store(url: str, timeout_s: float) -> OnlineStore:
    """The store at ``url``: a folder, ``redis://`` or ``rediss://``, or ``dynamodb://<table>``.

    ``timeout_s`` is for each call over the network. Nothing is connected yet. Raises PermanentError
    for another kind of URL, and for a folder that cannot be used.
    """
    scheme, separator, _ = url.partition("://")
    if not url:
        raise PermanentError(
            "no online store is named: set MLOPS_ONLINE_URL to a folder, redis://host:port/db or "
            "dynamodb://table"
        )
    if not separator or scheme == "file":
        from mlops_assets.adapters.online_store.lmdb_store import LmdbStore

        return LmdbStore(urlsplit(url).path if separator else url)
    if scheme in ("redis", "rediss"):
        from mlops_assets.adapters.online_store.redis_store import RedisStore

        return RedisStore(url, timeout_s)
    if scheme == "dynamodb":
        from mlops_assets.adapters.online_store.dynamodb_store import DynamoStore

        return DynamoStore(url, timeout_s)
    raise PermanentError(
        f"{shown(url)} is no online store: give a folder, redis://host:port/db or dynamodb://table"
    )


def shown(url: str) -> str:
    """``url`` without what may be secret in it, for people."""
    parts = urlsplit(url)
    if not parts.scheme or parts.scheme == "file":
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
