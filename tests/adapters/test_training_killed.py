"""Trainings killed without a word, at random moments, again and again."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest
from cut_training import SPECS, attempt, train_kept

KILLS = 10
"""Of each parameter set: 50 in all."""

LIBRARIES = ["cut_training", "xgboost", "polars", "pyarrow.fs", "mlops_assets.core.inference"]
"""What each attempt would import again."""

_LONGEST_WAIT_SECONDS = 60  # for a round, on a machine that has much else to do


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_training_that_is_killed_ten_times_gives_the_bytes_of_one_that_was_not(
    name: str, tmp_path: Path
) -> None:
    """And no kill costs more than a segment."""
    whole = train_kept(name, None)
    # Processes that begin with the libraries loaded, and without this one's threads.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(LIBRARIES)
    moments = random.Random(name)  # noqa: S311 - no secret
    segment = SPECS[name].segment_rounds
    kills = begun = 0
    while kills < KILLS:
        folder, seen = tmp_path / f"training-{begun}", 0
        begun += 1
        finished = None
        while finished is None:
            ours, theirs = processes.Pipe(duplex=False)
            process = processes.Process(target=attempt, args=(name, folder, theirs))
            process.start()
            theirs.close()
            # None: let it run to its end.
            rounds = moments.randint(0, 2 * segment) if kills < KILLS else None
            number = first = None
            while rounds is None or rounds > 0:
                assert ours.poll(_LONGEST_WAIT_SECONDS)
                number = ours.recv()
                if number is None:
                    finished = ours.recv()
                    break
                first = first or number
                rounds = None if rounds is None else rounds - 1
            if first is not None:
                assert seen - (first - 1) <= segment
            if finished is None:
                # Anywhere in the round after, or in the checkpoint.
                time.sleep(moments.uniform(0, 0.02))
                process.kill()
                kills += 1
                seen = number or seen
            process.join()
            ours.close()
        assert finished[:2] == (whole.data, whole.history)
    assert kills == KILLS
