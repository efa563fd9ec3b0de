"""Small requests that came in one turn of the event loop are answered together.

Nobody waits for company: what the loop found readable at once is read, then answered. One call
scores all of it, which for a row costs a quarter of a call of its own (docs/serving.md). Under load
more comes while a turn is answered, and the next turn is larger.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from mlops_assets.serving.answers import score_together
from mlops_assets.serving.app import Exchange
from mlops_assets.serving.protocol import Response

TURN_BYTES = 64 * 1024
"""Of the bodies that are answered at once: 40 requests of one row with 20 features, or 4 of 100
rows. More follow after a look at the sockets, so that answers go out in between."""

Done = Callable[[Response | None], None]
"""Gets the answer, or None where there is none, which is a bug."""


class Turns:
    """What waits to be answered together. For one thread: the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Exchange, bytes, Done]] = deque()

    def add(self, exchange: Exchange, body: bytes, done: Done) -> None:
        """Answer ``body``, and give the answer to ``done``, when all that can be read was."""
        if not self._waiting:
            self._loop.call_soon(self._answer)
        self._waiting.append((exchange, body, done))

    def _answer(self) -> None:
        waiting = self._waiting
        together = [waiting.popleft()]
        size = len(together[0][1])
        while waiting and (size := size + len(waiting[0][1])) <= TURN_BYTES:
            together.append(waiting.popleft())
        if waiting:
            self._loop.call_soon(self._answer)
        responses: list[Response | None] = [None] * len(together)
        try:
            responses[:] = answer_together([(exchange, body) for exchange, body, _ in together])
        finally:  # a bug here must not leave connections waiting for ever
            for (_, _, done), response in zip(together, responses, strict=True):
                done(response)


def answer_together(asked: Sequence[tuple[Exchange, bytes]]) -> list[Response]:
    """The answers to exchanges with their bodies, scored by as few calls as can be. What is wrong
    with one of them is in its answer alone.
    """
    refused = [exchange.read(body) for exchange, body in asked]
    prepared = [exchange.prepared for exchange, _ in asked]
    scored = iter(score_together([each for each in prepared if each is not None]))
    return [
        response or exchange.conclude(next(scored))
        for response, (exchange, _) in zip(refused, asked, strict=True)
    ]
