"""What a stage tries again by itself, and what not."""

from collections.abc import Callable

import dagster as dg
import pytest

from mlops_assets.core.compute import PROFILE_VARIABLE
from mlops_assets.core.errors import InterruptedTrainingError, PermanentError, TransientError
from mlops_assets.lifecycle.retries import StageRetries


def executions(error: BaseException, times: int) -> tuple[int, bool]:
    """How often a step runs that raises ``error`` the first ``times`` times; whether it is done."""
    ran: list[int] = []

    @dg.op(retry_policy=_Impatient(2))
    def _step() -> None:
        ran.append(len(ran))
        if len(ran) <= times:
            raise error

    @dg.job
    def _job() -> None:
        _step()

    done = _job.execute_in_process(
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    return len(ran), done.success


class _Impatient(StageRetries):
    def calculate_delay(self, attempt_num: int) -> float:
        return min(super().calculate_delay(attempt_num), 0.001)


@pytest.mark.parametrize(
    ("error", "times", "expected"),
    [
        (TransientError("the database was busy"), 2, (3, True)),
        (TransientError("the database was busy"), 3, (3, False)),
        (PermanentError("the label is not there"), 1, (1, False)),
        (ZeroDivisionError("a bug"), 1, (1, False)),
        # Whoever ends a local run means it.
        (InterruptedTrainingError("told to end"), 1, (1, False)),
    ],
)
def test_transient_errors_are_tried_again_within_their_budget_and_nothing_else_is(
    error: BaseException, times: int, expected: tuple[int, bool]
) -> None:
    """In one process, as on a laptop."""
    assert executions(error, times) == expected


def test_in_a_pod_of_its_own_an_interrupted_training_is_up_for_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the executor counts."""
    monkeypatch.setenv(PROFILE_VARIABLE, "gpu_spot")
    assert executions(InterruptedTrainingError("told to end"), 1) == (2, True)


@pytest.mark.parametrize("make", [InterruptedTrainingError, dg.DagsterExecutionInterruptedError])
def test_an_interrupted_step_waits_for_nothing_but_a_node(
    make: Callable[[str], BaseException],
) -> None:
    """An error waits, longer each time, up to a minute."""
    policy = StageRetries(3)
    assert [policy.calculate_delay(n) for n in (1, 2, 3, 9)] == [1, 3, 7, 60]
    try:
        raise make("told to end")
    except (InterruptedTrainingError, dg.DagsterExecutionInterruptedError):
        assert policy.calculate_delay(3) == 0
