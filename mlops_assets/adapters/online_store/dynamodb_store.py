"""The online store in DynamoDB: one table with the keys ``pk`` (string) and ``sk`` (binary).

A bucket's keys are spread over SHARDS partition keys, since DynamoDB bounds what one takes. Region,
endpoint and credentials come from the environment, as for S3.
"""

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mlops_assets.adapters.online_store.store import Found, Wanted, batches
from mlops_assets.core.errors import PermanentError, TransientError

T = TypeVar("T")

SHARDS = 16

_READ_BATCH = 100
_WRITE_BATCH = 25
"""What DynamoDB takes in one call."""

_TRIES = 8
"""Calls for what DynamoDB left undone of a batch, with a growing pause before each further one."""

_PAUSE_S = 0.05

_POINTER = b"pointer"
_REFUSED = {"AccessDeniedException", "ResourceNotFoundException", "UnrecognizedClientException"}

Item = Mapping[str, Any]  # botocore has no types for what its calls take


class DynamoStore:
    """An :class:`OnlineStore` in the table that ``dynamodb://<table>`` names."""

    blocking = True

    def __init__(self, url: str, timeout_s: float) -> None:
        import botocore.session
        from botocore.config import Config

        self._table = urlsplit(url).netloc
        config = Config(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            # One try: who waits for a look-up has no time for another.
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        # botocore itself knows the second name only.
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        self._client: Any = botocore.session.get_session().create_client(
            "dynamodb", region_name=region, config=config
        )

    def read(self, space: str, wanted: Wanted) -> tuple[bytes | None, Found]:
        """One exchange for up to 99 keys. Consistent reads: no replica that is behind."""
        places = [[(_shard(bucket, key), key) for key in keys] for bucket, keys in wanted]
        pointer = (_pointer(space), _POINTER)
        # A key that is asked for twice is refused. The pointer first: what is read after it is
        # still there, since a bucket outlives the pointer's next change.
        unique = list(dict.fromkeys([pointer, *(place for group in places for place in group)]))
        values: dict[tuple[str, bytes], bytes] = {}
        for start in range(0, len(unique), _READ_BATCH):
            values |= self._get(unique[start : start + _READ_BATCH])
        return values.get(pointer), [[values.get(place) for place in group] for group in places]

    def _get(self, places: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], bytes]:
        asked: Any = {"Keys": [_key(*place) for place in places], "ConsistentRead": True}
        found: dict[tuple[str, bytes], bytes] = {}
        for again in range(_TRIES):
            answer = self._asked(
                "read",
                lambda asked=asked: self._client.batch_get_item(RequestItems={self._table: asked}),
            )
            for item in answer["Responses"].get(self._table, ()):
                found[item["pk"]["S"], item["sk"]["B"]] = item["v"]["B"]
            asked = answer["UnprocessedKeys"].get(self._table)
            if not asked:
                return found
            time.sleep(_PAUSE_S * 2**again)
        raise TransientError(f"DynamoDB table {self._table}: it leaves keys unread, it is too busy")

    def swap(self, space: str, expected: bytes | None, pointer: bytes) -> bool:
        """A conditional write."""
        from botocore.exceptions import ClientError

        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if expected is not None:
            condition = {
                "ConditionExpression": "v = :expected",
                "ExpressionAttributeValues": {":expected": {"B": expected}},
            }
        item = {**_key(_pointer(space), _POINTER), "v": {"B": pointer}}

        def ask() -> bool:
            try:
                self._client.put_item(TableName=self._table, Item=item, **condition)
            except ClientError as error:
                if _code(error) == "ConditionalCheckFailedException":
                    return False
                raise
            return True

        return self._asked("write", ask)

    def begin(self, use_case: str, bucket: str) -> None:
        """Remember ``bucket``."""
        self._write([{"PutRequest": {"Item": _key(_names(use_case), bucket.encode())}}])

    def put(self, bucket: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Add ``items``."""

        def write(batch: list[tuple[bytes, bytes]]) -> None:
            self._write(
                [
                    {"PutRequest": {"Item": {**_key(_shard(bucket, key), key), "v": {"B": value}}}}
                    for key, value in batch
                ]
            )

        batches(items, _WRITE_BATCH, write)

    def count(self, bucket: str) -> int:
        """How many keys ``bucket`` has: reads their names."""
        return sum(1 for shard in _shards(bucket) for _ in self._keys(shard))

    def buckets(self, use_case: str) -> list[str]:
        """The buckets that were begun and not dropped."""
        return [key.decode() for key in self._keys(_names(use_case))]

    def drop(self, use_case: str, bucket: str) -> None:
        """Remove ``bucket``, key by key: DynamoDB has no other way."""
        for shard in _shards(bucket):
            keys = list(self._keys(shard))
            for start in range(0, len(keys), _WRITE_BATCH):
                self._write(
                    [
                        {"DeleteRequest": {"Key": _key(shard, key)}}
                        for key in keys[start : start + _WRITE_BATCH]
                    ]
                )
        self._write([{"DeleteRequest": {"Key": _key(_names(use_case), bucket.encode())}}])

    def _keys(self, partition: str) -> Iterator[bytes]:
        more: dict[str, Any] = {}
        while True:
            answer = self._asked(
                "read",
                lambda more=more: self._client.query(
                    TableName=self._table,
                    KeyConditionExpression="pk = :pk",
                    ExpressionAttributeValues={":pk": {"S": partition}},
                    ProjectionExpression="sk",
                    ConsistentRead=True,
                    **more,
                ),
            )
            for item in answer["Items"]:
                yield item["sk"]["B"]
            if "LastEvaluatedKey" not in answer:
                return
            more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _write(self, requests: list[Item]) -> None:
        left: Any = requests
        for again in range(_TRIES):
            answer = self._asked(
                "write",
                lambda left=left: self._client.batch_write_item(RequestItems={self._table: left}),
            )
            left = answer["UnprocessedItems"].get(self._table)
            if not left:
                return
            time.sleep(_PAUSE_S * 2**again)
        raise TransientError(f"DynamoDB table {self._table}: it leaves items unwritten: try later")

    def _asked(self, action: str, ask: Callable[[], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        what = f"cannot {action} DynamoDB table {self._table}"
        try:
            return ask()
        except NoCredentialsError as error:
            raise PermanentError(f"{what}: {error}") from error
        except ClientError as error:
            if _code(error) in _REFUSED:
                raise PermanentError(
                    f"{what}: {error}; check that the table is there (keys pk: string, sk: binary) "
                    f"and that this account may {action} it"
                ) from error
            raise TransientError(f"{what}: {error}") from error
        except (BotoCoreError, OSError) as error:
            raise TransientError(f"{what}: {error}") from error


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _key(partition: str, key: bytes) -> dict[str, Any]:
    return {"pk": {"S": partition}, "sk": {"B": key}}


def _pointer(space: str) -> str:
    return f"pointer/{space}"


def _names(use_case: str) -> str:
    return f"buckets/{use_case}"


def _shard(bucket: str, key: bytes) -> str:
    return f"data/{bucket}#{zlib.crc32(key) % SHARDS}"


def _shards(bucket: str) -> list[str]:
    return [f"data/{bucket}#{n}" for n in range(SHARDS)]
