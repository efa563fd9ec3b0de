"""The prediction log's segments of an hour, and what their names alone tell."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets import clock
from mlops_assets.adapters.prediction_logs import log_versions, read_predictions
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.prediction_log import (
    PredictionRecord,
    decode_line,
    encode_line,
    segment_hour,
    segment_name,
)
from mlops_assets.core.windows import Window
from mlops_assets.serving.prediction_log import PredictionLog

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
NEW_YORK = Window(date(2013, 3, 9), date(2013, 3, 12), "America/New_York")


def answered(time: datetime, request: str = "r") -> PredictionRecord:
    """What was answered at ``time``."""
    return PredictionRecord(
        time=time,
        request=request,
        use_case="flights",
        version=1,
        sha256="0" * 64,
        categories={},
        floats={"hour": [1.5]},
        scores=[0.5],
    )


def write(folder: Path, times: Sequence[datetime], instance: str = "a") -> None:
    """The log of answers at ``times``, numbered."""
    log = PredictionLog(folder, instance)
    for number, time in enumerate(times):
        log.write(answered(time, str(number)))
    log.close()


@given(
    st.floats(0, 1e11).map(lambda second: datetime.fromtimestamp(second, UTC)),
    st.text("abc-.", min_size=1),
    st.integers(0, 9),
)
def test_a_segments_name_tells_its_hour(time: datetime, instance: str, number: int) -> None:
    """Whoever wrote it, and however many there are of that hour."""
    hour = segment_hour(segment_name(time, instance, number))
    assert hour <= time < hour + timedelta(hours=1)


@pytest.mark.parametrize("name", ["notes.jsonl", "20131301T05-a.jsonl", "20130301T05-a.json"])
def test_a_file_of_another_name_is_refused(name: str) -> None:
    """Its hours are not known: passing it over could pass over answers."""
    with pytest.raises(PermanentError, match=rf"{name} is no segment.*move it"):
        segment_hour(name)


def test_a_reader_names_the_strangers_folder(tmp_path: Path) -> None:
    """And does not read on as if nothing was missing."""
    (tmp_path / "copy.jsonl").write_bytes(encode_line(answered(clock.now())))
    for read in (read_predictions, lambda folder: log_versions(folder, NEW_YORK)):
        with pytest.raises(PermanentError, match=rf"{tmp_path}.*copy.jsonl"):
            read(tmp_path)


def test_an_hour_has_its_own_segment(tmp_path: Path) -> None:
    """The record's time decides, though the clock goes back to an hour before."""
    five = datetime(2013, 3, 10, 5, 59, 59, 999_999, tzinfo=UTC)
    six = five + timedelta(microseconds=1)
    write(tmp_path, [five, six, five])
    assert {path.name: len(path.read_bytes().splitlines()) for path in tmp_path.iterdir()} == {
        "20130310T05-a.jsonl": 2,
        "20130310T06-a.jsonl": 1,
    }
    assert read_predictions(tmp_path).table["request_id"].to_pylist() == ["0", "2", "1"]


def test_only_the_hours_of_the_window_are_opened(tmp_path: Path) -> None:
    """Whatever the files' own times: a segment that cannot be read is in nobody's way."""
    start = datetime(2013, 3, 10, tzinfo=UTC)
    write(tmp_path, [start + timedelta(hours=n) for n in range(6)])
    for hour in (1, 4):
        path = tmp_path / f"20130310T0{hour}-a.jsonl"
        path.unlink()
        path.mkdir()
    found = read_predictions(tmp_path, start + timedelta(hours=2), start + timedelta(hours=4))
    assert found.table["request_id"].to_pylist() == ["2", "3"]
    late = read_predictions(tmp_path, since=start + timedelta(hours=5))
    assert late.table["request_id"].to_pylist() == ["5"]
    early = read_predictions(tmp_path, until=start + timedelta(minutes=1))
    assert early.table["request_id"].to_pylist() == ["0"]


def test_a_torn_end_spoils_nothing_that_a_writer_adds(tmp_path: Path) -> None:
    """A server that goes on in a cut segment begins on a line of its own."""
    time = datetime(2013, 3, 10, 5, tzinfo=UTC)
    write(tmp_path, [time, time])
    (segment,) = tmp_path.iterdir()
    segment.write_bytes(segment.read_bytes()[:-10])
    write(tmp_path, [time])
    found = read_predictions(tmp_path)
    assert (found.table.num_rows, found.torn_lines) == (2, 1)


def test_a_day_changes_when_its_answers_grow(tmp_path: Path) -> None:
    """And no other day does; days without answers are not there."""
    local = NEW_YORK.start_time  # 9 March, 00:00 in New York; the 10th has 23 hours
    times = [local, local + timedelta(hours=47), local - timedelta(microseconds=1)]
    write(tmp_path, times[:1] + times[2:])
    first = log_versions(tmp_path, NEW_YORK)
    assert list(first) == ["2013-03-09"]
    write(tmp_path, [times[1]], "b")
    second = log_versions(tmp_path, NEW_YORK)
    assert list(second) == ["2013-03-09", "2013-03-11"]
    assert second["2013-03-09"] == first["2013-03-09"]
    write(tmp_path, [times[1]], "b")
    third = log_versions(tmp_path, NEW_YORK)
    assert third["2013-03-11"] != second["2013-03-11"]
    assert third == log_versions(tmp_path, NEW_YORK)
    assert log_versions(tmp_path / "nowhere", NEW_YORK) == {}


def test_an_hour_across_midnight_counts_for_both_days(tmp_path: Path) -> None:
    """Where the zone's midnight is at half past an hour."""
    window = Window(date(2013, 3, 9), date(2013, 3, 12), "Asia/Kolkata")
    write(tmp_path, [datetime(2013, 3, 9, 18, 5, tzinfo=UTC)])
    assert list(log_versions(tmp_path, window)) == ["2013-03-09", "2013-03-10"]


def test_a_segment_that_holds_nothing_is_removed(tmp_path: Path) -> None:
    """A server that answers an hour after its start leaves no empty file behind."""
    log = PredictionLog(tmp_path, "a")
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0]
    assert log_versions(tmp_path, Window(date(2000, 1, 1), date(2100, 1, 1), "UTC")) == {}
    log.write(answered(datetime(2013, 3, 10, 5, tzinfo=UTC)))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["20130310T05-a.jsonl"]


def test_a_line_without_a_role_is_the_champions(tmp_path: Path) -> None:
    """Lines that were written before there were roles stay readable."""
    time = datetime(2013, 3, 10, 5, tzinfo=UTC)
    line = encode_line(answered(time))
    assert b"role" not in line
    assert decode_line(line).role == "champion"
    write(tmp_path, [time])
    assert read_predictions(tmp_path).table["role"].to_pylist() == ["champion"]


def test_scores_for_comparison_and_failures_stand_beside_what_was_returned(tmp_path: Path) -> None:
    """A failure has a row for each row of its request, with the reason and no score."""
    log = PredictionLog(tmp_path, "a")
    returned = answered(NOON, "r")
    log.write(returned)
    other = {"version": 2, "sha256": "1" * 64, "role": "challenger", "returned": False}
    content = {name: getattr(returned, name) for name in returned.__struct_fields__} | other
    log.write(PredictionRecord(**{**content, "floats": {}, "scores": [0.25], "rollout": "r1"}))
    failed = {"floats": {}, "scores": [], "events": ["x", "y"], "error": "away", "failed_rows": 2}
    log.write(PredictionRecord(**{**content, **failed}))
    log.close()
    found = read_predictions(tmp_path)
    assert found.torn_lines == 0
    rows = found.table.select(["returned", "score", "error", "row", "event_id"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (True, 0.5, None, 0, None),
        (False, 0.25, None, 0, None),
        (False, None, "away", 0, "x"),
        (False, None, "away", 1, "y"),
    ]
    assert found.table["rollout_id"].to_pylist() == ["", "r1", "", ""]
    assert found.table["features.hour"].to_pylist() == [1.5, None, None, None]
    assert set(found.inputs) == {returned.sha256}
