"""One connection of HTTP/1.1: its requests are read within limits and answered in their order."""

# ruff: noqa: D102 - what asyncio and the parser call is explained by them

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from mlops_assets.core.requests import RequestError
from mlops_assets.serving.app import Exchange, open_exchange
from mlops_assets.serving.protocol import JSON, Response
from mlops_assets.serving.wire import CONTINUE, Question, answer_bytes, path_of

if TYPE_CHECKING:
    from mlops_assets.serving.transport import Transport

DROP_S = 1.0
"""Seconds for which the rest of a refused body is read and dropped: a client that is still sending
when the connection closes would see a reset instead of the reason."""

FLUSH_S = 10.0
"""Seconds for a client to read on, when its answers wait to be read."""

FIRST_S = 1.0
"""Seconds for the first request of a connection that was taken just before the server ends."""


class Connection(asyncio.Protocol):
    """One connection, whose requests are answered in their order."""

    __slots__ = (
        "_closing",
        "_dropping",
        "_fresh",
        "_head_bytes",
        "_lost",
        "_parser",
        "_question",
        "_reading",
        "_shared",
        "_socket",
        "_stalled",
        "_waiting",
        "_working",
        "deadline",
    )

    def __init__(self, shared: "Transport") -> None:
        self._shared = shared
        self._parser = httptools.HttpRequestParser(self)
        self._socket = cast("asyncio.Transport", None)
        self._question: Question | None = None
        """The request that is being read."""
        self._waiting: deque[Question] = deque()
        self._working: Question | None = None
        """The request that is being answered."""
        self._head_bytes = 0
        self._closing = False
        self._dropping = False
        self._fresh = True
        """Whether no request has begun."""
        self._stalled = False
        self._reading = True
        self._lost = False
        self.deadline = 0.0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        shared = self._shared
        shared.open.add(self)
        self.deadline = shared.loop.time() + shared.patience.header_s
        if len(shared.open) > shared.patience.max_connections:
            self._refuse(503, "too many connections: try again in a moment")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._shared.open.discard(self)
        for question in (self._question, *self._waiting):
            if question is not None:
                self._drop(question)
        self._waiting.clear()
        self._question = None

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._question is not None and not self._question.headed:
            self._head_bytes += len(data)  # without what came with the bytes of another request
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._close()  # it has been answered as if it had not asked for another protocol
        except httptools.HttpParserError:
            if not self._closing:
                self._refuse(400, "this is no HTTP/1.1 request")
            return
        question = self._question
        if question is not None and not question.headed and question.is_too_large(self._head_bytes):
            self._refuse(431, "the request's headers are too large")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._stalled = True
        self.deadline = self._shared.loop.time() + FLUSH_S
        self._read_on()

    def resume_writing(self) -> None:
        self._stalled = False
        self.deadline = self._shared.loop.time() + self._shared.patience.idle_s
        self._answer_waiting()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._question = Question()
        self._fresh = False
        self._head_bytes = 0
        if not self._is_busy():
            self.deadline = self._shared.loop.time() + self._shared.patience.header_s

    def on_url(self, url: bytes) -> None:
        question = self._question
        if question is not None:
            question.url += url
            question.size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        question = self._question
        if question is None:
            return
        name = name.lower()
        if name == b"expect":
            question.expects = value.lower() == b"100-continue"
        question.headers.append((name, value.strip()))
        question.size += len(name) + len(value)

    def on_headers_complete(self) -> None:
        question, parser = self._question, self._parser
        if question is None or self._closing:
            return
        if question.is_too_large():  # not by bytes: of the last ones most may be what follows
            self._refuse(431, "the request's headers are too large")
            return
        question.method = parser.get_method().decode("latin-1")
        question.keep = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        question.headed = True
        if not self._is_busy():
            self._begin(question, complete=False)

    def on_body(self, body: bytes) -> None:
        question = self._question
        if question is None or isinstance(question.opened, Response):
            return
        if question.opened is not None:
            try:
                question.opened.hold(len(body))
            except RequestError as error:
                self._refuse_body(question, error)
                return
        question.chunks.append(body)

    def on_message_complete(self) -> None:
        question, self._question = self._question, None
        if question is None or not question.headed or self._closing:
            if question is not None:
                self._drop(question)
        elif question.opened is None or self._is_busy():
            self._waiting.append(question)
            self._answer_waiting()
        else:
            self._answer(question)

    # Answers.

    def _is_busy(self) -> bool:
        """Whether the next request has to wait: for those before it, or for the client to read."""
        return self._working is not None or self._stalled or bool(self._waiting)

    def _begin(self, question: Question, *, complete: bool) -> bool:
        """Ask what becomes of ``question``, whose turn it is; only then, so that of requests that
        wait nothing is kept but what was read. Returns False where it has been answered already.
        """
        path = path_of(question.url)
        opened = open_exchange(self._shared.server, question.method, path, question.headers)
        question.opened = opened
        if isinstance(opened, Exchange):
            self.deadline = self._shared.loop.time() + self._shared.body_s
            if question.chunks:
                try:
                    opened.hold(sum(map(len, question.chunks)))
                except RequestError as error:
                    self._refuse_body(question, error)
                    return False
            elif question.expects and not complete:
                self._socket.write(CONTINUE)
        elif not complete and (opened.unread or question.expects):
            # Whether its body comes is the client's choice: the connection ends here.
            question.keep = False
            self._question = None
            self._answer(question)
            return False
        return True

    def _answer_waiting(self) -> None:
        """Answer what waits for its turn, as far as the client reads."""
        waiting = self._waiting
        while waiting and self._working is None and not (self._stalled or self._closing):
            question = waiting.popleft()
            if question.opened is not None or self._begin(question, complete=True):
                self._answer(question)
        question = self._question
        late = question is not None and question.headed and question.opened is None
        if question is not None and late and not (self._is_busy() or self._closing):
            self._begin(question, complete=False)
        self._read_on()

    def _answer(self, question: Question) -> None:
        opened = question.opened
        if isinstance(opened, Response):
            self._write(question, opened)
            return
        if not isinstance(opened, Exchange):
            return
        chunks = question.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        shared = self._shared
        self._working = question
        self.deadline = float("inf")
        if opened.inline():
            shared.turns.add(opened, body, self._answered)
            return
        self._read_on()
        work = shared.loop.run_in_executor(shared.server.pool, opened.answer, body)
        work.add_done_callback(self._worked)

    def _worked(self, work: "asyncio.Future[Response]") -> None:
        self._answered(None if work.cancelled() or work.exception() is not None else work.result())

    def _answered(self, response: Response | None) -> None:
        """Send the answer to the request that was worked on; None: there is none."""
        question, self._working = self._working, None
        if question is None:
            return
        self._drop(question)
        if self._lost or response is None:
            self._socket.abort()
            return
        self._write(question, response)
        self._answer_waiting()

    def _write(self, question: Question, response: Response) -> None:
        shared = self._shared
        close = response.close or not question.keep
        body = question.method != "HEAD"
        self._socket.write(answer_bytes(response, shared.date, body=body, close=close))
        if response.unread:
            self._closing = self._dropping = True
            self.deadline = shared.loop.time() + DROP_S
        elif close or self._closing:
            self._close()
        elif not self._stalled:
            self.deadline = shared.loop.time() + shared.patience.idle_s

    def _refuse_body(self, question: Question, error: RequestError) -> None:
        """Answer a body that does not come as it should, and close."""
        exchange = question.opened
        if isinstance(exchange, Exchange):
            question.opened = exchange.refuse(error)
            exchange.close()
        question.keep = False
        if self._question is question:
            self._question = None
        self._answer(question)

    def _refuse(self, status: int, message: str) -> None:
        """Answer what is no request, and close."""
        self._shared.server.metrics.refused(status)
        if self._question is not None:
            self._drop(self._question)
            self._question = None
        if self._waiting or self._working is not None:
            self._closing = True  # the requests before it are answered
            return
        body = b'{"error":"%s"}' % message.encode()
        headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(body))]
        response = Response(status, body, headers)
        self._socket.write(answer_bytes(response, self._shared.date, body=True, close=True))
        self._close()

    # The connection's end.

    def expire(self) -> None:
        """What becomes of a connection whose time is up."""
        question = self._question
        if self._dropping:
            self._dropping = False
            self._close()
        elif self._closing or self._stalled or self._lost:
            self.abort()
        elif question is not None and question.opened is not None:
            seconds = self._shared.body_s
            error = RequestError(408, f"the body did not arrive within {seconds:g} s")
            self._refuse_body(question, error)
        else:
            self._close()

    def close_when_idle(self) -> None:
        """Close now, or after the answers that are due; a new one after its first request."""
        if self._fresh:
            self.deadline = self._shared.loop.time() + FIRST_S
        elif self._question is None and self._working is None and not self._waiting:
            self._close()

    def abort(self) -> None:
        """Close at once."""
        self._socket.abort()

    def _close(self) -> None:
        self._closing = True
        self.deadline = self._shared.loop.time() + FLUSH_S
        if self._working is None:
            self._socket.close()

    def _drop(self, question: Question) -> None:
        if isinstance(question.opened, Exchange):
            question.opened.close()
            question.opened = None

    def _read_on(self) -> None:
        """Read while nothing that was read waits, and the client reads its answers."""
        wanted = not (self._stalled or self._working is not None or self._waiting)
        if wanted == self._reading or self._lost or self._closing:
            return
        self._reading = wanted
        if wanted and self._question is not None and not self._question.headed:
            self.deadline = self._shared.loop.time() + self._shared.patience.header_s
        with contextlib.suppress(RuntimeError):  # it is closing
            if wanted:
                self._socket.resume_reading()
            else:
                self._socket.pause_reading()
