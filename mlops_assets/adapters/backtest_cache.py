"""What a backtest has computed, by the digest of all that it depends on.

An entry begins with a line that names the format, the entry's own key and the digest of what
follows. A file that was cut, copied from elsewhere or written by another release is therefore told
from a sound one and counts as absent: its content is computed again and the file replaced.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

_FORMAT = "mlops-backtest-1"


def key_of(kind: str, depends_on: Mapping[str, object]) -> str:
    """The key of the entry of ``kind`` (a word) that depends on these JSON values, and the format.

    Other values, another key: an entry is never out of date.
    """
    text = json.dumps([_FORMAT, kind, depends_on], sort_keys=True, allow_nan=False)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True)
class Cache:
    """The entries below ``url`` (a path or ``s3://`` URL), one object each."""

    url: str

    def get(self, key: str) -> bytes | None:
        """The content of the entry ``key``; None when it is absent or not what was put.

        Raises PermanentError where it may not be read, TransientError when S3 does not answer.
        """
        from mlops_assets.adapters.storage import read_bytes

        data = read_bytes(self._place(key))
        if data is None:
            return None
        head, _, body = data.partition(b"\n")
        if head.decode(errors="replace").split(" ") != [_FORMAT, key, _digest(body)]:
            return None
        return zlib.decompress(body)

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` as the entry ``key``, all of it or nothing.

        Raises PermanentError where it may not be written, TransientError when S3 does not answer.
        """
        from mlops_assets.adapters.storage import write_bytes

        body = zlib.compress(content, 1)
        head = f"{_FORMAT} {key} {_digest(body)}\n".encode()
        write_bytes(self._place(key), head + body)

    def _place(self, key: str) -> str:
        from mlops_assets.adapters.storage import join

        return join(self.url, key)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
