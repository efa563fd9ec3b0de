"""What a spot interruption costs a training on the two-node test cluster, by its kind.

A small use case trains on the spot node and is interrupted in the middle: with notice, with notice
and then the machine goes, without a word. Measured from the interruption to the first round that is
trained again, and where that time goes: until the run worker notices (it looks every five seconds,
and Kubernetes takes its time to tell that a node is gone), until the next Job is made, until its
pod has a node again (here: until the node is restored, in a cloud one to three minutes for a new
one), and until the step has imported, loaded its rows and trained a round.

Also: what a step costs that has a pod of its own, against one inside the run worker. Needs the
cluster (`make test-kubernetes` builds what it needs); the machine is shared by the cluster, its
services and both nodes, so that seconds are those of a busy machine of two cores.
"""

import argparse
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import Result, compared, limited, unmeasured

if TYPE_CHECKING:
    from cluster import Cluster
    from cluster_runs import Run

SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"

WAYS: dict[str, tuple[str, ...]] = {
    "notice": (),
    "notice, then gone": ("--terminate",),
    "gone without a word": ("--hard",),
}


def main(options: argparse.Namespace) -> list[Result]:
    """Seconds by kind of interruption; nothing where there is no cluster."""
    sys.path.insert(0, str(SUPPORT))
    os.environ.setdefault("MLOPS_TEST_KUBERNETES", "1")
    from cluster import missing, platform

    why = "takes ten minutes: python -m bench spot" if options.quick else missing()
    if why is not None:
        return [unmeasured("interruption", "seconds to training again", "", why)]
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder)) as cluster:
        return _measured(cluster)


def _measured(cluster: "Cluster") -> list[Result]:
    from cluster_images import SMALL
    from cluster_runs import launch

    days = ("2024-03-01", "2024-04-11")
    launch(cluster, SMALL, ["visits", "shops"], days).succeeded(900)
    views = ["visit", "shop_returns", "shop_sizes"]
    launch(cluster, SMALL, views, days).succeeded(900)
    whole = launch(cluster, SMALL, ["training_set", "model"]).succeeded(900)
    results = _starts(whole)
    for way in WAYS:
        results += _interrupted(cluster, way, whole.sha256())
    return results


def _starts(run: "Run") -> list[Result]:
    """From the decision to start a step to its first line, in a pod and inside the run worker."""
    began = {event["stepKey"]: _at(event) for event in run.events() if _is(event, "STEP_START")}
    asked: dict[str, float] = {}
    for event in run.events():
        if _is(event, "STEP_WORKER_STARTING"):
            asked.setdefault(event["stepKey"], _at(event))
    seconds = {key.rpartition("__")[2]: began[key] - asked[key] for key in asked}
    return [
        compared(
            "start of a step",
            "seconds in a pod of its own",
            seconds["model"],
            max(seconds["training_set"], 0.001),
            "inside the run worker",
        )
    ]


def _interrupted(cluster: "Cluster", way: str, sha256: str) -> list[Result]:
    from cluster import SPOT, script
    from cluster_images import LONG_ROUNDS, SMALL
    from cluster_runs import launch, rounds_saved, wait_for_rounds

    run = launch(cluster, SMALL, ["model"])
    wait_for_rounds(run, SMALL, LONG_ROUNDS // 2)
    told = time.time()
    script("interrupt", SPOT, *WAYS[way])
    saved = rounds_saved(cluster, SMALL)
    script("restore", SPOT)
    restored = time.time()
    run.succeeded(900)
    lost, again = run.attempts()
    trained = _rounds(run)
    first = next(at for at, _ in trained if at > _time(again["begun"]))
    last_round = max(number for at, number in trained if at <= _time(again["begun"]))
    waited = max(0.0, restored - _time(again["launched"]))
    placed = max(restored, _time(again["launched"]))
    total = first - told
    tags = run.tags
    spot, other = float(tags["mlops/spot_seconds"]), float(tags["mlops/on_demand_seconds"])
    note = (
        f"noticed after {_time(lost['ended']) - told:.1f} s, next Job after "
        f"{_time(again['launched']) - _time(lost['ended']):.1f} s, no node for {waited:.1f} s, "
        f"step began {_time(again['begun']) - placed:.1f} s later, "
        f"first round {first - _time(again['begun']):.1f} s after that"
    )
    same = 0.0 if run.sha256() == sha256 else 1.0
    return [
        limited(way, "seconds to training again, less the wait for a node", total - waited, 60.0,
                note=note),
        limited(way, "rounds trained twice", max(0, last_round - saved), 20),
        limited(way, "models that differ from the uninterrupted one", same, 0),
        Result(way, "share of training time on spot", spot / (spot + other), None, "", None, None,
               None),
    ]  # fmt: skip


def _rounds(run: "Run") -> list[tuple[float, int]]:
    """When the training said which round."""
    found: list[tuple[float, int]] = []
    for event in run.events():
        words = (event.get("message") or "").split()
        if event["__typename"] == "LogMessageEvent" and words[:1] == ["round"]:
            found.append((_at(event), int(words[1].rstrip(":"))))
    return found


def _is(event: dict[str, Any], kind: str) -> bool:
    return event.get("eventType") == kind


def _at(event: dict[str, Any]) -> float:
    return float(event["timestamp"]) / 1000


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
