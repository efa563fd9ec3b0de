"""What a stage tries again by itself: what may pass, and neither permanent errors nor bugs."""

import os
import sys

import dagster as dg

from mlops_assets.core.compute import PROFILE_VARIABLE
from mlops_assets.core.errors import InterruptedTrainingError, TransientError

_MOST = 1_000
"""In a step's own pod the executor counts, which knows interruptions from errors."""

_FIRST_DELAY_SECONDS = 1
_LONGEST_DELAY_SECONDS = 60


class StageRetries(dg.RetryPolicy):
    """A retry policy that looks at the failure: Dagster's own retries everything.

    Dagster asks whether there is a policy while it handles the exception; there is one for
    transient errors, and for interruptions in a step's own pod. Anywhere else whoever interrupts
    means it.
    """

    def __new__(cls, error_retries: int) -> "StageRetries":
        """At most ``error_retries`` after transient errors."""
        most = _MOST if PROFILE_VARIABLE in os.environ else error_retries
        return super().__new__(
            cls, max_retries=most, delay=_FIRST_DELAY_SECONDS, backoff=dg.Backoff.EXPONENTIAL
        )

    def __bool__(self) -> bool:
        error = sys.exc_info()[1]
        if error is None:
            return True
        if is_interruption(error):
            return PROFILE_VARIABLE in os.environ
        return isinstance(error, TransientError)

    def calculate_delay(self, attempt_num: int) -> float:
        """Seconds before the next attempt; none after an interruption, which waits for a node."""
        error = sys.exc_info()[1]
        if error is not None and is_interruption(error):
            return 0
        return min(super().calculate_delay(attempt_num), _LONGEST_DELAY_SECONDS)


def is_interruption(error: BaseException) -> bool:
    """Whether the process was told to end, which says nothing about the step."""
    return isinstance(
        error,
        InterruptedTrainingError | KeyboardInterrupt | dg.DagsterExecutionInterruptedError,
    )
