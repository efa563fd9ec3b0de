"""Bearer tokens: who may ask, by a file that may change while the server runs."""

import hashlib
import hmac
import logging
import time
from pathlib import Path

from mlops_assets.core.errors import PermanentError

logger = logging.getLogger("mlops_assets.serving")

LOOK_S = 1.0
"""Seconds between looks at the file: a token that is taken out is refused a second later."""

MIN_CHARACTERS = 16
"""A shorter token could be guessed."""

MAX_FILE_BYTES = 1024 * 1024

_SCHEME = b"bearer "


class Tokens:
    """The tokens of a file, one a line; empty lines and those that begin with ``#`` are none.

    Kept as digests, so that a comparison takes the same time whatever a guess has in common with a
    token. A file that is empty refuses everybody; one that cannot be read, or holds what is no
    token, changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._digests = _read(path)
        self._look_at = time.monotonic() + LOOK_S
        self._error: str | None = None

    def allows(self, authorization: bytes | None) -> bool:
        """Whether the value of an ``Authorization`` header names one of the tokens."""
        if time.monotonic() >= self._look_at:
            self._refresh()
        if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        given = hashlib.sha256(authorization[len(_SCHEME) :].strip()).digest()
        # All are compared, so that the time does not tell which one it was.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches)

    def _refresh(self) -> None:
        self._look_at = time.monotonic() + LOOK_S
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._digests = _read(self._path)
        except PermanentError as error:
            if str(error) != self._error:
                logger.error("the tokens stay as they were: %s", error)
            self._error = str(error)
        else:
            self._stamp, self._error = stamp, None
            logger.info("%d tokens are valid now", len(self._digests))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> tuple[bytes, ...]:
    """The digest of each token. Raises PermanentError; no token is in its message."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PermanentError(f"the token file {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise PermanentError(f"the token file {path} is larger than {MAX_FILE_BYTES} bytes")
    digests: list[bytes] = []
    for number, line in enumerate(data.splitlines(), start=1):
        token = line.strip()
        if not token or token.startswith(b"#"):
            continue
        if len(token) < MIN_CHARACTERS or not all(33 <= byte <= 126 for byte in token):
            raise PermanentError(
                f"line {number} of the token file {path} is no token: give at least "
                f"{MIN_CHARACTERS} visible ASCII characters without a space"
            )
        digests.append(hashlib.sha256(token).digest())
    return tuple(digests)
