"""The prediction log of a server whose disk goes with its pod."""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from mlops_assets.adapters.prediction_logs import log_versions, read_predictions
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.prediction_log import PredictionRecord
from mlops_assets.core.windows import Window
from mlops_assets.serving.objects import read_object, write_object
from mlops_assets.serving.prediction_log import PredictionLog
from mlops_assets.serving.shipping import Shipper

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def record(request: str, time: datetime = NOON) -> PredictionRecord:
    """One row's answer."""
    return PredictionRecord(
        time=time,
        request=request,
        use_case="flights",
        version=1,
        sha256="a" * 64,
        categories={"carrier": ["UA"]},
        floats={"delay": [1.5]},
        scores=[0.5],
    )


def requests(url: str) -> list[str]:
    """The requests that the log at ``url`` has."""
    return read_predictions(url).table["request_id"].to_pylist()


def test_what_was_answered_is_shipped_once_and_then_gone_here(
    tmp_path: Path, s3_bucket: str
) -> None:
    """Again and again, in the hour's middle too; nothing is shipped twice or lost."""
    log = PredictionLog(tmp_path / "log", "server")
    shipper = Shipper(log, s3_bucket)
    assert shipper.ship() == 0
    for number in range(4):
        log.write(record(f"r{number}", NOON + timedelta(seconds=number)))
        if number % 2:
            assert shipper.ship() == 1
    log.write(record("later", NOON + timedelta(hours=1)))
    log.write(record("next day", NOON + timedelta(days=1)))
    log.close()
    assert shipper.ship() == 2
    assert requests(s3_bucket) == ["r0", "r1", "r2", "r3", "later", "next day"]
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_reader_of_some_days_finds_their_answers(tmp_path: Path, s3_bucket: str) -> None:
    """By the hours of a zone, and with a version that changes when more is shipped."""
    log = PredictionLog(tmp_path / "log", "server")
    shipper = Shipper(log, s3_bucket)
    for hours in (-20, -2, 0, 2, 11, 20):  # 16:00 UTC is midnight in Manila
        log.write(record(f"{hours}", NOON + timedelta(hours=hours)))
    shipper.ship()
    window = Window(date(2013, 3, 1), date(2013, 3, 3), "Asia/Manila")
    found = read_predictions(s3_bucket, window.start_time, window.end_time)
    assert found.table["request_id"].to_pylist() == ["-20", "-2", "0", "2", "11", "20"]
    first = log_versions(s3_bucket, window)
    assert sorted(first) == ["2013-03-01", "2013-03-02"]
    assert log_versions(s3_bucket, window, ["2013-03-01"]) == {"2013-03-02": first["2013-03-02"]}
    log.write(record("more", NOON))
    shipper.ship()
    second = log_versions(s3_bucket, window)
    assert second["2013-03-01"] != first["2013-03-01"]
    assert second["2013-03-02"] == first["2013-03-02"]


def test_a_log_that_nobody_shipped_to_is_empty(s3_bucket: str) -> None:
    """Its server has not started yet."""
    assert requests(s3_bucket) == []


def test_a_store_that_is_away_keeps_nothing_from_being_shipped_later(
    tmp_path: Path, s3_bucket: str
) -> None:
    """The segments wait here, also over a new start of the server."""
    log = PredictionLog(tmp_path / "log", "server")
    log.write(record("before"))
    assert Shipper(log, "s3://no-such-bucket/log").ship() == 0
    log.write(record("after"))
    log.close()
    again = PredictionLog(tmp_path / "log", "server")
    again.write(record("new"))
    assert Shipper(again, s3_bucket).ship() == 2
    assert sorted(requests(s3_bucket)) == ["after", "before", "new"]
    assert again.lost == 0


def test_what_finds_no_room_is_counted_as_lost(tmp_path: Path, s3_bucket: str) -> None:
    """The oldest goes first; the pod is not evicted for a store that stays away."""
    log = PredictionLog(tmp_path / "log", "server")
    size = 0
    for number in range(3):
        log.write(record(f"r{number}", NOON + timedelta(hours=number)))
    shipper = Shipper(log, "s3://no-such-bucket/log")
    shipper.ship()
    size = max(path.stat().st_size for path in (tmp_path / "log" / "closed").iterdir())
    assert log.lost == 0
    assert Shipper(log, s3_bucket, most_bytes=2 * size).ship() == 2
    assert log.lost == 1
    assert requests(s3_bucket) == ["r1", "r2"]


def test_a_server_that_ends_does_not_wait_for_ever(tmp_path: Path, s3_bucket: str) -> None:
    """After the deadline nothing more is begun."""
    log = PredictionLog(tmp_path / "log", "server")
    log.write(record("r"))
    assert Shipper(log, s3_bucket).ship(deadline=time.monotonic()) == 0
    assert requests(s3_bucket) == []


def test_objects_are_read_and_written_whole(s3_bucket: str) -> None:
    """Up to a size, and no further."""
    url = f"{s3_bucket}/a/model.ubj"
    write_object(url, b"0123456789")
    assert read_object(url, 10) == b"0123456789"
    with pytest.raises(PermanentError, match="larger than 9 bytes"):
        read_object(url, 9)


def test_what_cannot_be_read_says_whether_to_try_again(
    tmp_path: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing stays so; what is away may come back."""
    with pytest.raises(PermanentError, match=r"NoSuchKey.*check that it exists"):
        read_object(f"{s3_bucket}/none", 10)
    with pytest.raises(TransientError, match="cannot be read"):
        read_object(str(tmp_path / "none"), 10)
    for wrong in ("ftp://host/file", "s3://bucket"):
        with pytest.raises(PermanentError, match="no s3://bucket/key"):
            read_object(wrong, 10)


def test_botocore_and_the_logs_reader_see_the_same_objects(tmp_path: Path, s3_bucket: str) -> None:
    """A day's objects lie in its folder."""
    log = PredictionLog(tmp_path / "log", "server")
    log.write(record("r"))
    Shipper(log, s3_bucket).ship()
    bucket, _, prefix = s3_bucket.removeprefix("s3://").partition("/")
    (found,) = boto3.client("s3", region_name="us-east-1").list_objects_v2(
        Bucket=bucket, Prefix=prefix
    )["Contents"]
    assert found["Key"].startswith(f"{prefix}/20130301/20130301T12-server.")
