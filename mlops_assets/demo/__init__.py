"""``mlops demo``: one use case from raw data to a model that retrains itself, on the terminal."""

import gc
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import UseCaseSpec

if TYPE_CHECKING:
    from rich.console import Console

USE_CASE = "flight_delays"
DAYS = 70
"""Ten weeks of replay."""

GARBAGE = (50_000, 20, 50)
"""Allocations, and collections of younger generations, between two looks for cycles of references:
profiles and parsed documents are many small objects, and with Python's own numbers a tenth of the
time goes into looking through them."""


def run_demo(root: Path, *, keep: bool, days: int = DAYS, fresh: bool = False) -> int:
    """Run the demo in the repository ``root``; returns the exit code.

    Everything lands in the same state that ``make dev`` shows. A demo that was run, or interrupted,
    goes on where it stopped; ``fresh`` removes all state first. The endpoint is stopped at the end,
    also after a failure, unless ``keep``.
    """
    from rich.console import Console

    from mlops_assets import clock
    from mlops_assets.adapters.endpoints import local
    from mlops_assets.definitions import STATE, defs, local_places
    from mlops_assets.demo.deployment import check_port, redeploy, spec_of
    from mlops_assets.replay.driver import alone

    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    gc.set_threshold(*GARBAGE)
    console = Console()
    places = local_places()
    if fresh:
        local.stop(USE_CASE, places.endpoints)
        _remove(STATE)
    spec = spec_of(USE_CASE)
    check_port(spec, places.endpoints)
    os.environ[clock.ENV] = str(STATE / "replay" / "clock.json")
    definitions = defs()
    url = ""
    try:
        with alone(Path(os.environ[clock.ENV])), dg.DagsterInstance.get() as instance:
            summary = _tell(console, definitions, instance, spec, days)
            if keep:
                # Who asks it from now on asks at the machine's time, not at the replay's.
                local.stop(USE_CASE, places.endpoints)
                del os.environ[clock.ENV]
                url = redeploy(definitions, instance, spec).url
    finally:
        if not keep:
            local.stop(USE_CASE, places.endpoints)
    path = STATE / "demo" / "summary.json"
    _print_summary(console, summary, path.relative_to(root) if root in path.parents else path)
    if keep:
        console.print(f"The endpoint stays up at [bold]{url}[/]; stop it with: make stop\n")
    return 0


def _tell(
    console: "Console",
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    spec: UseCaseSpec,
    days: int,
) -> dict[str, object]:
    from mlops_assets import clock
    from mlops_assets.definitions import STATE, local_places
    from mlops_assets.demo.deployment import deploy, redeploy
    from mlops_assets.demo.replayed import replay
    from mlops_assets.lifecycle.platform import Platform
    from mlops_assets.lifecycle.training_set import training_window
    from mlops_assets.replay.fast import arrival_of

    platform = Platform.at(local_places())
    path = STATE / "demo" / "summary.json"
    clock_file = STATE / "replay" / "clock.json"
    window = training_window(spec)
    begun = time.monotonic()
    summary = _read(path)
    if summary is None:
        clock.set_to(clock_file, arrival_of(window.days[-1], spec.timezone))
        summary = deploy(console, definitions, instance, spec, platform.lake())
        summary["seconds"] = round(time.monotonic() - begun, 2)
        _write(path, summary)
    else:
        console.print(f"\n[bold]{spec.name}[/] was deployed before: going on where it stopped.")
        redeploy(definitions, instance, spec)
    found = replay(console, definitions, instance, spec, platform, clock_file, days)
    summary = {
        **summary,
        **found,
        "endpoint": {**_mapping(summary["endpoint"]), **_mapping(found["endpoint"])},
        "stages": {**_mapping(summary["stages"]), "replay": found["seconds"]},
    }
    summary["seconds"] = round(time.monotonic() - begun, 2)
    _write(path, summary)
    return summary


def _remove(state: Path) -> None:
    """Remove the state's folder, if it looks like one."""
    if not state.exists():
        return
    known = {"lake", "mlflow", "dagster", "documents", "endpoints"}
    if not known & {path.name for path in state.iterdir()}:
        raise PermanentError(f"{state} holds no state of this platform: it is left alone")
    shutil.rmtree(state)


def _read(path: Path) -> dict[str, object] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise PermanentError(f"{path} is cut: begin anew with `mlops demo --fresh`") from error


def _write(path: Path, summary: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(summary, indent=1) + "\n")
    partial.replace(path)


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value)


def _print_summary(console: "Console", summary: Mapping[str, object], path: Path) -> None:
    from rich.table import Table

    holdout = cast("Mapping[str, float]", summary["holdout"])
    endpoint = cast("Mapping[str, object]", summary["endpoint"])
    rows = cast("Mapping[str, int]", summary["rows"])
    replay = cast("Mapping[str, float]", summary["replay"])
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
        f"{endpoint['url']}: {endpoint.get('requests', 0)} requests, "
        f"median {endpoint.get('p50_ms', '-')} ms; "
        f"{same} equal to the batch predictions within 1e-6",
    )
    table.add_row(
        f"{replay['days']} days live",
        f"log-loss {replay['log_loss']:.4f} with {replay['retrainings']} retrainings; "
        f"{replay['log_loss_never']:.4f} had nobody retrained "
        f"({replay['log_loss_never'] - replay['log_loss']:+.4f})",
    )
    table.add_row("picture", str(summary["picture"]))
    table.add_row("model", f"sha256 {summary['model_sha256']}")
    table.add_row("report", str(summary["report"]))
    table.add_row("summary", str(path))
    table.add_row("time", f"{summary['seconds']} s")
    console.print()
    console.print(table)
