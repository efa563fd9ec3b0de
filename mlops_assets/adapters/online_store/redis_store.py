"""The online store in Redis (or what speaks its protocol): a hash for each bucket.

Give it a database of its own without eviction (``maxmemory-policy noeviction``): an evicted bucket
is served as missing values until it is materialized again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from mlops_assets.adapters.online_store.store import Found, Wanted, batches
from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")

_BATCH = 2_000
"""Items of one command: Redis answers others in between."""

_SWAP = """
local now = redis.call('GET', KEYS[1])
if (now == false and ARGV[1] == '') or now == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  return 1
end
return 0
"""


class RedisStore:
    """An :class:`OnlineStore` in the Redis database that ``url`` names."""

    blocking = True

    def __init__(self, url: str, timeout_s: float) -> None:
        import hiredis
        import redis
        from redis.exceptions import ConnectionError as Broken

        # Without the password, which the URL may have.
        parts = urlsplit(url)
        self._place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        # One try: who waits for a look-up has no time for another.
        self._redis: Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=None,
            health_check_interval=0,
        )
        # Connections that wait for the next look-up: as many as threads have looked up at a time.
        self._idle: deque[Any] = deque()
        self._broken = Broken
        self._pack = cast("Callable[[tuple[bytes | str, ...]], bytes]", hiredis.pack_command)

    def read(self, space: str, wanted: Wanted) -> tuple[bytes | None, Found]:
        """One exchange. The pointer first: what is read after it is still there, since a bucket
        outlives the pointer's next change, so that no transaction is needed (a sixth of the time).
        """
        commands = [
            ("GET", _pointer(space)),
            *(("HMGET", _data(bucket), *keys) for bucket, keys in wanted),
        ]
        pointer, *found = self._asked("read", lambda: self._exchange(commands))
        return cast("bytes | None", pointer), cast("Found", found)

    def _exchange(self, commands: Sequence[tuple[bytes | str, ...]]) -> list[Any]:
        """The answers to ``commands``, which are sent together; they only read.

        Over connections of its own: what the client's pool and pipeline do beside (locks, looks at
        the socket, retries, metrics) takes longer than Redis itself.
        """
        packed = b"".join(map(self._pack, commands))
        try:
            idle = self._idle.pop()
        except IndexError:
            idle = None
        if idle is not None:
            try:
                return self._answers(idle, packed, commands)
            except self._broken:
                # Redis may have closed it since it was used: the others are no younger.
                self._idle.clear()
        return self._answers(self._redis.connection_pool.make_connection(), packed, commands)

    def _answers(self, connection: Any, packed: bytes, commands: Sequence[object]) -> list[Any]:
        try:
            connection.send_packed_command([packed], check_health=False)
            answers = [connection.read_response() for _ in commands]
        except BaseException:
            # The answers that are left would be taken for those to the next commands.
            connection.disconnect()
            raise
        self._idle.append(connection)
        return answers

    def swap(self, space: str, expected: bytes | None, pointer: bytes) -> bool:
        """A script, which Redis runs alone."""
        values = (expected or b"", pointer)
        swapped = self._asked("write", lambda: self._redis.eval(_SWAP, 1, _pointer(space), *values))
        return swapped == 1

    def begin(self, use_case: str, bucket: str) -> None:
        """Remember ``bucket``."""
        self._asked("write", lambda: self._redis.sadd(_names(use_case), bucket))

    def put(self, bucket: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Add ``items``."""

        def write(batch: list[tuple[bytes, bytes]]) -> None:
            flat = [part for item in batch for part in item]
            self._asked("write", lambda: self._redis.hset(_data(bucket), items=flat))

        batches(items, _BATCH, write)

    def count(self, bucket: str) -> int:
        """How many keys ``bucket`` has."""
        return int(self._asked("read", lambda: self._redis.hlen(_data(bucket))))

    def buckets(self, use_case: str) -> list[str]:
        """The buckets that were begun and not dropped."""
        found = self._asked("read", lambda: self._redis.smembers(_names(use_case)))
        return sorted(name.decode() for name in cast("set[bytes]", found))

    def drop(self, use_case: str, bucket: str) -> None:
        """Remove ``bucket``; its memory is freed in the background."""

        def ask() -> object:
            with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.unlink(_data(bucket))
                pipeline.srem(_names(use_case), bucket)
                return pipeline.execute()

        self._asked("write", ask)

    def _asked(self, action: str, ask: Callable[[], T]) -> T:
        from redis import exceptions

        try:
            return ask()
        except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
            raise PermanentError(
                f"cannot {action} {self._place}: Redis refuses the account; correct the user and "
                "password in MLOPS_ONLINE_URL"
            ) from error
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            # Its text may have the URL's.
            raise TransientError(
                f"cannot {action} {self._place}: {type(error).__name__}, it does not answer in time"
            ) from error
        except exceptions.RedisError as error:
            raise TransientError(f"cannot {action} {self._place}: {error}") from error


def _pointer(space: str) -> str:
    return f"mlops:online:pointer:{space}"


def _names(use_case: str) -> str:
    return f"mlops:online:buckets:{use_case}"


def _data(bucket: str) -> str:
    return f"mlops:online:data:{bucket}"
