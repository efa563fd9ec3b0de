"""How often rollouts are decided wrongly, and how long they take: simulated with real model scores,
against z tests on the same requests; and how long a rollback takes.

Models trained on the first flights of 2013 score those from May on. Each simulated rollout draws
its traffic from them, as whole days (flights of a day share its weather) or as single requests. A
challenger that is as good as the champion must not be aborted, and one that is worse by the margin
must not pass, in more than 5 % of the rollouts, whenever one looks; tests go on after a decision,
so that rates are of errors at any time. Failed and slow requests are drawn as such.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from bench import _rollout_counts as counts
from bench import _rollout_paired as paired
from bench._rollout_paired import NEVER, Outcomes
from bench._rollout_rollback import rollback
from bench._rollout_scores import Pool, pool_at, swapped
from bench.report import Result, limited
from mlops_assets.core.rollout_spec import (
    ErrorGuardSpec,
    LatencyGuardSpec,
    QualityGuardSpec,
    RolloutSpec,
    ScoreGuardSpec,
)

GOAL = 0.05
DAYS = 60
"""Of labels in each simulated rollout, with a look at the end of each."""

BAKE_DAYS = 7
"""After which a fixed bake time promotes, unless the challenger is significantly worse."""

SCORE_DAYS = 2
"""Looked at each hour."""

HOURS, HOURLY, LATE = 72, 200, 48
"""Of failed and slow requests, how many requests in each, and when a challenger breaks late."""

MARGINS = (0.02, 0.05)
"""Wider ones than the default's: how much sooner do they let a challenger pass?"""

SPEC = RolloutSpec(strategy="guarded")
QUALITY, SCORES, ERRORS, LATENCY = (
    QualityGuardSpec(),
    ScoreGuardSpec(),
    ErrorGuardSpec(),
    LatencyGuardSpec(),
)

_DESIGNS = {"days": "whole days drawn", "requests": "single requests drawn"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many simulations, and where scores are kept."""
    parser.add_argument("--simulations", type=int, help="of each case (default 2000, quick 300)")
    parser.add_argument("--scores", type=Path, help="keep the models' scores in this file (.npz)")
    parser.add_argument("--part", choices=("decisions", "rollback"), help="only this one")


def main(options: argparse.Namespace) -> list[Result]:
    """False decisions, requests until a decision, and rollbacks."""
    found: list[Result] = []
    if options.part != "rollback":
        simulations = options.simulations or (300 if options.quick else 2000)
        pool = pool_at(options.scores)
        found += [
            *_quality(pool, simulations),
            *_quality(swapped(pool), simulations),
            *_scores(pool, simulations),
            *_counts(simulations),
        ]
    if options.part != "decisions":
        found += rollback(options)
    return found


def _quality(pool: Pool, simulations: int) -> list[Result]:
    """The guard over quality, on all challengers, for traffic of both kinds."""
    found: list[Result] = []
    names = list(pool.challengers)
    for seed, (design, drawn) in enumerate(_DESIGNS.items()):
        shape = (simulations, DAYS)
        traffic = paired.traffic(pool, names, design, shape, seed)
        for name in names:
            sums, truth = traffic[name], pool.difference(name)
            case = f"quality, {name} ({round(truth, 6) + 0.0:+.1%}), {drawn}"
            ours = paired.guarded(sums, SPEC, QUALITY)
            others = {
                "z test each day": paired.z_test(sums, QUALITY, range(1, DAYS)),
                f"bake of {BAKE_DAYS} days": paired.z_test(sums, QUALITY, [BAKE_DAYS - 1]),
                "ours on single requests": paired.guarded(sums, SPEC, QUALITY, unit="request"),
            }
            found += _errors_of(case, truth, QUALITY, ours, others)
            found.append(_time_of(case, ours, f"within {DAYS} days"))
            for margin in MARGINS if truth < MARGINS[0] - 0.01 else ():
                wider = QUALITY.model_copy(update={"promote_below": margin})
                passes = paired.guarded(sums, SPEC, wider)
                found.append(
                    _time_of(f"{case}, margin {margin:.0%}", passes, f"within {DAYS} days")
                )
    return found


def _scores(pool: Pool, simulations: int) -> list[Result]:
    """The guard over scores, hour by hour on whole drawn days."""
    found: list[Result] = []
    names = list(pool.challengers)
    traffic = paired.hours(pool, names, SCORE_DAYS, simulations, 10)
    for name in names:
        truth = pool.disagreement(name)
        case = f"scores, {name} ({truth:.1%} of pairs)"
        ours = paired.guarded(traffic[name], SPEC, SCORES)
        found += _errors_of(case, truth, SCORES, ours, {})
        found.append(_time_of(case, ours, f"within {SCORE_DAYS} days", rows=2))
    return found


def _counts(simulations: int) -> list[Result]:
    """The guards over failed and slow requests, hour by hour."""
    found: list[Result] = []
    cases: list[tuple[str, ErrorGuardSpec | LatencyGuardSpec, float, float]] = [
        ("errors", ERRORS, 0.001, 0.001),
        ("errors", ERRORS, 0.02, 0.02),
        ("errors", ERRORS, 0.02, 0.02 + ERRORS.abort_above),
        ("errors", ERRORS, 0.001, 0.001 + ERRORS.promote_below),
        ("errors", ERRORS, 0.001, 0.05),
        ("latency", LATENCY, 0.01, 0.01),
        ("latency", LATENCY, 0.01, 0.01 + LATENCY.abort_above),
        ("latency", LATENCY, 0.01, 0.01 + LATENCY.promote_below),
        ("latency", LATENCY, 0.01, 0.1),
    ]
    shape = (HOURLY, simulations, HOURS)
    until = f"within {HOURS} hours"
    for seed, (name, guard, champion, challenger) in enumerate(cases, start=20):
        ours = counts.hits(challenger, *shape, seed)
        theirs = counts.hits(champion, *shape, seed + 100)
        case = f"{name}, {challenger:.1%} against {champion:.1%}"
        outcomes = counts.guarded(ours, theirs, HOURLY, SPEC, guard)
        others = {"z test each hour": counts.z_test(ours, theirs, HOURLY, guard)}
        found += _errors_of(case, challenger - champion, guard, outcomes, others)
        found.append(_time_of(case, outcomes, until))
    late = counts.hits(0.05, *shape, 40, since=LATE)
    outcomes = counts.guarded(late, counts.hits(0.001, *shape, 140), HOURLY, SPEC, ERRORS)
    only_aborts = Outcomes(
        outcomes.aborted, np.full_like(outcomes.passed, NEVER), outcomes.rows - LATE * HOURLY
    )
    found.append(_time_of(f"errors, 5.0% against 0.1% from hour {LATE} on", only_aborts, until))
    return found


def _errors_of(
    case: str,
    truth: float,
    guard: QualityGuardSpec | ScoreGuardSpec | ErrorGuardSpec | LatencyGuardSpec,
    ours: Outcomes,
    others: dict[str, Outcomes],
) -> list[Result]:
    """Shares of wrong decisions, where there is a wrong one: ours beside the first of others."""
    # The pool's own ratio misses what it was made for by the last bits.
    wrong = {
        "false aborts": truth <= guard.abort_above + 1e-9,
        "false promotes": truth >= guard.promote_below - 1e-9,
    }
    found: list[Result] = []
    for metric in (metric for metric, applies in wrong.items() if applies):
        rates = {name: _share(_wrong(other, metric)) for name, other in others.items()}
        peer = next(iter(rates), "")
        notes = [f"95 %: {_interval(_wrong(ours, metric))}"]
        notes += [f"{name} {rate:.3f}" for name, rate in rates.items() if name != peer]
        found.append(
            limited(
                case,
                f"{metric}, share of rollouts",
                _share(_wrong(ours, metric)),
                GOAL,
                other=rates.get(peer),
                other_name=peer,
                note="; ".join(notes),
            )
        )
    return found


def _time_of(case: str, ours: Outcomes, until: str, rows: int = 1) -> Result:
    """How many are decided, how, and after how many requests, ``rows`` to an observation."""
    seen = ours.decided()
    known = np.where(seen == NEVER, np.inf, rows * seen.astype(np.float64))
    promoted = _share(ours.passed < ours.aborted)
    aborted = _share((ours.aborted <= ours.passed) & (ours.aborted != NEVER))
    median, late = (float(np.quantile(known, q, method="higher")) for q in (0.5, 0.95))
    note = (
        f"{until}: {promoted:.1%} pass, {aborted:.1%} aborted; requests until then: median "
        f"{_count(median)}, 95 % {_count(late)}"
    )
    return Result(
        case, "decided, share of rollouts", promoted + aborted, None, "", None, None, None, note
    )


def _wrong(outcomes: Outcomes, metric: str) -> npt.NDArray[np.bool_]:
    ended = outcomes.aborted if metric == "false aborts" else outcomes.passed
    return ended != NEVER


def _share(at: npt.NDArray[np.bool_]) -> float:
    return float(at.mean())


def _interval(at: npt.NDArray[np.bool_]) -> str:
    """Clopper and Pearson's (1934) interval of the share."""
    found = binomtest(int(at.sum()), len(at)).proportion_ci(method="exact")
    return f"{found.low:.3f} to {found.high:.3f}"


def _count(requests: float) -> str:
    return f"{requests:,.0f}" if np.isfinite(requests) else "undecided"
