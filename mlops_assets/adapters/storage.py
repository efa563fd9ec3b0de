"""Small objects in a folder or an S3 bucket, by path or URL.

A location is a local path, a ``file://`` URL or ``s3://bucket/prefix``. S3 takes its endpoint,
region and credentials from the environment (``AWS_ENDPOINT_URL``, ``AWS_REGION``,
``AWS_ACCESS_KEY_ID``, …).
"""

import os
import uuid
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    import pyarrow.fs

CONNECT_TIMEOUT_SECONDS = 10
REQUEST_TIMEOUT_SECONDS = 60
"""Until a request to S3 counts as lost; a larger transfer is many requests."""

# What S3 says about a request that fails the same way the next time.
_REFUSALS = (
    "ACCESS_DENIED",
    "AccessDenied",
    "NoSuchBucket",
    "NO_SUCH_BUCKET",
    "InvalidAccessKeyId",
    "INVALID_ACCESS_KEY_ID",
    "SignatureDoesNotMatch",
    "Permission denied",
    "Not a directory",
    "is a directory",
    "Is a directory",
    "Read-only file system",
    "No space left",
)


_REFUSED = (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)


def join(url: str, *parts: str) -> str:
    """``url`` with ``parts`` below it."""
    return "/".join([url.rstrip("/"), *(part.strip("/") for part in parts)])


def local_path(url: str) -> Path | None:
    """The path of a location on the local disk, or None for one elsewhere."""
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path))
    return None if "://" in url else Path(url)


def filesystem(url: str) -> "tuple[pyarrow.fs.FileSystem, str]":
    """The Arrow filesystem that holds ``url``, and the path of ``url`` in it.

    Raises PermanentError for a scheme other than ``file`` and ``s3``.
    """
    import pyarrow.fs

    path = local_path(url)
    if path is not None:
        return pyarrow.fs.LocalFileSystem(), str(path.absolute())
    scheme, _, rest = url.partition("://")
    if scheme != "s3":
        raise PermanentError(f"{url}: {scheme}:// is not supported; use a path or s3://bucket/…")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return _s3(os.environ.get("AWS_ENDPOINT_URL"), region), rest


@lru_cache(maxsize=4)
def _s3(endpoint: str | None, region: str | None) -> "pyarrow.fs.S3FileSystem":
    import pyarrow.fs

    parts = urlsplit(endpoint or "")
    return pyarrow.fs.S3FileSystem(
        endpoint_override=parts.netloc or None,
        scheme=parts.scheme or "https",
        region=region,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        request_timeout=REQUEST_TIMEOUT_SECONDS,
    )


def failure(
    error: Exception, action: str, url: str, words: str | None = None
) -> PermanentError | TransientError:
    """What a failed ``action`` (e.g. ``"write"``) on ``url`` means: give up, or try again.

    ``words`` stand for the error's own text where that may hold a secret.
    """
    message = f"cannot {action} {url}: {words or error}"
    if isinstance(error, _REFUSED) or any(word in str(error) for word in _REFUSALS):
        return PermanentError(
            f"{message}; check that it exists and that this process may {action} there"
        )
    return TransientError(message)


def make_folder(path: Path) -> None:
    """Creates ``path`` and what is above it. Raises PermanentError where that cannot be, and for a
    folder that this process may not write to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentError(
            f"cannot create the folder {path}: {error.strerror}; remove what is in the way, allow "
            "this process to write there, or choose another place"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermanentError(
            f"the folder {path} is not writable for this process; allow it, or choose another place"
        )


def write_bytes(url: str, data: bytes) -> None:
    """Makes ``data`` the content of ``url``: all of it or, after a crash, what was there before.

    Raises PermanentError where nothing may be written, TransientError when S3 does not answer.
    """
    path = local_path(url)
    if path is None:
        files, key = filesystem(url)
        try:
            # S3 shows an object only once its upload is complete.
            with files.open_output_stream(key) as stream:
                stream.write(data)
        except OSError as error:
            raise failure(error, "write", url) from error
        return
    make_folder(path.parent)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PermanentError(
            f"cannot write {path}: {error.strerror}; free space or remove what is in the way"
        ) from error
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Makes a rename in ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(url: str) -> bytes | None:
    """The content of ``url``, or None when there is nothing.

    Raises PermanentError where it may not be read, TransientError when S3 does not answer.
    """
    path = local_path(url)
    try:
        if path is not None:
            return path.read_bytes()
        files, key = filesystem(url)
        with files.open_input_file(key) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        if path is None:
            raise failure(error, "read", url) from error
        raise PermanentError(
            f"cannot read {path}: {error.strerror}; it has to be a file that this process may read"
        ) from error
