"""The detection benchmark: its stories, and what it makes of rounds of ticks."""

from bench import detection
from bench._detection_run import MOST_ROUNDS, REFUSED, STORIES, TICK, Detected, Round, waited
from mlops_assets.lifecycle.arrivals import sensor as new_data

FOUND = detection.Detected(
    case="drifted days",
    event="alert",
    days=2,
    rounds=3,
    seconds=4.5,
    runs=4,
    idle=0,
    what="drift: version 1",
)


class Rounds:
    """A use case in place of a live one: rounds that take a second, without runs."""

    def __init__(self) -> None:
        self.number = 0

    def round(self) -> Round:
        """The next one."""
        self.number += 1
        return Round(ran=(), seconds=1.0)


def test_what_it_means_in_production_is_bounded_by_the_interval() -> None:
    """The arrival and each run wait for a tick, at most for the whole interval."""
    assert detection.in_production(FOUND) == "4 to 154 s"
    assert detection.in_production(FOUND._replace(runs=0)) == "4 to 34 s"


def test_rounds_of_waiting_are_waited_for_in_production_too() -> None:
    """As while a source rests."""
    assert detection.in_production(FOUND._replace(runs=1, idle=8)) == "244 to 304 s"


def test_a_row_says_on_which_day_of_the_fault() -> None:
    """Where one day was enough there is nothing to say."""
    rounds, seconds = detection.rows([FOUND])
    assert (rounds.ours, seconds.ours) == (3, 4.5)
    assert rounds.note == "on day 2 of the fault; drift: version 1"
    assert detection.rows([FOUND._replace(days=1)])[0].note == "drift: version 1"


def test_each_thing_is_counted_until_it_happens_andwaited_for_no_longer() -> None:
    """What does not happen is still waited for afterwards: a later day may bring it."""
    live = Rounds()
    waits = {
        "alert": lambda _: "told" if live.number >= 2 else "",
        "training": lambda _: "trains" if live.number >= 4 else "",
        "never": lambda _: "",
    }
    found = list(waited(live, "a fault", 1, waits))
    assert [(one.event, one.rounds, one.seconds, one.idle) for one in found] == [
        ("alert", 2, 2.0, 1),
        ("training", 4, 4.0, 3),
    ]
    assert list(waits) == ["never"]
    assert live.number == MOST_ROUNDS


def test_a_correction_can_be_found_within_the_rounds_that_arewaited_for() -> None:
    """Sources rest for minutes, and a tick stands for the sensor's interval."""
    assert MOST_ROUNDS * TICK > new_data.LOOK_AGAIN
    assert TICK.total_seconds() == new_data.INTERVAL_SECONDS == detection.INTERVAL_SECONDS


def test_each_story_waits_for_something_in_each_fault() -> None:
    """And the quick one for an alert and for a training."""
    faults = [fault for story in STORIES.values() for fault in story.faults]
    assert all(fault.alert for fault in faults)
    quick = STORIES["quick"].faults
    assert REFUSED in quick and any(fault.training for fault in quick)


def test_both_processes_mean_the_same_by_what_was_detected() -> None:
    """What one prints is what the other reads."""
    assert set(Detected.__dataclass_fields__) == set(detection.Detected._fields)
