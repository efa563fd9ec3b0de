"""Small objects that are changed by compare-and-swap, in a folder or on S3.

Of two writers that read the same content, one is refused: in a folder a lock makes the swap one
step, on S3 the store does (``If-Match``).
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlops_assets.adapters.endpoints.locks import lock
from mlops_assets.adapters.storage import local_path, make_folder, read_bytes, write_bytes
from mlops_assets.core.errors import ConflictError, PermanentError, TransientError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 10
ATTEMPTS = 3

LOCK_S = 10.0
"""Seconds for the other writers, each of which holds the lock for some milliseconds."""

_ABSENT = {"NoSuchKey", "404"}
_RACED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409", *_ABSENT}
_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "SignatureDoesNotMatch", "403"}


def get(where: str) -> tuple[bytes, str] | None:
    """The content of ``where`` and the tag that identifies it; None where there is nothing.

    Raises TransientError when it cannot be read now, PermanentError when it may not.
    """
    if local_path(where) is not None:
        data = read_bytes(where)
        return None if data is None else (data, _tag(data))
    bucket, key = _bucket_and_key(where)
    with _s3_errors("read", where, _ABSENT):
        answer = _s3().get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["ETag"]
    return None


def swap(where: str, data: bytes, tag: str) -> None:
    """Make ``data`` the content of ``where``, whole or not at all, if its tag is ``tag`` now; empty
    for what is not there.

    Raises ConflictError when it is not, TransientError and PermanentError as :func:`get`.
    """
    path = local_path(where)
    if path is not None:
        with _alone(path):
            found = get(where)
            if (found[1] if found else "") != tag:
                raise _raced(where)
            write_bytes(where, data)
        return
    bucket, key = _bucket_and_key(where)
    condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
    with _s3_errors("write", where, _RACED):
        _s3().put_object(Bucket=bucket, Key=key, Body=data, **condition)
        return
    raise _raced(where)


def delete(where: str) -> None:
    """Take ``where`` away, if it is there. Raises as :func:`get`."""
    path = local_path(where)
    if path is not None:
        path.unlink(missing_ok=True)
        return
    bucket, key = _bucket_and_key(where)
    with _s3_errors("remove", where, set()):
        _s3().delete_object(Bucket=bucket, Key=key)


def listed(folder: str, suffix: str) -> list[str]:
    """The objects in ``folder`` whose names end with ``suffix``, by name. Raises as :func:`get`."""
    path = local_path(folder)
    if path is not None:
        return sorted(str(f) for f in path.glob(f"*{suffix}") if not f.name.startswith("."))
    bucket, prefix = _bucket_and_key(f"{folder}/")
    keys: list[str] = []
    with _s3_errors("list", folder, set()):
        pages = _s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return [f"s3://{bucket}/{key}" for key in keys if key.endswith(suffix)]


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _raced(where: str) -> ConflictError:
    return ConflictError(f"{where} was changed by somebody else meanwhile: look at it, try again")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One writer at a time; the lock ends with the process that holds it."""
    make_folder(path.parent)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        lock(file, LOCK_S, f"{path} is being changed for more than {LOCK_S:g} s: try again")
        yield


def _bucket_and_key(where: str) -> tuple[str, str]:
    scheme, _, rest = where.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise PermanentError(f"{where} is no path and no s3://bucket/key")
    return bucket, key


def _s3() -> Any:  # botocore makes its clients' classes as they are asked for
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
    return _client(*(os.environ.get(name) for name in names))


@lru_cache(maxsize=4)
def _client(endpoint: str | None, region: str | None, default_region: str | None) -> Any:
    import botocore.session
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    session = botocore.session.get_session()
    return session.create_client(
        "s3", region_name=region or default_region, endpoint_url=endpoint, config=config
    )


@contextlib.contextmanager
def _s3_errors(action: str, where: str, expected: set[str]) -> Iterator[None]:
    """S3's failures as ours; those of the codes ``expected`` end the block, and no more."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in expected:
            return
        message = f"cannot {action} {where}: {error}"
        if code in _REFUSED:
            raise PermanentError(
                f"{message}; check that it exists and that this account may {action} it"
            ) from error
        raise TransientError(message) from error
    except (NoCredentialsError, NoRegionError) as error:
        raise PermanentError(f"cannot {action} {where}: {error}") from error
    except (BotoCoreError, OSError) as error:
        raise TransientError(f"cannot {action} {where}: {error}") from error
