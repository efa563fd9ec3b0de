"""A server without a transport: a request's headers and body in, its answer out."""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serving_support import make_release, write_release

from mlops_assets.core.requests import RequestError
from mlops_assets.core.rollout_state import Release
from mlops_assets.serving.answers import Limits, Server
from mlops_assets.serving.app import Exchange, open_exchange
from mlops_assets.serving.models import Follower
from mlops_assets.serving.prediction_log import PredictionLog
from mlops_assets.serving.protocol import Response

JSON = {"content-type": "application/json"}


@dataclass
class Said:
    """An answer, read."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> dict[str, object]:
        """Its body as JSON."""
        return json.loads(self.body)


def read(response: Response) -> Said:
    """The answer, whose headers have to fit it."""
    headers = {name.decode(): value.decode() for name, value in response.headers}
    assert len(headers) == len(response.headers)
    assert int(headers["content-length"]) == len(response.body)
    assert ("connection" in headers) == response.close
    return Said(response.status, response.body, headers)


def ask(
    server: Server,
    method: str,
    path: str,
    body: object = b"",
    headers: dict[str, str] | None = None,
    parts: list[bytes] | None = None,
) -> Said:
    """One exchange; ``body`` is sent as it is, or as JSON, or in ``parts``."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = JSON if headers is None else headers
    raw = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    opened = open_exchange(server, method, path, raw)
    if isinstance(opened, Exchange):
        try:
            for part in parts or [data]:
                opened.hold(len(part))
            response = opened.answer(b"".join(parts or [data]))
        except RequestError as error:
            response = opened.refuse(error)
        finally:
            opened.close()
    else:
        response = opened
    assert server.admission.in_flight == 0
    assert server.admission.buffered == 0
    return read(response)


@contextlib.contextmanager
def serving(
    folder: Path, release: Release | None = None, limits: Limits | None = None
) -> Iterator[Server]:
    """A server of the tiny model, or of ``release``, that answers."""
    source = folder / "release.json"
    write_release(source, release or make_release(folder))
    follower = Follower(str(source))
    follower.load_first()
    log = PredictionLog(folder / "log", "i1")
    with contextlib.closing(log), ThreadPoolExecutor(1) as pool:
        yield Server(follower, log, limits or Limits(), "i1", "0.1", pool)
