"""Settled days of a prediction log: left out, and nothing else is."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.adapters.prediction_logs import log_versions
from mlops_assets.core.prediction_log import segment_name
from mlops_assets.core.windows import Window

FIRST = date(2013, 3, 8)  # clocks change on the 10th in New York, on the 31st in Berlin
DAYS = [(FIRST + timedelta(days=n)).isoformat() for n in range(30)]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu"]),
    st.sets(st.integers(0, 24 * 31), max_size=60),
    st.sets(st.sampled_from(DAYS)),
)
def test_days_that_are_settled_are_left_out_and_no_others(
    timezone: str, hours: set[int], settled: set[str]
) -> None:
    """Also where clocks change, and where midnight is inside an hour."""
    window = Window(FIRST, FIRST + timedelta(days=len(DAYS)), timezone)
    begin = datetime(2013, 3, 7, 12, tzinfo=UTC)
    with TemporaryDirectory() as folder:
        for hour in hours:
            name = segment_name(begin + timedelta(hours=hour), "server")
            (Path(folder) / name).write_text("1\n")
        every = log_versions(folder, window)
        assert log_versions(folder, window, settled) == {
            day: version for day, version in every.items() if day not in settled
        }
