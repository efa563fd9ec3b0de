"""The one place that tells the time, and a replay's clock behind it."""

import ast
import json
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlops_assets
from mlops_assets import clock
from mlops_assets.clock import ReplayClock
from mlops_assets.core.errors import PermanentError

MARCH = datetime(2013, 3, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
A_DAY_A_MILLISECOND = 86_400_000.0


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A replay's clock that this process is sent to; it is not there yet."""
    path = tmp_path / "replay" / "clock.json"
    monkeypatch.setenv(clock.ENV, str(path))
    return path


def test_without_a_replay_it_is_the_machines_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In UTC."""
    monkeypatch.delenv(clock.ENV, raising=False)
    before = datetime.now(UTC)
    assert before <= clock.now() <= datetime.now(UTC)
    assert clock.now().tzinfo is UTC


def test_a_clock_that_is_named_and_not_there_is_an_error(file: Path) -> None:
    """The machine's time would make a whole year known at once."""
    with pytest.raises(PermanentError, match=rf"{file}.*not there.*start the replay"):
        clock.now()


def test_a_standing_clock_shows_where_it_was_set(file: Path) -> None:
    """And moves when it is moved, in any zone."""
    clock.set_to(file, MARCH)
    assert clock.now() == MARCH
    clock.set_to(file, (MARCH + DAY).astimezone(timezone(timedelta(hours=-5))))
    assert clock.now() == MARCH + DAY
    assert clock.now().tzinfo is UTC


def test_a_clock_goes_back_only_when_it_is_started_again(file: Path) -> None:
    """Whoever sets it to an earlier time is told, and nothing changes."""
    clock.set_to(file, MARCH)
    with pytest.raises(PermanentError, match=r"shows 2013-03-01.*does not go back to 2013-02-28"):
        clock.set_to(file, MARCH - DAY)
    clock.sleep_until(file, MARCH - DAY)
    assert clock.now() == MARCH
    clock.restart(file, MARCH - DAY)
    assert clock.now() == MARCH - DAY


def test_a_standing_clock_is_where_somebody_waits_for_it_to_be(file: Path) -> None:
    """At full speed nobody waits."""
    clock.set_to(file, MARCH)
    clock.sleep_until(file, MARCH + DAY)
    assert clock.now() == MARCH + DAY


def test_a_running_clock_stops_at_what_comes_next(file: Path) -> None:
    """It stays where it is until it is said what that is, and never runs ahead of it."""
    clock.set_to(file, MARCH)
    assert clock.set_speed(file, A_DAY_A_MILLISECOND) == MARCH
    assert clock.now() == MARCH
    for day in (1, 2, 5):
        clock.sleep_until(file, MARCH + day * DAY)
        assert clock.now() == MARCH + day * DAY
        assert clock.now() == MARCH + day * DAY
    clock.sleep_until(file, MARCH)
    assert clock.now() == MARCH + 5 * DAY
    assert clock.set_speed(file, 0) == MARCH + 5 * DAY


def test_a_running_clock_takes_its_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less what the replay is late, which is forgotten where it is much."""
    slept: list[float] = []
    monkeypatch.setattr(clock.time, "sleep", slept.append)
    machine = datetime.now(UTC)
    for late, expected in ((0.0, 10.0), (1.5, 8.5), (3600.0, 8.0)):
        since = machine - timedelta(seconds=late)
        clock.write(file, ReplayClock(MARCH, since, 8640.0, until=MARCH))
        clock.sleep_until(file, MARCH + DAY)
        assert slept.pop() == pytest.approx(expected, abs=0.5)
        assert clock.now() == MARCH + DAY


def test_a_machine_that_is_set_back_holds_up_no_replay(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the sleep it is as late as it was slept for, whatever the machine's clock says."""
    monkeypatch.setattr(clock.time, "sleep", lambda _: None)
    clock.write(file, ReplayClock(MARCH, datetime.now(UTC) + DAY, 1.0, until=MARCH))
    clock.sleep_until(file, MARCH + DAY)
    assert clock.now() == MARCH + DAY


@given(st.floats(0, 1e6), st.lists(st.floats(-10, 1e6), min_size=2, max_size=5), st.floats(0, 1e7))
def test_a_clock_follows_the_machine_and_never_passes_its_end(
    speed: float, seconds: list[float], end: float
) -> None:
    """As the machine's time goes on it only goes on, from where it was set."""
    found = ReplayClock(MARCH, MARCH, speed, until=MARCH + timedelta(seconds=end))
    shown = [found.shows(MARCH + timedelta(seconds=second)) for second in sorted(seconds)]
    assert shown == sorted(shown)
    assert shown[0] >= MARCH
    assert shown[-1] <= MARCH + timedelta(seconds=end)


def test_a_clock_that_is_cut_says_which_file_it_is(file: Path) -> None:
    """Anywhere, or with a value that is none."""
    clock.set_to(file, MARCH)
    whole = file.read_text()
    naive = whole.replace("+00:00", "")
    endless = whole.replace('"speed": 0.0', '"speed": Infinity')
    back = whole.replace('"speed": 0.0', '"speed": -1')
    assert len({whole, naive, endless, back}) == 4
    for broken in (*(whole[:cut] for cut in range(len(whole))), "[]", "3", naive, endless, back):
        file.write_text(broken)
        for ask in (clock.now, lambda: clock.sleep_until(file, MARCH)):
            with pytest.raises(PermanentError, match=str(file)):
                ask()
    file.unlink()
    file.mkdir()
    with pytest.raises(PermanentError, match=rf"{file} cannot be read"):
        clock.now()


def test_nothing_is_moved_without_a_clock(tmp_path: Path) -> None:
    """Somebody has to say where it begins."""
    path = tmp_path / "clock.json"
    for use in (
        lambda: clock.shown(path),
        lambda: clock.set_speed(path, 1),
        lambda: clock.sleep_until(path, MARCH),
    ):
        with pytest.raises(PermanentError, match=r"clock\.json"):
            use()


def test_two_writers_leave_one_clock_whole(file: Path) -> None:
    """Who reads meanwhile sees one of the two, and no file of theirs stays behind."""
    clock.restart(file, MARCH)
    stop = threading.Event()

    def write(instant: datetime) -> None:
        while not stop.is_set():
            clock.restart(file, instant)

    writers = [threading.Thread(target=write, args=(MARCH + day * DAY,)) for day in range(3)]
    for writer in writers:
        writer.start()
    seen = {clock.now() for _ in range(500)}
    stop.set()
    for writer in writers:
        writer.join()
    assert seen <= {MARCH, MARCH + DAY, MARCH + 2 * DAY}
    assert list(json.loads(file.read_text())) == ["at", "since", "speed", "until"]
    assert list(file.parent.iterdir()) == [file]


CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "gmtime", "localtime", "ctime"}


def _asks(path: Path) -> list[str]:
    """Where the file asks datetime, date or time for the time of day."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"{path}:{node.lineno}" for name in node.names if name.name in CLOCKS]
        elif isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            of = node.value.attr if isinstance(node.value, ast.Attribute) else node.value
            name = of.id if isinstance(of, ast.Name) else of
            if name in {"datetime", "date", "time"}:
                found.append(f"{path}:{node.lineno}")
    return found


def test_nobody_else_asks_for_the_time(tmp_path: Path) -> None:
    """A replay moves the time of what asks here. Durations come from monotonic clocks."""
    package = Path(mlops_assets.__file__).parent
    own = package / "clock.py"
    assert len(_asks(own)) > 0
    assert [ask for path in package.rglob("*.py") if path != own for ask in _asks(path)] == []
    other = tmp_path / "other.py"
    for code in ("datetime.now()", "datetime.datetime.now(UTC)", "date.today()", "time.time()"):
        other.write_text(f"import datetime, time\nx = {code}\n")
        assert _asks(other) == [f"{other}:2"], code
    other.write_text("from time import time\n")
    assert _asks(other) == [f"{other}:1"]
    other.write_text("import time\ntime.monotonic(); time.sleep(1); clock.now()\n")
    assert _asks(other) == []
