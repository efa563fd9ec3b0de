"""``mlops demo``: one use case from raw data to answers over HTTP, told on the terminal."""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import (
    EndpointRecord,
    EvaluationRecord,
    ModelRecord,
    PromotionRecord,
    TrainingSetRecord,
)
from mlops_assets.core.spec import EVENT_ID, UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.assets import tables_by_days

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from mlops_assets.adapters.lake import Lake

USE_CASE = "flight_delays"
REQUESTS = 300
"""Real requests, one flight each, one after another."""


@dataclass
class _Story:
    """What happened so far."""

    stages: dict[str, float] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)


def run_demo(root: Path, *, keep: bool) -> int:
    """Run the demo in the repository ``root``; returns the exit code.

    Everything lands in the same state that ``make dev`` shows. The endpoint is stopped at the
    end, also after a failure, unless ``keep``.
    """
    from rich.console import Console

    from mlops_assets.adapters.endpoints import local
    from mlops_assets.definitions import STATE, defs, local_places

    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    console = Console()
    started = time.monotonic()
    places = local_places()
    _check_port(_spec_of(USE_CASE), places.endpoints)
    definitions = defs()
    try:
        with dg.DagsterInstance.get() as instance:
            summary = _tell(console, definitions, instance, places.lake, started)
    finally:
        if not keep:
            local.stop(USE_CASE, places.endpoints)
    folder = STATE / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "summary.json"
    partial = folder / "summary.json.partial"
    partial.write_text(json.dumps(summary, indent=1) + "\n")
    partial.replace(path)
    _print_summary(console, summary, path.relative_to(root) if root in path.parents else path)
    if keep:
        url = cast("Mapping[str, object]", summary["endpoint"])["url"]
        console.print(f"The endpoint stays up at [bold]{url}[/]; stop it with: make stop\n")
    return 0


def _check_port(spec: UseCaseSpec, endpoints_dir: str) -> None:
    """Fail before the work rather than after it when another program has the endpoint's port."""
    from mlops_assets.adapters.endpoints import local

    if local.find(spec.name, endpoints_dir) is not None:
        return
    with socket.socket() as probe:
        # As the server does: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((spec.endpoint.host, spec.endpoint.port))
        except OSError as error:
            raise PermanentError(
                f"port {spec.endpoint.port} on {spec.endpoint.host} is in use by another program "
                "(an endpoint of another checkout?): stop it, or set endpoint.port in "
                f"mlops_assets/defs/{spec.name}/defs.yaml to a free one"
            ) from error


def _tell(
    console: "Console",
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    lake_url: str,
    started: float,
) -> dict[str, object]:
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.lifecycle.training_set import training_window

    spec = _spec_of(USE_CASE)
    window = training_window(spec)
    next_day = Window(window.end, window.end + timedelta(days=1), spec.timezone)
    data = (window.partitions[0], next_day.partitions[0])
    console.print(f"\n[bold]{spec.name}[/]: {spec.description}")
    console.print(
        f"Trained on {window.first} to {window.partitions[-1]}, asked about {next_day.first}. "
        "Times in seconds.\n"
    )
    story = _Story()
    for stage, (with_days, without_days) in tables_by_days(spec).items():
        with _timed(console, story, stage):
            _materialize(definitions, instance, spec, with_days, data, story)
            _materialize(definitions, instance, spec, without_days, None, story)
    for name in ("training_set", "model", "evaluation", "promotion", "endpoint"):
        with _timed(console, story, name.replace("_", " ")):
            _materialize(definitions, instance, spec, [name], None, story)
    with _timed(console, story, "predictions"):
        asked = (next_day.partitions[0], next_day.partitions[0])
        _materialize(definitions, instance, spec, ["predictions"], asked, story)
    lake = Lake(lake_url)
    with _timed(console, story, "requests"):
        answers = _ask(spec, lake, next_day, cast("EndpointRecord", story.values["endpoint"]))
    rows = {name: _rows(lake, spec, name) for name in spec.datasets}
    return _summary(story, rows, answers, time.monotonic() - started)


@contextmanager
def _timed(console: "Console", story: _Story, stage: str) -> Iterator[None]:
    begun = time.monotonic()
    with console.status(f"{stage} …"):
        yield
    story.stages[stage] = round(time.monotonic() - begun, 2)
    console.print(f"  [green]✓[/] {stage:<14} {story.stages[stage]:6.1f}")


def _materialize(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    spec: UseCaseSpec,
    assets: list[str],
    partitions: tuple[str, str] | None,
    story: _Story,
) -> None:
    """Materialize ``assets`` in one run in this process; raises what the step raised."""
    if not assets:
        return
    job = definitions.resolve_implicit_global_asset_job_def()
    tags = {"mlops/demo": spec.name}
    if partitions is not None:
        tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"] = (
            partitions
        )
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey([spec.name, name]) for name in assets],
        tags=tags,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    for name in ("training_set", "model", "evaluation", "promotion", "endpoint"):
        if name in assets:
            story.values[name] = result.asset_value(dg.AssetKey([spec.name, name]))


@dataclass(frozen=True)
class _Answers:
    requests: int
    p50_ms: float
    p99_ms: float
    differences: int
    """Answers that are not exactly the batch prediction of the same event."""
    example: Mapping[str, object]


def _ask(spec: UseCaseSpec, lake: "Lake", day: Window, endpoint: EndpointRecord) -> _Answers:
    """Ask the endpoint about real events of ``day``, and compare with the batch predictions."""
    import statistics

    import polars as pl

    from mlops_assets.adapters.endpoints.client import ask, connect
    from mlops_assets.adapters.functions import Functions
    from mlops_assets.lifecycle.assets import table_name
    from mlops_assets.lifecycle.training_set import events_with_features

    functions = Functions(f"mlops_assets.defs.{spec.name}", _folder_of(spec.name))
    rows = events_with_features(spec, functions, lake, day).sample(
        REQUESTS, seed=spec.model.seed, shuffle=True
    )
    batch = cast(
        "pl.DataFrame",
        pl.from_arrow(lake.read(table_name(spec, "predictions"), partitions=day.partitions)),
    )
    expected = dict(batch.select(EVENT_ID, "score").iter_rows())
    seconds: list[float] = []
    differences = 0
    example: dict[str, object] = {}
    with connect(endpoint.url, timeout_s=10) as connection:
        for row in rows.iter_rows(named=True):
            inputs = {name: [row[name]] for name in (EVENT_ID, *spec.feature_types)}
            begun = time.perf_counter()
            answer = ask(endpoint.url, spec.name, inputs, 10, connection)
            seconds.append(time.perf_counter() - begun)
            differences += answer.scores[0] != expected[row[EVENT_ID]]
            example = {"event": row[EVENT_ID], "score": answer.scores[0]}
    ordered = sorted(seconds)
    return _Answers(
        requests=len(seconds),
        p50_ms=statistics.median(ordered) * 1000,
        p99_ms=ordered[int(len(ordered) * 0.99)] * 1000,
        differences=differences,
        example=example,
    )


def _rows(lake: "Lake", spec: UseCaseSpec, name: str) -> int:
    from mlops_assets.lifecycle.assets import table_name

    return sum(state.rows for state in lake.states(table_name(spec, name)).values())


def _folder_of(use_case: str) -> Path:
    return Path(__file__).parent / "defs" / use_case


def _spec_of(use_case: str) -> UseCaseSpec:
    import yaml

    path = _folder_of(use_case) / "defs.yaml"
    try:
        return UseCaseSpec.model_validate(yaml.safe_load(path.read_text())["attributes"])
    except FileNotFoundError as error:
        raise PermanentError(f"there is no use case {use_case}: {path} is missing") from error


def _summary(
    story: _Story, rows: Mapping[str, int], answers: _Answers, seconds: float
) -> dict[str, object]:
    training_set = cast("TrainingSetRecord", story.values["training_set"])
    model = cast("ModelRecord", story.values["model"])
    evaluation = cast("EvaluationRecord", story.values["evaluation"])
    promotion = cast("PromotionRecord", story.values["promotion"])
    endpoint = cast("EndpointRecord", story.values["endpoint"])
    return {
        "use_case": USE_CASE,
        "rows": {**rows, "training_set": training_set.rows},
        "model_version": model.version,
        "model_sha256": model.sha256,
        "holdout": {
            "rows": evaluation.challenger.rows,
            "log_loss": evaluation.challenger.log_loss,
            "roc_auc": evaluation.challenger.roc_auc,
            "brier": evaluation.challenger.brier,
            "ece": evaluation.challenger.ece,
            "base_rate_log_loss": evaluation.base_rate.log_loss,
        },
        "gate": evaluation.verdict,
        "gate_reasons": [rule.reason for rule in evaluation.rules],
        "promotion": promotion.decision,
        "promotion_reason": promotion.reasons[0],
        "endpoint": {
            "url": endpoint.url,
            "version": endpoint.release.version,
            "requests": answers.requests,
            "p50_ms": round(answers.p50_ms, 3),
            "p99_ms": round(answers.p99_ms, 3),
            "differences_from_batch": answers.differences,
            "example": dict(answers.example),
        },
        "report": evaluation.report,
        "prediction_log": endpoint.prediction_log,
        "stages": story.stages,
        "seconds": round(seconds, 2),
    }


def _print_summary(console: "Console", summary: Mapping[str, object], path: Path) -> None:
    from rich.table import Table

    holdout = cast("Mapping[str, float]", summary["holdout"])
    endpoint = cast("Mapping[str, object]", summary["endpoint"])
    rows = cast("Mapping[str, int]", summary["rows"])
    table = Table(title=f"{summary['use_case']}, version {summary['model_version']}", min_width=70)
    table.add_column("what")
    table.add_column("result", overflow="fold")
    table.add_row("rows", ", ".join(f"{count:,} {name}" for name, count in rows.items()))
    gain = holdout["base_rate_log_loss"] - holdout["log_loss"]
    table.add_row(
        "log-loss",
        f"{holdout['log_loss']:.4f} on {holdout['rows']:,} held-out events; "
        f"the base rate alone gives {holdout['base_rate_log_loss']:.4f} ({gain:+.4f})",
    )
    table.add_row("ROC AUC", f"{holdout['roc_auc']:.3f}")
    table.add_row("Brier, ECE", f"{holdout['brier']:.4f}, {holdout['ece']:.4f}")
    reasons = cast("list[str]", summary["gate_reasons"])
    table.add_row("gate", "\n".join([str(summary["gate"]), *reasons]))
    table.add_row("promotion", f"{summary['promotion']}: {summary['promotion_reason']}")
    same = "all" if endpoint["differences_from_batch"] == 0 else "NOT all"
    table.add_row(
        "endpoint",
        f"{endpoint['url']}: {endpoint['requests']} requests, median {endpoint['p50_ms']} ms; "
        f"{same} equal to the batch predictions",
    )
    table.add_row("model", f"sha256 {summary['model_sha256']}")
    table.add_row("report", str(summary["report"]))
    table.add_row("summary", str(path))
    table.add_row("time", f"{summary['seconds']} s")
    console.print()
    console.print(table)
