"""The floor: ``python -m bench._serving_floor FOLDER PORT``, see bench._serving_servers.floor."""

import asyncio
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from mlops_assets.serving.predictor import load_predictor

_ANSWER = json.dumps({"outputs": [{"name": "late", "datatype": "FP32", "data": [0.25]}]}).encode()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_ANSWER)).encode()),
]


def main(folder: Path, port: int) -> None:
    """Serve until SIGTERM."""
    model = folder / "model.ubj"
    predictor = load_predictor(str(model), hashlib.sha256(model.read_bytes()).hexdigest())
    if predictor.engine != "tables":
        raise RuntimeError(f"the benchmark's model has no tables of bits: {predictor.reason}")
    random = np.random.default_rng(0)
    columns = len(predictor.model.signature.inputs)
    rows = {n: random.uniform(0, 3, (n, columns)).astype(np.float32) for n in (1, 100)}

    async def app(
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        size = 0
        more = True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        predictor.predict(rows[1 if size < 5000 else 100])
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _ANSWER})

    config = uvicorn.Config(
        app,
        port=port,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    # As in the platform's server: without it XGBoost does not import scikit-learn.
    sys.modules["sklearn"] = None  # pyright: ignore[reportArgumentType]
    main(Path(sys.argv[1]), int(sys.argv[2]))
