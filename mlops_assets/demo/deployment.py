"""The demo's first part: from raw data to a served model, stage by stage."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import (
    EvaluationRecord,
    ModelRecord,
    PromotionRecord,
    TrainingSetRecord,
)
from mlops_assets.core.rollout_state import EndpointRecord
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import tables_by_days

if TYPE_CHECKING:
    from rich.console import Console

    from mlops_assets.adapters.lake import Lake


@dataclass
class Stages:
    """What happened so far: seconds by stage, and the record of each stage that has one."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    values: dict[str, object] = field(default_factory=dict[str, object])


def deploy(
    console: "Console",
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    spec: UseCaseSpec,
    lake: "Lake",
) -> dict[str, object]:
    """Materialize everything up to the endpoint; returns this part of the summary."""
    from mlops_assets.lifecycle.training_set import training_window

    window = training_window(spec)
    data = (window.partitions[0], window.partitions[-1])
    console.print(f"\n[bold]{spec.name}[/]: {spec.description}")
    console.print(f"Trained on {data[0]} to {data[1]}. Times in seconds.\n")
    done = Stages()
    for stage, (with_days, without_days) in tables_by_days(spec).items():
        with timed(console, done, stage):
            _materialize(definitions, instance, spec, with_days, data, done)
            _materialize(definitions, instance, spec, without_days, None, done)
    for name in ("training_set", "model", "evaluation", "promotion", "endpoint"):
        with timed(console, done, name.replace("_", " ")):
            _materialize(definitions, instance, spec, [name], None, done)
    return _summary(done, {name: _rows(lake, spec, name) for name in spec.datasets})


def redeploy(
    definitions: dg.Definitions, instance: dg.DagsterInstance, spec: UseCaseSpec
) -> EndpointRecord:
    """The champion served again, as the last promotion left it."""
    done = Stages()
    _materialize(definitions, instance, spec, ["endpoint"], None, done)
    return cast("EndpointRecord", done.values["endpoint"])


def check_port(spec: UseCaseSpec, endpoints_dir: str) -> None:
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


@contextmanager
def timed(console: "Console", done: Stages, stage: str) -> Iterator[None]:
    """Show that ``stage`` runs, and then how long it took."""
    begun = time.monotonic()
    with console.status(f"{stage} …"):
        yield
    done.seconds[stage] = round(time.monotonic() - begun, 2)
    console.print(f"  [green]✓[/] {stage:<14} {done.seconds[stage]:6.1f}")


def _materialize(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    spec: UseCaseSpec,
    assets: list[str],
    partitions: tuple[str, str] | None,
    done: Stages,
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
            done.values[name] = result.asset_value(dg.AssetKey([spec.name, name]))


def _rows(lake: "Lake", spec: UseCaseSpec, name: str) -> int:
    from mlops_assets.lifecycle.assets import table_name

    return sum(state.rows for state in lake.states(table_name(spec, name)).values())


def folder_of(use_case: str) -> Path:
    """Where the use case is described."""
    return Path(__file__).parents[1] / "defs" / use_case


def spec_of(use_case: str) -> UseCaseSpec:
    """The use case as its defs.yaml describes it."""
    import yaml

    path = folder_of(use_case) / "defs.yaml"
    try:
        return UseCaseSpec.model_validate(yaml.safe_load(path.read_text())["attributes"])
    except FileNotFoundError as error:
        raise PermanentError(f"there is no use case {use_case}: {path} is missing") from error


def _summary(done: Stages, rows: dict[str, int]) -> dict[str, object]:
    training_set = cast("TrainingSetRecord", done.values["training_set"])
    model = cast("ModelRecord", done.values["model"])
    evaluation = cast("EvaluationRecord", done.values["evaluation"])
    promotion = cast("PromotionRecord", done.values["promotion"])
    endpoint = cast("EndpointRecord", done.values["endpoint"])
    return {
        "use_case": model.use_case,
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
        "endpoint": {"url": endpoint.url, "version": endpoint.release.champion.version},
        "report": evaluation.report,
        "prediction_log": endpoint.prediction_log,
        "stages": done.seconds,
    }
