"""Files by path or ``s3://`` URL: what a server follows, reads models from and ships its log to.

botocore and not Arrow's file systems: a third of the memory, and it finds the credentials that a
pod's service account gives. S3 takes its endpoint, region and credentials from the environment.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
ATTEMPTS = 3

GLANCE_S = 1.5
"""For what is asked for every second: when the store comes back, no old question is in the way."""

_NOT_MODIFIED = 304

_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "NoSuchKey", "403", "404"}
"""What S3 says about a request that fails the same way the next time."""


def read_object(url: str, most_bytes: int) -> bytes:
    """The content of ``url``.

    Raises PermanentError where it is larger than ``most_bytes`` or, on S3, is not there or may not
    be read; TransientError when it cannot be read now.
    """
    bucket = _bucket_and_key(url)
    if bucket is None:
        return _read_file(Path(_path(url)), most_bytes)

    def get() -> bytes:
        answer = _s3().get_object(Bucket=bucket[0], Key=bucket[1])
        if answer["ContentLength"] > most_bytes:
            raise PermanentError(f"{url}: larger than {most_bytes} bytes")
        return answer["Body"].read()

    return _asked("read", url, get)


def read_changed(url: str, tag: str, most_bytes: int) -> tuple[bytes, str] | None:
    """The content of ``url`` and its tag; None when that is ``tag``, the tag of what is known.

    For a small file that is looked at all the time. Raises as :func:`read_object`.
    """
    bucket = _bucket_and_key(url)
    if bucket is None:
        path = Path(_path(url))
        found = _stamp(path)
        return None if found == tag else (_read_file(path, most_bytes), found)

    def get() -> tuple[bytes, str] | None:
        from botocore.exceptions import ClientError

        known = {"IfNoneMatch": tag} if tag else {}
        try:
            answer = _s3(glance=True).get_object(Bucket=bucket[0], Key=bucket[1], **known)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == _NOT_MODIFIED:
                return None
            raise
        if answer["ContentLength"] > most_bytes:
            raise PermanentError(f"{url}: larger than {most_bytes} bytes")
        return answer["Body"].read(), answer["ETag"]

    return _asked("read", url, get)


def write_object(url: str, data: bytes) -> None:
    """Make ``data`` the content of ``url``, whole or not at all.

    Raises PermanentError where that is refused, TransientError when it cannot be written now.
    """
    bucket = _bucket_and_key(url)
    if bucket is None:
        _write_file(Path(_path(url)), data)
        return
    _asked("write", url, lambda: _s3().put_object(Bucket=bucket[0], Key=bucket[1], Body=data))


def beside(url: str, *names: str) -> str:
    """The path or URL of ``names``, of which the last is a file, in the folder of ``url``."""
    return "/".join([url.rpartition("/")[0] or ".", *names])


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise TransientError(f"{path}: cannot be read: {error.strerror}") from error
    return f"{status.st_mtime_ns}-{status.st_ino}-{status.st_size}"


def _write_file(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise TransientError(f"{path}: cannot be written: {error.strerror}") from error


def _read_file(path: Path, most_bytes: int) -> bytes:
    try:
        if path.stat().st_size > most_bytes:
            raise PermanentError(f"{path}: larger than {most_bytes} bytes")
        return path.read_bytes()
    except OSError as error:
        raise TransientError(f"{path}: cannot be read: {error.strerror}") from error


def _path(url: str) -> str:
    return unquote(urlsplit(url).path) if url.startswith("file://") else url


def _bucket_and_key(url: str) -> tuple[str, str] | None:
    """Where on S3 ``url`` is; none for a local path."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        return None
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise PermanentError(f"{url} is no path and no s3://bucket/key")
    return bucket, key


@lru_cache(maxsize=2)
def _s3(
    *, glance: bool = False
) -> Any:  # botocore makes its clients' classes as they are asked for
    import botocore.session
    from botocore.config import Config

    config = Config(
        connect_timeout=GLANCE_S if glance else CONNECT_TIMEOUT_S,
        read_timeout=GLANCE_S if glance else READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 1 if glance else ATTEMPTS},
    )
    # botocore itself knows the second name only.
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return botocore.session.get_session().create_client("s3", region_name=region, config=config)


def _asked(action: str, url: str, ask: Any) -> Any:
    """What S3 answers, with its failures as ours."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        return ask()
    except (NoCredentialsError, NoRegionError) as error:
        raise PermanentError(f"cannot {action} {url}: {error}") from error
    except ClientError as error:
        raise _refusal(action, url, error) from error
    except (BotoCoreError, OSError) as error:
        raise TransientError(f"cannot {action} {url}: {error}") from error


def _refusal(action: str, url: str, error: "ClientError") -> PermanentError | TransientError:
    code = error.response.get("Error", {}).get("Code", "")
    message = f"cannot {action} {url}: {error}"
    if code in _REFUSED:
        return PermanentError(
            f"{message}; check that it exists and that the server's account may {action} it"
        )
    return TransientError(message)
