"""``mlops backtest``: which retraining policy would have paid, on the terminal."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.adapters.functions import Functions
from mlops_assets.demo.deployment import folder_of, spec_of
from mlops_assets.lifecycle.backtest.asset import cache_at, keep
from mlops_assets.lifecycle.backtest.engine import Backtest, Options, backtest
from mlops_assets.lifecycle.platform import Platform

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 12
"""Policies on the terminal; the Markdown table has all."""

_STEPS = {"rows": "rows", "models": "models, trained and scored", "policies": "policies, replayed"}


def run_backtest(
    use_case: str,
    *,
    every: int = 7,
    first: date | None = None,
    until: date | None = None,
    windows: tuple[int, ...] = (),
    budget: float | None = None,
    out: str | None = None,
) -> int:
    """Backtest ``use_case`` and write what was found; returns the exit code.

    Run it again after it was stopped: it goes on where it was. ``windows`` are lengths of training
    windows in days that are tried beside everything so far; ``out`` is a folder (default: the use
    case's reports). Raises PlatformError with what is wrong.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from mlops_assets.definitions import local_places

    console = Console()
    spec = spec_of(use_case)
    functions = Functions(f"mlops_assets.defs.{use_case}", folder_of(use_case))
    platform = Platform.at(local_places())
    options = Options(every, first, until, (None, *windows), budget)
    bar = Progress(
        TextColumn("{task.description:26}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        tasks = {what: bar.add_task(text, total=None) for what, text in _STEPS.items()}

        def tell(what: str, done: float, total: float) -> None:
            bar.update(tasks[what], completed=done, total=total)

        found = backtest(spec, functions, platform.lake(), cache_at(platform, spec), options, tell)
    _print(console, found)
    for place in keep(found, platform, spec, None if out is None else str(Path(out).absolute())):
        console.print(place, soft_wrap=True)
    return 0


def _print(console: "Console", found: Backtest) -> None:
    from rich.table import Table

    summary = found.summary
    table = Table(
        title=f"{summary.use_case}: log-loss on {summary.first} to before {summary.split}, and on "
        f"the days from then to before {summary.end}"
    )
    table.add_column("policy")
    for name in ("first", "second", "trainings", "cost", "regret"):
        table.add_column(name, justify="right")
    told = {summary.chosen, *(other.name for other in summary.compared)}
    best = [policy for policy in summary.policies[:_SHOWN] if policy.name not in told]
    rest = [policy for policy in summary.policies if policy.name in told]
    for policy in sorted([*best, *rest], key=summary.policies.index):
        chosen = policy.name == summary.chosen
        table.add_row(
            f"{policy.name} (chosen)" if chosen else policy.name,
            f"{policy.first.log_loss:.4f}",
            f"{policy.second.log_loss:.4f}",
            f"{policy.first.trainings} + {policy.second.trainings}",
            f"{policy.whole.cost:.3g} {summary.currency}",
            f"{policy.regret:.4f}",
            style="bold" if chosen else None,
        )
    console.print(table)
    console.print(found.recommended, soft_wrap=True)
