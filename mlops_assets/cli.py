"""``mlops``: the platform's command line."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from mlops_assets.core.errors import PlatformError
from mlops_assets.rollout import add_rollout
from mlops_assets.tune import add_tune

_EXAMPLES = """\
examples:
  mlops demo                       from raw data to a model that retrains itself, then stop
  mlops demo --keep                the same, and leave the endpoint up
  mlops demo --fresh --days 14     begin anew, and replay two weeks only
  mlops replay flight_delays --from 2013-03-01 --speed 1d/10s
                                   live traffic beside `make dev`
  mlops backtest flight_delays     which retraining policy would have paid
  mlops tune flight_delays         better parameters, within trials and a budget
  mlops train flight_delays        the asset `model` by hand; Ctrl-C, and it goes on next time
  mlops rollout status flight_delays
                                   where a challenger is on its way
  mlops endpoint status            which endpoints run, and what they serve
  mlops endpoint stop flight_delays
  mlops lake vacuum flight_delays  drop file versions that no registered model names
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 failed with a message, 2 usage)."""
    parser = argparse.ArgumentParser(
        prog="mlops",
        description="Run and look after the ML platform of this repository.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_replay(commands)
    _add_backtest(commands)
    add_tune(commands)
    add_rollout(commands)
    _add_train(commands)
    _add_endpoint(commands)
    _add_lake(commands)
    _add_reap(commands)
    options = parser.parse_args(arguments)
    # Read when the first library with OpenMP threads loads: threads that spin while they wait
    # cost a busy machine ten times the training's own time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A commit for each event of each partition would take longer than most steps do.
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "200")
    try:
        return options.run(options)
    except PlatformError as error:
        print(f"mlops: {error}", file=sys.stderr)
        return 1


# argparse has no public name for it.
Commands = argparse._SubParsersAction


def _add_demo(commands: "Commands[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser(
        "demo", help="run the flight-delay use case from data to endpoint, and live through weeks"
    )
    demo.add_argument("--keep", action="store_true", help="leave the endpoint up")
    demo.add_argument(
        "--days", type=_days, default=70, help="days to replay after the deployment (default: 70)"
    )
    demo.add_argument(
        "--fresh", action="store_true", help="remove all state first: runs, models, tables"
    )
    demo.set_defaults(run=_demo)


def _add_replay(commands: "Commands[argparse.ArgumentParser]") -> None:
    replay = commands.add_parser(
        "replay",
        help="replay the past beside `dagster dev`, day by day",
        epilog="examples:\n"
        "  mlops replay flight_delays --from 2013-03-01 --speed 1d/10s\n"
        "  mlops replay flight_delays             go on where the clock stands\n"
        "  mlops replay flight_delays --speed max --until 2013-05-01\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument("use_case", help="name of the use case")
    replay.add_argument(
        "--from",
        dest="first",
        type=_day,
        metavar="DAY",
        help="first day; sets the clock, back if need be (default: where it stands, or the day "
        "after the training window)",
    )
    replay.add_argument(
        "--until",
        type=_day,
        metavar="DAY",
        help="day on whose morning it ends (default: end of the data)",
    )
    replay.add_argument(
        "--speed",
        default="1d/10s",
        help="replayed time / real time: 1d/10s, 1d/1h, or max (default: %(default)s)",
    )
    replay.set_defaults(run=_replay)


def _add_backtest(commands: "Commands[argparse.ArgumentParser]") -> None:
    backtest = commands.add_parser(
        "backtest",
        help="compare retraining policies over the past, and recommend one",
        epilog="examples:\n"
        "  mlops backtest flight_delays                    weekly training days\n"
        "  mlops backtest flight_delays --every 1          each day: exact, and takes hours\n"
        "  mlops backtest flight_delays --window-days 59   tries the last 59 days too\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    backtest.add_argument("use_case", help="name of the use case")
    backtest.add_argument(
        "--every",
        type=_days,
        default=7,
        metavar="DAYS",
        help="days between the ends of training windows (default: 7)",
    )
    backtest.add_argument(
        "--from",
        dest="first",
        type=_day,
        metavar="DAY",
        help="first day that is scored (default: the end of the training window)",
    )
    backtest.add_argument(
        "--until", type=_day, metavar="DAY", help="first day after (default: the end of the data)"
    )
    backtest.add_argument(
        "--window-days",
        type=_days,
        action="append",
        default=[],
        metavar="DAYS",
        help="also train on the last so many days; may be given several times",
    )
    backtest.add_argument(
        "--budget", type=float, help="most that trainings of the first half may cost"
    )
    backtest.add_argument("--out", metavar="DIR", help="folder for table, plot and YAML")
    backtest.set_defaults(run=_backtest)


def _add_train(commands: "Commands[argparse.ArgumentParser]") -> None:
    train = commands.add_parser(
        "train",
        help="train a model on the newest training set, and register it as challenger",
        description="What the asset `model` does, by hand. A training that was stopped goes on "
        "from its last checkpoint, whoever began it.",
        epilog="examples:\n"
        "  mlops train flight_delays                     register the model as challenger\n"
        "  mlops train flight_delays --out model.ubj     write it to a file, register nothing\n"
        "  MLOPS_DEVICE=cuda mlops train flight_delays   on a GPU, or not at all\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("use_case", help="name of the use case")
    train.add_argument("--out", metavar="FILE", help="write the model there and register nothing")
    train.set_defaults(run=_train)


def _add_endpoint(commands: "Commands[argparse.ArgumentParser]") -> None:
    endpoint = commands.add_parser("endpoint", help="show or stop local endpoints")
    actions = endpoint.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = actions.add_parser("status", help="list endpoints and what they serve")
    status.add_argument("use_case", nargs="?", help="name of the use case (default: all)")
    stop = actions.add_parser("stop", help="stop an endpoint")
    stop.add_argument("use_case", nargs="?", help="name of the use case")
    stop.add_argument("--all", action="store_true", help="stop every endpoint")
    for action in (status, stop):
        action.set_defaults(run=_endpoints, parser=stop)


def _add_lake(commands: "Commands[argparse.ArgumentParser]") -> None:
    lake = commands.add_parser("lake", help="look after the lake's tables")
    actions = lake.add_subparsers(dest="action", required=True, metavar="ACTION")
    vacuum = actions.add_parser(
        "vacuum", help="drop old files, except those that a registered model was trained from"
    )
    vacuum.add_argument("use_case", help="name of the use case")
    vacuum.add_argument(
        "--retention-hours", type=_hours, default=168, help="age of files to keep (default: 168)"
    )
    vacuum.set_defaults(run=_vacuum)


def _add_reap(commands: "Commands[argparse.ArgumentParser]") -> None:
    reap = commands.add_parser(
        "reap", help="remove the Kubernetes Jobs of runs that ended or do not exist"
    )
    reap.add_argument("--dry-run", action="store_true", help="say which, and remove none")
    reap.add_argument(
        "--kept-hours",
        type=_hours,
        default=1,
        help="hours for which finished Jobs are kept after their run (default: %(default)s)",
    )
    reap.set_defaults(run=_reap)


def _demo(options: argparse.Namespace) -> int:
    from mlops_assets.demo import run_demo

    return run_demo(_enter_repository(), keep=options.keep, days=options.days, fresh=options.fresh)


def _replay(options: argparse.Namespace) -> int:
    from mlops_assets.replay.driver import run_replay

    return run_replay(options.use_case, options.first, options.until, options.speed)


def _backtest(options: argparse.Namespace) -> int:
    from mlops_assets.backtest import run_backtest

    return run_backtest(
        options.use_case,
        every=options.every,
        first=options.first,
        until=options.until,
        windows=tuple(options.window_days),
        budget=options.budget,
        out=options.out,
    )


def _train(options: argparse.Namespace) -> int:
    from mlops_assets.train import run_train

    return run_train(options.use_case, out=options.out)


def _enter_repository() -> Path:
    """Go to the folder that has dagster.yaml; its paths are relative to it."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).parents[1]):
        if (folder / "dagster.yaml").exists() and (folder / "workspace.yaml").exists():
            os.chdir(folder)
            os.environ["DAGSTER_HOME"] = str(folder)
            return folder
    raise PlatformError("run this inside the repository: dagster.yaml was not found")


def _hours(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of hours, 0 or more")
    return int(text)


def _days(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of days, 1 or more")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO date like 2013-03-01") from error


def _endpoints(options: argparse.Namespace) -> int:
    from mlops_assets.adapters.endpoints import local
    from mlops_assets.definitions import local_places

    stop, only = options.action == "stop", options.use_case
    if stop and not options.all and only is None:
        options.parser.error("name the use case whose endpoint to stop, or give --all")
    endpoints = local_places().endpoints
    known = local.known(endpoints)
    for use_case in [only] if only else known:
        # Of a name that never had an endpoint, not even a folder is made.
        if stop:
            stopped = use_case in known and local.stop(use_case, endpoints)
            print(f"{use_case}: {'stopped' if stopped else 'not running'}")
        elif use_case not in known or (record := local.find(use_case, endpoints)) is None:
            print(f"{use_case}: not running")
        else:
            champion = record.release.champion
            print(f"{use_case}: {record.url} version {champion.version} {champion.sha256[:12]}")
    if not known and not only:
        print("no endpoint was started yet")
    return 0


def _reap(options: argparse.Namespace) -> int:
    import dagster as dg

    from mlops_assets.compute.reaper import cluster_of, reap

    kept = timedelta(hours=options.kept_hours)
    with dg.DagsterInstance.get() as instance:
        lines = reap(instance, cluster_of(instance), kept_for=kept, dry_run=options.dry_run)
    for line in lines:
        print(line)
    print(f"{'would delete' if options.dry_run else 'deleted'} {len(lines)} Jobs")
    return 0


def _vacuum(options: argparse.Namespace) -> int:
    from mlops_assets.adapters.maintenance import vacuum_use_case
    from mlops_assets.definitions import local_places
    from mlops_assets.lifecycle.platform import Platform

    platform = Platform.at(local_places())
    for line in vacuum_use_case(
        platform.lake(), platform.tracking(), options.use_case, options.retention_hours
    ):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
