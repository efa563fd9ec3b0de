"""What happened in the data flow as alerts: checks, runs, late days, endpoint, sensors.

Each function takes what is open and says what holds and what ended.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from mlops_assets.core.alert_text import asset_page, run_page
from mlops_assets.core.alert_watch import Open, Seen, Teller, of_kind
from mlops_assets.core.alerts import Key, Kind, Severity
from mlops_assets.core.deadlines import deadline, gaps

SILENT_TICKS = 2
"""Ticks without an answer before an endpoint is down: one that is replaced is away for seconds."""

_NAMED = 3  # assets or reasons named in a sentence
_CHECK_KINDS: Mapping[str, Kind] = {"volume": "volume", "skew": "skew", "parity": "skew"}


@dataclass(frozen=True)
class CheckRun:
    """A check that was evaluated: on ``checked`` partitions, with a reason for each that failed."""

    asset: str
    check: str
    passed: bool
    blocking: bool
    description: str
    checked: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class RunEnd:
    """A run that ended; of a failed one, the assets that failed, or all that it would have made."""

    run_id: str
    succeeded: bool
    assets: frozenset[str]
    cause: str = ""


def happened(teller: Teller, event: CheckRun | RunEnd, opened: Collection[Open]) -> Seen:
    """What an event opens and ends. To take several, add what each says before the next: what
    failed and is mended is then never told.
    """
    if isinstance(event, CheckRun):
        return _check(teller, event, opened)
    return _run(teller, event, opened)


def _check(teller: Teller, run: CheckRun, opened: Collection[Open]) -> Seen:
    kind = _CHECK_KINDS.get(run.check, "failed_check")
    if kind == "failed_check" and not run.blocking:
        return Seen()
    prefix = run.asset if kind != "failed_check" else f"{run.asset} {run.check}"
    fine = run.checked - set(run.failed)
    holds: list[Open] = []
    ended: dict[Key, str] = {}
    covered: set[str] = set()
    for one in of_kind(opened, kind, prefix):
        # A day with its usual rows ends what was odd about the days before it.
        left = tuple(m for m in one.members if m not in fine)
        over = kind == "volume" and max(fine, default="") > max(one.members, default="")
        if over or (not left and (one.members or run.passed)):
            ended[one.key] = f"{run.check} of {run.asset} passed: {run.description}"
        elif left != one.members:
            holds.append(one.model_copy(update={"members": left}))
        covered |= set(left)
    if run.passed:
        return Seen(tuple(holds), ended)
    new = [partition for partition in sorted(run.failed) if partition not in covered]
    severity: Severity = "critical" if kind == "failed_check" else "warning"
    for members in _grouped(new) if run.failed else [()]:
        subject = " ".join(filter(None, (prefix, _days(members))))
        page = asset_page([teller.use_case, run.asset], members[0] if members else None)
        cause = _because(run, members)
        holds.append(
            Open(alert=teller.alert(kind, severity, subject, cause, page), members=members)
        )
    return Seen(tuple(holds), ended)


def _because(run: CheckRun, members: tuple[str, ...]) -> str:
    if not members:
        return run.description or f"check {run.check} of {run.asset} failed"
    reasons = "; ".join(f"{member}: {run.failed[member]}" for member in members[:_NAMED])
    more = f"; and {len(members) - _NAMED} more" if len(members) > _NAMED else ""
    return f"check {run.check} failed for {len(members)} partitions: {reasons}{more}"


def _run(teller: Teller, run: RunEnd, opened: Collection[Open]) -> Seen:
    if not run.succeeded:
        members = tuple(sorted(run.assets))
        more = f" and {len(members) - _NAMED} more" if len(members) > _NAMED else ""
        subject = f"{', '.join(members[:_NAMED])}{more}"
        alert = teller.alert("failed_run", "critical", subject, run.cause, run_page(run.run_id))
        return Seen((Open(alert=alert, members=members),) if members else ())
    holds: list[Open] = []
    ended: dict[Key, str] = {}
    for one in of_kind(opened, "failed_run"):
        left = tuple(m for m in one.members if m not in run.assets)
        if one.members and not left:
            ended[one.key] = f"run {run.run_id} of the same assets succeeded"
        elif left != one.members:
            holds.append(one.model_copy(update={"members": left}))
    return Seen(tuple(holds), ended)


def late(
    teller: Teller,
    dataset: str,
    days: Sequence[date],
    timezone: str,
    due_hours: float,
    opened: Collection[Open],
) -> Seen:
    """Late ``days`` of a dataset, in order: an alert for each gap, which grows with its outage."""
    holds: list[Open] = []
    known = of_kind(opened, "freshness", f"{dataset} from")
    for first, last in gaps(days):
        members = tuple(day.isoformat() for day in days if first <= day <= last)
        same = next((one for one in known if set(one.members) & set(members)), None)
        subject = same.alert.subject if same else f"{dataset} from {first}"
        due = deadline(first, timezone, due_hours)
        count = "1 day is" if len(members) == 1 else f"{len(members)} days are"
        cause = (
            f"{count} missing or refused, {_days(members)}; the first was due at "
            f"{due:%Y-%m-%d %H:%M} UTC, {due_hours:g} h after its end"
        )
        page = asset_page([teller.use_case, dataset], first.isoformat())
        alert = teller.alert("freshness", "warning", subject, cause, page)
        holds.append(Open(alert=alert, members=members))
    still = {one.key for one in holds}
    cause = "the days are in the lake, or too long ago to be waited for"
    return Seen(tuple(holds), {one.key: cause for one in known if one.key not in still})


def stale(teller: Teller, assets: Iterable[str], opened: Collection[Open]) -> Seen:
    """Assets that fail their freshness policy in Dagster."""
    holds = [
        Open(
            alert=teller.alert(
                "freshness",
                "warning",
                f"{asset} as a whole",
                f"{asset} was not materialized within its freshness policy",
                asset_page([teller.use_case, asset]),
            )
        )
        for asset in assets
    ]
    still = {one.key for one in holds}
    ended = {
        one.key: "it was materialized"
        for one in of_kind(opened, "freshness")
        if one.alert.subject.endswith(" as a whole") and one.key not in still
    }
    return Seen(tuple(holds), ended)


def endpoint(teller: Teller, url: str, silent: int, opened: Collection[Open]) -> Seen:
    """An endpoint that gave no answer at ``url`` in the last ``silent`` ticks; 0: it is well."""
    if silent == 0:
        known = of_kind(opened, "endpoint_down")
        return Seen(ended={one.key: "the endpoint is ready" for one in known})
    if silent < SILENT_TICKS:
        return Seen()
    cause = f"{url} is not ready: no answer in {SILENT_TICKS} ticks or more, one after the other"
    page = asset_page([teller.use_case, "endpoint"])
    alert = teller.alert("endpoint_down", "critical", "endpoint", cause, page)
    return Seen((Open(alert=alert),))


def broken(
    teller: Teller,
    prefix: str,
    problems: Mapping[str, str],
    page: str,
    opened: Collection[Open],
    unsure: Collection[str] = (),
) -> Seen:
    """What of the platform itself fails, by name, with its error; ``prefix`` says what it is.

    Nothing is known now of those that are ``unsure``.
    """
    holds = [
        Open(alert=teller.alert("failed_run", "critical", f"{prefix} {name}", cause, page))
        for name, cause in problems.items()
    ]
    still = {f"{prefix} {name}" for name in (*problems, *unsure)}
    # A run of an asset that is called like the prefix has members.
    known = [one for one in of_kind(opened, "failed_run", prefix) if not one.members]
    ended = {one.key: "it works again" for one in known if one.alert.subject not in still}
    return Seen(tuple(holds), ended)


def waiting(opened: Iterable[Open], dataset: str) -> set[str]:
    """Days of a dataset that are not there because a check refused them, which is told."""
    found = of_kind(opened, "failed_check", dataset)
    return {member for one in found for member in one.members}


def _grouped(partitions: Sequence[str]) -> list[tuple[str, ...]]:
    """Ordered partitions by runs of days that follow each other; others each alone."""
    days: list[date] = []
    alone: list[tuple[str, ...]] = []
    for partition in partitions:
        try:
            days.append(datetime.fromisoformat(partition).date())
        except ValueError:
            alone.append((partition,))
    runs = [
        tuple(day.isoformat() for day in days if first <= day <= last) for first, last in gaps(days)
    ]
    return runs + alone


def _days(members: Sequence[str]) -> str:
    if len(members) < 2:
        return "".join(members)
    return f"{members[0]} to {members[-1]}"
