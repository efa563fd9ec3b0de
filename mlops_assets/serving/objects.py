"""Files by path or ``s3://`` URL: what a server reads its model from and ships its log to.

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


def write_object(url: str, data: bytes) -> None:
    """Make ``data`` the content of the S3 object ``url``, whole or not at all.

    Raises PermanentError where that is refused, TransientError when S3 does not answer.
    """
    bucket = _bucket_and_key(url)
    if bucket is None:
        raise PermanentError(f"{url} is no object of S3: give s3://bucket/key")
    _asked("write", url, lambda: _s3().put_object(Bucket=bucket[0], Key=bucket[1], Body=data))


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


@lru_cache(maxsize=1)
def _s3() -> Any:  # botocore makes its clients' classes when they are asked for
    import botocore.session
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
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
