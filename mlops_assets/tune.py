"""``mlops tune``: better parameters for a use case's model, on the terminal."""

import argparse
from typing import TYPE_CHECKING

from mlops_assets.core.errors import MissingPartitionsError

if TYPE_CHECKING:
    from rich.table import Table

    from mlops_assets.cli import Commands
    from mlops_assets.core.tuning import TuningRecord

_SHOWN = 10
"""Trials on the terminal."""


def add_tune(commands: "Commands[argparse.ArgumentParser]") -> None:
    """The command's options."""
    tune = commands.add_parser(
        "tune",
        help="look for better parameters of a model, within a number of trials and a budget",
        epilog="examples:\n"
        "  mlops tune flight_delays                 until defs.yaml's trials or budget are spent\n"
        "  mlops tune flight_delays --trials 100    go on to 100 trials\n"
        "  mlops tune flight_delays --budget 0.5    as far as 0.50 USD go\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tune.add_argument("use_case", help="name of the use case")
    tune.add_argument(
        "--trials", type=int, metavar="N", help="most trials of the study (default: defs.yaml's)"
    )
    tune.add_argument(
        "--budget",
        type=float,
        metavar="USD",
        help="most that its trials may cost (default: defs.yaml's)",
    )
    tune.set_defaults(run=_tune)


def _tune(options: argparse.Namespace) -> int:
    return run_tune(options.use_case, trials=options.trials, budget=options.budget)


def run_tune(use_case: str, *, trials: int | None = None, budget: float | None = None) -> int:
    """Tune ``use_case`` on its last training set and say what was found; returns the exit code.

    Run it again after it was stopped: it goes on where it was. Raises PlatformError with what is
    wrong.
    """
    from rich.console import Console

    from mlops_assets.adapters import documents
    from mlops_assets.adapters.tuning_plot import tuning_plot
    from mlops_assets.core.records import TrainingSetRecord
    from mlops_assets.core.tuning import said_of, to_paste
    from mlops_assets.definitions import local_places
    from mlops_assets.demo.deployment import spec_of
    from mlops_assets.lifecycle.platform import Platform
    from mlops_assets.lifecycle.tuning import ASSET, keep, tune

    console = Console()
    spec = spec_of(use_case)
    platform = Platform.at(local_places())
    training_set = documents.read(
        platform.documents_url, use_case, "training_set", TrainingSetRecord
    )
    if training_set is None:
        raise MissingPartitionsError(
            f"{use_case}/training_set has not been materialized: do that first"
        )
    record = tune(
        spec,
        training_set,
        platform,
        trials=trials,
        budget=budget,
        tell=lambda said: console.print(said, markup=False, soft_wrap=True),
    )
    documents.write(platform.documents_url, use_case, ASSET, record)
    for line in said_of(record):
        console.print(line, markup=False, soft_wrap=True)
    console.print(_best(record))
    if record.best is not None:
        console.print(to_paste(spec, record.best), markup=False, soft_wrap=True)
    for place in keep(spec, record, platform, tuning_plot(record)):
        console.print(place, markup=False, soft_wrap=True)
    return 0


def _best(record: "TuningRecord") -> "Table":
    """The best trials, as narrow as a terminal is; the report has all of them."""
    from rich.table import Table

    from mlops_assets.core.tuning import ranked

    table = Table("trial", "log-loss", "rounds", "seconds", "parameters", box=None)
    for trial in ranked(record.trials)[:_SHOWN]:
        loss = "" if trial.log_loss is None else f"{trial.log_loss:.5f}"
        parameters = ", ".join(f"{name} {value}" for name, value in trial.parameters.items())
        state = "" if trial.state == "complete" else f" ({trial.state})"
        table.add_row(
            str(trial.number), loss + state, str(trial.rounds), f"{trial.seconds:.1f}", parameters
        )
    return table
