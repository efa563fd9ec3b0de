"""Being told to end while something runs that has to be put away first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What Kubernetes sends when it takes a pod away, and what Ctrl-C and Dagster's UI do."""


@dataclass
class Interruption:
    """Whether this process was told to end, and how it would have reacted."""

    received: signal.Signals | None = None
    previous: dict[int, object] = field(default_factory=dict)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Remembers the signal; a second Ctrl-C is not made to wait."""
        impatient = self.received is not None and number == signal.SIGINT
        self.received = signal.Signals(number)
        before = self.previous.get(number)
        if impatient and callable(before):
            before(number, frame)


@contextmanager
def noticed() -> Iterator[Interruption]:
    """Signals to end are noticed inside and do nothing; afterwards they do what they did before.

    Dagster makes them exceptions, which would come between any two instructions. It also sets
    SIGTERM to what SIGINT does whenever it touches either: both have one handler here. Outside of
    the main thread, which alone gets signals, nothing is noticed.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    found.previous = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, found.handle)
    try:
        yield found
    finally:
        for number, before in found.previous.items():
            # None stands for a handler that was not set from Python: it cannot be set back.
            if before is not None:
                signal.signal(number, before)  # pyright: ignore[reportArgumentType]


def pass_on(found: Interruption) -> None:
    """Does what a noticed SIGINT would have done: whoever listens to Ctrl-C expects its exception.

    Not of SIGTERM: by default it ends the process without a word.
    """
    before = found.previous.get(signal.SIGINT)
    if found.received == signal.SIGINT and callable(before):
        before(signal.SIGINT, None)
