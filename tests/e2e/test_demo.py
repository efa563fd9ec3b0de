"""`mlops demo`, whole: what a newcomer runs first."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_goes_from_real_flights_to_days_of_live_answers_and_cleans_up(
    instance_folder: Path, environment: dict[str, str]
) -> None:
    """One command, no interaction; the summary has what it promises, and the port is free again.

    Three days instead of ten weeks: a retraining has its own test.
    """
    done = subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli", "demo", "--days", "3"],
        cwd=instance_folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((instance_folder / ".mlops" / "demo" / "summary.json").read_text())
    assert summary["use_case"] == "flight_delays"
    assert summary["rows"]["flights"] == 51_955
    assert summary["model_version"] == 1
    assert len(summary["model_sha256"]) == 64
    assert summary["gate"] == "pass"
    assert summary["promotion"] == "promoted"
    holdout = summary["holdout"]
    assert holdout["log_loss"] < holdout["base_rate_log_loss"] - 0.02
    assert 0.65 < holdout["roc_auc"] < 0.8
    assert holdout["ece"] < 0.05
    assert 0.1 < holdout["brier"] < 0.2
    endpoint = summary["endpoint"]
    assert endpoint["requests"] > 2_500
    assert endpoint["compared_with_batch"] > 2_000
    assert endpoint["p50_ms"] > 0
    assert endpoint["differences_from_batch"] == 0
    assert list(summary["stages"]) == [
        "datasets", "feature views", "training set", "model", "evaluation", "promotion",
        "endpoint", "replay",
    ]  # fmt: skip
    assert summary["seconds"] >= sum(summary["stages"].values()) * 0.9
    replay = summary["replay"]
    assert replay["days"] == 3
    assert replay["retrainings"] == 0
    # Nobody has retrained yet: both are the first model's, on the same rows.
    assert replay["log_loss"] == replay["log_loss_never"]
    assert 0.3 < replay["log_loss"] < 0.7
    assert [decision["day"] for decision in replay["decisions"]] == [
        "2013-03-01", "2013-03-02", "2013-03-03",
    ]  # fmt: skip
    assert all(decision["reasons"] for decision in replay["decisions"])
    assert Path(summary["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "flight_delays" in done.stdout
    assert Path(summary["report"]).stat().st_size < 10 * 2**20
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 8900))
    rest = {path.name for path in instance_folder.iterdir()}
    assert rest == {"dagster.yaml", "workspace.yaml", ".mlops"}
