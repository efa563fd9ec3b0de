"""``mlops rollout``: challengers on their way, on the terminal."""

import argparse
import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from mlops_assets.adapters.ledger import Book
    from mlops_assets.cli import Commands
    from mlops_assets.core.promotion_ledger import LedgerRecord
    from mlops_assets.core.rollout_state import Release
    from mlops_assets.core.spec import UseCaseSpec
    from mlops_assets.lifecycle.platform import Platform

_EXAMPLES = {
    "status": "  mlops rollout status flight_delays\n",
    "start": "  mlops rollout start flight_delays --reason 'asked for by the owners'\n"
    "  mlops rollout start flight_delays --version 7 --reason 'once more, after the fix'\n",
    "promote": "  mlops rollout promote flight_delays --reason 'labels come too late to wait'\n",
    "abort": "  mlops rollout abort flight_delays --reason 'wrong scores for night flights'\n",
    "rollback": "  mlops rollout rollback flight_delays --reason 'complaints since noon'\n"
    "  mlops rollout rollback flight_delays --to 5 --reason 'the last good one'\n",
    "history": "  mlops rollout history flight_delays\n"
    "  mlops rollout history flight_delays --waits --last 100\n",
    "replay": "  mlops rollout replay flight_delays\n"
    "  mlops rollout replay flight_delays --policy stricter.yaml --rollout v7-1a2b3c4d\n",
    "at": "  mlops rollout at 2013-05-01T12:00 flight_delays\n",
}

_HELP = {
    "status": "where the rollout is, what each guard says, and what each replica runs",
    "start": "begin a rollout by hand; one that is under way ends",
    "promote": "make the challenger champion now, whatever the guards say",
    "abort": "drop the challenger; the champion answers all callers",
    "rollback": "make the champion before champion again, or the version that --to names",
    "history": "what was decided, by whom and why",
    "replay": "what a policy would have decided, and when, on the recorded evidence",
    "at": "what was live at a time: version, challenger, mode, share",
}


def add_rollout(commands: "Commands[argparse.ArgumentParser]") -> None:
    """The commands' options."""
    rollout = commands.add_parser(
        "rollout",
        help="see, start, end and replay rollouts of challengers",
        epilog="examples:\n" + "".join(_EXAMPLES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = rollout.add_subparsers(dest="action", required=True, metavar="ACTION")
    run: dict[str, Callable[[argparse.Namespace], int]] = {
        "status": lambda options: show_status(Place.of(options.use_case)),
        "start": _start,
        "promote": _act,
        "abort": _act,
        "rollback": _act,
        "history": _history,
        "replay": _replay,
        "at": _at,
    }
    for name, call in run.items():
        parser = actions.add_parser(
            name,
            help=_HELP[name],
            description=_HELP[name][0].upper() + _HELP[name][1:] + ".",
            epilog="examples:\n" + _EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "at":
            parser.add_argument(
                "time", type=_moment, help="ISO time, in the use case's time zone unless it has one"
            )
        parser.add_argument("use_case", help="name of the use case")
        if name in ("start", "promote", "abort", "rollback"):
            parser.add_argument(
                "--reason", required=True, help="why; it is recorded with your name"
            )
        parser.set_defaults(run=call)
        _add_own(name, parser)


def _add_own(name: str, parser: argparse.ArgumentParser) -> None:
    match name:
        case "start":
            parser.add_argument(
                "--version", type=int, help="model version (default: the registry's challenger)"
            )
        case "rollback":
            parser.add_argument(
                "--to", type=int, metavar="VERSION", help="version (default: the champion before)"
            )
        case "history":
            parser.add_argument("--waits", action="store_true", help="with each recorded wait")
            parser.add_argument(
                "--last", type=int, default=30, metavar="N", help="most entries (default: 30)"
            )
        case "replay":
            parser.add_argument(
                "--policy",
                type=Path,
                metavar="FILE",
                help="YAML with the fields of `rollout` (default: the use case's own)",
            )
            parser.add_argument(
                "--rollout", metavar="ID", help="of mlops rollout history (default: the newest)"
            )
        case _:
            pass


@dataclass(frozen=True)
class Place:
    """What every command looks at."""

    spec: "UseCaseSpec"
    platform: "Platform"

    @classmethod
    def of(cls, use_case: str) -> "Place":
        """The use case of this repository, in the environment that MLOPS_ENV names."""
        from mlops_assets.definitions import environment
        from mlops_assets.demo.deployment import spec_of
        from mlops_assets.lifecycle.platform import platform_at

        places = environment(os.environ.get("MLOPS_ENV", "local")).places()
        return cls(spec_of(use_case), platform_at(places))

    def book(self) -> "Book":
        """The promotion ledger."""
        from mlops_assets.adapters import ledger

        return ledger.book(self.platform.ledgers(), self.spec.name)

    def everything(self) -> "list[LedgerRecord]":
        """Each of its entries."""
        from mlops_assets.adapters import ledger

        return ledger.everything(self.platform.ledgers(), self.spec.name)

    def release(self) -> "Release":
        """What the endpoint is told to serve. Raises PermanentError where there is none."""
        from mlops_assets.lifecycle.rollout.follow import no_endpoint, released

        release = released(self.spec, self.platform)
        if release is None:
            raise no_endpoint(self.spec)
        return release


def show_status(place: Place) -> int:
    """Print where the rollout is; returns the exit code."""
    from rich.console import Console
    from rich.markdown import Markdown

    from mlops_assets import clock
    from mlops_assets.core.rollout_text import guards_markdown, serving
    from mlops_assets.lifecycle.rollout.evidence import reported
    from mlops_assets.lifecycle.rollout.follow import released
    from mlops_assets.lifecycle.rollout.show import replicas_markdown

    console = Console()
    book, release = place.book(), released(place.spec, place.platform)
    name, state = place.spec.name, book.state
    console.print(f"{name}: {serving(state.wanted)}", markup=False, soft_wrap=True)
    if release is not None:
        said = f"revision {release.revision}, {release.mode}, since {release.changed_at}: "
        console.print(said + release.reason, markup=False, soft_wrap=True)
        table = replicas_markdown(reported(place.spec, place.platform), release, clock.now())
        console.print(Markdown(table))
    under_way = state.under_way
    if under_way is None:
        console.print("no rollout is under way")
        return 0
    rollout = under_way.rollout
    console.print(
        f"rollout {rollout.rollout_id}: {rollout.stage} at {rollout.share:.0%} since "
        f"{rollout.stage_since}, begun {rollout.started_at}",
        markup=False,
        soft_wrap=True,
    )
    if under_way.last is not None:
        console.print(Markdown(guards_markdown(under_way.last.guards)))
        for reason in under_way.last.reasons:
            console.print(f"- {reason}", markup=False, soft_wrap=True)
    return 0


def _start(options: argparse.Namespace) -> int:
    from mlops_assets import clock
    from mlops_assets.lifecycle.rollout import actions

    place = Place.of(options.use_case)
    tracking, name = place.platform.tracking(), place.spec.name
    version = options.version
    challenger = tracking.challenger(name) if version is None else tracking.version(name, version)
    if challenger is None:
        raise PermanentError(f"the registry has no challenger of {name}: name one with --version")
    release, by, why = place.release(), _who(), options.reason
    actions.started(place.spec, place.platform, release, challenger, clock.now(), by, why)
    return _bring_about(place)


def _act(options: argparse.Namespace) -> int:
    from mlops_assets import clock
    from mlops_assets.lifecycle.rollout import actions

    place = Place.of(options.use_case)
    action: Literal["promote", "abort", "rollback"] = options.action
    release, by, why = place.release(), _who(), options.reason
    to = getattr(options, "to", None)
    actions.decided(place.spec, place.platform, release, action, clock.now(), by, why, to)
    return _bring_about(place)


def _bring_about(place: Place) -> int:
    """Make the endpoint and the registry follow what was recorded, and show what is so."""
    from mlops_assets import clock
    from mlops_assets.lifecycle.rollout.follow import align
    from mlops_assets.lifecycle.rollout.tick import followed

    log: list[str] = []
    release = place.release()
    book, release = followed(place.spec, place.platform, place.book(), release, clock.now(), log)
    for line in log:
        print(line)
    align(place.spec, place.platform, book.state, release)
    return show_status(place)


def _history(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markdown import Markdown

    from mlops_assets.core.rollout_text import history_markdown

    records = Place.of(options.use_case).everything()
    Console().print(Markdown(history_markdown(records, options.last, waits=options.waits)))
    return 0


def _replay(options: argparse.Namespace) -> int:
    from mlops_assets.core.ledger_replay import replayed_ledger
    from mlops_assets.core.rollout_text import decision_line
    from mlops_assets.lifecycle.rollout.show import policy_of

    place = Place.of(options.use_case)
    policy = None if options.policy is None else policy_of(options.policy)
    found = replayed_ledger(place.everything(), options.rollout, policy)
    print(f"rollout {found.rollout_id}: {len(found.live)} recorded decisions")
    for decision, by in found.live:
        if decision.action != "wait":
            print(f"live      {decision_line(decision, by)}")
    last = None
    for decision in found.replayed:
        if decision.action != "wait" or decision.overdue:
            print(f"replayed  {decision_line(decision, 'the policy')}")
        last = decision
    if last is not None and last.action == "wait":
        print(f"replayed  {decision_line(last, 'the policy')}")
    return 0


def _at(options: argparse.Namespace) -> int:
    from mlops_assets.core.rollout_text import live_at, serving

    place = Place.of(options.use_case)
    moment: datetime = options.time
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(place.spec.timezone))
    state = live_at(place.book().records, moment)
    wanted = state.wanted
    print(f"{place.spec.name} at {moment.astimezone(UTC).isoformat()}: {serving(wanted)}")
    if wanted is not None:
        print(f"mode {wanted.mode}, share {wanted.share:g}: {state.reason}")
    return 0


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO time, as 2013-05-01T12:00") from error


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
