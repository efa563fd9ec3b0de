"""The demo's second part: weeks of live traffic, with the sensors deciding when to retrain."""

import gc
import statistics
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.rollout_state import ServedModel
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.demo.deployment import folder_of
from mlops_assets.lifecycle.assets import table_name
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.replay.fast import Step, replay_days
from mlops_assets.replay.ticks import Daemon

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from mlops_assets.core.retraining_records import Decision
    from mlops_assets.replay.story import Story


def replay(
    console: "Console",
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    spec: UseCaseSpec,
    platform: Platform,
    clock_file: Path,
    days: int,
) -> dict[str, object]:
    """Replay ``days`` days after the training window, going on after the last one decided on.

    Returns this part of the summary.
    """
    from mlops_assets.adapters import decisions
    from mlops_assets.lifecycle.training_set import training_window
    from mlops_assets.replay.story import story_of, summary_of
    from mlops_assets.replay.traffic import requests_of

    begun = time.monotonic()
    lake, ledgers = platform.lake(), platform.ledgers()
    end = training_window(spec).end
    window = Window(end, end + timedelta(days=days), spec.timezone)
    functions = Functions(f"mlops_assets.defs.{spec.name}", folder_of(spec.name))
    with console.status("what callers will ask …"):
        rows = requests_of(spec, functions, window)
    last = decisions.book(ledgers, spec.name).history.last
    todo = [day for day in window.days if last is None or day > last.day]
    console.print(
        f"\n[bold]{len(todo)} days live[/], from {window.first} on: each day's flights are asked "
        "about over HTTP, its data comes in on the next morning, and the sensors do the rest.\n"
    )
    milliseconds: list[float] = []
    # What is loaded by now stays until the end: to look through it for garbage again and again
    # would take a twentieth of the time.
    gc.collect()
    gc.freeze()
    with console.status("…") as status:
        daemon = Daemon(definitions, instance)
        steps = replay_days(daemon, platform, spec, rows, clock_file, todo, status.update)
        for step in steps:
            milliseconds += [1000 * seconds for seconds in step.sent.seconds]
            _print(console, step)
    book = decisions.book(ledgers, spec.name)
    first = platform.tracking().version(spec.name, 1)
    never = ServedModel(version=first.version, sha256=first.sha256, artifact=first.artifact)
    story = story_of(spec, lake, window, rows, never, _newest_by_day(book.decisions))
    return {
        "replay": summary_of(story),
        "picture": _draw(story, clock_file.parents[1] / "demo" / "replay.png"),
        "endpoint": {
            **_times(milliseconds),
            **_compared_with_batch(spec, platform, window),
        },
        "seconds": round(time.monotonic() - begun, 2),
    }


def _print(console: "Console", step: Step) -> None:
    decision, found = step.decision, step.performance
    words = [f"{step.day:%a %d %b}", f"{step.sent.requests:>5,} answers"]
    if found is not None:
        realized = f"{found.realized.loss:.3f}" if found.realized else "  -  "
        estimated = f"{found.estimated.loss:.3f}" if found.estimated else "  -  "
        words.append(f"loss {realized} (estimated {estimated})")
    if step.drift is not None:
        words.append(f"drift {step.drift.drift:.2f} {step.drift.verdict:<7}")
    words.append(f"v{decision.champion_version}" if decision else "")
    words.append(f"{step.seconds:4.1f} s")
    console.print("  " + "  ".join(words), highlight=False, soft_wrap=True)
    for alert in step.alerts:
        console.print(f"    alert {alert}", highlight=False, markup=False, style="yellow")
    for run in step.runs:
        if not run.success:
            console.print(f"    [red]run {run.run_id} of {', '.join(run.assets)} failed[/]")
    if decision is not None and decision.retrain and decision.day == step.day:
        reasons = "; ".join(decision.reasons)
        console.print(f"    [bold]retrained[/]: {reasons}", highlight=False, soft_wrap=True)
        if step.promotion is not None:
            console.print(
                f"    version {step.promotion.version} [bold]{step.promotion.decision}[/]: "
                f"{step.promotion.reasons[0]}",
                highlight=False,
                soft_wrap=True,
            )


def _newest_by_day(found: "Sequence[Decision]") -> "list[Decision]":
    """One decision for each day: the one that started a training, or else the last."""
    by_day: dict[object, Decision] = {}
    for decision in found:
        known = by_day.get(decision.day)
        if known is None or not known.retrain:
            by_day[decision.day] = decision
    return list(by_day.values())


def _draw(story: "Story", path: Path) -> str:
    from mlops_assets.adapters.replay_plot import replay_plot

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        replay_plot(
            [day.day for day in story.days],
            [day.served for day in story.days],
            [day.never for day in story.days],
            [day.rows for day in story.days],
            [decision.day for decision in story.retrainings],
        )
    )
    return str(path)


def _compared_with_batch(
    spec: UseCaseSpec, platform: Platform, window: Window
) -> dict[str, object]:
    """Answers that are not the batch prediction of the same model for the same event.

    Batches are scored by XGBoost and single rows by tables of bits: the same within TOLERANCE.
    """
    import polars as pl

    from mlops_assets.core.onnx_trees import TOLERANCE

    lake = platform.lake()
    tables: list[pl.DataFrame] = []
    for name in ("outcomes", "predictions"):
        table = table_name(spec, name)
        present = [day for day in lake.states(table) if day in set(window.partitions)]
        rows = cast("pl.DataFrame", pl.from_arrow(lake.read(table, partitions=present)))
        tables.append(rows.select("event_id", "model_sha256", "score"))
    both = tables[0].join(tables[1], on=["event_id", "model_sha256"], suffix="_batch")
    apart = (both["score"].cast(pl.Float64) - both["score_batch"].cast(pl.Float64)).abs()
    example = both.row(0, named=True) if both.height else {}
    return {
        "compared_with_batch": both.height,
        "differences_from_batch": int((apart > TOLERANCE).sum()),
        "furthest_from_batch": apart.max(),
        "example": {"event": example.get("event_id"), "score": example.get("score")},
    }


def _times(milliseconds: Sequence[float]) -> dict[str, object]:
    """Of what was asked in this run; nothing when all had been asked before."""
    if not milliseconds:
        return {}
    return {
        "requests": len(milliseconds),
        "p50_ms": round(statistics.median(milliseconds), 3),
        "p99_ms": round(sorted(milliseconds)[int(len(milliseconds) * 0.99)], 3),
    }
