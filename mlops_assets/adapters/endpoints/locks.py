"""One process at a time, of this machine."""

import fcntl
import time
from typing import IO

from mlops_assets.core.errors import TransientError

_POLL_S = 0.01


def lock(file: IO[str], timeout_s: float, busy: str) -> None:
    """Hold the open ``file`` until it is closed, or the process ends.

    Raises TransientError that says ``busy`` when somebody else holds it for ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TransientError(busy) from None
            time.sleep(_POLL_S)
        else:
            return
