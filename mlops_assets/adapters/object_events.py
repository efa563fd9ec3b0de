"""New objects in S3, as EventBridge announces them in an SQS queue.

A queue hands a message to one reader, and each use case has a sensor. So one reader writes down,
for each folder above a new object, that something came; whoever reads from there sees that its
document has changed. A message that comes twice costs one look more at the source, at most.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mlops_assets.core.errors import PermanentError, TransientError

MOST = 200
"""Messages that are read at once; the others wait in the queue."""

TIMEOUT_S = 5

FOLDER = "new-objects"
"""Below the documents, whose folders are named by use cases: none has a hyphen."""

_DEPTH = 3
"""Folders below the bucket that have a document of their own."""

_BATCH = 10  # SQS reads and deletes no more at once.
_REFUSED = {
    *("AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "403"),
    *("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
}


@dataclass(frozen=True)
class NewObject:
    """An object that came into ``bucket``; ``receipt`` is the message's."""

    bucket: str
    key: str
    event: str
    receipt: str


def received(queue: str, most: int = MOST) -> tuple[list[NewObject], list[str]]:
    """The objects that waiting messages of ``queue`` (a URL) are about, and what is wrong with
    messages that are about none.

    Those stay where they are: SQS moves them to the dead-letter queue after some receptions. Raises
    PermanentError where the queue may not be read, TransientError when it does not answer.
    """
    found: list[NewObject] = []
    wrong: list[str] = []
    client = _client(queue)
    for _ in range(0, most, _BATCH):
        with _errors(queue):
            # With a wait SQS asks all of its servers; without, some, and may find nothing there.
            answer = client.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=1
            )
        messages = answer.get("Messages", ())
        for message in messages:
            try:
                event = json.loads(message["Body"])
                detail = event["detail"]
                bucket, key = str(detail["bucket"]["name"]), str(detail["object"]["key"])
                receipt = message["ReceiptHandle"]
                found.append(NewObject(bucket, key, str(event["id"]), receipt))
            except (ValueError, KeyError, TypeError) as error:
                name = message.get("MessageId")
                wrong.append(f"message {name} is about no object: {type(error).__name__} {error}")
        if len(messages) < _BATCH:
            break
    return found, wrong


def delete(queue: str, objects: Sequence[NewObject]) -> None:
    """Take the messages about ``objects`` out of the queue. Raises as :func:`received`."""
    client = _client(queue)
    for start in range(0, len(objects), _BATCH):
        entries = [
            {"Id": str(n), "ReceiptHandle": each.receipt}
            for n, each in enumerate(objects[start : start + _BATCH])
        ]
        with _errors(queue):
            client.delete_message_batch(QueueUrl=queue, Entries=entries)


def announce(documents_url: str, objects: Sequence[NewObject]) -> None:
    """Write down, for each folder above one of ``objects``, which came last."""
    from mlops_assets.adapters.storage import write_bytes

    last: dict[str, NewObject] = {}
    for each in objects:
        parts = each.key.split("/")[:_DEPTH]
        for depth in range(len(parts)):
            last[_place(documents_url, each.bucket, parts[: depth + 1])] = each
    for where, each in last.items():
        content = {"object": f"s3://{each.bucket}/{each.key}", "event": each.event}
        write_bytes(where, json.dumps(content).encode())


def announced(documents_url: str, location: str) -> bytes:
    """Other bytes each time after something came below ``location``; none where nothing did, and
    for a location that is not in S3.
    """
    from mlops_assets.adapters.storage import read_bytes

    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.strip("/").partition("/")
    if scheme != "s3" or not key:
        return b""
    return read_bytes(_place(documents_url, bucket, key.split("/")[:_DEPTH])) or b""


def _place(documents_url: str, bucket: str, parts: Sequence[str]) -> str:
    from mlops_assets.adapters.storage import join

    return join(documents_url, FOLDER, bucket, *(quote(part, safe="") for part in parts)) + ".json"


def _client(queue: str) -> Any:  # botocore makes its clients' classes as they are asked for
    import botocore.session
    from botocore.config import Config

    config = Config(
        connect_timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not queue.startswith(("https://", "http://")):
        raise PermanentError(f"{queue!r} is no queue's URL: correct MLOPS_EVENTS_QUEUE")
    return botocore.session.get_session().create_client("sqs", region_name=region, config=config)


@contextmanager
def _errors(queue: str) -> Iterator[None]:
    """SQS's failures as ours."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    message = f"queue {queue}: "
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _REFUSED:
            raise PermanentError(
                f"{message}{error}; check MLOPS_EVENTS_QUEUE, and that this account may receive "
                "and delete there"
            ) from error
        raise TransientError(f"{message}{error}") from error
    except (NoCredentialsError, NoRegionError) as error:
        raise PermanentError(f"{message}{error}") from error
    except (BotoCoreError, OSError) as error:
        raise TransientError(f"{message}{error}") from error
