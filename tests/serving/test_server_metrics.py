"""Metrics: what is counted, that it adds up over workers, and that nothing else gets in."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from serving_support import SIGNATURE

from mlops_assets.core.inference import encode
from mlops_assets.core.latency import LATENCY_EDGES_S
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.serving import counters
from mlops_assets.serving.exposition import MAX_VERSIONS, exposition
from mlops_assets.serving.feature_bins import FEATURE_EDGES, MAX_CATEGORIES
from mlops_assets.serving.metrics import OBSERVED_ROWS, Metrics, metrics_folder

_SAMPLE = re.compile(r'mlops_endpoint_(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each sample of the exposition, which has to be well-formed."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    text = exposition(metrics).decode()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        assert match is not None, line
        name, labels, value = match.groups()
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")
        key = (name, frozenset(pairs))
        assert key not in found, line
        found[key] = float(value)
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """One sample of the exposition."""
    return samples(metrics)[name, frozenset(labels.items())]


def test_requests_are_counted_by_version_and_role() -> None:
    """What a dashboard asks: how many, how slow, how many failed, and whose."""
    metrics = Metrics()
    metrics.answered("r1", 1, "champion", 0.0002, 3, scores=[0.1, 0.2, 0.99])
    metrics.answered("r1", 2, "challenger", 100.0, 1, returned=False, scores=[0.5])
    metrics.failed("r1", 2, "challenger", 0.5)
    metrics.skipped("r1", 2, "challenger")
    first, second = metrics.totals()
    assert (first.rollout_id, first.version, first.role) == ("r1", 1, "champion")
    assert (first.requests, first.rows, first.returned, first.errors) == (1, 3, 1, 0)
    assert (second.requests, second.returned, second.errors, second.skipped) == (1, 0, 1, 1)
    assert second.seconds == 100.5
    assert sum(first.latency) == 1
    assert second.latency[-1] == 1
    assert len(second.latency) == len(LATENCY_EDGES_S) + 1
    role = {"version": "1", "role": "champion"}
    assert value(metrics, "rows_total", **role) == 3
    assert value(metrics, "score_count", **role) == 3
    assert value(metrics, "score_bucket", **role, le="0.2") == 2
    assert value(metrics, "scoring_seconds_bucket", **role, le="0.0001") == 0
    assert value(metrics, "scoring_seconds_bucket", **role, le="0.0002") == 1
    challenger = {"version": "2", "role": "challenger"}
    assert value(metrics, "errors_total", **challenger) == 1
    assert value(metrics, "scoring_seconds_bucket", **challenger, le="+Inf") == 1


def test_rollouts_are_told_apart_in_totals_and_joined_in_the_exposition() -> None:
    """A rollout's id has no bound, so that it is no label."""
    metrics = Metrics()
    for n in range(3):
        metrics.answered(f"rollout-{n}", 1, "champion", 0.001, 1)
    assert [total.rollout_id for total in metrics.totals()] == [f"rollout-{n}" for n in range(3)]
    assert value(metrics, "requests_total", version="1", role="champion") == 3
    assert b"rollout-" not in exposition(metrics)


def test_features_are_counted_in_bins_as_the_model_saw_them() -> None:
    """Numbers in fixed bins, categories by name; missing and unknown apart from them."""
    metrics = Metrics()
    columns = {
        "carrier": ["UA", "AA", None, "ZZ"],
        "hour": [17.0, 0.0, -3.0, None],
        "delay": [1e9, 0.01, -1e9, 5.0],
    }
    metrics.observe(SIGNATURE, encode(columns, SIGNATURE), {"carrier": 1})
    assert value(metrics, "feature_category_total", feature="carrier", category="UA") == 1
    assert value(metrics, "feature_category_total", feature="carrier", category="DL") == 0
    assert value(metrics, "feature_missing_total", feature="carrier") == 2
    assert value(metrics, "feature_unknown_total", feature="carrier") == 1
    assert value(metrics, "feature_count", feature="hour") == 3
    assert value(metrics, "feature_missing_total", feature="hour") == 1
    for edge, number in (("-5", 0), ("-2", 1), ("0", 2), ("10", 2), ("20", 3), ("+Inf", 3)):
        assert value(metrics, "feature_bucket", feature="hour", le=edge) == number
    for edge, number in (("-1e+06", 1), ("0", 1), ("0.01", 2), ("5", 3), ("1e+06", 3)):
        assert value(metrics, "feature_bucket", feature="delay", le=edge) == number
    assert value(metrics, "feature_bucket", feature="delay", le="+Inf") == 4


def test_counts_of_features_equal_a_count_by_hand() -> None:
    """Whether rows come one by one, in batches, or more than are kept waiting."""
    rng = np.random.default_rng(3)
    matrix = np.column_stack(
        [rng.integers(0, 3, 700), rng.normal(0, 30, 700), rng.normal(0, 1, 700)]
    ).astype(np.float32)
    matrix[rng.random((700, 3)) < 0.1] = np.nan
    whole, single = Metrics(), Metrics()
    whole.observe(SIGNATURE, matrix)
    for n in range(700):
        single.observe(SIGNATURE, matrix[n : n + 1])
    found = samples(whole)
    assert found == samples(single)
    for column, name in ((1, "hour"), (2, "delay")):
        for edge in FEATURE_EDGES:
            expected = int((matrix[:, column] <= np.float32(edge)).sum())
            labels = {("feature", name), ("le", f"{edge:.6g}")}
            assert found["feature_bucket", frozenset(labels)] == expected


def test_the_number_of_series_is_bounded() -> None:
    """By the models that are shown and the categories that are listed, whatever comes."""
    categories = tuple(f"c{n}" for n in range(1000))
    many = Signature(
        inputs=(FeatureField(name="tail", type="category", categories=categories),), output="late"
    )
    metrics = Metrics()
    metrics.observe(many, np.array([[5], [999], [31], [32]], np.float32))
    for version in range(50):
        metrics.answered("", version, "champion", 0.001, 1)
    found = samples(metrics)
    listed = [labels for name, labels in found if name == "feature_category_total"]
    assert len(listed) == MAX_CATEGORIES
    assert value(metrics, "feature_rest_total", feature="tail") == 2
    versions = {dict(labels).get("version") for name, labels in found if name == "requests_total"}
    assert versions == {str(n) for n in range(50 - MAX_VERSIONS, 50)}


def test_a_category_is_escaped_as_prometheus_reads_it() -> None:
    """Quotes, backslashes and line feeds of a known category do not break the text."""
    odd = Signature(
        inputs=(FeatureField(name='a"b', type="category", categories=('x"\\\n',)),), output="y"
    )
    metrics = Metrics()
    metrics.observe(odd, np.zeros((1, 1), np.float32))
    assert b'feature="a\\"b",category="x\\"\\\\\\n"} 1\n' in exposition(metrics)
    samples(metrics)


def test_refusals_are_counted_by_known_statuses() -> None:
    """Another status is counted too, under one name."""
    metrics = Metrics()
    for status in (404, 404, 418, 599):
        metrics.refused(status)
    assert value(metrics, "refused_total", status="404") == 2
    assert value(metrics, "refused_total", status="other") == 2


def test_all_workers_are_joined_whichever_is_asked(tmp_path: Path) -> None:
    """Counters are added up; what is one worker's stays told apart."""
    first, second = (Metrics(tmp_path, worker) for worker in (0, 1))
    first.answered("", 1, "champion", 0.001, 1, scores=[0.5])
    second.answered("", 1, "champion", 0.001, 5)
    second.answered("", 2, "champion", 0.001, 7)
    first.update(revision=3, lost=2, ready=True)
    second.update(revision=4, lost=0, ready=False)
    second.entered()
    second.observe(SIGNATURE, np.zeros((OBSERVED_ROWS, 3), np.float32))
    for asked in (first, second):
        assert value(asked, "rows_total", version="1", role="champion") == 6
        assert value(asked, "rows_total", version="2", role="champion") == 7
        assert value(asked, "release_revision", worker="0") == 3
        assert value(asked, "release_revision", worker="1") == 4
        assert value(asked, "ready", worker="1") == 0
        assert value(asked, "lost_log_records_total") == 2
        assert value(asked, "in_flight") == 1
        assert value(asked, "feature_count", feature="hour") == OBSERVED_ROWS
    assert [total.rows for total in first.totals()] == [1]


def test_a_worker_in_a_dead_ones_place_goes_on_with_its_counters(tmp_path: Path) -> None:
    """A counter that went back would be read as a restart of all; gauges begin anew."""
    code = (
        "import os, sys; from pathlib import Path;"
        "from mlops_assets.serving.metrics import Metrics;"
        "m = Metrics(Path(sys.argv[1]), 0); m.entered(); m.update(revision=9, lost=4, ready=True);"
        "m.answered('', 1, 'champion', 0.001, 5); os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert died.returncode == -9
    metrics = Metrics(tmp_path, 0)
    assert value(metrics, "rows_total", version="1", role="champion") == 5
    assert value(metrics, "lost_log_records_total") == 4
    assert value(metrics, "in_flight") == 0
    metrics.answered("", 1, "champion", 0.001, 5)
    metrics.update(revision=9, lost=1, ready=True)
    assert metrics.totals()[0].rows == 10
    assert value(metrics, "lost_log_records_total") == 5
    metrics.close()
    assert Metrics(tmp_path, 0).totals()[0].requests == 2


def test_threads_lose_no_count() -> None:
    """Large requests are answered in threads."""
    metrics = Metrics()

    def work() -> None:
        for _ in range(2000):
            metrics.answered("", 1, "champion", 0.001, 1, scores=[0.5])
            metrics.finished(0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert metrics.totals()[0].requests == 8000
    assert sum(metrics.totals()[0].latency) == 8000
    assert value(metrics, "request_seconds_count") == 8000


def test_a_full_file_hides_numbers_from_others_and_fails_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After thousands of releases in one process, it counts the latest for itself."""
    monkeypatch.setattr(counters, "FILE_BYTES", 4096)
    metrics, other = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    for version in range(10):
        metrics.answered("", version, "champion", 0.001, 1)
    assert [total.version for total in metrics.totals()] == list(range(10))
    seen = [labels for name, labels in samples(other) if name == "requests_total"]
    assert 0 < len(seen) < MAX_VERSIONS


def test_a_sibling_that_is_just_being_made_is_empty(tmp_path: Path) -> None:
    """Whoever is asked at that moment answers."""
    metrics = Metrics(tmp_path, 0)
    (tmp_path / "1.metrics").write_bytes(b"")
    (tmp_path / "2.metrics").write_bytes(b"\0" * 4096)
    metrics.refused(404)
    assert value(metrics, "refused_total", status="404") == 1


def test_the_folder_of_a_server_is_its_own_and_goes_with_it(tmp_path: Path) -> None:
    """Two servers of one machine do not add up; nobody else reads it."""
    with metrics_folder(tmp_path, "i1") as folder:
        assert folder.is_dir()
        assert os.listdir(folder) == []  # noqa: PTH208
        assert folder.stat().st_mode & 0o007 == 0
        Metrics(folder, 0).refused(404)
    assert not folder.exists()
