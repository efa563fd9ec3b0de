"""What the platform alerts people about, on the year of flights with incidents put into it.

The year is replayed day by day, as features were served, scored by a model that is trained again
each month, with outcomes that are known a night after the day. Incidents of fifteen kinds begin on
random days of June to December, each from three quiet days before to the last day on which it may
be told in time; and all of these months are replayed as they were. Thresholds were chosen on March
to May alone (``--tuning`` replays these).

An alert is raised once, and not again while it holds. It is right when it is about the incident:
of its kind, and naming among its first three columns one that broke. Everything else is false,
quiet months included. That performance fell when features broke is neither.

The peer is Evidently's DataDriftPreset as it comes, a day or seven days against the training
window, or a day against the 28 days before, on some of the incidents and on the days before them.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from bench._incidents_evidently import WAYS, Fired, fired, installed
from bench._incidents_inject import KINDS, NO_ROWS, SLOW_WITHIN, WITHIN, Incident, slow_drift
from bench._incidents_watch import (
    QUIET_BEFORE,
    Episode,
    Outcome,
    Watch,
    quiet,
    replayed,
    watch_of,
)
from bench._incidents_year import flights_year
from bench.report import Result, limited, unmeasured

FALSE, MISSED = "share of alerts that are false", "share of incidents missed"
GOAL = 0.1
SEED = 5
ALL = "all kinds"
HELD_OUT = (date(2013, 6, 1), date(2013, 12, 30))
TUNING = (date(2013, 3, 20), date(2013, 6, 1))

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """A count of some, with Wilson's 95 % interval."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """0 to 1; NaN of none."""
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson (1927): has the right width near 0 and 1 too."""
        if not self.of:
            return 0.0, 1.0
        p, n, z = self.value, self.of, _Z95
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2f} ({low:.2f} to {high:.2f})"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes, months, and where to write the table."""
    parser.add_argument("--repeats", type=int, help="incidents of each kind (default: 20)")
    parser.add_argument("--peer", type=int, help="incidents for the peer (default: 10)")
    parser.add_argument("--tuning", action="store_true", help="replay March to May instead")
    parser.add_argument("--table", type=Path, help="write the table as Markdown to this file")


def main(options: argparse.Namespace) -> list[Result]:
    """Incidents and quiet days against the alerts, and some of them against the peer."""
    repeats = options.repeats or (1 if options.quick else 20)
    peers = options.peer if options.peer is not None else (0 if options.quick else 10)
    first, end = TUNING if options.tuning else HELD_OUT
    months: Sequence[int] = range(3, 6 if options.tuning else 13)
    if options.quick and not options.tuning:
        # The whole is the same, with fewer models and days.
        end, months = first + timedelta(days=SLOW_WITHIN + 20), (3, 6)
    watch = watch_of(flights_year(months))
    started = time.process_time()
    calm = quiet(watch, first, end)
    days = (end - first).days
    a_day = (time.process_time() - started) / days
    outcomes = [replayed(watch, each) for each in incidents(watch, first, end, repeats)]
    found = summary(outcomes, calm, days, a_day)
    if options.table:
        options.table.write_text(table(outcomes, calm, days, ()))
    peer: list[Fired] = []
    if peers and installed():
        there = [each for each in outcomes if each.incident.kind != NO_ROWS]
        chosen = np.random.default_rng(SEED).permutation(len(there))[:peers]
        some = [there[n] for n in chosen]
        peer = [fired(watch, [each.incident for each in some], way) for way in WAYS]
        found += [result for each in peer for result in against(each, some)]
    else:
        found.append(unmeasured(ALL, MISSED, "Evidently", "not asked for or not installed"))
    if options.table and peer:
        options.table.write_text(table(outcomes, calm, days, peer))
    return found


def incidents(watch: Watch, first: date, end: date, repeats: int) -> list[Incident]:
    """``repeats`` of each kind on random days, each with its whole replay between the two days."""
    made: list[Incident] = []
    for number, make in enumerate(KINDS):
        rng = np.random.default_rng((SEED, number))
        for _ in range(repeats):
            # A slow drift takes longer, so that its days are drawn from fewer.
            latest = (end - first).days - (SLOW_WITHIN if make is slow_drift else WITHIN) - 1
            day = first + timedelta(days=int(rng.integers(QUIET_BEFORE, latest)))
            made.append(make(watch.year, watch.frames, day, rng))
    return made


def summary(
    outcomes: Sequence[Outcome], calm: Sequence[Episode], days: int, a_day: float
) -> list[Result]:
    """Each kind, and all together."""
    results = [
        limited(
            kind,
            MISSED,
            1 - share_found(some).value,
            GOAL if kind == ALL else 1.0,
            note=f"recall {share_found(some)}, {delays(some)}",
        )
        for kind, some in by_kind(outcomes).items()
    ]
    right = precision(outcomes, calm)
    results.append(
        limited(ALL, FALSE, 1 - right.value, GOAL, note=f"precision {right} of {right.of}")
    )
    results.append(
        limited(
            f"{days} quiet days",
            "false alerts a year",
            len(calm) * 365 / days,
            12,
            note="; ".join(f"{each.raised} {each.alarm.kind}" for each in calm),
        )
    )
    return [*results, limited("one day of 52 columns", "processor seconds", a_day, 0.5)]


def by_kind(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each kind, then of all."""
    found: dict[str, list[Outcome]] = {}
    for each in outcomes:
        found.setdefault(each.incident.kind, []).append(each)
    return found | {ALL: list(outcomes)}


def share_found(outcomes: Sequence[Outcome]) -> Share:
    """Recall: incidents that were told in time."""
    return Share(sum(each.delay is not None for each in outcomes), len(outcomes))


def precision(outcomes: Sequence[Outcome], calm: Sequence[Episode]) -> Share:
    """Alerts that are about an incident, of all that are not mere consequences of one."""
    right = sum(each.right for each in outcomes)
    return Share(right, right + sum(len(each.false) for each in outcomes) + len(calm))


def delays(outcomes: Sequence[Outcome]) -> str:
    """Median and worst delay of those that were told."""
    known = [each.delay for each in outcomes if each.delay is not None]
    if not known:
        return "never told"
    return f"told after {np.median(known):.3g} days, {max(known)} at most"


def against(peer: Fired, ours: Sequence[Outcome]) -> list[Result]:
    """The peer and the alerts on the same incidents, and the same days before."""
    name = f"Evidently, {peer.way}"
    case = f"{peer.incidents} of the incidents"
    alerts = peer.found + peer.false
    told = share_found(ours)
    false = sum(each.raised < one.incident.first for one in ours for each in one.false)
    raised = told.count + false
    return [
        limited(
            case,
            MISSED,
            1 - told.value,
            GOAL,
            other=1 - peer.found / peer.incidents,
            other_name=name,
            note=f"its alert is right on {peer.found} days of {peer.incidents}",
        ),
        limited(
            case,
            FALSE,
            false / raised if raised else 0.0,
            GOAL,
            other=peer.false / alerts if alerts else 0.0,
            other_name=name,
            note=f"it fires on {peer.false} days of {peer.quiet} before incidents, when "
            f"{peer.columns:.0f} of its columns drift on average",
        ),
    ]


def table(
    outcomes: Sequence[Outcome], calm: Sequence[Episode], days: int, peers: Sequence[Fired]
) -> str:
    """The results as Markdown."""
    lines = [
        "| incident | replayed | recall (95 %) | delay in days, median | at most | false alerts |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for kind, some in by_kind(outcomes).items():
        known = [each.delay for each in some if each.delay is not None]
        middle, most = (f"{np.median(known):.3g}", str(max(known))) if known else ("", "")
        false = sum(len(each.false) for each in some)
        lines.append(
            f"| {kind} | {len(some)} | {share_found(some)} | {middle} | {most} | {false} |"
        )
    lines.append(f"| none, {days} quiet days | | | | | {len(calm)} |")
    lines += ["", f"Precision of all alerts: {precision(outcomes, calm)}.", ""]
    lines += [
        f"- {each.raised} {each.alarm.kind} {', '.join(each.alarm.columns)}: {each.alarm.cause}"
        for each in calm
    ]
    missed = [
        f"{each.incident.kind}: {each.incident.what} ({each.incident.first})"
        for each in outcomes
        if each.delay is None
    ]
    lines += ["", "Missed:", "", *(f"- {each}" for each in missed)]
    lines += ["", "False in replays with incidents:", ""]
    lines += [
        f"- {one.incident.kind}, {one.incident.what} ({one.incident.first}): {each.raised} "
        f"{each.alarm.kind} {', '.join(each.alarm.columns[:3])}: {each.alarm.cause}"
        for one in outcomes
        for each in one.false
    ]
    if peers:
        lines += [
            "",
            "| peer | fires on a day with an incident | on a day before | "
            "column that broke is among the drifted | drifted columns on a day before |",
            "|---|--:|--:|--:|--:|",
        ]
    for each in peers:
        lines.append(
            f"| {each.way} | {each.found} of {each.incidents} | {each.false} of "
            f"{each.quiet} | {each.named} of {each.with_columns} | {each.columns:.1f} |"
        )
    return "\n".join(lines) + "\n"
