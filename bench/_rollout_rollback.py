"""Rollback: from the cause to restored answers, in a real server on loopback under traffic.

The promoted model begins to fail on what callers send from a moment on: its export to ONNX reads
beyond the end of a table for one input's new values, as it does in no parity test. The former
champion stands in for each such request, and the sensor's tick makes it champion again. Both are
measured: until callers have answers, and until the failing model is out of the way.
"""

import argparse
import hashlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from bench.report import Result, limited
from mlops_assets.core.records import (
    FeatureField,
    ModelRecord,
    PromotionRecord,
    Signature,
    TrainingSetRecord,
)
from mlops_assets.core.rollout_spec import RolloutSpec

if TYPE_CHECKING:
    from mlops_assets.adapters.xgboost_engine import TrainedModel
    from mlops_assets.core.rollout_state import Release
    from mlops_assets.core.spec import UseCaseSpec
    from mlops_assets.lifecycle.platform import Platform

GOAL_S = 5.0
RATE = 100
"""Requests a second."""

BEFORE_S = 6.0
"""Of sound traffic."""

MOST_S = 60.0

_NAME = "flight_delays"
_SIGNATURE = Signature(
    inputs=(FeatureField(name="hour", type="float"), FeatureField(name="delay", type="float")),
    output="late",
)
_BEYOND = 1e7
"""A value that the failing export has no place for."""


def rollback(options: argparse.Namespace) -> list[Result]:
    """Seconds from a cause to restored answers, and failed requests until then."""
    found: list[Result] = []
    for stage in ("watch", "canary"):
        with tempfile.TemporaryDirectory() as folder, _Bench.at(Path(folder)) as bench:
            found += _failing_model(bench, stage)
    with tempfile.TemporaryDirectory() as folder, _Bench.at(Path(folder)) as bench:
        found += _by_hand(bench)
    with tempfile.TemporaryDirectory() as folder, _Bench.at(Path(folder)) as bench:
        found += _not_ready(bench)
    return found


@dataclass
class _Traffic:
    """Requests at a bounded rate, from one connection; each answer's time and status."""

    port: int
    delay: float = 1.0
    answers: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        due, n = time.monotonic(), 0
        while not self._stop.is_set():
            inputs = [
                {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
                for name, value in (("hour", n % 24), ("delay", self.delay))
            ]
            body = json.dumps({"id": f"r{n}", "inputs": inputs})
            try:
                connection.request("POST", f"/v2/models/{_NAME}/infer", body)
                response = connection.getresponse()
                response.read()
                status = response.status
            except OSError:
                connection.close()
                status = 0
            self.answers.append((time.monotonic(), status))
            n += 1
            due = max(due + 1 / RATE, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
        connection.close()

    @contextmanager
    def flowing(self) -> "Iterator[_Traffic]":
        """Send for the block."""
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(15)


@dataclass
class _Bench:
    """A use case with a champion that serves and a challenger that is registered."""

    spec: "UseCaseSpec"
    platform: "Platform"
    challenger: ModelRecord

    @classmethod
    @contextmanager
    def at(cls, folder: Path) -> "Iterator[_Bench]":
        """Everything in ``folder``; the server ends with the block."""
        from mlops_assets import clock
        from mlops_assets.adapters import ledger
        from mlops_assets.adapters.endpoints import local, targets
        from mlops_assets.core.rollout_state import served_model
        from mlops_assets.demo.deployment import spec_of
        from mlops_assets.lifecycle.platform import Places, Platform

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        policy = RolloutSpec(strategy="guarded", shadow_minutes=0, latency=None)
        spec = spec_of(_NAME)
        endpoint = spec.endpoint.model_copy(update={"port": port})
        spec = spec.model_copy(update={"endpoint": endpoint, "rollout": policy})
        places = Places.under(folder)
        platform = Platform.at(places)
        champion = _register(platform, folder, 1, failing=False)
        challenger = _register(platform, folder, 2, failing=True)
        platform.tracking().set_champion(_NAME, 1)
        ledger.record(platform.ledgers(), _promotion(champion, clock.now()))
        served = served_model(champion)
        targets.deploy(
            _NAME, served, spec.endpoint, places.endpoints, places.documents, "benchmark"
        )
        try:
            yield cls(spec, platform, challenger)
        finally:
            local.stop(_NAME, places.endpoints)

    def release(self) -> "Release":
        """What the server is told now."""
        from mlops_assets.lifecycle.rollout.follow import no_endpoint, released

        found = released(self.spec, self.platform)
        if found is None:
            raise no_endpoint(self.spec)
        return found

    def begin(self, stage: str) -> None:
        """Bring the challenger to ``stage``, by hand where its policy would take days."""
        from mlops_assets import clock
        from mlops_assets.lifecycle.rollout import actions

        release, now = self.release(), clock.now()
        spec, platform, challenger = self.spec, self.platform, self.challenger
        actions.started(spec, platform, release, challenger, now, "bench", "benchmark")
        if stage == "watch":
            actions.decided(spec, platform, release, "promote", now, "bench", "benchmark")
        self.tick()

    def tick(self) -> str:
        """A tick of the sensor."""
        from mlops_assets import clock
        from mlops_assets.lifecycle.rollout.tick import Cursor, tick

        return tick(self.spec, self.platform, Cursor(), clock.now()).message


def _failing_model(bench: _Bench, stage: str) -> list[Result]:
    """The challenger begins to fail in ``stage``; the sensor ticks at its interval."""
    from mlops_assets.lifecycle.rollout.sensor import INTERVAL_SECONDS

    bench.begin(stage)
    with _Traffic(bench.spec.endpoint.port).flowing() as traffic:
        time.sleep(BEFORE_S)
        bench.tick()
        # The most that it may take until the next tick.
        cause, next_tick = time.monotonic(), time.monotonic() + INTERVAL_SECONDS
        traffic.delay = _BEYOND
        while bench.release().mode != "champion" and time.monotonic() < cause + MOST_S:
            time.sleep(max(0.0, next_tick - time.monotonic()))
            next_tick += INTERVAL_SECONDS
            bench.tick()
        taken = time.monotonic() - cause
        back = bench.release()
        time.sleep(2)
    case = f"rollback, a model begins to fail in {stage}"
    note = f"{RATE} requests/s, sensor every {INTERVAL_SECONDS} s, cause just after a tick"
    if back.mode != "champion" or back.champion.version != 1:
        note = f"NOT rolled back within {MOST_S:g} s; {note}"
        taken = MOST_S
    return [
        *_restored(case, traffic, cause, note),
        Result(case, "seconds until the model is out", taken, None, "", None, None, None, note),
    ]


def _by_hand(bench: _Bench) -> list[Result]:
    """A person takes a promoted model back."""
    from mlops_assets import clock
    from mlops_assets.lifecycle.rollout import actions
    from mlops_assets.lifecycle.rollout.follow import follow

    bench.begin("watch")
    spec, platform = bench.spec, bench.platform
    with _Traffic(spec.endpoint.port).flowing() as traffic:
        time.sleep(BEFORE_S)
        began = time.monotonic()
        release, now = bench.release(), clock.now()
        actions.decided(spec, platform, release, "rollback", now, "bench", "benchmark")
        follow(spec, platform, release, now, MOST_S)
        taken = time.monotonic() - began
        time.sleep(1)
    case = "rollback by hand"
    failed = sum(status != 200 for _, status in traffic.answers)
    note = f"until each replica has said so; {RATE} requests/s"
    return [
        limited(case, "seconds until the former champion answers", taken, GOAL_S, note=note),
        limited(case, "failed requests", failed, 0, note=f"of {len(traffic.answers)}"),
    ]


def _not_ready(bench: _Bench) -> list[Result]:
    """A challenger whose file is damaged, so that no replica can load it."""
    damaged = Path(bench.challenger.artifact)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with _Traffic(bench.spec.endpoint.port).flowing() as traffic:
        time.sleep(BEFORE_S)
        cause = time.monotonic()
        bench.begin("shadow")
        taken = time.monotonic() - cause
        time.sleep(1)
    back = bench.release()
    if back.mode != "champion" or back.champion.version != 1:
        taken = MOST_S
    case, note = "rollout of a model that no replica can load", f"{RATE} requests/s"
    failed = sum(status != 200 for _, status in traffic.answers)
    return [
        limited(case, "seconds until it is taken back", taken, GOAL_S, note=note),
        limited(case, "failed requests", failed, 0, note=f"of {len(traffic.answers)}"),
    ]


def _restored(case: str, traffic: _Traffic, cause: float, note: str) -> list[Result]:
    since = [(at, status) for at, status in traffic.answers if at > cause]
    failed = [at for at, status in since if status != 200]
    first = next((at - cause for at, status in since if status == 200), MOST_S)
    taken = max(failed) - cause if failed else first
    of = f"of {len(since)} since the cause; first answer after {first * 1000:.0f} ms; {note}"
    return [
        limited(case, "seconds from cause to restored answers", taken, GOAL_S, note=note),
        limited(case, "failed requests", len(failed), 0, note=of),
    ]


def _register(platform: "Platform", folder: Path, version: int, *, failing: bool) -> ModelRecord:
    """A small model as ``version`` in the registry, with an export that fails or does not."""
    from mlops_assets.adapters.mlflow_client import connect

    data, onnx = _model(version, failing=failing)
    artifact, export = folder / f"{version}.ubj", folder / f"{version}.onnx"
    artifact.write_bytes(data)
    export.write_bytes(onnx)
    day = date(2013, 1, 1)
    record = ModelRecord(
        use_case=_NAME,
        version=version,
        sha256=hashlib.sha256(data).hexdigest(),
        artifact=str(artifact),
        mlflow_run_id="",
        training_set=TrainingSetRecord(
            use_case=_NAME,
            digest="",
            first=day,
            validation_first=day,
            holdout_first=day,
            end=day,
            rows=0,
            positives=0,
            unlabelled=0,
            table_versions={},
        ),
        rounds=5,
        unchanged=False,
        onnx=str(export),
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
    )
    client = connect(platform.tracking_uri)
    if version == 1:
        client.create_registered_model(_NAME)
    document = record.model_dump_json(exclude={"version", "unchanged"})
    client.create_model_version(_NAME, str(artifact), tags={"record": document})
    return record


def _model(seed: int, *, failing: bool) -> tuple[bytes, bytes]:
    import numpy as np
    import polars as pl
    import xgboost as xgb

    from mlops_assets.adapters.onnx_export import export_onnx
    from mlops_assets.core.inference import dump_model, encode_frame, feature_types

    rng = np.random.default_rng(seed)
    frame = pl.DataFrame({"hour": rng.uniform(0, 24, 500), "delay": rng.normal(size=500)})
    labels = (frame["hour"].to_numpy() + rng.normal(size=500) * 6 > 12).astype(np.float32)
    matrix = xgb.DMatrix(
        encode_frame(frame, _SIGNATURE), labels, feature_types=feature_types(_SIGNATURE)
    )
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": seed}
    booster = xgb.train(parameters, matrix, 20)
    data = dump_model(booster, _SIGNATURE)
    trained = SimpleNamespace(data=data, sha256=hashlib.sha256(data).hexdigest())
    export = export_onnx(cast("TrainedModel", trained), frame)
    if export.data is None:
        raise RuntimeError(f"the benchmark's model has no export: {export.refused}")
    if not failing:
        return data, export.data
    # The same probabilities, under a name for which the server makes no tables of its own, so that
    # it reads the export.
    booster.set_param({"objective": "reg:logistic"})
    renamed = dump_model(booster, _SIGNATURE)
    return renamed, _spoiled(export.data, hashlib.sha256(renamed).hexdigest())


def _spoiled(export: bytes, model_sha256: str) -> bytes:
    """The export as that of another model, with a look-up that has no place for large values."""
    import onnx
    from onnx import TensorProto, helper

    from mlops_assets.core.onnx_trees import INPUT, MODEL_KEY, OUTPUT

    document = onnx.load_model_from_string(export)
    for each in document.metadata_props:
        if each.key == MODEL_KEY:
            each.value = model_sha256
    graph = document.graph
    graph.node[0].output[0] = "sound"
    tensor: Callable[..., object] = helper.make_tensor
    graph.initializer.extend(
        [
            tensor("limit", TensorProto.FLOAT, [1], [_BEYOND / 2]),
            tensor("table", TensorProto.FLOAT, [1], [0.0]),
            tensor("columns", TensorProto.INT64, [1], [1]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gather", [INPUT, "columns"], ["value"], axis=1),
            helper.make_node("Greater", ["value", "limit"], ["large"]),
            helper.make_node("Cast", ["large"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "place"], ["nothing"]),
            helper.make_node("Add", ["sound", "nothing"], [OUTPUT]),
        ]
    )
    return document.SerializeToString()


def _promotion(model: ModelRecord, now: object) -> PromotionRecord:
    return PromotionRecord.model_validate(
        {
            "use_case": _NAME,
            "version": model.version,
            "sha256": model.sha256,
            "decision": "promoted",
            "reasons": ("the first",),
            "previous_version": None,
            "champion": model,
            "evaluation_digest": "",
            "decided_at": now,
            "dagster_run_id": "",
        }
    )
