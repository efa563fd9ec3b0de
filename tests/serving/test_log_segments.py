"""The prediction log's segments: cut, full, read back."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.clock import now
from mlops_assets.core.prediction_log import PredictionRecord
from mlops_assets.serving.prediction_log import PredictionLog


def record(number: int, rows: int = 1) -> PredictionRecord:
    """A record whose request id is its number."""
    return PredictionRecord(
        time=now(),
        request=str(number),
        use_case="flights",
        version=1,
        sha256="0" * 64,
        categories={"carrier": ["UA"] * rows},
        floats={"hour": [1.5] * rows},
        scores=[0.5] * rows,
    )


def test_a_log_that_is_cut_anywhere_keeps_every_whole_record(tmp_path: Path) -> None:
    """A torn line costs itself alone, and is counted."""
    log = PredictionLog(tmp_path, "a")
    for number in range(3):
        log.write(record(number))
    log.close()
    (segment,) = tmp_path.glob("*.jsonl")
    whole = segment.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (*range(0, len(whole), 97), *ends, ends[1] - 1):
        segment.write_bytes(whole[:cut])
        found = read_predictions(tmp_path)
        kept = sum(end - 1 <= cut for end in ends)
        assert found.table["request_id"].to_pylist() == [str(n) for n in range(kept)]
        assert found.torn_lines == (cut not in ends and cut + 1 not in ends and cut > 0)


def test_a_write_that_is_cut_by_a_full_disk_spoils_no_other_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next record begins on a line of its own."""
    log = PredictionLog(tmp_path, "a")
    log.write(record(0))
    whole_write = os.write

    def full(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", refuse)
        return whole_write(fd, data[:20])

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write(record(1))
    monkeypatch.setattr(os, "write", whole_write)
    log.write(record(2))
    log.close()
    assert log.lost == 1
    found = read_predictions(tmp_path)
    assert (found.table["request_id"].to_pylist(), found.torn_lines) == (["0", "2"], 1)


def test_the_log_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    """When one is full, and when someone deletes the one that is written."""
    log = PredictionLog(tmp_path, "a", segment_bytes=1)
    log.write(record(0))
    log.write(record(1))
    log.close()
    assert read_predictions(tmp_path).table.num_rows == 2
    log = PredictionLog(tmp_path, "b")
    log.write(record(2))
    for path in tmp_path.glob("*-b.jsonl"):
        path.unlink()
    log.sync()
    log.write(record(3))
    log.close()
    assert log.lost == 1
    assert sorted(read_predictions(tmp_path).table["request_id"].to_pylist()) == ["0", "1", "3"]


def test_reading_since_an_instant_keeps_what_came_at_or_after_it(tmp_path: Path) -> None:
    """A reader goes on where it stopped; a folder that is not there yet has no predictions."""
    log = PredictionLog(tmp_path / "log", "a")
    records = [record(number, rows=number) for number in range(3)]
    for one in records:
        log.write(one)
    log.close()
    found = read_predictions(tmp_path / "log", since=records[1].time).table
    assert found["request_id"].to_pylist() == ["1", "2", "2"]
    assert read_predictions(tmp_path / "log", since=now()).table.num_rows == 0
    none = read_predictions(tmp_path / "nowhere")
    assert (none.table.num_rows, none.torn_lines) == (0, 0)
    assert none.table.schema.field("score").type == pa.float32()


def test_a_feature_that_changes_its_type_is_read_as_text(tmp_path: Path) -> None:
    """Models of two versions share a log."""
    log = PredictionLog(tmp_path, "a")
    log.write(record(0))
    values = {"categories": {"hour": ["late"]}, "floats": {"age": [2.0]}}
    other = {name: getattr(record(1), name) for name in record(1).__struct_fields__} | values
    log.write(PredictionRecord(**other))
    log.close()
    table = read_predictions(tmp_path).table
    assert table["features.hour"].to_pylist() == ["1.5", "late"]
    assert table["features.carrier"].to_pylist() == ["UA", None]
    assert table["features.age"].to_pylist() == [None, 2.0]
